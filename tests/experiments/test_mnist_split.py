"""MNIST-Split: the paper's settings and networks, and a tiny run from the command line to its metrics."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest

from experiments.mnist_split import EXPERIMENT
from mmvae_jax.evaluation.measuring import by_size, labelled
from mmvae_jax.evaluation.published import comparable
from mmvae_jax.model import Model
from mmvae_jax.runs.config import parse, to_record
from mmvae_jax.runs.folder import flat_settings
from mmvae_jax.runs.runner import main

TINY = [
    "--widths", "2", "4", "--hidden", "8", "--decoder-widths", "4", "2", "--decoder-hidden", "8", "--latent-dim", "4",
    "--batch-size", "16", "--steps", "3", "--log-likelihood-samples", "2", "--log-likelihood-examples", "8",
    "--test-examples", "40", "--probe-train-examples", "60", "--joint-samples", "20", "--classifier.steps", "4",
    "--metrics", "synergy", "classifier",
]  # fmt: skip


def config(*arguments: str):
    return parse(EXPERIMENT.presets, "mnist_split", arguments)


def model_of(config) -> Model:
    return replace(config.architecture, modalities=EXPERIMENT.modalities(config, EXPERIMENT.load(config)))


@pytest.mark.parametrize(("preset", "parts", "epochs"), [("paper", 2, 200), ("paper_3", 3, 50)])
def test_paper_presets_are_the_papers(preset, parts, epochs):
    paper = config(f"--preset={preset}")
    assert (paper.own.parts, paper.epochs, paper.own.supervision) == (parts, epochs, 1.0)
    assert paper.architecture.latent_dim == 64
    assert (paper.training.learning_rate, paper.training.schedule, paper.training.beta) == (2e-4, "constant", 1.0)


@pytest.mark.parametrize(("preset", "names"), [("paper", "top bottom"), ("paper_3", "top middle bottom")])
def test_paper_networks_have_the_tables_layers(preset, names):
    model = model_of(config(f"--preset={preset}"))
    assert model.names == tuple(names.split())
    assert {m.likelihood for m in model.modalities} == {"bernoulli"}
    shapes = jax.tree.map(lambda leaf: leaf.shape, jax.eval_shape(model.init, jax.random.key(0)))
    trunk = shapes["inference"]["top"]["trunks_0"]
    kernels = [layer["kernel"] for _, layer in sorted(trunk.items())]
    assert kernels == [(4, 4, 1, 64), (4, 4, 64, 128), (4, 4, 128, 256), (256 * 1 * 3, 786)]
    assert shapes["inference"]["top"]["head"]["kernel"] == (786, 2 * 64)
    dense, images = shapes["decoders"]["bottom"]["layers_0"], shapes["decoders"]["bottom"]["layers_1"]
    assert [layer["kernel"] for _, layer in sorted(dense.items())] == [(64, 64), (64, 512)]
    kernels = [layer["kernel"] for _, layer in sorted(images.items())]
    assert kernels == [(4, 4, 112, 56), (4, 4, 56, 28), (4, 4, 28, 1), (512, 112 * 1 * 3)]


def test_supervision_leaves_that_share_of_digits_whole():
    presence = EXPERIMENT.load(config("--supervision=0.1")).train.presence
    assert presence is not None
    present = np.asarray(presence)
    assert present.all(1).sum() == round(0.1 * len(present))
    assert (present.sum(1)[~present.all(1)] == 1).all()


@pytest.mark.slow
def test_a_run_reports_synergy_of_every_subset(tmp_path):
    out = tmp_path / "run"
    arguments = ["--model=svae", "--parts=3", "--supervision=0.5", f"--out={out}", f"--cache={tmp_path / 'cache'}"]
    assert main(EXPERIMENT, [*TINY, *arguments]) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    subsets = ["top", "middle", "bottom", "top+middle", "top+bottom", "middle+bottom", "top+middle+bottom"]
    assert labelled(metrics, "synergy").keys() == set(subsets) and by_size(metrics, "synergy").keys() == {1, 2, 3}
    assert all(
        metrics[f"synergy/{subset}"] * 40 == pytest.approx(round(metrics[f"synergy/{subset}"] * 40))
        for subset in subsets
    )
    assert 0 <= metrics["classifier/oracle"] <= 1 and metrics["train/steps"] == 3
    assert all(np.isfinite(value) for value in metrics.values())
    assert "SVAE paper" not in (out / "report.html").read_text()


def test_the_papers_numbers_are_held_against_runs_of_two_halves_and_all_pairs():
    def published(*flags):
        config = parse(EXPERIMENT.presets, "test", ["--model=svae", *flags])
        return comparable(EXPERIMENT.published, "svae", flat_settings(to_record(config)))

    (paper,) = published("--supervision=1")
    assert paper.metrics["synergy/top+bottom"] == 0.948
    assert published("--supervision=1", "--parts=3") == published("--supervision=0.5") == []


@pytest.mark.parametrize(
    ("argument", "said"),
    [("--parts=4", "4 parts: an MNIST digit is split into 2 or 3 parts"), ("--supervision=2", "supervision level 2.0")],
)
def test_mistakes_are_told_in_one_line(argument, said, tmp_path, capsys):
    assert main(EXPERIMENT, [argument, f"--out={tmp_path / 'run'}", f"--cache={tmp_path}"]) == 2
    message = capsys.readouterr().err
    assert said in message and message.count("\n") == 1
