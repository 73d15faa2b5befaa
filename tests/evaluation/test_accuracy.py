"""Accuracy of labels, of a model whose posterior and decoder are known."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmvae_jax.data.batching import Batch
from mmvae_jax.evaluation.accuracy import matches, predictions
from mmvae_jax.modality import Modality
from mmvae_jax.model import Model
from mmvae_jax.networks.mlp import MLPDecoder, MLPEncoder


def test_the_label_is_the_mode_at_the_posterior_mean_of_every_subset(monkeypatch):
    """Experts put z at the vector itself; the label is the largest coordinate, from either vector or, of both, their mean."""
    vectors = [Modality(name, (3,), MLPEncoder(()), nn.Dense(3), private_dim=d) for name, d in (("a", 0), ("b", 1))]
    label = Modality("label", (), MLPEncoder((), 3), MLPDecoder((3,), ()), "categorical", private_dim=2)
    model = Model((*vectors, label), latent_dim=3, fusion="poe", prior_expert="none")
    params = jax.tree.map(jnp.zeros_like, model.init(jax.random.key(0)))
    for name in ("a", "b"):
        head = params["inference"][name]["head"]["kernel"]
        params["inference"][name]["head"]["kernel"] = head.at[:, :3].set(jnp.eye(3))
    kernel = params["decoders"]["label"]["Dense_0"]["kernel"]
    params["decoders"]["label"]["Dense_0"]["kernel"] = kernel.at[:3].set(jnp.eye(3))
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 11, 3)).astype(np.float32)
    x = {"a": jnp.asarray(a), "b": jnp.asarray(b), "label": jnp.zeros(11, jnp.int32)}
    batch = Batch(x, jnp.ones((11, 3), bool), jnp.zeros(11, jnp.int32))
    masks = np.array([[True, False, False], [False, True, False], [True, True, False]])

    def told():
        (label,) = predictions(model, params, jax.random.key(1), batch, masks, ("label",)).values()
        return label

    expected = [a.argmax(1), b.argmax(1), (a + b).argmax(1)]
    np.testing.assert_array_equal(told(), expected)
    monkeypatch.setattr("mmvae_jax.evaluation.accuracy.MAX_ENCODED", 4)
    np.testing.assert_array_equal(told(), expected)


def test_strings_are_right_place_by_place_and_their_ends_do_not_count():
    end = 9
    truth = np.array([[1, 2, end], [3, end, -1], [end, -1, -1], [4, 5, end]])
    told = np.array([[1, 3, end], [3, 7, 7], [1, 1, 1], [end, 5, -1]])
    found = matches(told, truth, end)
    together = found.pop("")
    assert {name: values.tolist() for name, values in found.items()} == {"/1": [True, True, False], "/2": [False, True]}
    # Three of five symbols: one of two in the first string, the only one of the second, none in the third, one of two.
    assert together.mean() == pytest.approx(3 / 5)
    right, symbols = np.array([1, 1, 0, 1]), np.array([2, 1, 0, 2])
    without = [(right.sum() - right[i]) / (symbols.sum() - symbols[i]) for i in range(4)]
    jackknife = np.sqrt(3 / 4 * np.sum((without - np.mean(without)) ** 2))
    assert together.std(ddof=1) / np.sqrt(4) == pytest.approx(jackknife, rel=0.2)
    assert matches(truth[:, 0], truth[:, 0], end)[""].all()
    assert matches(told[2:3], truth[2:3], end) == {}
