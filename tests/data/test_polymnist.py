"""The PolyMNIST recipe, checked by undoing the composition; pairing, crops and dispatch."""

import shutil
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from mmvae_jax.data.batching import batch_at, take
from mmvae_jax.data.mnist import embedded_digits
from mmvae_jax.data.polymnist import (
    MODALITIES,
    background_signal,
    backgrounds_from,
    compose_dataset,
    crops_by_products,
    crops_by_slices,
    embedded_backgrounds,
    polymnist,
)


@pytest.fixture(scope="module")
def embedded():
    return polymnist()


@pytest.fixture
def background_folder(tmp_path):
    """Five small pictures, of different sizes, .jpg and .png."""
    rng = np.random.default_rng(5)
    folder = tmp_path / "polymnist_backgrounds"
    folder.mkdir()
    for number in range(1, 6):
        pixels = rng.integers(0, 256, (28 + number, 40, 3), dtype=np.uint8)
        ending = "png" if number % 2 else "jpg"
        Image.fromarray(pixels).save(folder / f"{number}.{ending}")
    return folder


def drawn_masks(x, pictures, corners):
    """The digit masks [B, 5, 28, 28] that turn the crops into the tuples; fails if none does."""
    masks = np.empty((len(corners), 5, 28, 28), bool)
    for b, m in np.ndindex(len(corners), 5):
        row, column = corners[b, m]
        crop = pictures[m][row : row + 28, column : column + 28]
        pixels = np.asarray(x[MODALITIES[m]][b])
        masks[b, m] = (pixels != crop).any(axis=-1)
        np.testing.assert_array_equal(pixels, np.where(masks[b, m, ..., None], 255 - crop, crop))
    return masks


@pytest.mark.parametrize("split_name", ["train", "test"])
def test_pictures_are_crops_with_the_planned_digits_of_the_label_inverted(embedded, split_name):
    split = getattr(embedded, split_name)
    digits, pictures = embedded_digits(), list(embedded_backgrounds().pictures.values())
    images = digits.train_images if split_name == "train" else digits.test_images
    labels = digits.train_labels if split_name == "train" else digits.test_labels
    plan = split.plan(split.arrays, jax.random.key(7))
    batch = jax.jit(lambda arrays, plan: batch_at(split, arrays, plan, 10, 100))(split.arrays, plan)
    rows = jax.tree.map(lambda values: np.asarray(values)[10:110], plan)
    np.testing.assert_array_equal(drawn_masks(batch.x, pictures, rows["corner"]), images[rows["digit"]] > 127)
    for m in range(5):
        np.testing.assert_array_equal(labels[rows["digit"][:, m]], batch.label)


def test_crops_reach_every_place_of_the_background(background_folder):
    dataset = compose_dataset(embedded_digits(), backgrounds_from(background_folder))
    corner = np.asarray(dataset.train.plan(dataset.train.arrays, jax.random.key(0))["corner"])
    assert corner.min(axis=(0, 2)).tolist() == [0] * 5
    assert corner[:, :, 0].max(axis=0).tolist() == [1, 2, 3, 4, 5]
    assert corner[:, :, 1].max(axis=0).tolist() == [12] * 5


def test_what_a_tpu_crops_is_what_others_crop():
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (41, 67, 3), dtype=np.uint8)
    corner = np.array([[0, 0], [13, 39], [0, 39], [13, 0], *rng.integers(0, (14, 40), (12, 2))], np.int32)
    found = crops_by_products(jnp.asarray(picture), jnp.asarray(corner))
    np.testing.assert_array_equal(found, crops_by_slices(jnp.asarray(picture), jnp.asarray(corner)))
    np.testing.assert_array_equal(found[1], picture[13:41, 39:67])


def test_every_digit_comes_once_an_epoch_in_every_modality(embedded):
    digit = np.asarray(embedded.train.plan(embedded.train.arrays, jax.random.key(1))["digit"])
    np.testing.assert_array_equal(np.sort(digit, axis=0), np.arange(4000)[:, None].repeat(5, 1))


def test_pairs_crops_and_order_change_with_the_key_and_only_with_it(embedded):
    split = embedded.train
    first, again, other = (
        jax.tree.map(np.asarray, split.plan(split.arrays, jax.random.key(seed))) for seed in (0, 0, 1)
    )
    jax.tree.map(np.testing.assert_array_equal, first, again)
    partner = [epoch["digit"][np.argsort(epoch["digit"][:, 0]), 1] for epoch in (first, other)]
    assert np.mean(partner[0] == partner[1]) < 0.02
    assert np.mean((first["corner"] == other["corner"]).all(axis=-1)) < 0.02
    assert np.mean(first["index"] == other["index"]) < 0.02


