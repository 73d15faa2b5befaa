"""Garbage is refused at every entry point, in one line with the modality, the first bad sample and a remedy."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmvae_jax import Modality, Model, Training, UserError, fit
from mmvae_jax.data.batching import fixed_split
from mmvae_jax.evaluation.likelihood import log_likelihood
from tests import toy

pytestmark = pytest.mark.usefixtures("unchecked")
N = 8
REAL = np.random.default_rng(0).normal(size=(N, 3)).astype(np.float32)
KINDS = ("normal", "label")
TWO = {"normal": REAL, "label": np.arange(N) % toy.CLASSES}


def vector(likelihood: str = "normal", scale: float | tuple[float, ...] = 0.5, **options: Any) -> Modality:
    return replace(toy.modality("normal"), name="a", likelihood=likelihood, scale=scale, **options)


def of(modality: Modality) -> Model:
    return Model((modality,), 2, "poe")


def bad_from(sample: int, value: Any, x: np.ndarray = REAL) -> np.ndarray:
    """Good data, but for one value of every sample from `sample` on."""
    x = x.copy()
    x[sample:, ..., -1] = value
    return x


def refusal(call: Any) -> str:
    with pytest.raises(UserError) as refused:
        call()
    line = str(refused.value)
    assert "\n" not in line
    return line


def gappy(x: np.ndarray) -> np.ndarray:
    """Without the first element of every sample."""
    return np.where(np.arange(x.shape[-1]) == 0, np.nan, x)


COUNTS = np.random.default_rng(2).poisson(3.0, size=(N, 3)).astype(np.float32)
GREY = np.random.default_rng(1).uniform(size=(N, 3)).astype(np.float32)
LABEL = replace(toy.modality("label"), name="a")
TEXT = replace(toy.modality("text"), name="a")
PIXELS = {"pixels": True}
# Modality, data, first bad sample, words of the remedy.
WRONG_VALUES: dict[str, tuple[Modality, np.ndarray, int, str]] = {
    "0..255 under bernoulli": (vector("bernoulli"), np.round(255 * GREY + 1), 0, "scale"),
    "0..255 under laplace, pixels": (vector("laplace", 0.75, **PIXELS), bad_from(3, 200.0, GREY), 3, "scale"),
    "0..255 under normal, small scale": (vector("normal", 0.1), bad_from(2, 255.0), 2, "standardise"),
    "-255 under laplace, small scale": (vector("laplace", 0.1), bad_from(2, -255.0), 2, "standardise"),
    "-1..1 under bernoulli": (vector("bernoulli"), bad_from(4, -1.0, GREY), 4, "scale"),
    "-1..1 under normal, pixels": (vector("normal", **PIXELS), bad_from(4, -1.0, GREY), 4, "scale"),
    "a class too many": (LABEL, np.r_[np.arange(6) % toy.CLASSES, toy.CLASSES, 0], 6, f"{toy.CLASSES - 1}"),
    "a class below 0": (LABEL, np.r_[0, 1, -1, np.zeros(5, int)], 2, "say by presence"),
    "a symbol too many": (TEXT, bad_from(5, 5, np.zeros((N, 4), np.int32)), 5, "4"),
    "NaN": (vector(), bad_from(1, np.nan), 1, "mark it missing"),
    "NaN, without the option": (vector("normal"), bad_from(2, np.nan), 2, "nan_missing=True"),
    "infinity": (vector("bernoulli"), bad_from(1, np.inf, GREY), 1, "mark it missing"),
    "infinity where NaN is missing": (vector(nan_missing=True), bad_from(1, np.inf), 1, "mark it missing"),
    "too far where NaN is missing": (vector(nan_missing=True), gappy(bad_from(3, 501.0)), 3, "standardise"),
    "too far for one feature": (vector(scale=(9.0, 9.0, 0.1)), bad_from(2, 101.0), 2, "standardise"),
    "-1 under poisson": (vector("poisson"), bad_from(4, -1.0, COUNTS), 4, "whole numbers of at least 0"),
    "1.5 under poisson": (vector("poisson"), bad_from(4, 1.5, COUNTS), 4, "poisson takes counts"),
    "1.5 under negative_binomial": (vector("negative_binomial"), bad_from(1, 1.5, COUNTS), 1, "counts"),
    "1.5 among gaps": (vector("poisson", nan_missing=True), gappy(bad_from(3, 1.5, COUNTS)), 3, "counts"),
    "-1 as an integer": (vector("poisson"), bad_from(2, -1, COUNTS.astype(int)), 2, "counts"),
}


@pytest.mark.parametrize("case", WRONG_VALUES.values(), ids=WRONG_VALUES)
def test_values_that_cannot_be_right_are_refused(case):
    modality, x, sample, remedy = case
    line = refusal(lambda: of(modality).batch({"a": x}))
    assert line.startswith("a: ")
    assert f"sample {sample}:" in line
    assert remedy in line.split(":", 2)[2]


@pytest.mark.parametrize("case", WRONG_VALUES.values(), ids=WRONG_VALUES)
def test_what_is_missing_may_be_anything(case):
    modality, x, sample, _ = case
    presence = (np.arange(N) < sample)[:, None]
    assert of(modality).batch({"a": x}, presence).present.sum() == sample


GOOD_VALUES: dict[str, tuple[Modality, np.ndarray]] = {
    "grey under bernoulli": (vector("bernoulli"), np.r_[GREY[:-1], [[0.0, 1.0, 0.5]]]),
    "bytes as pixels": (vector("bernoulli", **PIXELS), (255 * GREY).astype(np.uint8)),
    "999 scales away": (vector("laplace", 0.5), bad_from(0, 499.5)),
    "padding": (TEXT, bad_from(0, -1, np.zeros((N, 4), np.int32))),
    "float64": (vector(), REAL.astype(np.float64)),
    "counts": (vector("poisson"), bad_from(0, 300.0, COUNTS)),
    "counts as bytes": (vector("negative_binomial"), COUNTS.astype(np.uint8)),
    "counts among gaps": (vector("poisson", nan_missing=True), gappy(COUNTS)),
    "gaps": (vector(nan_missing=True), gappy(REAL)),
    "99 scales of one feature": (vector(scale=(9.0, 9.0, 0.1)), bad_from(0, 99.0)),
}


@pytest.mark.parametrize("case", GOOD_VALUES.values(), ids=GOOD_VALUES)
def test_values_at_the_bounds_are_taken(case):
    modality, x = case
    np.testing.assert_allclose(of(modality).batch({"a": x}).x["a"], x, rtol=1e-6)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.full((N, 3), "x"), "type <U1"),
        (np.full((N, 3), None), "type object"),
        (REAL > 0, "type bool"),
        (REAL.astype(complex), "type complex128"),
        (np.zeros((0, 3), np.float32), "no sample"),
        (np.float32(0.5), "declared (3,)"),
    ],
    ids=["strings", "objects", "bools", "complex", "empty", "scalar"],
)
def test_what_are_no_numbers_are_refused(x, words):
    line = refusal(lambda: of(vector()).batch({"a": x}))
    assert line.startswith("a: ")
    assert words in line


def test_class_indices_are_integers():
    assert refusal(lambda: of(LABEL).batch({"a": np.zeros(N)})).startswith("a: data of type float64: give class ind")


@pytest.mark.parametrize("mask", [np.full((N, 1), 0.5), np.ones((N, 1), int), np.full((N, 1), "yes")])
def test_presence_is_boolean(mask):
    assert f"presence of type {mask.dtype}: give booleans" in refusal(lambda: of(vector()).batch({"a": REAL}, mask))


def as_split(data: Mapping[str, Any]) -> Any:
    return fixed_split({name: jnp.asarray(x) for name, x in data.items()}, jnp.zeros(N, jnp.int32))


ENTRIES = {
    "fit": lambda model, params, key, data: fit(model, data, Training(steps=1, batch_size=4)),
    "fit, of a Split": lambda model, params, key, data: fit(model, as_split(data), Training(steps=1, batch_size=4)),
    "infer": lambda model, params, key, data: model.infer(params, data),
    "generate": lambda model, params, key, data: model.generate(params, key, data),
    "reconstruct": lambda model, params, key, data: model.reconstruct(params, key, data),
    "impute": lambda model, params, key, data: model.impute(params, key, data),
    "log_likelihood": lambda model, params, key, data: log_likelihood(model, params, key, data, samples=2),
}


@pytest.mark.parametrize(
    "bad",
    [{"normal": np.where(np.arange(N)[:, None] == 5, np.nan, REAL)}, {"label": np.where(np.arange(N) == 5, 9, 0)}],
    ids=["NaN", "class 9"],
)
@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_every_entry_point_looks_at_its_data(entry, bad):
    model = toy.model("poe", KINDS)
    params = model.init(jax.random.key(0))
    line = refusal(lambda: entry(model, params, jax.random.key(1), {**TWO, **bad}))
    assert line.startswith(f"{next(iter(bad))}: ")
    assert "sample 5:" in line


def test_training_needs_something_observed():
    training = Training(steps=1, batch_size=4)
    line = refusal(lambda: fit(toy.model("poe", KINDS), TWO, training, presence=np.zeros((N, 2), bool)))
    assert "no training tuple has an observed modality" in line


def test_tuples_without_any_modality_and_nan_where_missing_are_fine():
    presence = np.ones((N, 2), bool)
    presence[5:, 0] = presence[6, 1] = False
    data = {**TWO, "normal": bad_from(5, np.nan)}
    state = fit(toy.model("poe", KINDS), data, Training(steps=2, batch_size=4), presence=presence)
    assert int(state.step) == 2
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(state.params))
