"""Annealed importance sampling against the linear-Gaussian model's exact log-likelihoods."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmvae_jax import subsets
from mmvae_jax.data.batching import Batch
from mmvae_jax.evaluation.annealing import Annealing, annealed_estimates
from mmvae_jax.evaluation.likelihood import importance_estimates
from tests.oracle import LinearGaussian

NAMES = ("m0", "m1")
COPIES = 20


def tuples(oracle: LinearGaussian) -> Batch:
    """Six tuples, the last of them ever farther out, each several times in a row."""
    batch = oracle.sample(jax.random.key(1), 6)
    scale = jnp.linspace(1.0, 4.0, 6)[:, None]
    x = {name: jnp.repeat(values * scale, COPIES, 0) for name, values in batch.x.items()}
    return Batch(x, jnp.ones((6 * COPIES, 2), bool), jnp.zeros(6 * COPIES, jnp.int32))


def distances(found: np.ndarray, exact: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of every tuple: its mean weight over the exact one, less 1, and the standard error of that."""
    ratio = np.exp(found - exact).reshape(6, COPIES)
    return ratio.mean(1) - 1, ratio.std(1, ddof=1) / np.sqrt(COPIES)


@pytest.mark.parametrize("private_dim", [0, 1], ids=["shared", "private"])
def test_within_three_errors_where_a_hundred_importance_samples_are_low(private_dim: int):
    oracle = LinearGaussian((6, 7), latent_dim=4, private_dim=private_dim)
    model, batch = oracle.model("poe_quotient"), tuples(oracle)
    params = oracle.params(model, shift=0.6, log_scale=-0.7)
    annealing = Annealing(temperatures=800, chains=10, leapfrog_steps=10)
    for target in (NAMES, ("m1",)):
        exact = oracle.exact_log_prob(batch.x, target)
        assert np.ptp(exact) > 20
        found = annealed_estimates(model, params, jax.random.key(2), batch, target, annealing)
        distance, error = distances(found.log_prob, exact)
        assert np.all(np.abs(distance) < 3 * error) and np.all(error < 0.2), (distance, error)
        assert np.all((found.ess >= 1) & (found.ess <= 10.001))
        mask = subsets.select(target, NAMES)[None]
        sampled = importance_estimates(model, params, jax.random.key(3), batch, mask, mask, 100).log_prob[0]
        low = exact - sampled
        assert low.mean() > 1 > 5 * abs((exact - found.log_prob).mean())


def test_at_one_temperature_it_is_importance_sampling_from_the_prior():
    """Without annealing the weights are those of prior draws: far lower than with it."""
    oracle = LinearGaussian((6, 7), latent_dim=4)
    model, batch = oracle.model("poe_quotient"), tuples(oracle)
    params, exact = oracle.params(model), oracle.exact_log_prob(batch.x, NAMES)
    once = annealed_estimates(model, params, jax.random.key(2), batch, NAMES, Annealing(1, 10, 1))
    often = annealed_estimates(model, params, jax.random.key(2), batch, NAMES, Annealing(400, 10, 10))
    assert np.mean(exact - once.log_prob) > 10 * np.mean(exact - often.log_prob) > 0


def test_absent_modalities_do_not_count():
    oracle = LinearGaussian((6, 7), latent_dim=4)
    model, batch = oracle.model("poe_quotient"), tuples(oracle)
    blank = dict(batch.x, m0=jnp.full_like(batch.x["m0"], jnp.nan))
    batch = batch._replace(x=blank, present=batch.present.at[:, 0].set(False))
    found = annealed_estimates(model, oracle.params(model), jax.random.key(2), batch, NAMES, Annealing(400, 10, 10))
    distance, error = distances(found.log_prob, oracle.exact_log_prob(batch.x, ["m1"]))
    assert np.all(np.abs(distance) < 3 * error) and np.all(error < 0.2)
