"""Synergy against probabilities that are known exactly, and the oracle on digits that are put together again."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from mmvae_jax import subsets
from mmvae_jax.data.batching import take
from mmvae_jax.data.mnist import embedded_digits
from mmvae_jax.data.mnist_split import mnist_split, reassemble
from mmvae_jax.evaluation.classifiers import Classifier, ClassifierSettings
from mmvae_jax.evaluation.synergy import reassembly_matches, trained_oracle, whole_images
from tests.oracle import LinearGaussian

NAMES = ("m0", "m1")
MASKS = subsets.powerset(2)


def side_by_side(parts):
    return jnp.concatenate([parts[name] for name in NAMES], -1)


def test_reassembly_is_right_with_the_probability_that_the_sampled_latent_has_the_right_sign():
    """The class is the sign of latent 0, which the oracle reads without error off both decoded parts together."""
    known = LinearGaussian((4, 5), latent_dim=3)
    model = known.model("poe_quotient")
    batch = known.sample(jax.random.key(1), 3000)
    positive = known.exact_posterior(batch.x, NAMES).mean[:, 0] > 0
    batch = batch._replace(label=jnp.asarray(positive, jnp.int32))
    row = np.linalg.pinv(np.concatenate(known.loadings))[0]
    params = {
        "kernel": np.stack([np.zeros_like(row), row], 1),
        "bias": np.array([0, -row @ np.concatenate(known.biases)]),
    }
    params = jax.tree.map(lambda values: jnp.asarray(values, jnp.float32), params)
    oracle = Classifier(nn.Dense(2), params, np.ones(1, bool))
    found = reassembly_matches(model, known.params(model), jax.random.key(2), batch, MASKS, side_by_side, oracle)
    for mask, value in zip(MASKS, found.mean(1), strict=True):
        q = known.exact_posterior(batch.x, [NAMES[i] for i in np.flatnonzero(mask)])
        above = norm.cdf(q.mean[:, 0] / np.sqrt(q.covariance[0, 0]))
        probability = np.where(positive, above, 1 - above)
        error = np.sqrt(np.sum(probability * (1 - probability))) / len(probability)
        assert abs(value - probability.mean()) < 4.5 * error


@pytest.mark.parametrize("parts", [2, 3])
def test_whole_images_are_the_digits_whatever_supervision_left(parts):
    digits = embedded_digits()
    dataset = whole_images(mnist_split(parts=parts, supervision=0.1), reassemble)
    for split, images, labels in (
        (dataset.train, digits.train_images, digits.train_labels),
        (dataset.test, digits.test_images, digits.test_labels),
    ):
        batch = take(split, jax.random.key(0), split.size)
        order = np.asarray(split.plan(split.arrays, jax.random.key(0))["index"])
        np.testing.assert_array_equal(batch.x["whole"][..., 0], images[order])
        np.testing.assert_array_equal(batch.label, labels[order])
        assert batch.present.shape == (split.size, 1) and bool(batch.present.all())


@pytest.mark.slow
def test_one_oracle_serves_every_division_of_the_digits_and_reads_them(tmp_path):
    settings, said = ClassifierSettings(steps=200, batch_size=64), []
    first = trained_oracle(mnist_split(), reassemble, tmp_path, settings, said.append)
    assert len(said) == 1 and first.accuracy > 0.85
    for dataset in (mnist_split(supervision=0.01), mnist_split(parts=3)):
        again = trained_oracle(dataset, reassemble, tmp_path, settings, said.append)
        assert again.accuracy == first.accuracy
    assert len(said) == 1 and len(list(tmp_path.iterdir())) == 1
