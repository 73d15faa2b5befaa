"""Compressed files: how large they say that they become, held against how large they are; no file brings code."""

import io
import shutil
import zipfile
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

import numpy as np
from etils.epath import PathLike

from mmvae_jax.errors import UserError, one_line

_HARMLESS = 2**28
_MOST_TIMES = 100


def check_unpacked(path: PathLike, unpacked: int, size: int | None = None) -> None:
    """Whether a file unpacks to a size that data have, and not to that of a decompression bomb.

    Pictures, labels and weights shrink a few times at the most; zeros a thousand times.

    Args:
      path: the file.
      unpacked: the size that it announces, in bytes.
      size: its own; looked up where it is not known.

    Raises:
      UserError: over 256 MiB and over a hundred times the file's own size.
    """
    size = Path(path).stat().st_size if size is None else size
    if unpacked > max(_HARMLESS, _MOST_TIMES * size):
        raise UserError(
            f"{path} has {size} bytes and would unpack to {unpacked}: a decompression bomb, or damaged; "
            "get it again from where you trust"
        )


def check_archive(path: PathLike, content: bytes | None = None) -> None:
    """`check_unpacked` of all members of a zip archive, such as a `.npz` file; other files pass.

    Args:
      path: of the file.
      content: of the file, where it has been read.

    Raises:
      UserError: as `check_unpacked`.
    """
    file = Path(path) if content is None else io.BytesIO(content)
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            announced = sum(member.file_size for member in archive.infolist())
        check_unpacked(path, announced, None if content is None else len(content))


def unpacked(path: Path) -> Path:
    """The folder beside a zip archive that has its files: unpacked at the first use, all or nothing.

    Files are called by the last part of their names, whatever folders the archive has: none can leave the folder.

    Raises:
      UserError: no zip archive (download sites answer pages in words, too), as `check_unpacked`, or no room.
    """
    folder = path.with_name(f"{path.name}-unpacked")
    if folder.is_dir():
        return folder
    check_archive(path)
    try:
        with zipfile.ZipFile(path) as archive, TemporaryDirectory(dir=path.parent) as unfinished:
            complete = Path(unfinished) / "complete"
            complete.mkdir()
            for member in archive.infolist():
                if not member.is_dir():
                    name = PurePosixPath(member.filename).name
                    with archive.open(member) as packed, (complete / name).open("wb") as file:
                        shutil.copyfileobj(packed, file)
            if not folder.is_dir():  # else another process was faster
                complete.rename(folder)
    except (zipfile.BadZipFile, OSError) as error:
        remedy = "make room, or remove it and get it again, by hand if need be"
        raise UserError(f"{path} cannot be unpacked ({one_line(error)}): {remedy}") from error
    return folder


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a `.npz` file; what is pickled in it is refused.

    Raises:
      UserError: as `check_unpacked`.
      Exception: of any kind, where the file is missing or damaged.
    """
    check_archive(path)
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
