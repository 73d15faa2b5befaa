"""MNIST-SVHN-Text: MoPoE's settings, networks and likelihood weights, and a tiny run that calls its stand-in so."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.mnist_svhn_text import EXPERIMENT
from mmvae_jax.model import Model
from mmvae_jax.runs.config import parse
from mmvae_jax.runs.runner import main

TINY = [
    "--latent-dim", "4", "--batch-size", "16", "--steps", "3", "--pairings", "1", "--log-likelihood-samples", "2",
    "--log-likelihood-examples", "8", "--test-examples", "40", "--probe-train-examples", "60", "--joint-samples", "20",
    "--classifier.steps", "4",
    "--metrics", "classifier", "probe", "coherence", "log_likelihood",
]  # fmt: skip
NAMES = ("mnist", "svhn_stand_in", "text")


def config(*arguments: str):
    return parse(EXPERIMENT.presets, "mnist_svhn_text", arguments)


def model_of(config) -> Model:
    return replace(config.architecture, modalities=EXPERIMENT.modalities(config, EXPERIMENT.load(config)))


def test_paper_preset_is_mopoes():
    paper = config("--preset=paper")
    assert (paper.epochs, paper.own.pairings, paper.own.scale, paper.own.private_dim) == (150, 20, 0.75, 0)
    assert paper.architecture.latent_dim == 20
    assert (paper.training.batch_size, paper.training.learning_rate, paper.training.beta) == (256, 1e-3, 5.0)


def test_likelihoods_are_weighted_by_dimension():
    modalities = model_of(config("--preset=paper", "--private-dim=3")).modalities
    assert tuple(m.name for m in modalities) == NAMES
    assert [m.shape for m in modalities] == [(28, 28, 1), (32, 32, 3), (8,)]
    assert [m.weight for m in modalities] == pytest.approx([3072 / 784, 1, 3072 / 8])
    assert [round(m.weight, 2) for m in modalities] == [3.92, 1, 384]
    assert [m.likelihood for m in modalities] == ["laplace", "laplace", "categorical"]
    assert [m.scale for m in modalities[:2]] == [0.75, 0.75]
    assert [m.private_dim for m in modalities] == [3, 3, 3]


def test_networks_are_the_released_ones():
    model = model_of(config("--preset=paper"))
    params = jax.jit(model.init)(jax.random.key(0))
    shapes = jax.tree.map(jnp.shape, params)
    kernels = {
        name: [layer["kernel"] for _, layer in sorted(shapes["inference"][name]["trunks_0"].items())] for name in NAMES
    }
    assert kernels == {
        "mnist": [(784, 400)],
        "svhn_stand_in": [(4, 4, 3, 32), (4, 4, 32, 64), (4, 4, 64, 64), (4 * 4 * 64, 128)],
        "text": [(1, 1, 27, 128), (1, 4, 128, 128), (1, 4, 128, 128)],
    }
    assert [shapes["inference"][name]["head"]["kernel"] for name in NAMES] == [(400, 40), (128, 40), (128, 40)]
    svhn = [layer["kernel"] for _, layer in sorted(shapes["decoders"]["svhn_stand_in"].items())]
    assert svhn == [(4, 4, 64, 64), (4, 4, 64, 32), (4, 4, 32, 3), (20, 128), (128, 4 * 4 * 64)]
    z = 50 * jax.random.normal(jax.random.key(1), (7, 20))
    decoded = model.decode(params, z)
    assert 0 <= decoded["mnist"].mean().min() < 0.01 and 0.99 < decoded["mnist"].mean().max() <= 1
    assert decoded["svhn_stand_in"].mean().min() < -0.1
    assert decoded["text"].mode().shape == (7, 8) and decoded["text"].mode().dtype == jnp.int32


@pytest.mark.slow
def test_a_run_calls_the_stand_in_so_wherever_its_numbers_appear(tmp_path):
    out = tmp_path / "run"
    assert main(EXPERIMENT, [*TINY, "--fusion=mopoe", f"--out={out}", f"--cache={tmp_path / 'cache'}"]) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert {f"classifier/{name}" for name in NAMES} <= metrics.keys()
    assert {"probe/mnist+svhn_stand_in+text", "coherence/conditional/mnist+text->svhn_stand_in"} <= metrics.keys()
    assert all("svhn_stand_in" in name for name in metrics if "svhn" in name)
    assert all(np.isfinite(value) for value in metrics.values())
    record = json.loads((out / "config.json").read_text())
    assert record["dataset"]["house numbers"].startswith("stand-in for SVHN")
    assert "stand-in for SVHN" in (out / "report.html").read_text()


def test_real_files_are_svhn(real_data):
    dataset = EXPERIMENT.load(config(f"--data={real_data}"))
    assert dataset.modalities == ("mnist", "svhn", "text")
    for paper in EXPERIMENT.published:
        metric = "log_likelihood/joint" if "Table 7" in paper.settings else "probe"
        assert {f"{metric}/{name}" for name in dataset.modalities} <= paper.metrics.keys()


def test_mistakes_are_told_in_one_line(tmp_path, capsys):
    assert main(EXPERIMENT, ["--pairings=0", f"--out={tmp_path / 'run'}", f"--cache={tmp_path}"]) == 2
    message = capsys.readouterr().err
    assert "0 pairings: give at least 1" in message and message.count("\n") == 1
