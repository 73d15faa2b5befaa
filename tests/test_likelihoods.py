"""Likelihoods against scipy, summed over the modality's shape and broadcast over samples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from mmvae_jax.likelihoods import (
    LIKELIHOODS,
    MAX_LOG_DISPERSION,
    MIN_LEARNED_SCALE,
    bernoulli,
    categorical,
    laplace,
    laplace_learned_scale,
    log_prob,
    negative_binomial,
    normal,
    normal_learned_scale,
    point_estimate,
    poisson,
)

K, B = 3, 4
OUTPUT = np.random.default_rng(0).normal(size=(K, B, 2, 5)).astype(np.float32)
X = np.random.default_rng(1).normal(size=(B, 2, 5)).astype(np.float32)
PAIRS = np.random.default_rng(2).normal(size=(K, B, 2, 5, 2)).astype(np.float32)
COUNTS = np.random.default_rng(3).poisson(3.0, size=(B, 2, 5)).astype(np.float32)


def test_normal_and_laplace_are_scipys():
    np.testing.assert_allclose(
        log_prob(normal(jnp.asarray(OUTPUT), 0.7), jnp.asarray(X), 2),
        stats.norm.logpdf(X, OUTPUT, 0.7).sum((-2, -1)),
        1e-5,
    )
    expected = stats.laplace.logpdf(X, OUTPUT, 0.75).sum((-2, -1))
    np.testing.assert_allclose(log_prob(laplace(jnp.asarray(OUTPUT), 0.75), jnp.asarray(X), 2), expected, 1e-5)


def test_every_feature_has_its_scale():
    scale = np.array([0.1, 0.5, 1.0, 2.0, 10.0], np.float32)
    for likelihood, reference in ((normal, stats.norm), (laplace, stats.laplace)):
        expected = reference.logpdf(X, OUTPUT, scale).sum((-2, -1))
        np.testing.assert_allclose(log_prob(likelihood(jnp.asarray(OUTPUT), scale), jnp.asarray(X), 2), expected, 1e-5)


@pytest.mark.parametrize("scale", [0.7, np.array([0.1, 0.5, 1.0, 2.0, 10.0], np.float32)], ids=["one", "of features"])
@pytest.mark.parametrize(
    ("likelihood", "reference"),
    [(normal_learned_scale, stats.norm), (laplace_learned_scale, stats.laplace)],
    ids=["normal", "laplace"],
)
def test_learned_scales_are_in_units_of_the_scale(likelihood, reference, scale):
    location, v = PAIRS[..., 0], PAIRS[..., 1]
    expected = reference.logpdf(X, location, scale * (MIN_LEARNED_SCALE + np.log1p(np.exp(v)))).sum((-2, -1))
    found = log_prob(likelihood(jnp.asarray(PAIRS), scale), jnp.asarray(X), 2)
    np.testing.assert_allclose(found, expected, 1e-5)


def test_counts_are_scipys():
    log_mean, log_t = PAIRS[..., 0], PAIRS[..., 1]
    expected = stats.poisson.logpmf(COUNTS, np.exp(OUTPUT)).sum((-2, -1))
    np.testing.assert_allclose(log_prob(poisson(jnp.asarray(OUTPUT), 1.0), jnp.asarray(COUNTS), 2), expected, 1e-5)
    mean, t = np.exp(log_mean.astype(np.float64)), np.exp(log_t.astype(np.float64))
    expected = stats.nbinom.logpmf(COUNTS, t, t / (t + mean)).sum((-2, -1))
    found = log_prob(negative_binomial(jnp.asarray(PAIRS), 1.0), jnp.asarray(COUNTS), 2)
    np.testing.assert_allclose(found, expected, 1e-5)


def test_negative_binomials_are_exact_from_all_zeros_to_poissons():
    """Log-density and gradient over the whole range of dispersions, means and counts, in single precision."""
    log_t, log_mean, x = (
        values.ravel()
        for values in np.meshgrid(
            np.linspace(-0.99, 0.99, 11) * MAX_LOG_DISPERSION, [-3.0, 0, 3, 7, 12], [0.0, 1, 7, 1000, 1e5]
        )
    )
    outputs = jnp.asarray(np.stack([log_mean, log_t], -1), jnp.float32)

    def nats(outputs):
        return negative_binomial(outputs, 1.0).log_prob(jnp.asarray(x, jnp.float32))

    def scipys(log_mean, log_t):
        mean, t = np.exp(log_mean), np.exp(log_t)
        return stats.nbinom.logpmf(x, t, t / (t + mean))

    np.testing.assert_allclose(nats(outputs), scipys(log_mean, log_t), rtol=2e-4, atol=1e-4)
    mean, t = np.exp(log_mean), np.exp(log_t)
    found = jax.grad(lambda outputs: nats(outputs).sum())(outputs)
    np.testing.assert_allclose(found[:, 0], (x - mean) * t / (t + mean), rtol=1e-4, atol=1e-4)
    slope = (scipys(log_mean, log_t + 1e-3) - scipys(log_mean, log_t - 1e-3)) / 2e-3
    np.testing.assert_allclose(found[:, 1], slope, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("distribution", "variance"),
    [
        (poisson(jnp.log(jnp.array([0.5, 4.0, 300.0])), 1.0), [0.5, 4.0, 300.0]),
        (
            negative_binomial(jnp.log(jnp.array([[0.5, 2.0], [4.0, 0.5], [300.0, 50.0]])), 1.0),
            [0.5 + 0.5**2 / 2, 4 + 4**2 / 0.5, 300 + 300**2 / 50],
        ),
    ],
    ids=["poisson", "negative binomial"],
)
def test_draws_of_counts_have_their_moments(distribution, variance):
    n, mean, variance = 20_000, np.array([0.5, 4.0, 300.0]), np.array(variance)
    draws = np.asarray(distribution.sample(seed=jax.random.key(0), sample_shape=(n,)), np.float64)
    assert draws.shape == (n, 3) and (draws == np.floor(draws)).all() and draws.min() == 0
    np.testing.assert_allclose(point_estimate(distribution), mean, rtol=1e-6)
    assert np.abs((draws.mean(0) - mean) / np.sqrt(variance / n)).max() < 4
    squares = np.square(draws - mean)
    assert np.abs((squares.mean(0) - variance) / (squares.std(0) / np.sqrt(n))).max() < 4


def test_elements_that_are_not_observed_do_not_count():
    observed = np.random.default_rng(4).random(X.shape) < 0.6
    expected = np.where(observed, stats.norm.logpdf(X, OUTPUT, 0.7), 0).sum((-2, -1))
    found = log_prob(normal(jnp.asarray(OUTPUT), 0.7), jnp.asarray(X), 2, jnp.asarray(observed))
    np.testing.assert_allclose(found, expected, 1e-5)


@pytest.mark.parametrize("grey", [False, True])
def test_bernoulli_takes_bits_and_grey_levels(grey):
    x = special.expit(X) if grey else (X > 0).astype(np.float32)
    p = special.expit(OUTPUT.astype(np.float64))
    expected = (x * np.log(p) + (1 - x) * np.log1p(-p)).sum((-2, -1))
    np.testing.assert_allclose(log_prob(bernoulli(jnp.asarray(OUTPUT), 1.0), jnp.asarray(x), 2), expected, 1e-5)


def test_categorical_sums_over_positions_and_skips_padding():
    """Text: five categories at each of two positions; a negative index contributes nothing."""
    text = np.array([[0, 4], [2, -1], [-1, -1], [-7, 1]])
    logs = special.log_softmax(OUTPUT.astype(np.float64), -1)
    expected = np.zeros((K, B))
    for k, b, position in np.ndindex(K, B, 2):
        if text[b, position] >= 0:
            expected[k, b] += logs[k, b, position, text[b, position]]
    p = categorical(jnp.asarray(OUTPUT), 1.0)
    np.testing.assert_allclose(log_prob(p, jnp.asarray(text), 1), expected, rtol=1e-5)
    gradient = jax.jit(jax.grad(lambda o: log_prob(categorical(o, 1.0), jnp.asarray(text), 1).sum()))(
        jnp.asarray(OUTPUT)
    )
    np.testing.assert_array_equal(np.any(np.asarray(gradient) != 0, -1), np.broadcast_to(text >= 0, (K, B, 2)))


def test_a_label_has_no_event_axes():
    logits, labels = jnp.asarray(OUTPUT[:, :, 0]), jnp.array([0, 3, 4, -1])
    logs = special.log_softmax(OUTPUT[:, :, 0].astype(np.float64), -1)
    expected = np.where(labels >= 0, logs[:, np.arange(B), np.maximum(labels, 0)], 0)
    np.testing.assert_allclose(log_prob(categorical(logits, 1.0), labels, 0), expected, rtol=1e-5)


def test_negative_whole_numbers_are_padding_for_classes_only():
    x = jnp.array([[-3, 2]])
    expected = stats.norm.logpdf([-3, 2], 0.5, 1.0).sum()
    np.testing.assert_allclose(log_prob(normal(jnp.full((1, 2), 0.5), 1.0), x, 1), [expected], rtol=1e-6)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_gradients_stay_finite_at_extreme_outputs(name):
    row = LIKELIHOODS[name]
    extreme = 1e6 if row.scaled else 200.0
    output = jnp.array([[extreme, -extreme, 0.0]])
    if row.outputs > 1:
        output = jnp.stack([output, -output], -1)
    x = jnp.array([2]) if row.classes else jnp.array([[0.0, 1.0, 1.0]])
    events = 0 if row.classes else 1

    def value(output: jax.Array) -> jax.Array:
        given = (lambda push=0.0: output) if row.autoregressive else output
        return log_prob(row.distribution(given, 0.5), x, events).sum()

    loss, gradient = jax.value_and_grad(value)(output)
    assert np.isfinite(loss)
    assert np.all(np.isfinite(gradient))
    assert np.any(np.asarray(gradient) != 0)


def test_point_estimates():
    output = jnp.asarray(OUTPUT)
    np.testing.assert_array_equal(point_estimate(normal(output, 0.1)), OUTPUT)
    np.testing.assert_array_equal(point_estimate(laplace(output, 0.1)), OUTPUT)
    np.testing.assert_allclose(point_estimate(bernoulli(output, 1.0)), special.expit(OUTPUT), rtol=1e-5)
    np.testing.assert_array_equal(point_estimate(categorical(output, 1.0)), OUTPUT.argmax(-1))
