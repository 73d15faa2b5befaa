"""MNIST-SVHN(-Text): an MNIST digit, a house number and an English word that show the same digit.

Sutter et al. (2020, 2021) after Shi et al. (2019): every item is paired 20 times (Shi et al.: 30)
with random items of its class. The text is the digit's name at a random place in a string of 8
characters.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int, Int32, Key, UInt8

from mmvae_jax.data.batching import Dataset, Plan, Split, fingerprint, fixed_plan
from mmvae_jax.data.mnist import Digits, load_digits
from mmvae_jax.data.presence import supervision_presence
from mmvae_jax.data.svhn import HouseNumbers, load_svhn
from mmvae_jax.errors import UserError

ALPHABET = "abcdefghijklmnopqrstuvwxyz "
TEXT_LENGTH = 8
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TEST_SEED = 2020


class Pools(NamedTuple):
    """The items that the triples of a split are drawn from.

    Attributes:
      mnist: grey images.
      mnist_labels: their classes.
      svhn: colour images.
      svhn_labels: their classes.
      mnist_slots: where, among the items sorted by class, those stand that a pairing uses: of
        every class the first c, c being the smaller of the two pools' counts.
      svhn_slots: as `mnist_slots`; equal places have equal classes.
    """

    mnist: UInt8[Array, "N 28 28 1"]
    mnist_labels: Int[Array, "N"]
    svhn: UInt8[Array, "L 32 32 3"]
    svhn_labels: Int[Array, "L"]
    mnist_slots: Int[Array, "C"]
    svhn_slots: Int[Array, "C"]


def text_to_strings(text: Int[np.ndarray, "N T"] | Int[Array, "N T"]) -> list[str]:
    """The strings of rows of alphabet positions."""
    return ["".join(ALPHABET[position] for position in row) for row in np.asarray(text)]


def strings_to_text(strings: Sequence[str]) -> Int32[np.ndarray, "N T"]:
    """The alphabet positions of strings of equal length, the inverse of `text_to_strings`."""
    return np.array([[ALPHABET.index(letter) for letter in string] for string in strings], np.int32)


def _name_table() -> Int32[np.ndarray, "10 6 8"]:
    """The strings by digit and place of the name's first letter; three-letter names use all six."""
    places = range(TEXT_LENGTH - min(map(len, NAMES)) + 1)
    padded = [[" " * place + name + " " * TEXT_LENGTH for place in places] for name in NAMES]
    return np.stack([strings_to_text([string[:TEXT_LENGTH] for string in row]) for row in padded])


def draw_triples(pools: Pools, key: Key[Array, ""], pairings: int) -> Plan:
    """One epoch: `pairings` times, the items of each class are matched at random, one with one.

    Of each class, the smaller pool's items come exactly `pairings` times, the larger pool's at
    most.

    Returns:
      `index`, `mnist`, `svhn` (items) and `place` (of the name in the string), each [pairings *
      C].
    """
    pair_key, place_key, order_key = jax.random.split(key, 3)

    def matched(key: Key[Array, ""]) -> tuple[Int[Array, "C"], Int[Array, "C"]]:
        mnist_key, svhn_key = jax.random.split(key)
        mnist = _shuffled_by_class(mnist_key, pools.mnist_labels)[pools.mnist_slots]
        return mnist, _shuffled_by_class(svhn_key, pools.svhn_labels)[pools.svhn_slots]

    mnist, svhn = lax.map(matched, jax.random.split(pair_key, pairings))
    order = jax.random.permutation(order_key, mnist.size)
    mnist, svhn = mnist.reshape(-1)[order], svhn.reshape(-1)[order]
    places = jnp.array([TEXT_LENGTH - len(name) + 1 for name in NAMES])
    limit = places[pools.mnist_labels[mnist]]
    place = jax.random.randint(place_key, mnist.shape, 0, limit)
    return {"index": order, "mnist": mnist, "svhn": svhn, "place": place}


def _shuffled_by_class(key: Key[Array, ""], labels: Int[Array, "N"]) -> Int[Array, "N"]:
    return jnp.lexsort((jax.random.uniform(key, labels.shape), labels))


