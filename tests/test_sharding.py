"""One device and eight give the same run, split parameters or not, and the same numbers after it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from mmvae_jax.errors import UserError
from mmvae_jax.sharding import check_batch_size, device_mesh

DEVICES = 8
STEPS = 50
PROGRAM = f"""
import json, sys
import jax, numpy as np
from mmvae_jax import Modality, Model, Training, fit
from mmvae_jax.evaluation.likelihood import joint_log_likelihood
from mmvae_jax.evaluation.probe import posterior_means
from mmvae_jax.networks.mlp import MLPDecoder, MLPEncoder
from mmvae_jax.objectives import Options
from mmvae_jax.subsets import powerset
from mmvae_jax.zoo import model_row

rng = np.random.default_rng(0)
data = {{name: rng.normal(size=(64, 3)).astype(np.float32) for name in "ab"}}
present = rng.random((64, 2)) < 0.7
modalities = tuple(Modality(n, (3,), MLPEncoder((256, 256)), MLPDecoder((3,), (256, 256))) for n in "ab")
results = {{}}
for name in ("poe", "moe", "mopoe", "mmvae", "jmvae"):
    row = model_row(name)
    model = Model(modalities, 2, row.fusion, **row.options)
    for split in (1, 4)[: jax.device_count()]:
        options = Options(importance_samples=2) if name == "mmvae" else Options()
        training = Training(row.objective, steps={STEPS}, batch_size=16, learning_rate=1e-4, options=options, model_parallel=split)
        losses = []
        state = fit(model, data, training, presence=present, after=lambda s, p: losses.append(p.terms["loss"]))
        leaves = [leaf for leaf in jax.tree.leaves((state.params, state.opt_state)) if leaf.size >= 2**16]
        results[f"{{name}}/{{split}}"] = {{
            "losses": losses,
            "params": np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(state.params)]).tolist(),
            "shares": [leaf.addressable_shards[0].data.size / leaf.size for leaf in leaves],
        }}
batch = model.batch(data, present)
batch = jax.tree.map(lambda values: values[:37], batch)
key, masks = jax.random.key(3), powerset(2)
results["means"] = posterior_means(model, state.params, key, batch, masks).ravel().tolist()
results["log_likelihood"] = joint_log_likelihood(model, state.params, key, batch, masks, 7).log_prob.ravel().tolist()
print(json.dumps(results))
"""


def run_on(devices: int) -> dict[str, Any]:
    environment = os.environ | {
        "JAX_NUM_CPU_DEVICES": str(devices),
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# A small learning rate: Adam divides gradients that are nearly zero by their size, so that at a large one the rounding of
# sums in another order is amplified a hundredfold in ten steps.
@pytest.mark.slow
def test_eight_devices_repeat_one():
    one, eight = run_on(1), run_on(DEVICES)
    for name in ("means", "log_likelihood"):
        assert eight.pop(name) == pytest.approx(one.pop(name), rel=1e-4, abs=1e-4)
    for name, ours in eight.items():
        model, split = name.split("/")
        theirs = one[f"{model}/1"]
        assert ours["losses"] == pytest.approx(theirs["losses"], rel=1e-5), name
        assert ours["params"] == pytest.approx(theirs["params"], rel=1e-5, abs=1e-5), name
        apart = np.subtract(ours["params"], theirs["params"])
        assert np.linalg.norm(apart) < 1e-6 * np.linalg.norm(theirs["params"]), name
        assert ours["shares"] and set(ours["shares"]) == {1 / int(split)}, name


def test_what_cannot_be_divided_is_refused(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 2)
    check_batch_size(16)
    with pytest.raises(UserError, match="batch-size=15 on 2 devices: give a multiple"):
        check_batch_size(15)
    with pytest.raises(UserError, match=r"batch-size=15 \(each of 3 parts\) on 2"):
        check_batch_size(15, accumulate=3)
    with pytest.raises(UserError, match="model-parallel=2 on 1 devices: give a divisor"):
        device_mesh(2)
