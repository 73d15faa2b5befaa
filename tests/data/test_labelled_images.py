"""Labelled images: each with its label, black and white where asked for, and parts of them where supervision leaves no more."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmvae_jax.data.batching import batch_at, take
from mmvae_jax.data.fashion import load_fashion
from mmvae_jax.data.labelled_images import binarised, labelled_images
from mmvae_jax.data.mnist import embedded_digits, official_digits


@pytest.fixture
def digits(idx_folder):
    return official_digits(idx_folder)


def epoch(split, seed):
    """All tuples in the split's own order."""
    plan = split.plan(split.arrays, jax.random.key(seed))
    order = jnp.argsort(plan["index"])
    return batch_at(split, split.arrays, jax.tree.map(lambda rows: rows[order], plan), 0, split.size)


def test_an_image_comes_with_its_label(digits):
    dataset = labelled_images(digits, "mnist")
    assert (dataset.name, dataset.modalities) == ("mnist_label", ("mnist", "label"))
    for split, images, labels in (
        (dataset.train, digits.train_images, digits.train_labels),
        (dataset.test, digits.test_images, digits.test_labels),
    ):
        batch = epoch(split, 0)
        np.testing.assert_array_equal(batch.x["mnist"][..., 0], images)
        np.testing.assert_array_equal(batch.x["label"], labels)
        np.testing.assert_array_equal(batch.label, labels)
        assert bool(batch.present.all())


def test_the_last_images_are_set_aside(digits):
    dataset = labelled_images(digits, "mnist", validation=1 / 4)
    np.testing.assert_array_equal(epoch(dataset.train, 0).x["mnist"][..., 0], digits.train_images[:30])
    assert dataset.test.size == 20


def test_supervision_leaves_the_image_or_the_label(digits):
    dataset = labelled_images(digits, "mnist", supervision=0.2, seed=3)
    present = np.asarray(epoch(dataset.train, 0).present)
    assert (present.sum(1) == 2).sum() == 8 and present.sum(0).tolist() == [24, 24]
    other = labelled_images(digits, "mnist", supervision=0.2, seed=4)
    assert (np.asarray(epoch(other.train, 0).present) != present).any()
    assert dataset.provenance["fingerprint"] == other.provenance["fingerprint"]


def test_pixels_are_white_with_the_probability_of_their_grey_level():
    image = jnp.array([0, 51, 204, 255], jnp.uint8)
    drawn = np.asarray(binarised(jax.random.key(0), jnp.tile(image, (10_000, 1))))
    assert set(np.unique(drawn)) == {0, 255}
    np.testing.assert_allclose(drawn.mean(0) / 255, [0, 0.2, 0.8, 1], atol=0.02)
    assert (drawn[:, 0] == 0).all() and (drawn[:, 3] == 255).all()


def test_fixed_binarisation_is_one_draw_and_stochastic_one_an_epoch(digits):
    fixed, stochastic = (labelled_images(digits, "b", kind) for kind in ("fixed", "stochastic"))
    epochs = {
        name: [np.asarray(epoch(d.train, seed).x["b"]) for seed in (0, 1)]
        for name, d in (("fixed", fixed), ("stochastic", stochastic))
    }
    assert all(set(np.unique(images)) == {0, 255} for both in epochs.values() for images in both)
    np.testing.assert_array_equal(*epochs["fixed"])
    changed = (epochs["stochastic"][0] != epochs["stochastic"][1]).mean()
    grey = digits.train_images / 255
    assert changed == pytest.approx(np.mean(2 * grey * (1 - grey)), abs=0.02)
    np.testing.assert_array_equal(epoch(stochastic.train, 0).x["b"], epochs["stochastic"][0])
    np.testing.assert_array_equal(epoch(fixed.test, 0).x["b"], epoch(stochastic.test, 5).x["b"])
    np.testing.assert_array_equal(epoch(stochastic.train, 1).x["label"], digits.train_labels)


def test_the_stand_in_for_fashion_is_called_so_and_shares_nothing_between_splits():
    name, images = load_fashion("embedded")
    digits = embedded_digits()
    assert name == "fashion_stand_in" and images.source.startswith("stand-in for FashionMNIST")
    np.testing.assert_array_equal(images.train_labels, digits.train_labels)
    # Every stroke is there, thicker, darker and textured.
    drawn, ink = images.train_images, digits.train_images
    assert (drawn[ink == 255] >= 76).all() and (drawn > 0).mean() > 1.5 * (ink > 0).mean()
    assert drawn[ink == 255].std() > 10
    train = {image.tobytes() for image in drawn}
    assert len(train) == 4000 and not train & {image.tobytes() for image in images.test_images}
    np.testing.assert_array_equal(load_fashion("embedded")[1].train_images, drawn)


def test_official_files_are_fashion(idx_folder):
    folder = idx_folder.rename(idx_folder.with_name("fashion_mnist"))
    name, images = load_fashion(str(folder.parent))
    assert name == "fashion" and len(images.train_images) == 40


def test_real_files(real_data):
    name, images = load_fashion(real_data)
    dataset = labelled_images(images, name, validation=1 / 6)
    assert (dataset.name, dataset.train.size, dataset.test.size) == ("fashion_label", 50_000, 10_000)
    assert np.bincount(take(dataset.test, jax.random.key(0), 10_000).label).tolist() == [1000] * 10


def test_mistakes(digits, idx_folder, error_of, unchecked):
    assert "unknown binarisation 'half': choose one of none, fixed, stochastic" in error_of(
        labelled_images, digits, "b", "half"
    )
    assert "validation=1.0" in error_of(labelled_images, digits, "b", "none", 1.0, 1.0)
    assert "supervision level 2.0" in error_of(labelled_images, digits, "b", "none", 2.0)
    clothes = idx_folder.rename(idx_folder.with_name("clothes"))
    path = clothes / "t10k-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    assert f"{path} is truncated" in error_of(load_fashion, str(clothes))
    path.write_bytes(path.read_bytes()[:-1] + b"\x0b\x0b")
    assert "has the label 11, expected 0 to 9" in error_of(load_fashion, str(clothes))
