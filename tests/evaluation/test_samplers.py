"""The mixture that is fitted to posterior draws, on a model whose aggregated posterior is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmvae_jax.data.batching import Dataset, fixed_split
from mmvae_jax.evaluation.samplers import SAMPLERS, posterior_draws
from tests.oracle import LinearGaussian

ORACLE = LinearGaussian((4, 5), latent_dim=2, noise=0.1)
MODEL = ORACLE.model()
PARAMS = ORACLE.params(MODEL)
CENTRES = np.array([[2.0, -1.0], [-2.0, 1.0]])


@pytest.fixture(scope="module")
def dataset():
    """Tuples around two points of the latent space, one of them three times as often, some with a part missing."""
    rng = np.random.default_rng(0)
    which = (rng.random(800) < 0.25).astype(int)
    z = CENTRES[which] + 0.2 * rng.normal(size=(800, 2))
    x = {
        name: jnp.asarray(z @ loading.T + bias + ORACLE.noise * rng.normal(size=(800, len(bias))), jnp.float32)
        for name, loading, bias in zip(ORACLE.names, ORACLE.loadings, ORACLE.biases, strict=True)
    }
    presence = jnp.ones((800, 2), bool).at[:100, 1].set(False)
    split = fixed_split(x, jnp.asarray(which), presence)
    return Dataset("two modes", ORACLE.names, split, split, 2)


def fit(dataset, components=2, key=0):
    return SAMPLERS["gmm"].function(MODEL, PARAMS, dataset, jax.random.key(key), components)


def test_draws_have_the_two_modes_of_the_aggregated_posterior_in_their_shares(dataset):
    mixture = fit(dataset)
    draws = np.asarray(mixture.sample(jax.random.key(1), (4000,)))
    distances = np.linalg.norm(draws[:, None] - CENTRES, axis=-1)
    assert np.mean(distances.min(1) < 1) > 0.99
    share = np.mean(distances.argmin(1) == 1)
    assert abs(share - float(dataset.train.arrays[1].mean())) < 0.03
    # The prior has little there.
    prior = np.asarray(MODEL.draw_prior(PARAMS, jax.random.key(1), 4000).z)
    assert np.mean(np.linalg.norm(prior[:, None] - CENTRES, axis=-1).min(1) < 1) < 0.2


def test_it_is_a_better_density_of_posterior_draws_than_the_prior(dataset):
    mixture = fit(dataset)
    held_out = ORACLE.sample(jax.random.key(7), 10)._replace(
        x={name: x[:10] for name, x in dataset.train.arrays[0].items()}
    )
    z = jnp.asarray(posterior_draws(MODEL, PARAMS, jax.random.key(2), held_out))
    prior = MODEL.generative_prior(PARAMS)
    assert float(mixture.log_prob(z).mean()) > float(prior.log_prob(z).mean()) + 1


def test_the_same_key_gives_the_same_mixture_and_few_tuples_give_fewer_components(dataset):
    for one, other in zip(jax.tree.leaves(fit(dataset)), jax.tree.leaves(fit(dataset)), strict=True):
        np.testing.assert_array_equal(one, other)
    x, label = dataset.train.arrays
    few = fixed_split({name: values[:3] for name, values in x.items()}, label[:3])
    mixture = fit(Dataset("few", ORACLE.names, few, few, 2), components=10)
    assert mixture.log_weights.shape == (3,)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(mixture))


def test_the_prior_is_the_models_own(dataset):
    assert SAMPLERS["prior"].function(MODEL, PARAMS, dataset, jax.random.key(0), 10) is None
