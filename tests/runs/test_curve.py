"""A learning curve is what each kept checkpoint measures, and what cannot be read is left out."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmvae_jax.data.batching import Dataset, fixed_split
from mmvae_jax.errors import UserError
from mmvae_jax.evaluation import Context, EvaluationSettings, measure
from mmvae_jax.runs.checkpoints import Checkpoints
from mmvae_jax.runs.curve import curve_points, read_curve
from mmvae_jax.training import Training, init_state
from tests.oracle import LinearGaussian

ORACLE = LinearGaussian((4, 5), latent_dim=2)
NAMES = ["log_likelihood/joint"]


@pytest.fixture
def run(tmp_path):
    """Three checkpoints of 2 steps an epoch, the last with the true parameters."""
    model = ORACLE.model()
    batch = ORACLE.sample(jax.random.key(1), 30)
    split = fixed_split(batch.x, np.zeros(30, np.int32))
    template = init_state(model, Training(steps=6), jax.random.key(0))
    states = [
        template._replace(params=ORACLE.params(model, shift=shift), step=jnp.int32(step))
        for step, shift in ((2, 1.0), (4, 0.5), (6, 0.0))
    ]
    with Checkpoints(tmp_path / "checkpoints", keep_last=3) as checkpoints:
        for state in states:
            checkpoints.save(state, 0.0)
    lines = []
    settings = EvaluationSettings(log_likelihood_samples=5, log_likelihood_examples=20)
    dataset = Dataset("toy", ORACLE.names, split, split, 0)
    context = Context(model, states[-1].params, dataset, jax.random.key(3), settings, tmp_path, lines.append)
    final = measure(context) | {"train/steps": 6, "train/epochs": 3.0}
    return tmp_path, context, states, final, lines


def test_each_checkpoint_measures_what_its_parameters_do(run):
    folder, context, states, final, _ = run
    points = curve_points(context, folder, NAMES, states[-1], final)
    assert [(point["train/steps"], point["train/epochs"]) for point in points] == [(2, 1), (4, 2), (6, 3)]
    for point, state in zip(points, states, strict=True):
        expected = measure(context.of(state.params), NAMES)
        assert {name: value for name, value in point.items() if not name.startswith("train/")} == expected
    joint = [point["log_likelihood/joint/m0+m1"] for point in points]
    assert joint == sorted(joint) and joint[0] < joint[-1]
    assert read_curve(folder) == points
    assert curve_points(context, folder, (), states[-1], final) == points


def test_a_checkpoint_that_cannot_be_read_is_told_and_left_out(run):
    folder, context, states, final, lines = run
    for path in (folder / "checkpoints" / "4").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    points = curve_points(context, folder, NAMES, states[-1], final)
    assert [point["train/steps"] for point in points] == [2, 6]
    assert any("checkpoint 4 in" in line and "left out" in line for line in lines)


def test_without_a_curve_there_are_no_points_and_a_damaged_one_is_refused(tmp_path):
    assert read_curve(tmp_path) == []
    for damaged in ('{"step": 1}', "[1]", '[{"probe": "high"}]', "[{"):
        (tmp_path / "curve.json").write_text(damaged)
        with pytest.raises(UserError, match="remove it, or measure again"):
            read_curve(tmp_path)
    (tmp_path / "curve.json").write_text(json.dumps([{"probe/m0": 0.5}]))
    assert read_curve(tmp_path) == [{"probe/m0": 0.5}]
