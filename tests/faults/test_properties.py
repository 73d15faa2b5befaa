"""Whatever configurations and data are given: they are taken and the result is finite, or one line says what is wrong."""

import contextlib
import io
import re
from collections.abc import Iterator
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mmvae_jax import Modality, Model, Training, fit
from mmvae_jax.data.batching import fixed_split
from mmvae_jax.errors import UserError
from mmvae_jax.evaluation import EvaluationSettings, evaluate
from mmvae_jax.evaluation.classifiers import ClassifierSettings
from mmvae_jax.networks.conv import ConvDecoder, ConvEncoder
from mmvae_jax.networks.mlp import MLPDecoder, MLPEncoder
from mmvae_jax.runs.config import parse
from tests.runs import own_experiment
from tests.runs.own_experiment import EXPERIMENT

ROWS = 8
MODEL = Model(
    tuple(Modality(name, (2,), MLPEncoder((3,)), MLPDecoder((2,), (3,))) for name in "ab"), latent_dim=2, fusion="mopoe"
)
TRAINING = Training(steps=2, batch_size=4)


def few(examples: int) -> settings:
    """The same examples on every machine, however slow."""
    return settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@contextlib.contextmanager
def told_in_one_line() -> Iterator[None]:
    """Whether what goes wrong is a user's error of one line."""
    try:
        yield
    except UserError as error:
        assert str(error) and "\n" not in str(error)


def all_flags() -> list[str]:
    """Every flag of an experiment, read off its help."""
    page = io.StringIO()
    with contextlib.redirect_stdout(page), pytest.raises(SystemExit):
        parse(EXPERIMENT.presets, "program", ["--help"])
    return sorted(set(re.findall(r"--[a-z][a-z.-]+[a-z]", page.getvalue())) - {"--help"})


VALUES = st.one_of(
    st.sampled_from(["nan", "inf", "-inf", "-1", "0", "1", "1e308", "1e-320", "9" * 30, "", " ", "None", "\0", "é"]),
    st.integers().map(str),
    st.floats().map(str),
    st.text(max_size=5),
)
WORDS = st.sampled_from(["mopoe", "poe", "elbo", "dreg", "laplace", "svae", "quick", "paper", "gmm", "constant"])
FLAGS = st.tuples(st.sampled_from(all_flags()), VALUES | WORDS)


@few(120)
@given(st.lists(FLAGS, max_size=3))
def test_any_command_line_is_a_configuration_or_one_line(flags: list[tuple[str, str]]):
    arguments = [f"{flag}={value}" for flag, value in flags]
    with told_in_one_line():
        config = parse(EXPERIMENT.presets, "program", arguments)
        assert config.training.steps > 0 or config.epochs > 0


@few(30)
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 4)),
    layers=st.integers(1, 5),
    kernel=st.integers(1, 5),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
)
def test_pictures_of_any_size_come_back_in_their_size(size, layers: int, kernel: int, stride: int, padding: int):
    geometry = {"kernel": kernel, "stride": stride, "padding": padding}
    encoder = ConvEncoder((2,) * layers, hidden=3, **geometry)
    decoder = ConvDecoder(size, (2,) * layers, **geometry)
    model = Model((Modality("x", size, encoder, decoder, pixels=True),), latent_dim=2)

    def decoded(key: jax.Array) -> jax.Array:
        return model.generate(model.init(key), key, samples=3)["x"]

    with told_in_one_line():
        assert jax.eval_shape(decoded, jax.random.key(0)).shape == (3, *size)


@few(3)
@given(arrays(bool, (ROWS, 2)))
def test_under_any_presence_training_is_finite_or_refused(present: np.ndarray):
    rng = np.random.default_rng(0)
    data = {name: rng.normal(size=(ROWS, 2)).astype(np.float32) for name in "ab"}
    for column, values in zip(present.T, data.values(), strict=True):
        values[~column] = np.nan  # what is missing may be anything
    if not present.any():
        with pytest.raises(UserError, match="presence is false everywhere"):
            fit(MODEL, data, TRAINING, presence=present)
        return
    state = fit(MODEL, data, TRAINING, presence=present)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))


FLOATS = st.floats(width=32) | st.sampled_from([np.nan, np.inf, -np.inf, 0.0, 1e3, -1e3, 1001.0, 1e30])


@few(100)
@given(arrays(np.float32, (3, 2), elements=FLOATS), arrays(bool, (3, 2)))
def test_of_any_data_the_first_bad_sample_is_named(x: np.ndarray, present: np.ndarray):
    bad = (~np.isfinite(x) | (abs(x) > 1000)).any(-1) & present[:, 0]
    data = {"a": x, "b": np.zeros_like(x)}
    if not bad.any():
        assert MODEL.batch(data, present).x["a"].shape == x.shape
        return
    with pytest.raises(UserError, match="a: value .* in observed sample ") as error:
        MODEL.batch(data, present)
    assert bad[int(str(error.value).partition("sample ")[2].partition(":")[0])]


def data_of(value: float, label: int, test_value: float):
    """All training tuples alike, of one class, and all test tuples."""

    def split(value: float):
        return fixed_split(dict.fromkeys("ab", jnp.full((ROWS, 2), value)), jnp.full(ROWS, label, jnp.int32))

    dataset = own_experiment.load(EXPERIMENT.presets["quick"])
    return replace(dataset, train=split(value), test=split(test_value))


def test_constant_data_of_one_class_are_trained_on_and_measured(tmp_path):
    dataset = data_of(1.0, 2, 1.0)
    params = fit(MODEL, dataset.train, TRAINING).params
    settings = EvaluationSettings(
        log_likelihood_samples=2, joint_samples=4, classifier=ClassifierSettings(steps=2), sampler="gmm"
    )
    metrics = evaluate(MODEL, params, dataset, jax.random.key(0), settings, tmp_path)
    assert np.isfinite(list(metrics.values())).all()
    assert metrics["probe/a"] == metrics["probe/a+b"] == 1.0


def test_an_empty_split_is_refused():
    nothing = np.zeros((0, 2), np.float32)
    with pytest.raises(UserError, match="at least one"):
        fixed_split({"a": nothing, "b": nothing}, np.zeros(0, np.int32))
    with pytest.raises(UserError, match="give at least one"):
        fit(MODEL, {"a": nothing, "b": nothing}, TRAINING)
