"""Laplace posteriors against scipy and numerical integration."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from mmvae_jax.laplace import Laplace

Q = Laplace(jnp.array([[0.3, -1.0], [2.0, 0.0]]), jnp.array([[-0.5, 0.4], [0.0, -1.2]]))
SCALE = np.exp(Q.log_scale)


def test_density_is_scipys():
    z = jax.random.normal(jax.random.key(0), (5, 2, 2))
    np.testing.assert_allclose(Q.log_prob(z), stats.laplace.logpdf(z, Q.mean, SCALE).sum(-1), rtol=1e-5)


def test_kl_is_the_integral():
    p = Laplace(jnp.array([0.5, -0.5]), jnp.array([0.2, -0.3]))
    grid = np.linspace(-40, 40, 400_001)
    expected = np.zeros((2, 2))
    for b, d in np.ndindex(2, 2):
        log_q = stats.laplace.logpdf(grid, Q.mean[b, d], SCALE[b, d])
        log_p = stats.laplace.logpdf(grid, p.mean[d], np.exp(p.log_scale[d]))
        expected[b, d] = np.trapezoid(np.exp(log_q) * (log_q - log_p), grid)
    np.testing.assert_allclose(Q.kl(p), expected.sum(-1), rtol=1e-5)


def test_draws_have_the_moments_and_the_path_derivative():
    n = 40_000
    draws = Q.sample(jax.random.key(1), (n,))
    assert np.all(np.abs(draws.mean(0) - Q.mean) < 4 * SCALE * np.sqrt(2 / n))
    assert np.all(np.abs(np.abs(draws - Q.mean).mean(0) - SCALE) < 4 * SCALE / np.sqrt(n))
    path = jax.jit(jax.grad(lambda q: q.sample(jax.random.key(2)).sum()))(Q)
    np.testing.assert_array_equal(path.mean, np.ones((2, 2)))
    np.testing.assert_allclose(path.log_scale, Q.sample(jax.random.key(2)) - Q.mean, rtol=1e-4, atol=1e-6)


def test_scales_from_outputs_average_one():
    outputs = jax.random.normal(jax.random.key(3), (7, 10))
    q = Laplace.from_outputs(outputs)
    np.testing.assert_array_equal(q.mean, outputs[:, :5])
    np.testing.assert_allclose(np.exp(q.log_scale).mean(-1), np.ones(7), rtol=1e-6)
    np.testing.assert_allclose(np.exp(q.log_scale), 5 * jax.nn.softmax(outputs[:, 5:]), rtol=1e-6)


def test_with_scale_is_centred():
    p = Laplace.with_scale(jnp.array([0.5, 2.0]))
    np.testing.assert_allclose(p.log_prob(jnp.zeros(2)), -np.log(4 * 0.5 * 2.0), rtol=1e-6)
