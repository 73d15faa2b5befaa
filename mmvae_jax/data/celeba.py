"""CelebA: aligned photographs of faces with forty attributes, from the official files, which tfds downloads as well."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8

from mmvae_jax.data.downloads import download
from mmvae_jax.data.mnist import existing_folder
from mmvae_jax.data.photographs import Prepare, read_photographs
from mmvae_jax.data.text_files import read_text
from mmvae_jax.errors import UserError
from mmvae_jax.unpacking import unpacked

SIZE = 64
IMAGES = "img_align_celeba"
ATTRIBUTES = "list_attr_celeba.txt"
PARTITION = "list_eval_partition.txt"
LANDMARKS = "list_landmarks_align_celeba.txt"
# Where the authors keep them, as tfds has it; the smallest file comes first, it is asked whether there is a network.
_URL = "https://drive.google.com/uc?export=download&id="
_IDS = {
    PARTITION: "0B7EVK8r0v71pY0NSMzRuSXJEVkk",
    ATTRIBUTES: "0B7EVK8r0v71pblRyaVFSWGxPY0U",
    LANDMARKS: "0B7EVK8r0v71pd0FJY3Blby1HUTQ",
    IMAGES: "0B7EVK8r0v71pZjFTYXZWM3FlRnM",
}
# Of the official partition's halves; 1 is the validation half.
_TRAIN, _TEST = "0", "2"
# Height and width of the aligned photographs.
HEIGHT, WIDTH = 218, 178
# Height and width of their middle that is kept, as is usual.
CROP = 148


class Faces(NamedTuple):
    """Photographs, or drawings, of faces and what is to be seen on them.

    Attributes:
      images: RGB.
      present: whether each attribute is.
      names: of the attributes, in the order of the columns.
      landmarks: left and right eye, nose, left and right corner of the mouth, across and down in widths of the image;
        None where they are not known.
    """

    images: UInt8[np.ndarray, "N S S C"]
    present: Bool[np.ndarray, "N A"]
    names: tuple[str, ...]
    landmarks: Float[np.ndarray, "N 5 2"] | None = None


def read_celeba(
    data: str,
    size: int = SIZE,
    crop: int = CROP,
    cache: Path | str = "cache",
    skip_corrupt: bool = False,
    report: Callable[[str], None] = print,
    prepare: Prepare | None = None,
) -> tuple[Faces, Faces]:
    """The training and the test half of CelebA, or of any part of it: what the list of the halves has.

    Args:
      data: "tfds" (the official files, downloaded), the folder of the official files, or one with celeba/.
      size: height and width, in pixels.
      crop: side of the square in the middle of the 178x218 photographs that is resized to it.
      cache: where decoded pictures are kept.
      skip_corrupt: leave photographs out that cannot be decoded.
      report: gets a line where some are left out.
      prepare: as of `read_photographs`.

    Raises:
      UserError: a file is missing or no such list, a face without attributes, landmarks or photograph, an attribute
        other than -1 and 1, a landmark that is no number, a half other than 0, 1 and 2, an empty half, or a photograph
        that cannot be decoded.
    """
    official = _official(data)
    halves = read_partition(official[PARTITION])
    names, attributes = read_table(official[ATTRIBUTES])
    if not names:
        raise UserError(f"{official[ATTRIBUTES]} names no attributes in its second line: download it again")
    values = _present(official[ATTRIBUTES], names, attributes, halves)
    landmarks = _landmarks(official[LANDMARKS], halves, crop) if official[LANDMARKS].exists() else None
    files = list(halves)
    found = {}
    for half in (_TRAIN, _TEST):
        rows = np.array([row for row, file in enumerate(files) if halves[file] == half], int)
        if not len(rows):
            raise UserError(f"{official[PARTITION]} lists no face of half {half}: training needs 0, testing 2")
        paths = [official[IMAGES] / files[row] for row in rows]
        images, kept = read_photographs(paths, size, cache, crop, skip_corrupt, report, prepare)
        rows = rows[kept]
        found[half] = Faces(images, values[rows], names, None if landmarks is None else landmarks[rows])
    return found[_TRAIN], found[_TEST]


def _official(data: str) -> dict[str, Path]:
    """Where each of the official files is, and the folder of the photographs: downloaded at the first use, or given."""
    if data != "tfds":
        folder = celeba_folder(data)
        return {name: folder / name for name in _IDS}
    downloaded = download("celeb_a", _URL, list(_IDS.values()))
    official = {name: downloaded[file] for name, file in _IDS.items()}
    return {**official, IMAGES: unpacked(official[IMAGES])}


def celeba_folder(data: str) -> Path:
    """The folder of the official files: the one that is given, or celeba/ in it.

    Raises:
      UserError: neither has the photographs and the lists.
    """
    root = existing_folder(data)
    needed = (IMAGES, ATTRIBUTES, PARTITION)
    for folder in (root, root / "celeba"):
        missing = [name for name in needed if not (folder / name).exists()]
        if not missing:
            return folder
        if len(missing) < len(needed):
            raise UserError(f"no {missing[0]} in {folder}: CelebA is {', '.join(needed)}")
    raise UserError(f"no CelebA in {root}: give the folder of {', '.join(needed)}, or one with celeba/")


def read_partition(path: Path) -> dict[str, str]:
    """File name -> half, "0" to "2".

    Raises:
      UserError: another half, or another number of words in a line.
    """
    halves = {}
    for number, line in _lines(path):
        words = line.split()
        if len(words) != 2 or words[1] not in ("0", "1", "2"):
            raise UserError(f"{path} line {number} is {line[:40]!r}: expected a file name and 0, 1 or 2")
        halves[words[0]] = words[1]
    return halves


def read_table(path: Path) -> tuple[tuple[str, ...], dict[str, list[str]]]:
    """One of CelebA's lists: its column names, and file name -> the words of its row.

    Raises:
      UserError: a row with other than a word for every column.
    """
    lines = _lines(path)
    if len(lines) < 2:
        raise UserError(f"{path} has {len(lines)} lines: expected a number, the columns' names, then rows")
    names, rows = tuple(lines[1][1].split()), {}
    for number, line in lines[2:]:
        file, *words = line.split()
        if len(words) != len(names):
            raise UserError(f"{path} line {number} has {len(words)} values for {len(names)} columns: download it again")
        rows[file] = words
    return names, rows


def _lines(path: Path) -> list[tuple[int, str]]:
    """Those that are not blank, with their numbers."""
    return [(number, line) for number, line in enumerate(read_text(path).splitlines(), 1) if line.strip()]


def _rows(path: Path, rows: Mapping[str, list[str]], files: Mapping[str, str]) -> list[list[str]]:
    """Those of the listed faces, in their order."""
    missing = next((file for file in files if file not in rows), None)
    if missing is not None:
        raise UserError(f"{path} has no row of {missing}, which {PARTITION} lists: complete it")
    return [rows[file] for file in files]


def _present(
    path: Path, names: tuple[str, ...], rows: Mapping[str, list[str]], files: Mapping[str, str]
) -> Bool[np.ndarray, "N A"]:
    values = np.array(_rows(path, rows, files)).reshape(len(files), len(names))
    wrong = np.argwhere((values != "1") & (values != "-1"))
    if len(wrong):
        row, column = wrong[0]
        file = list(files)[row]
        raise UserError(f"{path}: {names[column]} of {file} is '{values[row, column]}', expected 1 or -1")
    return values == "1"


def _landmarks(path: Path, files: Mapping[str, str], crop: int) -> Float[np.ndarray, "N 5 2"]:
    names, rows = read_table(path)
    words = _rows(path, rows, files)
    try:
        pixels = np.array(words, np.float64).reshape(len(files), 5, 2)
        if not np.isfinite(pixels).all():
            raise ValueError
    except ValueError as error:
        raise UserError(
            f"{path}: expected two numbers for each of five landmarks, it has {', '.join(names)}"
        ) from error
    corner = np.array([(WIDTH - crop) // 2, (HEIGHT - crop) // 2])
    return (pixels - corner) / crop