def test_test_tuples_are_fixed(embedded):
    first, second = (take(embedded.test, jax.random.key(seed), 1000) for seed in (0, 1))
    tuples = [
        {tuple(np.asarray(batch.x[name][b]).tobytes() for name in MODALITIES) for b in range(1000)}
        for batch in (first, second)
    ]
    assert len(tuples[0]) == 1000
    assert tuples[0] == tuples[1]
    assert (first.label != second.label).any()


def test_presence_follows_the_index(embedded):
    split = replace(embedded.train, presence=(np.arange(4000) % 5)[:, None] == np.arange(5))
    plan = split.plan(split.arrays, jax.random.key(3))
    batch = batch_at(split, split.arrays, plan, 0, 50)
    np.testing.assert_array_equal(batch.present.argmax(axis=1), np.asarray(plan["index"])[:50] % 5)


def test_signal_of_known_pictures():
    assert background_signal(np.full((30, 30, 3), 255, np.uint8)) == 1.0
    assert background_signal(np.zeros((30, 30, 3), np.uint8)) == 1.0
    grey = np.tile(np.array([0, 255], np.uint8), (30, 15))[..., None].repeat(3, axis=-1)
    assert background_signal(grey) == pytest.approx(0.0)
    colour = np.broadcast_to(np.array([0, 51, 255], np.uint8), (30, 30, 3))
    assert background_signal(colour) == pytest.approx((1 + 0.6 + 1) / 3)


def test_embedded_backgrounds_show_the_digit():
    pictures = embedded_backgrounds().pictures
    assert list(pictures) == ["hubble_deep_field", "flower", "rocket", "retina", "coffee"]
    assert min(map(background_signal, pictures.values())) >= 0.35


def test_background_folder_errors(background_folder, tmp_path, error_of):
    assert "does not exist" in error_of(backgrounds_from, tmp_path / "nothing")
    (background_folder / "3.png").write_bytes(b"no picture")
    assert "3.png cannot be decoded" in error_of(backgrounds_from, background_folder)
    Image.new("RGB", (27, 60)).save(background_folder / "3.png")
    assert "27x60" in error_of(backgrounds_from, background_folder)
    (background_folder / "3.png").unlink()
    assert "no picture 3.jpg" in error_of(backgrounds_from, background_folder)


def test_folder_dispatch(idx_folder, background_folder, release_folder, error_of):
    root = idx_folder.parent
    own = polymnist(str(idx_folder))
    assert "scikit-image" in own.provenance["backgrounds"]
    assert (own.train.size, own.test.size) == (40, 20)
    assert str(background_folder) in polymnist(str(root)).provenance["backgrounds"]
    other = shutil.copytree(background_folder, root / "other")
    assert str(other) in polymnist(str(root), str(other)).provenance["backgrounds"]
    assert str(other) in polymnist(str(idx_folder), str(other)).provenance["backgrounds"]
    release_folder.rename(root / "polymnist")
    assert "release" in polymnist(str(root)).provenance["digits"]
    assert "ready-made" in error_of(polymnist, str(root), str(other))


def test_folders_without_polymnist(tmp_path, error_of):
    assert "no such folder" in error_of(polymnist, str(tmp_path / "nothing"))
    assert "no PolyMNIST in" in error_of(polymnist, str(tmp_path))
    (tmp_path / "polymnist").mkdir()
    assert "m0 to m4" in error_of(polymnist, str(tmp_path))
    (tmp_path / "polymnist").rename(tmp_path / "mnist")
    assert "train-images-idx3-ubyte" in error_of(polymnist, str(tmp_path))


def test_fingerprint_tells_digits_and_backgrounds_apart(idx_folder, background_folder):
    prints = [
        polymnist(str(idx_folder)).provenance["fingerprint"],
        polymnist(str(idx_folder)).provenance["fingerprint"],
        polymnist(str(idx_folder.parent)).provenance["fingerprint"],
        polymnist("embedded", str(background_folder)).provenance["fingerprint"],
    ]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


def test_real_mnist_with_the_papers_backgrounds(real_data):
    dataset = polymnist(real_data)
    assert (dataset.train.size, dataset.test.size) == (60_000, 10_000)
    signal = [float(part.split()[-1]) for part in dataset.provenance["background_signal"].split(",")]
    assert signal == pytest.approx([0.06, 0.35, 0.27, 0.65, 0.07], abs=0.006)
    label = take(dataset.test, jax.random.key(0), 10_000).label
    assert np.bincount(label)[:3].tolist() == [980, 1135, 1032]
