"""CelebA's views: networks of every modality, a tiny run to its tasks' errors and pictures, and what is refused."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

from experiments.celeba_vision import EXPERIMENT
from mmvae_jax.evaluation.measuring import labelled
from mmvae_jax.runs.config import parse
from mmvae_jax.runs.runner import main

TINY = [
    "--size", "16", "--train-faces", "40", "--test-faces", "20", "--widths", "2", "4", "--hidden", "8", "--latent-dim",
    "4", "--batch-size", "20", "--steps", "2", "--log-likelihood-samples", "2", "--log-likelihood-examples", "4",
    "--metrics", "task",
]  # fmt: skip


def test_paper_preset_is_that_of_the_papers_other_experiment_on_celeba():
    paper = parse(EXPERIMENT.presets, "celeba_vision", ["--preset=paper"])
    training = paper.training
    assert (paper.epochs, paper.anneal_epochs, training.batch_size, training.learning_rate) == (100, 20, 100, 1e-4)
    assert (paper.own.size, paper.architecture.latent_dim) == (64, 100)


def test_networks_fit_every_view():
    config = parse(EXPERIMENT.presets, "celeba_vision", ["--size=32", "--train-faces=2", "--test-faces=1"])
    dataset = EXPERIMENT.load(config)
    model = replace(config.architecture, modalities=EXPERIMENT.modalities(config, dataset))
    x, _ = dataset.train.gather(dataset.train.arrays, {"index": jnp.arange(2)})
    assert {m.name: m.shape for m in model.modalities} == {name: values.shape[1:] for name, values in x.items()}
    assert model.names == ("colour", "grey", "edges", "mask", "obscured", "watermarked")
    jax.eval_shape(model.init, jax.random.key(0))


@pytest.mark.slow
def test_a_run_reports_and_draws_every_task(tmp_path):
    out = tmp_path / "run"
    assert main(EXPERIMENT, [*TINY, "--fusion=poe", f"--out={out}", f"--cache={tmp_path / 'cache'}"]) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    tasks = {"colourisation", "edge detection", "inpainting", "mask", "watermark removal"}
    tasks = {f"{name} of stand-ins" for name in tasks}
    assert set(labelled(metrics, "task/error")) == set(labelled(metrics, "task/guess")) == tasks
    assert all(metrics[f"standard_error/task/error/{name}"] > 0 for name in tasks)
    assert {path.stem for path in (out / "figures").glob("task_*.png")} == {
        f"task_{name.replace(' ', '_')}" for name in tasks
    }
    assert "Error of a task" in (out / "report.html").read_text()


@pytest.mark.parametrize(
    ("argument", "said"),
    [("--size=4", "size=4: give at least 16"), ("--data=nowhere", "--data=nowhere: no such folder")],
)
def test_mistakes_are_told_in_one_line(argument, said, tmp_path, capsys):
    assert main(EXPERIMENT, [argument, f"--out={tmp_path / 'run'}", f"--cache={tmp_path}"]) == 2
    message = capsys.readouterr().err
    assert said in message and message.count("\n") == 1
