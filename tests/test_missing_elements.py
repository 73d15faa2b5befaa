"""Missing elements, NaN with `nan_missing`: as if they had never been part of their modality."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from mmvae_jax import Modality, Model, Training, UserError, fit
from mmvae_jax.accumulation import in_parts
from mmvae_jax.baselines.models import CVAE
from mmvae_jax.data.batching import Batch, fixed_split
from mmvae_jax.evaluation.likelihood import joint_log_likelihood
from mmvae_jax.model import Params
from mmvae_jax.networks.mlp import MLPDecoder, MLPEncoder
from mmvae_jax.objectives import OBJECTIVES, Options
from tests import toy
from tests.oracle import LinearGaussian

N = 12
RNG = np.random.default_rng(0)
# Every pattern of three elements, of which the first is of nothing.
PATTERNS = np.array(list(np.ndindex(2, 2, 2)), bool)[np.arange(N) % 8]
COMPLETE = {"a": RNG.normal(size=(N, 3)).astype(np.float32), "b": RNG.normal(size=(N, 2)).astype(np.float32)}
GAPS = {**COMPLETE, "a": np.where(PATTERNS, COMPLETE["a"], np.float32(np.nan))}


def vectors(dim: int = 3) -> Model:
    """Two modalities, a of so many elements."""
    return Model(
        (
            Modality("a", (dim,), MLPEncoder((4,)), MLPDecoder((dim,), (4,)), scale=0.5, nan_missing=True),
            Modality("b", (2,), MLPEncoder((4,)), MLPDecoder((2,), (4,)), scale=0.5),
        ),
        latent_dim=2,
    )


VECTORS = vectors()
PARAMS = VECTORS.init(jax.random.key(0))


@pytest.mark.parametrize("kinds", ["counts", "measurements"])
def test_log_likelihoods_and_gradients_are_those_of_observed_elements(kinds):
    """For every likelihood: the sum over the elements that are picked out one by one."""
    model = toy.model("mopoe", toy.KINDS[kinds])
    params, batch = model.init(jax.random.key(0)), model.batch(toy.data(toy.KINDS[kinds], N))
    z = jax.random.normal(jax.random.key(1), (2, N, 3))

    def picked(params: Params) -> tuple[jax.Array, Any]:
        sums = []
        for name, p in model.decode(params, z).items():
            observed = ~np.isnan(batch.x[name])
            places = np.nonzero(observed)
            nats: Any = p.log_prob(jnp.where(observed, batch.x[name], 1.0))
            sums.append(jnp.zeros((2, N)).at[:, places[0]].add(nats[:, *places]))
        return sum(map(jnp.sum, sums), jnp.zeros(())), jnp.stack(sums, -1)

    def ours(params: Params) -> tuple[jax.Array, Any]:
        found = model.log_likelihoods(params, z, batch)
        return found.sum(), found

    expected, found = (jax.jit(jax.value_and_grad(each, has_aux=True))(params) for each in (picked, ours))
    assert not np.asarray(found[0][1][:, 0]).any() and not np.asarray(batch.present[0]).any()
    np.testing.assert_allclose(found[0][1], expected[0][1], rtol=1e-5, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), found[1], expected[1])
    parts = jax.jit(in_parts(model, 3).log_likelihoods)(params, z, batch)
    np.testing.assert_allclose(parts, found[0][1], rtol=1e-5, atol=1e-6)


def shortened(params: Params) -> Params:
    """The parameters that a has of its first two elements."""
    a, decoder = params["inference"]["a"], params["decoders"]["a"]
    first = {**a["trunks_0"]["Dense_0"], "kernel": a["trunks_0"]["Dense_0"]["kernel"][:2]}
    last = {name: leaf[..., :2] for name, leaf in decoder["Dense_1"].items()}
    return {
        "inference": {**params["inference"], "a": {**a, "trunks_0": {"Dense_0": first}}},
        "decoders": {**params["decoders"], "a": {**decoder, "Dense_1": last}},
    }


def test_an_element_that_is_never_observed_is_equal_to_leaving_it_out():
    """The same loss and gradients as of a modality without it, whose own are exactly zero."""
    complete = COMPLETE["a"]
    gaps = {**COMPLETE, "a": np.where([True, True, False], complete, np.float32(np.nan))}
    results = []
    for model, params, data in (
        (VECTORS, PARAMS, gaps),
        (vectors(2), shortened(PARAMS), {**COMPLETE, "a": complete[:, :2]}),
    ):
        batch = model.batch(data)

        def loss(params: Params, model: Model = model, batch: Batch = batch) -> jax.Array:
            return OBJECTIVES["elbo"].loss(model, params, jax.random.key(1), batch, 1.0, Options())[0]

        results.append(jax.jit(jax.value_and_grad(loss))(params))
    (with_gaps, gradient), (without, expected) = results
    np.testing.assert_allclose(with_gaps, without, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), shortened(gradient), expected)
    assert not np.asarray(gradient["inference"]["a"]["trunks_0"]["Dense_0"]["kernel"][2]).any()
    assert not np.asarray(gradient["decoders"]["a"]["Dense_1"]["kernel"][:, 2]).any()


def test_nothing_but_missing_elements_is_absent():
    present = np.stack([PATTERNS.any(1), np.ones(N, bool)], 1)
    np.testing.assert_array_equal(VECTORS.batch(GAPS).present, present)
    by_hand = {**COMPLETE, "a": np.where(PATTERNS, COMPLETE["a"], 0)}
    found, expected = (VECTORS.infer(PARAMS, VECTORS.batch(data, present)) for data in (GAPS, by_hand))
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    jax.tree.map(np.testing.assert_array_equal, VECTORS.infer(PARAMS, GAPS), expected)


def test_a_split_trains_as_its_arrays_do():
    training = Training(steps=3, batch_size=4)
    split = fixed_split({name: jnp.asarray(x) for name, x in GAPS.items()}, jnp.zeros(N, jnp.int32))
    ours, theirs = (fit(VECTORS, data, training, show=False).params for data in (split, GAPS))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), ours, theirs)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(ours))


def test_imputation_fills_in_what_is_missing():
    key = jax.random.key(2)
    found = VECTORS.impute(PARAMS, key, GAPS, samples=2)
    generated = VECTORS.generate(PARAMS, key, GAPS, samples=2)
    np.testing.assert_array_equal(found["a"], np.where(PATTERNS, COMPLETE["a"], generated["a"]))
    np.testing.assert_array_equal(found["b"], np.broadcast_to(COMPLETE["b"], (2, N, 2)))


def test_log_likelihood_is_the_exact_marginal_of_observed_elements():
    oracle = LinearGaussian((3, 2), 2)
    model = oracle.model("poe")
    model = replace(model, modalities=tuple(replace(m, nan_missing=True) for m in model.modalities))
    x = {name: np.asarray(values) for name, values in oracle.sample(jax.random.key(0), N).x.items()}
    x["m0"] = np.where(PATTERNS, x["m0"], np.float32(np.nan))
    expected = []
    for i in range(N):
        rows = np.r_[PATTERNS[i], True, True]
        loading, bias = np.concatenate(oracle.loadings)[rows], np.concatenate(oracle.biases)[rows]
        covariance: Any = loading @ loading.T + oracle.noise**2 * np.eye(rows.sum())
        expected.append(multivariate_normal(bias, covariance).logpdf(np.r_[x["m0"][i], x["m1"][i]][rows]))
    # Both propose: a wide posterior, for what the exact one would be with gaps no encoder of the oracle knows.
    params, everything = oracle.params(model, log_scale=0.5), np.ones((1, 2), bool)
    samples = 20_000
    found = joint_log_likelihood(model, params, jax.random.key(1), model.batch(x), everything, samples)
    errors = np.sqrt(1 / found.ess[0] - 1 / samples)
    assert errors.max() < 0.2
    assert np.abs((found.log_prob[0] - expected) / errors).max() < 4


def test_a_conditional_vae_leaves_them_out_too():
    target, condition = VECTORS.modalities
    cvae = CVAE(replace(target, decoder=MLPDecoder((3,))), condition, 2, joint_width=4)
    params = cvae.init(jax.random.key(0))
    key = jax.random.key(1)
    loss, gradient = jax.jit(jax.value_and_grad(lambda p: cvae.loss(p, key, GAPS["a"], COMPLETE["b"])))(params)
    filled = np.where(PATTERNS, COMPLETE["a"], 0)
    decoded: Any = cvae.decode(params, cvae.posterior(params, filled, COMPLETE["b"]).sample(key, (1,)), COMPLETE["b"])
    difference = replace(cvae, target=replace(cvae.target, nan_missing=False)).loss(params, key, filled, COMPLETE["b"])
    terms = np.where(PATTERNS, 0, decoded.log_prob(filled)).sum(-1).mean()
    np.testing.assert_allclose(loss, difference + terms, rtol=1e-5)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


def test_class_indices_are_never_nan():
    with pytest.raises(
        UserError, match="label: nan-missing: class indices are never NaN: say by presence which are missing"
    ):
        replace(toy.modality("label"), nan_missing=True)
