"""Shapes and captions: settings and networks of every level, and a tiny run to its scores by attribute."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest

from experiments.shape_captions import EXPERIMENT
from mmvae_jax.data.shape_captions import LEVELS, named
from mmvae_jax.evaluation.measuring import labelled
from mmvae_jax.runs.config import parse
from mmvae_jax.runs.runner import main

TINY = [
    "--size", "16", "--train-tuples", "80", "--test-tuples", "40", "--widths", "2", "4", "--hidden", "8",
    "--caption-width", "4", "--latent-dim", "4", "--batch-size", "16", "--steps", "3", "--log-likelihood-samples", "2",
    "--log-likelihood-examples", "8", "--probe-train-examples", "60", "--joint-samples", "20", "--classifier.steps", "4",
    "--metrics", "attributes",
]  # fmt: skip


def config(*arguments: str):
    return parse(EXPERIMENT.presets, "shape_captions", arguments)


def test_paper_preset_is_full_size():
    paper = config("--preset=paper")
    assert (paper.own.train_tuples, paper.own.test_tuples, paper.own.size) == (75_000, 7_500, 64)
    assert (paper.epochs, paper.architecture.latent_dim, paper.training.batch_size) == (100, 24, 64)


@pytest.mark.parametrize("level", LEVELS)
def test_networks_fit_every_level(level):
    own = config(f"--level={level}", "--train-tuples=4", "--test-tuples=2", "--private-dim=3", "--caption-weight=7")
    dataset = EXPERIMENT.load(own)
    model = replace(own.architecture, modalities=EXPERIMENT.modalities(own, dataset))
    image, caption = model.modalities
    shapes = {name: values.shape[1:] for name, values in dataset.train.arrays[0].items()}
    assert shapes == {"image": image.shape, "caption": caption.shape}
    assert (image.weight, caption.weight, image.private_dim, caption.private_dim) == (1, 7, 3, 3)
    assert model.classes == {"caption": len(caption.symbols)}
    assert int(dataset.train.arrays[0]["caption"].max()) < len(caption.symbols)
    jax.eval_shape(model.init, jax.random.key(0))


@pytest.mark.slow
def test_a_run_reports_every_attribute_and_all_together(tmp_path):
    out = tmp_path / "run"
    arguments = ["--level=4", "--model=mopoe", f"--out={out}", f"--cache={tmp_path / 'cache'}"]
    assert main(EXPERIMENT, [*TINY, *arguments]) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    ways = ("image->caption", "caption->image")
    assert set(labelled(metrics, "attributes/all")) == set(ways)
    assert set(labelled(metrics, "attributes/each")) == {f"{way}/{name}" for way in ways for name in named(4)}
    assert set(labelled(metrics, "attributes/reader")) == {f"image/{name}" for name in named(4)}
    for way in ways:
        assert metrics[f"attributes/all/{way}"] <= min(metrics[f"attributes/each/{way}/{name}"] for name in named(4))
    assert 0 <= metrics["attributes/joint"] <= 1
    assert all(np.isfinite(value) for value in metrics.values())
    page = (out / "report.html").read_text()
    assert (
        "Attributes, one by one, caption → image" in page and "<td>position</td>" in page and "Joint attributes" in page
    )


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--level=6", "level=6: give a level from 1 to 5"),
        ("--size=4", "size=4: give at least 16"),
        ("--train-tuples=0", "train-tuples=0: give at least 1"),
        ("--data=somewhere", "data=somewhere: shape_captions reads no files, its data are made: leave --data out"),
    ],
)
def test_mistakes_are_told_in_one_line(argument, said, tmp_path, capsys):
    assert main(EXPERIMENT, [argument, f"--out={tmp_path / 'run'}", f"--cache={tmp_path}"]) == 2
    message = capsys.readouterr().err
    assert said in message and message.count("\n") == 1
