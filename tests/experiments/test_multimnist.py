"""MultiMNIST: the paper's settings and networks, and a tiny run to its accuracy by place."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest

from experiments.multimnist import EXPERIMENT
from mmvae_jax.evaluation.measuring import labelled
from mmvae_jax.runs.config import parse
from mmvae_jax.runs.runner import main

TINY = [
    "--widths", "2", "4", "--hidden", "8", "--units", "8", "--latent-dim", "4", "--batch-size", "16", "--steps", "3",
    "--log-likelihood-samples", "2", "--log-likelihood-examples", "8", "--test-examples", "40",
    "--probe-train-examples", "60", "--joint-samples", "20", "--classifier.steps", "4",
    "--metrics", "accuracy",
]  # fmt: skip


def config(*arguments: str):
    return parse(EXPERIMENT.presets, "multimnist", arguments)


def test_paper_preset_and_networks_are_the_papers():
    paper = config("--preset=paper", "--model=mvae")
    assert (paper.epochs, paper.anneal_epochs, paper.architecture.latent_dim) == (500, 200, 100)
    assert (paper.training.batch_size, paper.training.learning_rate) == (100, 1e-3)
    own = config("--private-dim=3", "--string-weight=7")
    image, string = EXPERIMENT.modalities(own, EXPERIMENT.load(own))
    assert (image.private_dim, string.private_dim, image.weight, string.weight) == (3, 3, 1, 7)
    model = replace(paper.architecture, modalities=EXPERIMENT.modalities(paper, EXPERIMENT.load(paper)))
    shapes = jax.tree.map(lambda leaf: leaf.shape, jax.eval_shape(model.init, jax.random.key(0)))
    # Both directions of 200 units make 400 features; ten digits, the end and the start are read.
    assert shapes["inference"]["string"]["head"]["kernel"] == (400, 200)
    (step,) = (layer for name, layer in shapes["decoders"]["string"].items() if "Dense" not in name)
    assert step["Dense_0"]["kernel"] == (200, 11)
    assert step["GRUCell_0"]["in"]["kernel"] == (100 + 12, 200) and step["GRUCell_1"]["in"]["kernel"] == (200, 200)


@pytest.mark.slow
def test_a_run_reports_accuracy_by_place(tmp_path):
    out = tmp_path / "run"
    arguments = ["--model=mvae", "--supervision=0.05", f"--out={out}", f"--cache={tmp_path / 'cache'}"]
    assert main(EXPERIMENT, [*TINY, *arguments]) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    places = labelled(metrics, "accuracy")
    assert list(places) == ["image->string", *(f"image->string/{place}" for place in (1, 2, 3, 4))]
    assert all(0 <= value <= 1 for value in places.values())
    assert all(np.isfinite(value) for value in metrics.values())
    page = (out / "report.html").read_text()
    assert "0.429" in page and "Accuracy → string/4" in page
