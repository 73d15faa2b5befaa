"""Every combination of objective, fusion and posterior either trains or is refused in one line, before it is compiled."""

import itertools
from dataclasses import fields, replace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmvae_jax import Modality, Model, Options, Training, UserError, fit
from mmvae_jax.data.batching import Batch
from mmvae_jax.fusion import FUSIONS
from mmvae_jax.model import Params
from mmvae_jax.objectives import OBJECTIVES, check
from mmvae_jax.posteriors import POSTERIORS
from mmvae_jax.priors import PRIORS
from mmvae_jax.zoo import MODELS
from tests import toy

NAMES = ("m0", "m1")
EVERY_MASK = np.tile(np.array(list(np.ndindex(2, 2)), bool), (2, 1))


def model_of(objective: str, **options: Any) -> Model:
    """Two equal modalities, with what the objective needs besides a fusion and a posterior."""
    private = OBJECTIVES[objective].needs_private
    modality = toy.modality("normal", 2 * private)
    modalities = tuple(replace(modality, name=name) for name in NAMES)
    return Model(modalities, 3, auxiliary_prior=private, joint_width=4, **options)


def refused(objective: str, options: Options | None = None, **model: Any) -> str:
    """Why, in one line; nothing if the combination is admitted."""
    try:
        check(model_of(objective, **model), objective, options)
    except UserError as refusal:
        return str(refusal)
    return ""


COMBINATIONS = list(itertools.product(OBJECTIVES, FUSIONS, POSTERIORS))
REFUSED = {c: line for c in COMBINATIONS if (line := refused(c[0], fusion=c[1], posterior=c[2]))}
ADMITTED = [c for c in COMBINATIONS if c not in REFUSED]
# The papers' models train in the protocol test.
PAPERS = {(row.objective, row.fusion, row.options.get("posterior", "gaussian")) for row in MODELS.values()}


@pytest.mark.parametrize(("objective", "fusion", "posterior"), [c for c in ADMITTED if c not in PAPERS])
def test_what_is_admitted_has_a_finite_gradient_under_every_mask(objective, fusion, posterior):
    model, row = model_of(objective, fusion=fusion, posterior=posterior), OBJECTIVES[objective]
    few = {"importance_samples": 2, "random_subsets": 1}
    options = Options(**{name: value for name, value in few.items() if name in row.options})
    x = toy.data(["normal"], 8)["normal"]
    batch = Batch(dict.fromkeys(NAMES, x), jnp.asarray(EVERY_MASK), jnp.zeros(8, jnp.int32))

    def loss(params: Params) -> jax.Array:
        return row.loss(model, params, jax.random.key(1), batch, 0.7, options)[0]

    value, gradient = jax.jit(jax.value_and_grad(loss))(model.init(jax.random.key(0)))
    assert np.isfinite(value)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))
    assert all(np.any(np.asarray(leaf) != 0) for leaf in jax.tree.leaves(gradient["decoders"]))


def test_refusals_are_one_line_that_names_what_was_asked_for():
    for (objective, fusion, posterior), line in REFUSED.items():
        assert "\n" not in line
        assert f"objective {objective} with" in line or f"fusion {fusion}" in line
        assert f"fusion {fusion}" in line or f"posterior={posterior}" in line
        assert "use " in line


def test_every_objective_fusion_and_posterior_is_of_some_use():
    for i, registry in enumerate((OBJECTIVES, FUSIONS, POSTERIORS)):
        assert {combination[i] for combination in ADMITTED} == set(registry)


@pytest.mark.parametrize("name", MODELS)
def test_the_papers_models_are_admitted(name):
    check(toy.model(name, ["normal", "label"]), MODELS[name].objective)


class Untouched(nn.Module):
    """A network that must not be reached."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        raise AssertionError("compiled before it was refused")


def untouched(private_dim: int = 0, count: int = 2, **options: Any) -> Model:
    names = [f"m{i}" for i in range(count)]
    modalities = tuple(Modality(name, (3,), Untouched(), Untouched(), private_dim=private_dim) for name in names)
    return Model(modalities, 3, **options)


SENSELESS: list[tuple[str, dict[str, Any], str]] = [
    ("jmvae", {"fusion": "poe"}, "jmvae"),
    ("mvtcae", {"fusion": "moe"}, "mvtcae"),
    ("mvtcae", {"fusion": "mopoe"}, "mvtcae"),
    ("mvtcae", {"fusion": "poe", "empty_subset": True}, "mvtcae"),
    ("mmvae_plus", {"fusion": "mopoe", "auxiliary_prior": True, "private_dim": 2}, "mmvae_plus"),
    ("mmvae_plus", {"fusion": "moe", "auxiliary_prior": True}, "private-dim"),
    ("mmvae_plus", {"fusion": "moe", "private_dim": 2}, "auxiliary-prior"),
    ("mmjsd", {"fusion": "moe", "posterior": "laplace"}, "posterior=laplace"),
    ("mmjsd", {"fusion": "moe", "subsets": "m0+m1,m0"}, "mmjsd"),
    ("vaevae", {"fusion": "bridge", "count": 1}, "bridge"),
    ("vaevae", {"fusion": "joint_network", "count": 1}, "joint_network"),
    ("svae", {"fusion": "replacement_experts", "count": 1}, "replacement_experts"),
    ("elbo", {"fusion": "poe_quotient", "prior": "learned_scale"}, "learned_scale"),
    ("elbo", {"fusion": "poe", "posterior": "laplace"}, "laplace"),
    ("elbo", {"fusion": "subset_networks", "subsets": "m0,m1"}, "m0,m1"),
]


@pytest.mark.parametrize(("objective", "options", "named"), SENSELESS, ids=lambda value: str(value)[:60])
def test_what_makes_no_sense_is_refused_before_anything_is_compiled(objective, options, named):
    data = {f"m{i}": np.ones((8, 3), np.float32) for i in range(options.get("count", 2))}
    with pytest.raises(UserError) as refusal:
        fit(untouched(**options), data, Training(objective, steps=1, batch_size=4))
    assert named in str(refusal.value)
    assert "\n" not in str(refusal.value)


# A value of every option that is not its default.
OTHER = Options("sample", "all", 3, 4, 5, 0.6, 0.7, 0.8)


@pytest.mark.parametrize("option", [field.name for field in fields(Options)])
def test_an_option_that_is_not_read_is_refused_and_told_who_reads_it(option):
    value = getattr(OTHER, option)
    assert value != getattr(Options(), option)
    readers = [name for name, row in OBJECTIVES.items() if option in row.options]
    assert readers
    for objective, row in OBJECTIVES.items():
        fusion = next(name for name, fusion in FUSIONS.items() if fusion.kind in row.fusions)
        line = refused(objective, replace(Options(), **{option: value}), fusion=fusion)
        assert bool(line) == (objective not in readers)
        if line:
            assert f"{option.replace('_', '-')}={value}" in line
            assert all(reader in line for reader in readers)


def test_closed_divergences_are_asked_for_only_where_there_are_some(monkeypatch):
    """A prior without them trains with sampled divergences or importance weights."""
    monkeypatch.setitem(PRIORS, "open", replace(PRIORS["standard"], closed=False))
    for objective, row in OBJECTIVES.items():
        fusion = next(name for name, fusion in FUSIONS.items() if fusion.kind in row.fusions)
        assert bool(refused(objective, fusion=fusion, prior="open")) == row.needs_closed_kl
    assert not refused("elbo", Options(kl="sample"), prior="open")
