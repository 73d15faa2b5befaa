"""Reader of the official PolyMNIST release: `train/m0..m4/<index>.<label>.png` and `test/...`."""

import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mmvae_jax.data.batching import Dataset, Split, fingerprint, fixed_split
from mmvae_jax.errors import UserError

_NAME = re.compile(r"(\d+)\.(\d)\.png")
_SHAPE = (28, 28, 3)
_CHUNK = 2_000


def is_release(folder: Path) -> bool:
    """Whether a folder looks like the release: its train/ or test/ has the first modality, m0."""
    return any((folder / split / "m0").is_dir() for split in ("train", "test"))


def release(folder: Path, modalities: tuple[str, ...]) -> Dataset:
    """The tuples of the official release as they are: fixed pairs and crops.

    Files are paired by name, in the order of (index, label), whatever the file system's order.

    Args:
      folder: has train/ and test/, each with one subfolder a modality.
      modalities: the subfolders' names.

    Raises:
      UserError: a folder is missing or empty, a name is foreign, modalities have different names,
        or a picture cannot be decoded or is not 28x28.
    """
    train, test = (_read_split(folder / split, modalities) for split in ("train", "test"))
    leaves = jax.tree.leaves((train.arrays, test.arrays))
    provenance = {
        "digits": f"PolyMNIST release in {folder}",
        "tuples": f"{train.size} train, {test.size} test; fixed",
        "backgrounds": "the release's own",
        "fingerprint": fingerprint(*map(np.asarray, leaves)),
    }
    return Dataset("polymnist", modalities, train, test, 10, provenance)


def _read_split(folder: Path, modalities: tuple[str, ...]) -> Split:
    names = [_names(folder / modality) for modality in modalities]
    for modality, others in zip(modalities[1:], names[1:], strict=True):
        unpaired = sorted(set(names[0]) ^ set(others), key=_index_and_label)
        if unpaired:
            missing = modality if unpaired[0] in set(names[0]) else modalities[0]
            raise UserError(
                f"unpaired files in {folder}: {modalities[0]} and {modality} differ in "
                f"{len(unpaired)} names, {unpaired[0]} is not in {missing}; complete the folders"
            )
    x = {modality: jnp.asarray(_read_images(folder / modality, names[0])) for modality in modalities}
    labels = np.array([_index_and_label(name)[1] for name in names[0]], np.int32)
    return fixed_split(x, jnp.asarray(labels))


def _names(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise UserError(f"no folder {folder}: the PolyMNIST release has m0 to m4 in train/ and in test/")
    names = [name for name in os.listdir(folder) if name.endswith(".png")]
    if not names:
        raise UserError(f"no .png file in {folder}: it needs pictures named <index>.<label>.png")
    foreign = min((name for name in names if _NAME.fullmatch(name) is None), default=None)
    if foreign is not None:
        raise UserError(f"{folder / foreign} is not named <index>.<label>.png: rename or remove it")
    return sorted(names, key=_index_and_label)


def _index_and_label(name: str) -> tuple[int, int]:
    index, label, _ = name.split(".")
    return int(index), int(label)


def _read_images(folder: Path, names: list[str]) -> UInt8[np.ndarray, "N 28 28 3"]:
    images = np.empty((len(names), *_SHAPE), np.uint8)

    def read_chunk(start: int) -> None:
        for i in range(start, min(start + _CHUNK, len(names))):
            images[i] = _read_image(folder / names[i])

    with ThreadPoolExecutor() as pool:
        list(pool.map(read_chunk, range(0, len(names), _CHUNK)))
    return images


def _read_image(path: Path) -> UInt8[np.ndarray, "28 28 3"]:
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError) as error:
        raise UserError(f"{path} cannot be decoded ({error}): download the release again") from error
    if pixels.shape != _SHAPE:
        raise UserError(f"{path} has {pixels.shape[1]}x{pixels.shape[0]} pixels, expected 28x28: download again")
    return pixels
