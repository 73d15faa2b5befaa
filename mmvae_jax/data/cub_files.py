"""CUB's official lists, its captions and features of its images, read from their files."""

from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from jaxtyping import Bool, Float, Int32

from mmvae_jax.data.captions import words_of
from mmvae_jax.data.text_files import read_text
from mmvae_jax.errors import UserError, one_line
from mmvae_jax.unpacking import check_archive

_LISTS = ("images.txt", "image_class_labels.txt", "train_test_split.txt")


class Birds(NamedTuple):
    """What the lists and the caption files say of N images, in the order of images.txt.

    Attributes:
      paths: of the photographs.
      captions: the words of every caption of every image; at least one caption each.
      labels: species, counted from 0 among those that are there.
      training: whether the official split has it for training.
    """

    paths: list[Path]
    captions: list[list[list[str]]]
    labels: Int32[np.ndarray, "N"]
    training: Bool[np.ndarray, "N"]

    def only(self, chosen: Bool[np.ndarray, "N"]) -> Self:
        """Some of them; their species keep their numbers."""
        rows = np.flatnonzero(chosen)
        return type(self)(
            [self.paths[i] for i in rows], [self.captions[i] for i in rows], self.labels[rows], self.training[rows]
        )


def read_birds(folder: Path | str) -> Birds:
    """The lists and captions of CUB in a folder with CUB_200_2011/ and text/.

    Raises:
      UserError: a list, a listed image or its caption file is missing or makes no sense, or a split is empty.
    """
    folder = Path(folder)
    official = folder / "CUB_200_2011"
    images, labels, split = (_read_list(official / name) for name in _LISTS)
    for name, found in zip(_LISTS[1:], (labels, split), strict=True):
        if lacking := sorted(images.keys() - found.keys()):
            raise UserError(f"{official / name} lacks image {lacking[0]} of images.txt: download it again")
    paths = [official / "images" / name for name in images.values()]
    if absent := next((path for path in paths if not path.is_file()), None):
        raise UserError(f"{absent} is listed in images.txt but absent: put it there or take its line out")
    captions = [_read_captions(folder / "text" / Path(name).with_suffix(".txt")) for name in images.values()]
    if wrong := next((image for image in images if not labels[image].isdecimal()), None):
        raise UserError(f"{official / _LISTS[1]} has {labels[wrong]!r} for image {wrong}, no number: download it again")
    _, species = np.unique([int(labels[image]) for image in images], return_inverse=True)
    if wrong := next((image for image in images if split[image] not in ("0", "1")), None):
        raise UserError(f"{official / _LISTS[2]} has {split[wrong]!r} for image {wrong}, no 0 or 1: download it again")
    training = np.array([split[image] == "1" for image in images])
    if not 0 < training.sum() < len(training):
        raise UserError(
            f"{official / _LISTS[2]} leaves {training.sum()} of {len(training)} for training: list some more"
        )
    return Birds(paths, captions, species.astype(np.int32), training)


def _read_list(path: Path) -> dict[str, str]:
    """Image number -> what a list says of it."""
    found = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        parts = line.split()
        if len(parts) != 2:
            raise UserError(f"{path}, line {number}: {line[:40]!r} is no image number and a value: download it again")
        found[parts[0]] = parts[1]
    if not found:
        raise UserError(f"{path} is empty: download it again")
    return found


def _read_captions(path: Path) -> list[list[str]]:
    captions = [words for line in read_text(path).splitlines() if (words := words_of(line))]
    if not captions:
        raise UserError(f"{path} has no caption: put one in every line")
    return captions


def read_features(path: str, rows: int) -> Float[np.ndarray, "N F"]:
    """Features of images, a row each, from .npy or from .npz with one array; nothing is unpickled.

    Args:
      path: the file.
      rows: N, how many there must be.

    Raises:
      UserError: it cannot be read, or is no such array of finite numbers.
    """
    try:
        check_archive(Path(path))
        loaded = np.load(path, allow_pickle=False)
        arrays = [loaded] if isinstance(loaded, np.ndarray) else [loaded[name] for name in loaded.files]
    except UserError:
        raise
    except Exception as error:  # NumPy's readers raise whatever a damaged file leads them to
        raise UserError(
            f"image-features={path} cannot be read ({one_line(error)}): give a .npy or .npz file"
        ) from error
    remedy = f"give one array of {rows} rows, one for every line of images.txt"
    if len(arrays) != 1 or arrays[0].ndim != 2 or len(arrays[0]) != rows:
        raise UserError(f"image-features={path} has arrays of shapes {[each.shape for each in arrays]}: {remedy}")
    if arrays[0].dtype.kind not in "fiu" or not np.isfinite(arrays[0]).all():
        raise UserError(f"image-features={path} holds something else than finite numbers: {remedy}")
    return arrays[0].astype(np.float32)
