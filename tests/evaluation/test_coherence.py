"""Coherence against probabilities that are known exactly."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from mmvae_jax import subsets
from mmvae_jax.evaluation.classifiers import Classifier
from mmvae_jax.evaluation.coherence import agreement, joint_classes, subset_matches, surprise
from mmvae_jax.gaussian import Gaussian
from mmvae_jax.priors import GaussianMixture
from tests.oracle import LinearGaussian

NAMES = ("m0", "m1", "m2")
MASKS = subsets.powerset(3)


def sign_classifiers(oracle, latents=(0, 0, 0)):
    """Class 1 where the chosen latent behind a noiseless x_m is positive: a classifier that never errs."""
    found = {}
    for name, loading, bias, latent in zip(oracle.names, oracle.loadings, oracle.biases, latents, strict=True):
        row = np.linalg.pinv(loading)[latent]
        kernel = np.stack([np.zeros_like(row), row], 1)
        params = {"kernel": kernel, "bias": np.array([0.0, -row @ bias])}
        params = jax.tree.map(lambda v: jnp.asarray(v, jnp.float32), params)
        found[name] = Classifier(nn.Dense(2), params, np.ones(1, bool))
    return found


@pytest.mark.parametrize("private_dim", [0, 1])
def test_subset_coherence_is_the_probability_that_the_sampled_latent_has_the_right_sign(private_dim):
    oracle = LinearGaussian((4, 5, 6), latent_dim=3, private_dim=private_dim)
    model = oracle.model("poe_quotient")
    batch = oracle.sample(jax.random.key(1), 3000)
    positive = oracle.exact_posterior(batch.x, NAMES).mean[:, 0] > 0
    batch = batch._replace(label=jnp.asarray(positive, jnp.int32))
    found = subset_matches(model, oracle.params(model), jax.random.key(2), batch, MASKS, sign_classifiers(oracle))
    for mask, row in zip(MASKS, found.mean(1), strict=True):
        q = oracle.exact_posterior(batch.x, [NAMES[i] for i in np.flatnonzero(mask)])
        above = norm.cdf(q.mean[:, 0] / np.sqrt(q.covariance[0, 0]))
        probability = np.where(positive, above, 1 - above)
        error = np.sqrt(np.sum(probability * (1 - probability))) / len(probability)
        assert np.all(np.abs(row - probability.mean()) < 4.5 * error), (mask, row, probability.mean())


def test_joint_coherence_is_one_where_all_classifiers_read_the_same_latent():
    oracle = LinearGaussian((4, 5, 6), latent_dim=3)
    model = oracle.model()
    args = model, oracle.params(model), jax.random.key(3), 2000
    assert agreement(joint_classes(*args, sign_classifiers(oracle))).all()


def test_joint_coherence_of_independent_classes_is_chance():
    oracle = LinearGaussian((4, 5, 6), latent_dim=3)
    model = oracle.model()
    args = model, oracle.params(model), jax.random.key(3), 4000
    # Three independent fair signs agree with probability 1/4; standard error sqrt(3/16/4000) = 0.007.
    assert abs(agreement(joint_classes(*args, sign_classifiers(oracle, (0, 1, 2)))).mean() - 0.25) < 0.03


def test_entropy_is_0_where_every_modality_draws_one_class_and_log_10_of_ten_equal_ones():
    collapsed = np.tile([3, 3, 5], (1000, 1))
    np.testing.assert_array_equal(surprise(collapsed), 0)
    digits = np.random.default_rng(0).permutation(np.arange(1000) % 10)
    coherent, incoherent = np.stack([digits] * 3, 1), np.stack([digits, (digits + 1) % 10], 1)
    for classes in (coherent, incoherent):
        np.testing.assert_allclose(surprise(classes), np.log(10))
    one_of_two = np.stack([digits, np.zeros_like(digits)], 1)
    np.testing.assert_allclose(surprise(one_of_two).mean(), np.log(10) / 2)


def test_a_constant_decoder_is_coherent_and_collapsed():
    oracle = LinearGaussian((4, 5, 6), latent_dim=3)
    model = oracle.model()
    params = oracle.params(model)
    params["decoders"] = jax.tree.map(jnp.zeros_like, params["decoders"])
    classes = joint_classes(model, params, jax.random.key(3), 500, sign_classifiers(oracle, (0, 1, 2)))
    assert len(np.unique(classes, axis=0)) == 1
    assert surprise(classes).mean() == 0


def test_samples_come_from_the_sampler_that_is_given():
    oracle = LinearGaussian((4, 5, 6), latent_dim=3)
    model = oracle.model()
    far = GaussianMixture(jnp.zeros(1), Gaussian(jnp.full((1, 3), 4.0), jnp.full((1, 3), -2.0)))
    args = model, oracle.params(model), jax.random.key(3), 200, sign_classifiers(oracle)
    assert (joint_classes(*args, sampler=far) == 1).all()
    assert 0.3 < joint_classes(*args).mean() < 0.7
