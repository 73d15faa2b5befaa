"""Mixtures against distrax's MixtureSameFamily and their moments; how components are dealt out over a batch."""

from typing import Any

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mmvae_jax.gaussian import Gaussian
from mmvae_jax.laplace import Laplace
from mmvae_jax.mixture import Mixture, chosen_by_comparison, chosen_by_scatter, draw, stratified_components

S, B, D = 4, 6, 3
# Rows are batch elements here: equal, unequal, dead at the front, in the middle and at the end, and one alone.
WEIGHTS = np.array(
    [
        [0.25, 0.25, 0.25, 0.25],
        [0.1, 0.2, 0.3, 0.4],
        [0, 0.5, 0.2, 0.3],
        [0.3, 0, 0.7, 0],
        [0.5, 0.5, 0, 0],
        [0, 0, 1, 0],
    ]
)


def log(weights: np.ndarray) -> jax.Array:
    with np.errstate(divide="ignore"):
        return jnp.asarray(np.log(weights.T), jnp.float32)


def mixture(family: type[Gaussian] | type[Laplace] = Gaussian) -> Any:
    mean_key, scale_key = jax.random.split(jax.random.key(0))
    return Mixture(
        log(WEIGHTS), family(2 * jax.random.normal(mean_key, (S, B, D)), 0.5 * jax.random.normal(scale_key, (S, B, D)))
    )


@pytest.mark.parametrize("family", [Gaussian, Laplace])
def test_density_is_distrax_own(family):
    q, z = mixture(family), jax.random.normal(jax.random.key(1), (5, B, D))
    batch_first = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), q.components)
    reference = distrax.MixtureSameFamily(distrax.Categorical(probs=jnp.asarray(WEIGHTS)), batch_first.distribution)
    np.testing.assert_allclose(q.log_prob(z), reference.log_prob(z), rtol=1e-5)


def test_dead_component_has_no_density_and_no_gradient():
    q, z = mixture(), jax.random.normal(jax.random.key(2), (B, D))
    wild = q._replace(components=jax.tree.map(lambda leaf: leaf.at[0, 2].set(50.0), q.components))
    np.testing.assert_array_equal(wild.log_prob(z)[2], q.log_prob(z)[2])
    gradient = jax.jit(jax.grad(lambda c: q._replace(components=c).log_prob(z).sum()))(q.components)
    alive = (WEIGHTS.T > 0)[..., None] & np.ones(D, bool)
    for leaf in gradient:
        assert np.all(np.isfinite(leaf))
        np.testing.assert_array_equal(np.asarray(leaf) != 0, alive)


def test_mean_and_draws_agree_with_the_moments():
    q, n = mixture(), 30_000
    draws = np.asarray(q.sample(jax.random.key(3), (n,)), np.float64)
    weights, means = WEIGHTS.T[..., None], np.asarray(q.components.mean, np.float64)
    mean = (weights * means).sum(0)
    np.testing.assert_allclose(q.mean(), mean, rtol=1e-5, atol=1e-6)
    variance = (weights * (np.exp(q.components.log_var) + np.square(means))).sum(0) - np.square(mean)
    error = np.sqrt(variance / n)
    assert np.all(np.abs(draws.mean(0) - mean) < 4.5 * error)
    centred = np.square(draws - mean)
    assert np.all(np.abs(centred.mean(0) - variance) < 4.5 * centred.std(0) / np.sqrt(n))


def test_draws_are_independent_between_samples_and_elements():
    """Two samples of one element, and two elements of one sample, have no correlation."""
    q = mixture()
    draws = np.asarray(q.sample(jax.random.key(4), (20_000, 2)), np.float64)
    flat = (draws - draws.mean(0)).reshape(20_000, -1)
    correlation = np.corrcoef(flat.T)
    across = ~np.kron(np.eye(2 * B, dtype=bool), np.ones((D, D), bool))
    assert np.abs(correlation[across]).max() < 5 / np.sqrt(20_000)


