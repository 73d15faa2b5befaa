"""The README's Python runs as it stands, on data as it describes them."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

from mmvae_jax import load

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.slow
def test_its_library_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (program,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    rng = np.random.default_rng(0)
    common = rng.normal(size=(200, 1))
    names = {"blood": common + rng.normal(size=(200, 6)), "gait": common + rng.normal(size=(200, 3))}
    presence = rng.random((200, 2)) < 0.8
    presence[~presence.any(1)] = True
    monkeypatch.chdir(tmp_path)
    found = {**names, "presence": presence}
    exec(compile(program, str(README), "exec"), found)
    assert found["gait_from_blood"].shape == (20, 200, 3) and found["nats"].shape == (200,)
    for i, (name, values) in enumerate(names.items()):
        (complete,) = found["complete"][name]
        np.testing.assert_allclose(complete[presence[:, i]], values[presence[:, i]], rtol=1e-6)
    model, params = load("trained")
    assert model == found["model"]
    jax.tree.map(np.testing.assert_array_equal, params, found["state"].params)
