"""One device and several give the same run, and a batch that cannot be split is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import json, sys
import jax, numpy as np
from mmvae_jax import Modality, Model, Training, UserError, fit
from mmvae_jax.networks.mlp import MLPDecoder, MLPEncoder

rng = np.random.default_rng(0)
data = {name: rng.normal(size=(64, 3)).astype(np.float32) for name in "ab"}
present = rng.random((64, 2)) < 0.7
model = Model(tuple(Modality(n, (3,), MLPEncoder((8,)), MLPDecoder((3,), (8,))) for n in "ab"), 2, "mopoe")
state = fit(model, data, Training(steps=6, batch_size=16), presence=present)
try:
    fit(model, data, Training(steps=1, batch_size=15))
    refused = ""
except UserError as error:
    refused = str(error)
shards = len(jax.tree.leaves(state.params)[0].sharding.device_set)
flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(state.params)])
print(json.dumps({"devices": jax.device_count(), "shards": shards, "params": flat.tolist(), "refused": refused}))
"""


def run_on(devices: int) -> dict:
    environment = os.environ | {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_two_devices_repeat_one():
    one, two = run_on(1), run_on(2)
    assert (one["devices"], two["devices"]) == (1, 2)
    assert two["shards"] == 2
    assert two["params"] == pytest.approx(one["params"], rel=1e-5, abs=1e-6)
    assert one["refused"] == "" and "batch-size=15 on 2 devices" in two["refused"]
