"""MNIST-Split: the horizontal parts of one digit as two or three modalities.

SVAE paper (2021), section 5: "the images were split horizontally into equal parts, either two or
three". 28 rows have no thirds, so for three parts the image gets one empty row above and one below:
30 rows, three parts of 10, all of one shape.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

from mmvae_jax.data.batching import Dataset, Split, fingerprint, fixed_split
from mmvae_jax.data.mnist import load_digits
from mmvae_jax.data.presence import supervision_presence
from mmvae_jax.errors import UserError

PART_NAMES = {2: ("top", "bottom"), 3: ("top", "middle", "bottom")}
PART_SHAPES = {2: (14, 28, 1), 3: (10, 28, 1)}


def split_parts(images: UInt8[np.ndarray, "N 28 28"], parts: int) -> dict[str, UInt8[Array, "..."]]:
    """The horizontal parts of images: two of [N, 14, 28, 1] or three of [N, 10, 28, 1], by name."""
    empty_rows = 1 if parts == 3 else 0
    padded = np.pad(images, ((0, 0), (empty_rows, empty_rows), (0, 0)))[..., None]
    pieces = np.split(padded, parts, axis=1)
    return {name: jnp.asarray(piece) for name, piece in zip(PART_NAMES[parts], pieces, strict=True)}


def reassemble(
    parts: Mapping[str, Float[Array, "*n H 28 1"] | UInt8[Array, "*n H 28 1"]],
) -> Float[Array, "*n 28 28 1"] | UInt8[Array, "*n 28 28 1"]:
    """The whole images of their parts, of any type: the inverse of `split_parts`."""
    whole = jnp.concatenate([parts[name] for name in PART_NAMES[len(parts)]], axis=-3)
    empty_rows = (whole.shape[-3] - 28) // 2
    return whole[..., empty_rows : empty_rows + 28, :, :]


def mnist_split(data: str = "embedded", parts: int = 2, supervision: float = 1.0, seed: int = 0) -> Dataset:
    """MNIST-Split (parts=2) or MNIST-Split-3 (parts=3) of `--data=embedded|tfds|<folder>`.

    Args:
      data: as of `mnist.load_digits`.
      parts: number of horizontal parts, 2 or 3.
      supervision: fraction of training digits with all parts; every other keeps one part.
      seed: draws which digits keep which part.

    Raises:
      UserError: another number of parts, a fraction outside 0..1, or unusable data.
    """
    if parts not in PART_NAMES:
        raise UserError(f"{parts} parts: an MNIST digit is split into 2 or 3 parts")
    digits = load_digits(data)
    presence = supervision_presence(jax.random.key(seed), len(digits.train_labels), parts, supervision)
    train = _split(digits.train_images, digits.train_labels, parts, presence)
    test = _split(digits.test_images, digits.test_labels, parts, None)
    provenance = {
        "digits": digits.source,
        "tuples": f"{train.size} train, {test.size} test; {supervision:.4g} of train complete",
        "fingerprint": fingerprint(*digits[:4]),
    }
    name = "mnist_split" if parts == 2 else "mnist_split_3"
    return Dataset(name, PART_NAMES[parts], train, test, 10, provenance, reassemble)


def _split(
    images: UInt8[np.ndarray, "N 28 28"],
    labels: Int[np.ndarray, "N"],
    parts: int,
    presence: Bool[Array, "N M"] | None,
) -> Split:
    return fixed_split(split_parts(images, parts), jnp.asarray(labels), presence)
