"""PolyMNIST as two processes trains and measures it, and as one does."""

import json
import os

import pytest

from tests.runs.processes import Run, last_step

# PolyMNIST without what takes long and is not of several processes: figures, which the first draws alone as ever.
POLYMNIST = """
import sys
from experiments.polymnist import EXPERIMENT
from mmvae_jax.runs import main, runner

runner.draw_all = lambda *_: []
sys.exit(main(EXPERIMENT))
"""
# A small learning rate: at a large one Adam turns the rounding of sums in another order into another run.
SHORT = [
    "--steps=400", "--batch-size=32", "--learning-rate=3e-5", "--widths", "8", "--hidden=32", "--latent-dim=16",
    "--test-examples=100", "--probe-train-examples=100", "--joint-samples=200", "--log-likelihood-examples=32",
    "--log-likelihood-samples=10", "--classifier.steps=100",
    "--metrics", "probe", "coherence", "log_likelihood", "classifier",  # not the distances of pictures
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.alone
def test_two_processes_of_two_devices_train_and_measure_what_one_does(tmp_path, monkeypatch):
    # What runs for long takes less with the first optimisations than compiling it without any saves.
    monkeypatch.delenv("JAX_DISABLE_MOST_OPTIMIZATIONS", raising=False)
    monkeypatch.setenv("XLA_FLAGS", os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=1")
    metrics = {}
    for processes, devices in ((1, 1), (2, 2)):
        out = tmp_path / str(processes)
        run = Run(
            processes, ["-c", POLYMNIST], *SHORT, f"--out={out}", f"--cache={tmp_path / 'cache'}", devices=devices
        )
        assert run.end() == 0, run.said
        assert (out / "report.html").is_file() and last_step(out) == 400
        metrics[processes] = json.loads((out / "metrics.json").read_text())
    assert metrics[1].keys() == metrics[2].keys()
    apart = {
        name: (one, metrics[2][name]) for name, one in metrics[1].items() if not agree(name, one, metrics[2][name])
    }
    assert not apart


def agree(name: str, one: float, two: float) -> bool:
    """Whether a metric of one process and one of two are the same but for the rounding of sums in another order."""
    if name.startswith(("train/", "standard_error/", "log_likelihood/ess")):
        return True
    return (
        two == pytest.approx(one, rel=2e-3)
        if name.startswith("log_likelihood")
        else two == pytest.approx(one, abs=0.01)
    )
