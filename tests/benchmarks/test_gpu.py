"""The GPU's script from its first stage to its last, in small sizes on whatever device there is."""

import json

import pytest
from PIL import Image

from benchmarks import gpu


@pytest.mark.slow
def test_every_stage_leaves_its_result(tmp_path):
    out = tmp_path / "results"
    assert gpu.main(["--scale=tiny", "--minutes=5", f"--out={out}", f"--runs={tmp_path / 'runs'}"]) == 0
    values = json.loads((out / "gpu.json").read_text())
    assert max(*values["closed_forms"].values(), *values["one_step"].values()) <= 1e-4
    assert set(values["matmul_tflops"]) == {"bfloat16", "float32", "float32 highest"}
    ways = {("plain loop", 1), ("one while_loop", 1), ("one fori_loop, vmap", 2)}
    expected = {(how, dtype, seeds) for dtype in ("float32", "bfloat16") for how, seeds in ways}
    assert {(row["how"], row["dtype"], row["seeds"]) for row in values["steps"]} == expected
    assert values["training"]["steps"] == 12
    assert values["training"]["metrics"]["train/steps"] == 12
    assert min(Image.open(out / "gpu-steps.png").size) > 300
    assert (out / "gpu-paper-reconstructions.png").is_file()
