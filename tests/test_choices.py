"""Typing mistakes of library users: every choice is checked where it is taken, with the same one line."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import jax
import pytest

from mmvae_jax import Modality, Model, Options, Training, UserError
from mmvae_jax.fusion import FUSIONS, PriorExpert
from mmvae_jax.likelihoods import LIKELIHOODS
from mmvae_jax.mixture import Expectation
from mmvae_jax.objectives import OBJECTIVES
from mmvae_jax.objectives.terms import KL
from mmvae_jax.posteriors import POSTERIORS
from mmvae_jax.priors import PRIORS
from mmvae_jax.training import Schedule
from tests import toy

pytestmark = pytest.mark.usefixtures("unchecked")
NAMES = ("normal", "label")


def changed(**options: Any) -> Model:
    return replace(toy.model("poe", NAMES), **options)


def modality(**options: Any) -> Modality:
    return replace(toy.modality("normal"), **options)


def generated(to: Any) -> Any:
    model = toy.model("poe", NAMES)
    return model.generate(model.init(jax.random.key(0)), jax.random.key(1), to=to)


def inferred(subset: Any) -> Any:
    model = toy.model("poe", NAMES)
    return model.infer(model.init(jax.random.key(0)), toy.data(NAMES, 4), subset)


TYPOS: list[tuple[Callable[[], Any], str, Any]] = [
    (lambda: Training(schedule="cos"), "cos", get_args(Schedule)),
    (lambda: Training(objective="elbow"), "elbow", OBJECTIVES),
    (lambda: Options(kl="Sample"), "Sample", get_args(KL)),
    (lambda: Options(expectation="al"), "al", get_args(Expectation)),
    (lambda: changed(fusion="product"), "product", FUSIONS),
    (lambda: changed(posterior="student"), "student", POSTERIORS),
    (lambda: changed(prior="standart"), "standart", PRIORS),
    (lambda: changed(prior_expert="fulll"), "fulll", get_args(PriorExpert)),
    (lambda: modality(likelihood="gauss"), "gauss", LIKELIHOODS),
    (lambda: generated(["normal", "lable"]), "lable", NAMES),
    (lambda: generated("not a label"), "not a label", NAMES),
    (lambda: generated("lab"), "lab", NAMES),
    (lambda: inferred(["lable"]), "lable", NAMES),
    (lambda: inferred("normal+lable"), "lable", NAMES),
]


@pytest.mark.parametrize(("call", "value", "choices"), TYPOS, ids=[value for _, value, _ in TYPOS])
def test_a_typo_is_refused_in_one_line_with_the_value_and_the_choices(call, value, choices):
    with pytest.raises(UserError) as refusal:
        call()
    line = str(refusal.value)
    assert "\n" not in line
    assert repr(value) in line
    assert line.endswith(", ".join(choices))


@pytest.mark.parametrize("to", ["label", ["label"], ("label",)])
def test_one_modality_is_named_with_or_without_a_list(to):
    assert set(generated(to)) == {"label"}


def test_a_string_of_modalities_is_a_subset():
    assert set(generated("label+normal")) == set(NAMES)
    jax.tree.map(lambda a, b: (a == b).all() or pytest.fail("differ"), inferred("normal"), inferred(["normal"]))