@pytest.mark.parametrize(("components", "batch_size"), [(3, 8), (7, 16), (31, 64), (5, 3), (4, 12)])
def test_stratified_counts_are_even(components, batch_size):
    """B/S give or take one, whatever the key."""
    log_weights = jnp.full((components, batch_size), -jnp.log(components))
    index = jax.jit(jax.vmap(stratified_components, (0, None)))(jax.random.split(jax.random.key(5), 200), log_weights)
    counts = np.stack([(np.asarray(index) == s).sum(-1) for s in range(components)])
    assert counts.min() >= np.floor(batch_size / components)
    assert counts.max() <= np.ceil(batch_size / components)


def test_every_element_follows_its_own_weights():
    """Chi-square of each element's component over many keys; dead components are never chosen."""
    n = 20_000
    keys = jax.random.split(jax.random.key(6), n)
    index = np.asarray(jax.jit(jax.vmap(stratified_components, (0, None)))(keys, log(WEIGHTS)))
    for b, weights in enumerate(WEIGHTS):
        counts = np.bincount(index[:, b], minlength=S)
        assert np.all(counts[weights == 0] == 0)
        live = weights > 0
        if live.sum() > 1:
            assert stats.chisquare(counts[live], n * weights[live]).pvalue > 1e-3


def test_rounding_never_reaches_a_dead_component():
    """Weights that sum to less than one, as rounding makes them, only more so."""
    log_weights = log(np.array([[0.5, 0.4, 0.0], [0.0, 0.9, 0.0], [0.3, 0.0, 0.6]]))
    keys = jax.random.split(jax.random.key(10), 500)
    index = np.asarray(jax.jit(jax.vmap(stratified_components, (0, None)))(keys, log_weights))
    assert [set(column.tolist()) for column in index.T] == [{0, 1}, {1}, {0, 2}]


def test_components_are_dealt_by_permutation_not_by_slices():
    """Whether two neighbours share a component is as likely as for any two elements."""
    n, batch_size = 4_000, 8
    log_weights = jnp.full((2, batch_size), -jnp.log(2.0))
    keys = jax.random.split(jax.random.key(7), n)
    index = np.asarray(jax.jit(jax.vmap(stratified_components, (0, None)))(keys, log_weights))
    same = (index[:, :, None] == index[:, None, :]).mean(0)
    expected = (batch_size / 2 - 1) / (batch_size - 1)
    pairs = same[~np.eye(batch_size, dtype=bool)]
    assert np.abs(pairs - expected).max() < 4.5 * np.sqrt(expected * (1 - expected) / n)


@pytest.mark.parametrize("expectation", ["stratified", "sample", "all"])
def test_every_expectation_is_unbiased(expectation):
    """E_q of a function that tells components apart, against its closed form."""
    q, n = mixture(), 8_000
    keys = jax.random.split(jax.random.key(8), n)

    def estimate(key: jax.Array) -> jax.Array:
        points = draw(key, q, expectation)
        return jnp.einsum("eb,ebd->bd", points.weights, jnp.square(points.z) + points.z)

    estimates = np.asarray(jax.jit(jax.vmap(estimate))(keys), np.float64)
    weights, means = WEIGHTS.T[..., None], np.asarray(q.components.mean, np.float64)
    exact = (weights * (np.exp(q.components.log_var) + np.square(means) + means)).sum(0)
    z_scores = (estimates.mean(0) - exact) / (estimates.std(0) / np.sqrt(n))
    assert np.abs(z_scores).max() < 4.5


def test_all_components_are_drawn_with_their_weights():
    q = mixture()
    points = draw(jax.random.key(9), q, "all")
    assert points.z.shape == (S, B, D)
    np.testing.assert_allclose(points.weights, WEIGHTS.T, rtol=1e-6)
    near = jnp.abs(points.z - q.components.mean) / jnp.exp(0.5 * q.components.log_var)
    assert float(near.max()) < 5


def test_a_tpu_s_gradient_of_a_choice_is_the_others():
    leaf, g = jnp.asarray(np.random.default_rng(0).normal(size=(S, B, D))), jnp.arange(1.0, B * D + 1).reshape(B, D)
    index = jnp.array([3, 0, 1, 1, 2, 3])
    by_comparison, by_scatter = chosen_by_comparison(leaf, index, g), chosen_by_scatter(leaf, index, g)
    np.testing.assert_array_equal(by_comparison, by_scatter)
    np.testing.assert_array_equal(by_comparison[index, jnp.arange(B)], g)
    assert by_comparison.sum() == g.sum()
