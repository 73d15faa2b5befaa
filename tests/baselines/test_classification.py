"""Classifiers on separable data and on digits, and what unlabelled rows tell them."""

import jax
import numpy as np
import pytest

from mmvae_jax.baselines import BASELINES, BaselineSettings, Data, accuracy
from mmvae_jax.data.mnist import embedded_digits
from mmvae_jax.errors import UserError
from mmvae_jax.networks.mlp import MLPEncoder

QUICK = BaselineSettings(
    encoder=MLPEncoder((64,)), decoder_widths=(64,), latent_dim=8, hidden_units=64, steps=300, learning_rate=3e-3
)


def blobs(seed, n):
    """Three separable classes of 2 x 3 features in [0, 1]."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    centres = np.array([[0.1] * 6, [0.9] * 6, [0.1, 0.9] * 3])
    return np.clip(centres[y] + 0.05 * rng.normal(size=(n, 6)), 0, 1).reshape(n, 2, 3).astype("f"), y


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_separates_what_is_separable(name):
    assert accuracy(name, *blobs(0, 300), *blobs(1, 100), jax.random.key(0), QUICK) > 0.97


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_reads_digits(name):
    digits = embedded_digits()
    train, test = digits.train_images[::8] / np.float32(255), digits.test_images[::4] / np.float32(255)
    labels, truth = digits.train_labels[::8], digits.test_labels[::4]
    least = {"rbm": 0.7, "vae": 0.65}.get(name, 0.8)
    assert accuracy(name, train, labels, test, truth, jax.random.key(1), QUICK) > least


@pytest.mark.parametrize("name", ["network", "logistic"])
def test_unlabelled_rows_tell_a_discriminative_baseline_nothing(name):
    (x, y), test = blobs(2, 60), blobs(3, 200)
    noise = np.random.default_rng(4).uniform(size=x.shape).astype("f")
    padded = np.concatenate([noise, x]), np.concatenate([np.full(60, -1), y])
    key = jax.random.key(2)
    predictions = [BASELINES[name](Data(*train, test[0]), key, QUICK) for train in ((x, y), padded)]
    np.testing.assert_array_equal(predictions[0], predictions[1])


@pytest.mark.parametrize("name", ["rbm", "vae"])
def test_generative_baselines_learn_features_from_unlabelled_rows(name):
    (x, y), test = blobs(5, 400), blobs(6, 200)
    few = np.full(400, -1)
    few[:12] = y[:12]
    assert accuracy(name, x, few, *test, jax.random.key(3), QUICK) > 0.9


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("svm", {}, "unknown baseline 'svm': choose one of network, logistic"),
        ("rbm", {"train_y": np.zeros(3, int)}, "(4, 3)"),
        ("rbm", {"train_x": np.full((4, 2), 2.0)}, "scale them to [0, 1]"),
        ("logistic", {"train_y": np.array([-1, 1, 1, 1])}, "fewer than two classes"),
    ],
)
def test_mistakes(name, change, said):
    data = {
        "train_x": np.eye(4, 2),
        "train_y": np.array([0, 1, 0, 1]),
        "test_x": np.eye(2),
        "test_y": np.array([0, 1]),
    }
    with pytest.raises(UserError) as caught:
        accuracy(name, **(data | change), key=jax.random.key(0), settings=QUICK)
    assert said in str(caught.value) and "\n" not in str(caught.value)
