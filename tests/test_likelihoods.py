"""Likelihoods against scipy, summed over the modality's shape and broadcast over samples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from mmvae_jax.likelihoods import LIKELIHOODS, bernoulli, categorical, laplace, log_prob, normal, point_estimate

K, B = 3, 4
OUTPUT = np.random.default_rng(0).normal(size=(K, B, 2, 5)).astype(np.float32)
X = np.random.default_rng(1).normal(size=(B, 2, 5)).astype(np.float32)


def test_normal_and_laplace_are_scipys():
    np.testing.assert_allclose(
        log_prob(normal(jnp.asarray(OUTPUT), 0.7), jnp.asarray(X), 2),
        stats.norm.logpdf(X, OUTPUT, 0.7).sum((-2, -1)),
        1e-5,
    )
    expected = stats.laplace.logpdf(X, OUTPUT, 0.75).sum((-2, -1))
    np.testing.assert_allclose(log_prob(laplace(jnp.asarray(OUTPUT), 0.75), jnp.asarray(X), 2), expected, 1e-5)


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
