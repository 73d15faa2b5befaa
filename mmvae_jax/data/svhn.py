"""SVHN house numbers: the official cropped digits, or a stand-in of MNIST digits on photographs."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int32, UInt8
from numpy.lib.stride_tricks import sliding_window_view
from scipy.io import loadmat, whosmat

from mmvae_jax.data.downloads import download
from mmvae_jax.data.mnist import Digits, embedded_digits, existing_folder, package_folder
from mmvae_jax.data.pictures import random_crops, read_picture
from mmvae_jax.errors import UserError, one_line
from mmvae_jax.unpacking import check_unpacked

SIZE = 32
_URL = "http://ufldl.stanford.edu/housenumbers/"
_FILES = ["train_32x32.mat", "test_32x32.mat"]
_STAND_IN_PHOTOS = (
    ("sklearn", "datasets/images/china.jpg"),
    ("skimage", "data/chelsea.png"),
    ("skimage", "data/astronaut.png"),
    ("skimage", "data/motorcycle_left.png"),
)
_STAND_IN_RENDERINGS = 3
_PHOTO_CONTRAST = 0.4
_STAND_IN_SEED = 20213


class HouseNumbers(NamedTuple):
    """Colour 32x32 images of ten classes, split into training and test.

    Attributes:
      train_images: uint8 RGB.
      train_labels: classes 0 to 9 (the official files' 10 is 0 here).
      test_images: as `train_images`.
      test_labels: as `train_labels`.
      source: where they came from, for the report; a stand-in says so.
      name: what the modality is called.
    """

    train_images: UInt8[np.ndarray, "N 32 32 3"]
    train_labels: Int32[np.ndarray, "N"]
    test_images: UInt8[np.ndarray, "T 32 32 3"]
    test_labels: Int32[np.ndarray, "T"]
    source: str
    name: str = "svhn"


def read_mat(path: Path | str) -> tuple[UInt8[np.ndarray, "N 32 32 3"], Int32[np.ndarray, "N"]]:
    """Images and labels of an official cropped-digit file, X [32, 32, 3, N] and y with 10 for zero.

    Raises:
      UserError: missing, damaged, or not such a file.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no SVHN file {path}: put {' and '.join(_FILES)} there")
    announced = {name: (shape, kind) for name, shape, kind in _read(whosmat, path)}
    missing = {"X", "y"} - announced.keys()
    if missing:
        raise UserError(f"SVHN file {path} has no {min(missing)}: is it a whole cropped-digits file? download it again")
    (shape, pixels), (count, numbers) = announced["X"], announced["y"]
    if pixels != "uint8" or not numbers.startswith(("uint", "int", "single", "double")):
        raise UserError(f"SVHN file {path} has X of type {pixels} and y of {numbers}: is it a file of cropped digits?")
    check_unpacked(path, math.prod(shape) + 8 * math.prod(count))
    content = _read(loadmat, path, variable_names=["X", "y"])
    images, labels = content["X"], content["y"].ravel()
    if images.shape[:3] != (SIZE, SIZE, 3) or images.ndim != 4 or images.shape[3] != len(labels):
        size = " x ".join(map(str, images.shape))
        raise UserError(
            f"SVHN file {path} has X of {size} and {len(labels)} labels, expected 32 x 32 x 3 x N "
            "and N: download it again"
        )
    if len(labels) == 0 or not np.isin(labels, np.arange(1, 11)).all():
        raise UserError(f"SVHN file {path} has labels that are not whole numbers from 1 to 10: download it again")
    return np.ascontiguousarray(images.transpose(3, 0, 1, 2)), labels.astype(np.int32) % 10


def _read(function: Callable[..., Any], path: Path, **options: Any) -> Any:
    try:
        return function(path, **options)
    except Exception as error:  # SciPy's readers raise whatever a damaged file leads them to
        raise UserError(f"SVHN file {path} is damaged ({one_line(error)}): download it again") from error


def official_svhn(folder: Path | str) -> HouseNumbers:
    """SVHN of the official train_32x32.mat and test_32x32.mat in a folder.

    Raises:
      UserError: a file is missing or damaged.
    """
    train, test = (read_mat(Path(folder) / name) for name in _FILES)
    return HouseNumbers(*train, *test, f"SVHN files in {folder}")


def load_svhn(data: str) -> HouseNumbers:
    """House numbers of `--data=embedded|tfds|<folder>`.

    Args:
      data: "embedded" (the stand-in), "tfds" (the official files, downloaded), a data root with
        the subfolder svhn/, or the folder of the official files.

    Raises:
      UserError: no such data, or its files are damaged.
    """
    if data == "embedded":
        return stand_in(embedded_digits())
    if data == "tfds":
        paths = download("svhn_cropped", _URL, _FILES)
        train, test = (read_mat(paths[name]) for name in _FILES)
        return HouseNumbers(*train, *test, f"tfds download of {_URL}")
    root = existing_folder(data)
    if any((root / name).is_file() for name in _FILES):
        return official_svhn(root)
    if (root / "svhn").is_dir():
        return official_svhn(root / "svhn")
    raise UserError(f"no SVHN in {root}: give the folder of {' and '.join(_FILES)}, or one with svhn/")


def stand_in(digits: Digits) -> HouseNumbers:
    """Pictures in SVHN's format that need no download: MNIST digits in colour on photographs.

    They are no house numbers: results on them do not compare with results on SVHN. Training digits
    are rendered three times and test digits once, picture i from digit i modulo their number, each
    at a random place, in a random colour, on a random crop of a photograph with its contrast
    lowered. Drawn by a fixed seed: the same on every machine.

    Args:
      digits: what to draw. Training and test pictures share none.
    """
    rng = np.random.default_rng(_STAND_IN_SEED)
    photos = [_photo(package_folder(package) / path) for package, path in _STAND_IN_PHOTOS]
    renderings = [_render(digits.train_images, photos, rng) for _ in range(_STAND_IN_RENDERINGS)]
    return HouseNumbers(
        np.concatenate(renderings),
        np.tile(digits.train_labels, _STAND_IN_RENDERINGS),
        _render(digits.test_images, photos, rng),
        digits.test_labels,
        f"stand-in for SVHN: {digits.source}, in colour on photographs",
        "svhn_stand_in",
    )


def _photo(path: Path) -> Float[np.ndarray, "H W 3"]:
    return read_picture(path).astype(np.float32) / 255


def _render(
    images: UInt8[np.ndarray, "N 28 28"],
    photos: list[Float[np.ndarray, "_ _ 3"]],
    rng: np.random.Generator,
) -> UInt8[np.ndarray, "N 32 32 3"]:
    count, room = len(images), SIZE - 28
    padded = np.pad(images, ((0, 0), (room, room), (room, room)))
    windows = sliding_window_view(padded, (SIZE, SIZE), axis=(1, 2))
    row, column = rng.integers(0, room + 1, (2, count))
    ink = windows[np.arange(count), row, column, :, :, None] / np.float32(255)
    crops = random_crops(count, photos, SIZE, rng)
    mean = crops.mean(axis=(1, 2), keepdims=True)
    background = mean + _PHOTO_CONTRAST * (crops - mean)
    # Ink is lighter on dark crops and darker on light ones, so that every digit is legible.
    direction = np.where(mean.mean(axis=-1, keepdims=True) < 0.5, 1, -1)
    contrast = direction * rng.uniform(0.4, 0.6, (count, 1, 1, 1))
    colour = np.clip(mean + contrast + rng.uniform(-0.15, 0.15, mean.shape), 0, 1)
    picture = (1 - ink) * background + ink * colour.astype(np.float32)
    return np.round(255 * picture).clip(0, 255).astype(np.uint8)
