"""SVHN: the .mat reader and its errors, and a stand-in whose digits can be found again."""

import numpy as np
import pytest
from scipy.io import savemat

from mmvae_jax.data.mnist import embedded_digits
from mmvae_jax.data.svhn import load_svhn, official_svhn, read_mat, stand_in


@pytest.fixture(scope="module")
def made_up():
    return stand_in(embedded_digits())


def test_files_are_read_as_written_with_ten_as_zero(svhn_folder):
    numbers = official_svhn(svhn_folder)
    rng = np.random.default_rng(3)
    train = rng.integers(0, 256, (32, 32, 3, 50), dtype=np.uint8)
    np.testing.assert_array_equal(numbers.train_images[7], train[:, :, :, 7])
    assert numbers.train_labels.tolist() == [(i + 1) % 10 for i in range(50)]
    assert numbers.test_images.shape == (30, 32, 32, 3)


def test_folder_dispatch(svhn_folder, tmp_path, error_of):
    own, root = load_svhn(str(svhn_folder)), load_svhn(str(svhn_folder.parent))
    np.testing.assert_array_equal(own.test_images, root.test_images)
    assert load_svhn("embedded").source.startswith("stand-in for SVHN")
    (tmp_path / "empty").mkdir()
    assert "no SVHN in" in error_of(load_svhn, str(tmp_path / "empty"))
    (svhn_folder / "test_32x32.mat").unlink()
    assert "no SVHN file" in error_of(load_svhn, str(svhn_folder))


def test_damaged_files(svhn_folder, error_of):
    path = svhn_folder / "train_32x32.mat"
    content = path.read_bytes()
    cuts = [0, 50, len(content) // 2]
    for damaged in (*(content[:cut] for cut in cuts), b"hello" * 100):
        path.write_bytes(damaged)
        text = error_of(read_mat, path)
        assert str(path) in text and "download it again" in text
    path.write_bytes(content[:128])
    assert "has no X" in error_of(read_mat, path)
    assert "no SVHN file" in error_of(read_mat, path.with_name("nothing.mat"))


def test_files_of_another_shape(svhn_folder, error_of):
    path = svhn_folder / "train_32x32.mat"
    images, labels = np.zeros((32, 32, 3, 4), np.uint8), np.ones((4, 1), np.uint8)
    savemat(path, {"X": images[:30], "y": labels})
    assert "30 x 32 x 3 x 4" in error_of(read_mat, path)
    savemat(path, {"X": images, "y": labels[:3]})
    assert "3 labels" in error_of(read_mat, path)
    for wrong in (0, 11, np.nan, 2.5):
        savemat(path, {"X": images, "y": labels * wrong})
        assert "labels that are not whole numbers from 1 to 10" in error_of(read_mat, path)
    savemat(path, {"X": images})
    assert "has no y" in error_of(read_mat, path)


def test_every_stand_in_shows_its_own_digit(made_up):
    """Placed somewhere, the digit correlates with its picture, and more than another digit does."""
    digits = embedded_digits()
    for images, numbers, labels, drawn in (
        (digits.train_images, made_up.train_images, made_up.train_labels, digits.train_labels),
        (digits.test_images, made_up.test_images, made_up.test_labels, digits.test_labels),
    ):
        for i in range(0, len(numbers), 53):
            assert labels[i] == drawn[i % len(images)]
            grey = numbers[i].mean(axis=-1)
            own = strongest_correlation(grey, images[i % len(images)])
            assert own > 0.4
            assert own > strongest_correlation(grey, images[(i + 1) % len(images)])


def strongest_correlation(grey: np.ndarray, digit: np.ndarray) -> float:
    """The largest absolute correlation of a grey picture with a digit placed anywhere in it."""
    values = []
    for row, column in np.ndindex(5, 5):
        placed = np.zeros((32, 32))
        placed[row : row + 28, column : column + 28] = digit
        values.append(abs(np.corrcoef(grey.ravel(), placed.ravel())[0, 1]))
    return max(values)


def test_stand_ins_are_coloured_and_the_same_every_time(made_up):
    assert made_up.train_images.shape == (12_000, 32, 32, 3)
    assert np.ptp(made_up.test_images.astype(int), axis=-1).mean() > 10
    again = stand_in(embedded_digits())
    np.testing.assert_array_equal(made_up.train_images, again.train_images)
    first, second = made_up.train_images[:4000], made_up.train_images[4000:8000]
    assert (first != second).any(axis=(1, 2, 3)).all()


def test_real_files(real_data):
    numbers = load_svhn(real_data)
    assert (len(numbers.train_labels), len(numbers.test_labels)) == (9083, 2000)
    assert np.bincount(numbers.test_labels).tolist()[:3] == [141, 432, 312]
