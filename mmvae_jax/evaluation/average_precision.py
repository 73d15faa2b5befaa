"""Average precision: how well scores rank those that have an attribute before those that have not."""

from collections.abc import Mapping, Sequence
from itertools import compress
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from mmvae_jax.evaluation.frechet import REPLICATES

Weights = Int[np.ndarray, "R N"]


class Precisions(NamedTuple):
    """Average precisions of the attributes that some test tuples have and others have not.

    Attributes:
      names: of these attributes.
      chance: of scores that know nothing: the attributes' frequencies, and bootstrap replicates of them.
      found: label -> of the scores of that label, and replicates.
    """

    names: list[str]
    chance: Float[np.ndarray, "R A"]
    found: dict[str, Float[np.ndarray, "R A"]]


def precisions(
    scores: Mapping[str, Num[np.ndarray, "N B"]], truth: Bool[np.ndarray, "N B"], names: Sequence[str], seed: int
) -> Precisions:
    """Average precisions of several scores, and bootstrap replicates over the same examples for all of them.

    Args:
      scores: label -> of every example and attribute.
      truth: whether examples have them.
      names: of the attributes.
      seed: of the replicates.

    Returns:
      Those of the attributes that both values occur of; nothing, if there are none.
    """
    told = np.asarray(truth.any(0) & ~truth.all(0))
    weights = bootstrap_weights(len(truth), seed)
    known = scores if told.any() else {}
    found = {label: average_precisions(each[:, told], truth[:, told], weights) for label, each in known.items()}
    return Precisions(list(compress(names, told)), frequencies(truth[:, told], weights), found)


def bootstrap_weights(count: int, seed: int, replicates: int = REPLICATES) -> Weights:
    """How often each example counts: once, then as often as it is drawn in bootstrap replicates.

    Args:
      count: N, of the examples.
      seed: of the draws.
      replicates: how many there are, R - 1.
    """
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(count, np.full(count, 1 / count), replicates)
    return np.concatenate([np.ones((1, count), drawn.dtype), drawn])


def average_precisions(
    scores: Num[np.ndarray, "N A"], truth: Bool[np.ndarray, "N A"], weights: Weights
) -> Float[np.ndarray, "R A"]:
    """`sum_n (R_n - R_{n-1}) P_n`, with precision and recall at every threshold, of every attribute.

    Examples of the same score pass a threshold together: of scores that know nothing it is the attribute's frequency.
    Where weights leave none that has the attribute, it is 0.

    Args:
      scores: higher ones for examples that rather have it.
      truth: whether they have.
      weights: rows of how often each example counts.
    """
    found = np.empty((len(weights), truth.shape[1]))
    for a, (column, has) in enumerate(zip(scores.T, truth.T, strict=True)):
        order = np.argsort(-column, kind="stable")
        last = np.append(np.diff(column[order]) != 0, True)
        counts = weights[:, order]
        taken, right = (np.cumsum(each, 1)[:, last] for each in (counts, counts * has[order]))
        gained = np.diff(right, axis=1, prepend=0) / np.maximum(right[:, -1:], 1)
        found[:, a] = np.sum(gained * right / np.maximum(taken, 1), 1)
    return found


def frequencies(truth: Bool[np.ndarray, "N A"], weights: Weights) -> Float[np.ndarray, "R A"]:
    """How many have each attribute: the average precision of scores that know nothing."""
    return weights @ truth / weights.sum(1, keepdims=True)
