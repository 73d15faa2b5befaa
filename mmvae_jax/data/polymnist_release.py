"""Reader of the official PolyMNIST release: `train/m0..m4/<index>.<label>.png` and `test/...`."""

import hashlib
import math
import os
import re
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Shaped, UInt8

from mmvae_jax.data.batching import Dataset, fingerprint, fixed_split, take
from mmvae_jax.data.pictures import read_picture
from mmvae_jax.data.streaming import Streaming, must_stream, read_together, streamed_split
from mmvae_jax.errors import UserError

_NAME = re.compile(rb"(\d+)\.(\d)\.png")
_SIZE = (28, 28)
# Of streamed data.
MAX_TEST = 10_000
# Training tuples whose pixels are part of the fingerprint.
_SAMPLE = 256


def is_release(folder: Path) -> bool:
    """Whether a folder looks like the release: its train/ or test/ has the first modality, m0."""
    return any((folder / split / "m0").is_dir() for split in ("train", "test"))


def release(folder: Path, modalities: tuple[str, ...], streaming: Streaming = "auto") -> Dataset:
    """The tuples of the official release as they are: fixed pairs and crops.

    Files are paired by name, in the order of (index, label), whatever the file system's order.

    Args:
      folder: has train/ and test/, each with one subfolder a modality.
      modalities: the subfolders' names.
      streaming: whether training tuples are streamed; of more test tuples than 10,000 a random choice is kept then.

    Raises:
      UserError: a folder is missing or empty, a name is foreign, modalities have different names,
        or a picture cannot be decoded or is not 28x28.
    """
    pictures = Pictures(folder / "train", modalities)
    judged = Pictures(folder / "test", modalities)
    chosen = np.arange(len(judged))
    if must_stream(streaming, len(pictures) * len(modalities) * 3 * math.prod(_SIZE)):
        train = streamed_split(pictures, modalities, pictures.digest)
        if len(judged) > MAX_TEST:
            chosen = np.sort(np.random.default_rng(0).permutation(len(judged))[:MAX_TEST])
    else:
        train = fixed_split(*read_together(pictures, np.arange(len(pictures))))
    test = fixed_split(*read_together(judged, chosen))
    some = take(train, jax.random.key(0), min(train.size, _SAMPLE))
    provenance = {
        "digits": f"PolyMNIST release in {folder}",
        "tuples": f"{train.size} train, {test.size} test; fixed",
        "backgrounds": "the release's own",
        "fingerprint": fingerprint(
            *(np.frombuffer(source.digest, np.uint8) for source in (pictures, judged)),
            *map(np.asarray, jax.tree.leaves((some, test.arrays))),
        ),
    }
    return Dataset("polymnist", modalities, train, test, 10, provenance)


class Pictures:
    """The tuples of one half of the release; memory holds their names only.

    Args:
      folder: `train` or `test`.
      modalities: its subfolders.

    Raises:
      UserError: a folder is missing or empty, a name is foreign, or modalities have different names.
    """

    def __init__(self, folder: Path, modalities: tuple[str, ...]):
        self._folders = {modality: folder / modality for modality in modalities}
        names = [_names(path) for path in self._folders.values()]
        for modality, others in zip(modalities[1:], names[1:], strict=True):
            if not np.array_equal(names[0], others):
                unpaired = sorted(map(bytes.decode, np.setxor1d(names[0], others)), key=_index_and_label)
                missing = modality if unpaired[0].encode() in names[0] else modalities[0]
                raise UserError(
                    f"unpaired files in {folder}: {modalities[0]} and {modality} differ in "
                    f"{len(unpaired)} names, {unpaired[0]} is not in {missing}; complete the folders"
                )
        self._names = names[0][np.lexsort(np.array([_index_and_label(name.decode()) for name in names[0]]).T[::-1])]

    @property
    def digest(self) -> bytes:
        """What tells other files apart, by their names."""
        return hashlib.sha256(self._names.tobytes()).digest()

    def __len__(self) -> int:
        """Number of tuples."""
        return len(self._names)

    def __getitem__(self, index: int) -> tuple[dict[str, UInt8[np.ndarray, "28 28 3"]], int]:
        """One tuple and its class."""
        name = self._names[index].decode()
        x = {modality: read_picture(folder / name, _SIZE) for modality, folder in self._folders.items()}
        return x, _index_and_label(name)[1]


def _names(folder: Path) -> Shaped[np.ndarray, "N"]:
    """The names of a folder's pictures, sorted, as bytes in one array, which takes a fifth of Python's strings."""
    if not folder.is_dir():
        raise UserError(f"no folder {folder}: the PolyMNIST release has m0 to m4 in train/ and in test/")
    names = [name for name in os.listdir(os.fsencode(folder)) if name.endswith(b".png")]
    if not names:
        raise UserError(f"no .png file in {folder}: it needs pictures named <index>.<label>.png")
    foreign = min((name for name in names if _NAME.fullmatch(name) is None), default=None)
    if foreign is not None:
        raise UserError(f"{folder / os.fsdecode(foreign)} is not named <index>.<label>.png: rename or remove it")
    return np.sort(np.array(names))


def _index_and_label(name: str) -> tuple[int, int]:
    index, label, _ = name.split(".")
    return int(index), int(label)
