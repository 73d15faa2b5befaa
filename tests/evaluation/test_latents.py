"""Latents drawn given a subset: the shared one from its exact posterior, private ones from what is known of them."""

import jax
import jax.numpy as jnp
import numpy as np

from mmvae_jax.evaluation.latents import draw_latents
from tests.oracle import LinearGaussian


def test_private_latents_come_from_the_posterior_inside_the_subset_and_from_the_prior_outside():
    oracle, n = LinearGaussian((4, 5, 6), latent_dim=2, private_dim=1), 20_000
    model = oracle.model()
    params, one = oracle.params(model), oracle.sample(jax.random.key(1), 1)
    batch = jax.tree.map(lambda values: jnp.repeat(values, n, 0), one)
    codes, subset = model.encode(params, batch), np.array([True, False, True])
    z, private = draw_latents(model, params, codes, batch.present, jnp.asarray(subset), jax.random.key(2))
    exact = oracle.exact_posterior(one.x, ["m0", "m2"])
    # Standard errors are below 1 / sqrt(n) = 0.007.
    np.testing.assert_allclose(z.mean(0), exact.mean[0], atol=0.03)
    np.testing.assert_allclose(np.cov(z.T), exact.covariance, atol=0.04)
    for name, inside in zip(oracle.names, subset, strict=True):
        known_mean, known_log_var = jax.tree.leaves(codes.private[name])
        mean, deviation = (known_mean[0], np.exp(known_log_var[0] / 2)) if inside else (0.0, 1.0)
        np.testing.assert_allclose(private[name].mean(0), mean, atol=0.03)
        np.testing.assert_allclose(private[name].std(0), deviation, atol=0.03)
        assert not inside or abs(deviation - 1) > 0.1
