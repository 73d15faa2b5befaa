"""MultiMNIST (Wu & Goodman 2018): up to four digits on a canvas, and the string of them from top left to bottom right.

"Between 0 and 4 digits are composed together on a 50x50 canvas", "fixed in location". The paper draws none of its
numbers: here every count is equally likely, n digits stand on the first n of four places, and the 28x28 digits overlap
by their 6 empty pixels.
"""

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key, UInt8

from mmvae_jax.data.batching import Dataset, Plan, Split, fingerprint, fixed_plan
from mmvae_jax.data.mnist import load_digits
from mmvae_jax.data.presence import supervision_presence

CANVAS = 50
# Of a digit's upper left pixel, in the order of the string.
PLACES = ((0, 0), (0, 22), (22, 0), (22, 22))
# The last one ends a string.
SYMBOLS = "0123456789."
STRING_LENGTH = len(PLACES) + 1
_SIZE = 28
_TEST_SEED = 2018


class Pool(NamedTuple):
    """The digits that the canvases of a split are made of."""

    images: UInt8[Array, "N 28 28"]
    labels: Int[Array, "N"]


def draw_canvases(pool: Pool, key: Key[Array, ""]) -> Plan:
    """One epoch, as many canvases as there are digits.

    Returns:
      `index`, `count` (of digits shown) [N], and `digits` (of the pool) [N, 4], of which the first `count` are shown.
    """
    count_key, digits_key = jax.random.split(key)
    size = len(pool.labels)
    count = jax.random.randint(count_key, (size,), 0, len(PLACES) + 1)
    digits = jax.random.randint(digits_key, (size, len(PLACES)), 0, size)
    return {"index": jnp.arange(size), "count": count, "digits": digits}


def compose(images: UInt8[Array, "B 4 28 28"]) -> UInt8[Array, "B 50 50 1"]:
    """Canvases of four digits each, a blank one where none is shown; where they overlap the brighter pixel counts."""
    canvas = jnp.zeros((len(images), CANVAS, CANVAS), images.dtype)
    for i, (row, column) in enumerate(PLACES):
        canvas = canvas.at[:, row : row + _SIZE, column : column + _SIZE].max(images[:, i])
    return canvas[..., None]


def strings(labels: Int[Array, "B 4"], count: Int[Array, "B"]) -> Int[Array, "B 5"]:
    """The first `count` labels, the symbol that ends them, and padding."""
    place, end = jnp.arange(STRING_LENGTH), len(SYMBOLS) - 1
    known = jnp.pad(labels, ((0, 0), (0, 1)))
    return jnp.where(place < count[:, None], known, jnp.where(place == count[:, None], end, -1)).astype(jnp.int32)


def _gather(pool: Pool, rows: Plan) -> tuple[dict[str, Array], Int[Array, "B"]]:
    digits, count = rows["digits"], rows["count"]
    shown = jnp.arange(len(PLACES)) < count[:, None]
    images = jnp.where(shown[..., None, None], pool.images[digits], 0)
    return {"image": compose(images), "string": strings(pool.labels[digits], count)}, count


def multimnist(data: str = "embedded", supervision: float = 1.0, seed: int = 0) -> Dataset:
    """MultiMNIST of `--data=embedded|tfds|<folder>`: `image` and `string`, of classes by the number of digits.

    Training canvases are drawn anew every epoch; with incomplete supervision once, since new ones would show what it
    withholds. The test canvases are fixed. No digit is in both splits.

    Args:
      data: as of `mnist.load_digits`.
      supervision: fraction of complete training tuples; of all others half keep the image, half the string.
      seed: draws which tuples keep what, and canvases that are drawn once.

    Raises:
      UserError: a fraction outside 0..1, or unusable data.
    """
    digits = load_digits(data)
    train = _split(Pool(jnp.asarray(digits.train_images), jnp.asarray(digits.train_labels)))
    test = _split(Pool(jnp.asarray(digits.test_images), jnp.asarray(digits.test_labels)))
    if supervision != 1.0:
        draw_key, presence_key = jax.random.split(jax.random.key(seed))
        presence = supervision_presence(presence_key, train.size, 2, supervision)
        train = replace(fixed_plan(train, draw_key), presence=presence)
    provenance = {
        "digits": digits.source,
        "tuples": f"{train.size} train, {test.size} test; {supervision:.4g} of train complete",
        "classes": "number of digits",
        "fingerprint": fingerprint(*digits[:4]),
    }
    test = fixed_plan(test, jax.random.key(_TEST_SEED))
    return Dataset("multimnist", ("image", "string"), train, test, len(PLACES) + 1, provenance)


def _split(pool: Pool) -> Split:
    return Split(pool, len(pool.labels), draw_canvases, _gather, ("image", "string"))
