"""Photographs of any size as arrays of one size: decoded once, in parallel, into a cache that knows its files."""

import hashlib
import json
import math
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image
from tqdm import tqdm

from mmvae_jax.data.pictures import read_picture
from mmvae_jax.errors import UserError, one_line
from mmvae_jax.hosts import first_process, said_by_first

Report = Callable[[str], None]
# What is kept of a square: it may add channels.
Prepare = Callable[[UInt8[np.ndarray, "S S 3"]], UInt8[np.ndarray, "S S C"]]

# Of what is made of a file: a change of it makes cached pictures others.
_VERSION = 1
_THREADS = min(16, os.cpu_count() or 1)
# Decoded pictures that wait to be written, and bytes that are hashed in one go: what bounds the memory.
_PIECE = 512
_BYTES = 2**24


class Photographs(NamedTuple):
    """Pictures of one size.

    Attributes:
      images: RGB, or what `prepare` made of it, on disk: only what is used of them is in memory.
      kept: which of the files they are; all, unless corrupt ones may be left out.
    """

    images: UInt8[np.ndarray, "N S S C"]
    kept: Bool[np.ndarray, "P"]


def central_square(picture: UInt8[np.ndarray, "H W 3"], side: int | None) -> UInt8[np.ndarray, "S S 3"]:
    """The middle of a picture, rounded to the left and the top; at most as large as its shorter side.

    Args:
      picture: any.
      side: of the square, in pixels; None: the largest.
    """
    shorter = min(picture.shape[:2])
    side = min(side or shorter, shorter)
    top, left = ((extent - side) // 2 for extent in picture.shape[:2])
    return picture[top : top + side, left : left + side]


def read_photographs(
    paths: Sequence[Path],
    size: int,
    cache: Path | str,
    crop: int | None = None,
    skip_corrupt: bool = False,
    report: Report = print,
    prepare: Prepare | None = None,
) -> Photographs:
    """The central squares of photographs, resized: from the cache where it is there, else decoded and cached.

    A cache is found by the names, sizes and times of all files and by how they are cut, and checked by its sha256, so
    that neither changed files nor a damaged or half-written cache are ever taken for the pictures. It is written piece
    by piece: memory holds a few hundred pictures, however many there are.

    Args:
      paths: files of any format that Pillow reads.
      size: height and width of the arrays, in pixels.
      cache: folder of the cache, made if missing; ~ is the home folder.
      crop: side of the square that is cut out of the middle, in pixels; None: the largest.
      skip_corrupt: leave files out that cannot be decoded, and say which.
      report: gets a line where files are left out or a cache is damaged; of several processes, that of the first.
      prepare: a function at the top of a module, applied to every resized square before it is kept; None for nothing.

    Raises:
      UserError: no file, a size below 1, a file that is missing or that cannot be decoded (named), or a cache that
        cannot be written.
    """
    if not paths:
        raise UserError("no photograph: give at least one file")
    for name, value in (("size", size), ("crop", 1 if crop is None else crop)):
        if value < 1:
            raise UserError(f"{name}={value}: give at least 1 pixel")
    made = _Making(size, crop, skip_corrupt, prepare)
    report = said_by_first(report)
    target = Path(cache).expanduser() / f"photographs-{_identity(paths, made)[:16]}"
    pixels, about = target.with_suffix(".bin"), target.with_suffix(".json")
    found = _cached(pixels, about, len(paths), size, report)
    if found is None:
        try:
            _write(paths, made, pixels, about)
        except OSError as error:
            raise UserError(f"{pixels} cannot be written ({error.strerror}): make room, or give --cache") from error
        found = _cached(pixels, about, len(paths), size, report)
        if found is None:
            raise UserError(f"{pixels} is not what was just written to it: give another --cache")
    left_out = np.flatnonzero(~found.kept)
    if len(left_out) == len(paths):
        raise UserError(f"none of {len(paths)} photographs can be decoded, {paths[0]} first: replace them")
    if len(left_out):
        report(f"left out {len(left_out)} of {len(paths)} photographs that cannot be decoded: {paths[left_out[0]]} ...")
    return found


class _Making(NamedTuple):
    size: int
    crop: int | None
    skip_corrupt: bool
    prepare: Prepare | None

    def __call__(self, path: Path) -> UInt8[np.ndarray, "S S C"] | None:
        """A picture; None for a corrupt one that may be left out."""
        try:
            square = central_square(read_picture(path), self.crop)
        except UserError as error:
            if _of_the_machine(error.__cause__):
                raise
            if self.skip_corrupt:
                return None
            raise UserError(f"{error}, or leave such files out with --skip-corrupt") from error
        resized = Image.fromarray(square).resize((self.size, self.size), Image.Resampling.LANCZOS)
        return np.asarray(resized) if self.prepare is None else self.prepare(np.asarray(resized))


def _of_the_machine(cause: BaseException | None) -> bool:
    """Whether a file could not be read for a reason that may pass: what the file holds is not known then."""
    return isinstance(cause, MemoryError) or (isinstance(cause, OSError) and cause.errno is not None)


def _identity(paths: Sequence[Path], made: _Making) -> str:
    """Changes with every file's name, size and time, and with what is made of them."""
    prepare = made.prepare and f"{made.prepare.__module__}.{made.prepare.__qualname__}"
    digest = hashlib.sha256(f"{_VERSION} {made._replace(prepare=None)!r} {prepare}".encode())
    for path in paths:
        try:
            known = path.stat()
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}): it is listed, put it there") from error
        digest.update(os.fsencode(path) + f"\0{known.st_size} {known.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _cached(pixels: Path, about: Path, count: int, size: int, report: Report) -> Photographs | None:
    """What the cache holds; None where there is nothing, or it is damaged, which is reported."""
    try:
        known = json.loads(about.read_text())
        kept = np.ones(count, bool)
        kept[known["left_out"]] = False
        shape = (int(kept.sum()), size, size, int(known["channels"]))
        if pixels.stat().st_size != math.prod(shape) or _sha256(pixels) != known["sha256"]:
            raise ValueError("its pixels are others than those that were written")
    except FileNotFoundError:
        return None
    except Exception as error:  # a damaged description raises whatever its damage leads to
        report(f"cached {pixels} is damaged ({one_line(error)}): decoding the photographs again")
        return None
    images = np.memmap(pixels, np.uint8, "r", shape=shape) if shape[0] else np.zeros(shape, np.uint8)
    return Photographs(images, kept)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def _write(paths: Sequence[Path], made: _Making, pixels: Path, about: Path) -> None:
    """The pixels, and last what they are: a cache without that is none."""
    pixels.parent.mkdir(parents=True, exist_ok=True)
    about.unlink(missing_ok=True)
    unfinished = pixels.with_name(f".{pixels.name}.{uuid.uuid4().hex}")  # other hosts may be making it too
    digest, left_out, channels = hashlib.sha256(), [], 3
    try:
        with unfinished.open("wb") as file:
            for number, picture in enumerate(_all_made(paths, made)):
                if picture is None:
                    left_out.append(number)
                    continue
                channels = picture.shape[2]
                file.write(picture.tobytes())
                digest.update(picture.tobytes())
        unfinished.replace(pixels)
        known = {"sha256": digest.hexdigest(), "channels": channels, "left_out": left_out}
        unfinished.write_text(json.dumps(known))
        unfinished.replace(about)
    finally:
        unfinished.unlink(missing_ok=True)


def _all_made(paths: Sequence[Path], made: _Making) -> Iterator[UInt8[np.ndarray, "S S C"] | None]:
    """In their order."""
    bar = tqdm(total=len(paths), desc="photographs", unit="", disable=None if first_process() else True)
    with bar, ThreadPoolExecutor(_THREADS) as threads:
        for start in range(0, len(paths), _PIECE):
            for picture in threads.map(made, paths[start : start + _PIECE]):
                bar.update()
                yield picture
