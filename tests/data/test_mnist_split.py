"""MNIST-Split: the parts are the digit's rows, in order, and fit together again."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmvae_jax.data.batching import batch_at, take
from mmvae_jax.data.mnist import embedded_digits
from mmvae_jax.data.mnist_split import mnist_split, reassemble


@pytest.mark.parametrize("parts", [2, 3])
def test_parts_of_a_tuple_make_the_whole_digit_of_its_label(parts):
    split, digits = mnist_split(parts=parts).train, embedded_digits()
    plan = split.plan(split.arrays, jax.random.key(0))
    batch = batch_at(split, split.arrays, plan, 30, 200)
    source = np.asarray(plan["index"])[30:230]
    np.testing.assert_array_equal(reassemble(batch.x)[..., 0], digits.train_images[source])
    np.testing.assert_array_equal(batch.label, digits.train_labels[source])


def test_rows_of_the_parts():
    halves, thirds = (take(mnist_split(parts=p).test, jax.random.key(0), 50).x for p in (2, 3))
    whole = reassemble(halves)
    np.testing.assert_array_equal(halves["top"], whole[:, :14])
    np.testing.assert_array_equal(halves["bottom"], whole[:, 14:])
    np.testing.assert_array_equal(thirds["top"][:, 1:], whole[:, :9])
    np.testing.assert_array_equal(thirds["middle"], whole[:, 9:19])
    np.testing.assert_array_equal(thirds["bottom"][:, :9], whole[:, 19:])
    assert {part.shape[1:] for part in thirds.values()} == {(10, 28, 1)}


def test_reassembling_keeps_leading_axes_and_the_type():
    image = jnp.arange(2 * 3 * 28 * 28, dtype=jnp.float32).reshape(2, 3, 28, 28, 1)
    parts = {"top": image[..., :14, :, :], "bottom": image[..., 14:, :, :]}
    np.testing.assert_array_equal(reassemble(parts), image)
    assert reassemble(parts).dtype == jnp.float32


def test_supervision_masks_training_tuples_only_and_by_tuple():
    dataset = mnist_split(parts=3, supervision=0.25, seed=4)
    epochs = [take(dataset.train, jax.random.key(k), 4000) for k in (0, 1)]
    assert (epochs[0].present.sum(axis=1) == 3).sum() == 1000
    assert set(np.asarray(epochs[0].present.sum(axis=1))) == {1, 3}
    seen = [
        {
            (image.tobytes(), tuple(present))
            for image, present in zip(np.asarray(reassemble(epoch.x)), np.asarray(epoch.present), strict=True)
        }
        for epoch in epochs
    ]
    assert seen[0] == seen[1]
    assert take(dataset.test, jax.random.key(0), 1000).present.all()
    other = mnist_split(parts=3, supervision=0.25, seed=5).train.presence
    assert (dataset.train.presence != other).any()


def test_other_data_and_mistakes(idx_folder, error_of):
    dataset = mnist_split(str(idx_folder))
    assert (dataset.train.size, dataset.test.size) == (40, 20)
    assert "4 parts" in error_of(mnist_split, "embedded", 4)
    assert "supervision level 2" in error_of(mnist_split, "embedded", 2, 2.0)
