"""Subsets of modalities as boolean masks, one row a subset."""

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Key

from mmvae_jax.errors import UserError

# 2^12 - 1 = 4,095 rows; above it the powerset is sampled (`random:k`), not built.
MAX_POWERSET_MODALITIES = 12


def full(m: int) -> Bool[np.ndarray, "1 M"]:
    """The one subset with every modality."""
    return np.ones((1, m), bool)


def singletons(m: int) -> Bool[np.ndarray, "M M"]:
    """The M subsets of one modality each."""
    return np.eye(m, dtype=bool)


def powerset(m: int) -> Bool[np.ndarray, "S M"]:
    """Every non-empty subset, by size and then lexicographically: S = 2^M - 1.

    Raises:
      UserError: for more than 12 modalities.

    Examples:
      >>> for mask in powerset(3):
      ...     print(mask.astype(int), label(mask, ["image", "sound", "text"]))
      [1 0 0] image
      [0 1 0] sound
      [0 0 1] text
      [1 1 0] image+sound
      [1 0 1] image+text
      [0 1 1] sound+text
      [1 1 1] image+sound+text
    """
    if m > MAX_POWERSET_MODALITIES:
        raise UserError(
            f"the powerset of {m} modalities has {2**m - 1:,} subsets: use subsets=random:k to sample k of them a step"
        )
    sizes = range(1, m + 1)
    return from_indices([rows for size in sizes for rows in itertools.combinations(range(m), size)], m)


def from_indices(indices: Sequence[Sequence[int]], m: int) -> Bool[np.ndarray, "S M"]:
    """Masks of subsets given as tuples of modality indices."""
    masks = np.zeros((len(indices), m), bool)
    for mask, members in zip(masks, indices, strict=True):
        mask[list(members)] = True
    return masks


def random(key: Key[Array, ""], m: int, k: int) -> Bool[Array, "K M"]:
    """k independent subsets, each uniform over the 2^M - 1 non-empty ones, none of which is ever listed."""
    first_key, rest_key = jax.random.split(key)
    index = jnp.arange(m)
    # Modality i is the first member of a share of 2^-(i+1) of all subsets; the members after it are free.
    first = jax.random.categorical(first_key, -jnp.log(2.0) * index, shape=(k, 1))
    return (index == first) | ((index > first) & jax.random.bernoulli(rest_key, 0.5, (k, m)))


def select(members: Sequence[str] | str, names: Sequence[str]) -> Bool[np.ndarray, "M"]:
    """The mask of a subset given by modality names, or written like `m0+m3`.

    Raises:
      UserError: for an unknown modality or an empty subset.

    Examples:
      >>> print(select("image+text", ["image", "sound", "text"]))
      [ True False  True]
    """
    members = members.split("+") if isinstance(members, str) else members
    unknown = [member for member in members if member not in names]
    if unknown or not members:
        what = f"unknown modality {unknown[0]!r}" if unknown else "an empty subset"
        raise UserError(f"{what} in subset {'+'.join(map(str, members))!r}: choose among {', '.join(names)}")
    return np.isin(np.asarray(names), list(members))


def label(mask: Bool[np.ndarray, "M"], names: Sequence[str]) -> str:
    """The subset written like `m0+m3`."""
    return "+".join(name for name, member in zip(names, mask, strict=True) if member)
