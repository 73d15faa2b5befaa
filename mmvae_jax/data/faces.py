"""Faces and their attributes, as text, as a vector or as a modality each: of CelebA, or drawn here in its stead."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mmvae_jax.data.attribute_text import longest_text, read_texts, write_texts
from mmvae_jax.data.attributes import PRESENCE, Attributes
from mmvae_jax.data.batching import Dataset, Split, fingerprint, fixed_split
from mmvae_jax.data.celeba import CROP, Faces, read_celeba
from mmvae_jax.data.drawn_faces import ATTRIBUTES, drawn_faces
from mmvae_jax.data.photographs import Prepare
from mmvae_jax.data.presence import dropped_presence
from mmvae_jax.errors import UserError

# Of the text's length: its networks quarter it three times.
_STEP = 64


@dataclass(frozen=True)
class LoadedFaces:
    """Both halves of a data set of faces.

    Attributes:
      name: celeba, or celeba_stand_in.
      train: to train on.
      test: to measure on.
      source: where they come from, in words.
    """

    name: str
    train: Faces
    test: Faces
    source: str

    @property
    def picture(self) -> str:
        """What the pictures are called as a modality."""
        return "image_stand_in" if self.stand_in else "image"

    @property
    def text(self) -> str:
        """What the texts are called as a modality."""
        return "text_stand_in" if self.stand_in else "text"

    @property
    def stand_in(self) -> bool:
        """Whether they are drawn."""
        return self.name != "celeba"

    @property
    def provenance(self) -> dict[str, str]:
        """What reports say of them."""
        return {
            "faces": self.source,
            "tuples": f"{len(self.train.images)} train, {len(self.test.images)} test",
            "attributes": f"{len(self.train.names)}",
            "fingerprint": fingerprint(*(each for half in (self.train, self.test) for each in half[:2])),
        }


def load_faces(
    data: str,
    size: int,
    train: int,
    test: int,
    seed: int,
    cache: Path | str,
    skip_corrupt: bool = False,
    prepare: Prepare | None = None,
) -> LoadedFaces:
    """CelebA of `--data=tfds|<folder>`, or of `--data=embedded` faces that are drawn here and called celeba_stand_in.

    Args:
      data: "embedded", "tfds" (downloaded), or the folder of the official files or one with celeba/.
      size: height and width of the pictures in pixels.
      train: number of training faces that are drawn.
      test: number of test faces that are drawn.
      seed: draws them.
      cache: where decoded photographs are kept.
      skip_corrupt: leave photographs out that cannot be decoded.
      prepare: what is kept of every picture; None: the picture.

    Raises:
      UserError: no such files, something is wrong with them, or faces that cannot be drawn.
    """
    if data == "embedded":
        source = f"stand-in for CelebA: faces drawn here, {size}x{size}"
        first, second = drawn_faces(train, test, size, seed)
        if prepare is not None:
            first, second = (_prepared(half, prepare) for half in (first, second))
        return LoadedFaces("celeba_stand_in", first, second, source)
    faces = read_celeba(data, size, cache=cache, skip_corrupt=skip_corrupt, prepare=prepare)
    return LoadedFaces("celeba", *faces, f"CelebA, {data}, the middle {CROP}x{CROP} of each resized to {size}x{size}")


def _prepared(faces: Faces, prepare: Prepare) -> Faces:
    return faces._replace(images=np.stack([prepare(each) for each in faces.images]))


def faces_and_text(faces: LoadedFaces, length: int) -> Dataset:
    """Pictures and texts, which name the attributes that are present (Sutter et al. 2021, section 4.3).

    Args:
      faces: of both halves.
      length: of the texts, in letters; 0: of the longest one, rounded up to a multiple of 64.

    Raises:
      UserError: a text is longer.
    """
    names = faces.train.names
    if not length:
        length = max(longest_text(half.present, names) for half in (faces.train, faces.test))
        length = -(-length // _STEP) * _STEP
    train, test = (
        _split({faces.picture: half.images, faces.text: write_texts(half.present, names, length)})
        for half in (faces.train, faces.test)
    )
    attributes = Attributes(dict.fromkeys(names, PRESENCE), {faces.text: partial(read_texts, names=names)})
    modalities = faces.picture, faces.text
    return Dataset(f"{faces.name}_text", modalities, train, test, 1, faces.provenance, attributes=attributes)


def faces_and_attributes(faces: LoadedFaces, apart: bool = False, drop: float = 0.0, seed: int = 0) -> Dataset:
    """Pictures and MVAE's 18 attributes (Wu & Goodman 2018, supplement), as one vector or as a modality each.

    Args:
      faces: of both halves.
      apart: every attribute is a modality, a class index 0 or 1, called by its name; else one vector of zeros and ones,
        `attributes`.
      drop: probability with which every modality of a training face is dropped.
      seed: draws what is dropped.

    Raises:
      UserError: one of the attributes is not there, or drop is outside 0..1.
    """
    missing = next((name for name in ATTRIBUTES if name not in faces.train.names), None)
    if missing is not None:
        raise UserError(f"no attribute {missing}: the 18 attributes are {', '.join(ATTRIBUTES)}")
    columns = [faces.train.names.index(name) for name in ATTRIBUTES]
    halves = []
    for half in (faces.train, faces.test):
        present = half.present[:, columns]
        apart_x = {name: present[:, a].astype(np.int32) for a, name in enumerate(ATTRIBUTES)}
        halves.append(
            {faces.picture: half.images, **(apart_x if apart else {"attributes": present.astype(np.float32)})}
        )
    train = _split(halves[0], drop, seed)
    attributes = None if apart else Attributes(dict.fromkeys(ATTRIBUTES, PRESENCE), {"attributes": _probabilities})
    name = f"{faces.name}_{'split_attributes' if apart else 'attributes'}"
    test, provenance = _split(halves[1]), {**faces.provenance, "attributes": f"{len(ATTRIBUTES)}"}
    if drop:
        provenance["tuples"] += f"; of every training face each modality is dropped with probability {drop:g}"
    return Dataset(name, tuple(halves[0]), train, test, 1, provenance, attributes=attributes)


def _probabilities(x: Float[Array, "B A"]) -> Float[Array, "B A"]:
    """What is generated is the probability already."""
    return x.astype(jnp.float32)


def _split(x: dict[str, np.ndarray], drop: float = 0.0, seed: int = 0) -> Split:
    count = len(next(iter(x.values())))
    presence = dropped_presence(jax.random.key(seed), count, len(x), drop) if drop else None
    return fixed_split(x, np.zeros(count, np.int32), presence)