def _gather(pools: Pools, rows: Plan, modalities: tuple[str, ...]) -> tuple[dict[str, Array], Int[Array, "B"]]:
    label = pools.mnist_labels[rows["mnist"]]
    text = jnp.asarray(_name_table())[label, rows["place"]]
    x = (pools.mnist[rows["mnist"]], pools.svhn[rows["svhn"]], text)
    return dict(zip(modalities, x, strict=False)), label


def _split(pools: Pools, pairings: int, modalities: tuple[str, ...]) -> Split:
    return Split(
        arrays=pools,
        size=pairings * len(pools.mnist_slots),
        plan=partial(draw_triples, pairings=pairings),
        gather=partial(_gather, modalities=modalities),
        modalities=modalities,
    )


def _pools(
    images: UInt8[np.ndarray, "N 28 28"],
    labels: Int[np.ndarray, "N"],
    colour_images: UInt8[np.ndarray, "L 32 32 3"],
    colour_labels: Int[np.ndarray, "L"],
) -> Pools:
    counts = np.stack([np.bincount(pool, minlength=10) for pool in (labels, colour_labels)])
    used, first = counts.min(axis=0), np.cumsum(counts, axis=1) - counts
    mnist_slots, svhn_slots = (
        np.concatenate([start + np.arange(count) for start, count in zip(starts, used, strict=True)])
        for starts in first
    )
    pools = (images[..., None], labels, colour_images, colour_labels, mnist_slots, svhn_slots)
    return Pools(*map(jnp.asarray, pools))


def mnist_svhn_text(
    data: str = "embedded",
    text: bool = True,
    pairings: int = 20,
    supervision: float = 1.0,
    seed: int = 0,
) -> Dataset:
    """MNIST-SVHN-Text, or MNIST-SVHN without the text, of `--data=embedded|tfds|<folder>`.

    An epoch has `pairings` times the sum over classes of the smaller pool's count: 20 x 56,068 of
    the full data sets, 20 x 4,000 of the embedded ones. Triples are drawn anew every epoch; with
    incomplete supervision they are drawn once, since new pairs would show what supervision
    withholds. The test split is fixed and pairs every item once.

    The embedded data set and its second modality are called `svhn_stand_in`, not `svhn`, so that
    its numbers cannot be mistaken for SVHN's.

    Args:
      data: "embedded" (5,000 digits and the stand-in for SVHN, see `svhn.stand_in`), "tfds", or a
        data root with mnist/ and svhn/.
      text: whether the text is a modality.
      pairings: how often an item is paired.
      supervision: fraction of complete training tuples; every other keeps one modality. It counts
        tuples: with pairings=1 an item belongs to one tuple only.
      seed: draws which tuples keep which modality.

    Raises:
      UserError: fewer than one pairing, a fraction outside 0..1, or unusable data.
    """
    if pairings < 1:
        raise UserError(f"{pairings} pairings: give at least 1")
    digits, numbers = load_digits(data), load_svhn(data)
    modalities = ("mnist", numbers.name, "text") if text else ("mnist", numbers.name)
    train = _split(_pools(*digits[:2], *numbers[:2]), pairings, modalities)
    test = _split(_pools(*digits[2:4], *numbers[2:4]), 1, modalities)
    test = fixed_plan(test, jax.random.key(_TEST_SEED))
    if supervision != 1.0:
        pair_key, presence_key = jax.random.split(jax.random.key(seed))
        presence = supervision_presence(presence_key, train.size, len(modalities), supervision)
        train = replace(fixed_plan(train, pair_key), presence=presence)
    provenance = _provenance(digits, numbers, train, test, supervision)
    return Dataset("_".join(modalities), modalities, train, test, 10, provenance)


def _provenance(digits: Digits, numbers: HouseNumbers, train: Split, test: Split, supervision: float) -> dict[str, str]:
    return {
        "digits": digits.source,
        "house numbers": numbers.source,
        "tuples": f"{train.size} train, {test.size} test; {supervision:.4g} of train complete",
        "fingerprint": fingerprint(*digits[:4], *numbers[:4]),
    }
