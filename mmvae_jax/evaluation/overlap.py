"""Precision and recall of pictures: how far what is generated and what is real overlap in a space of features."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

NEIGHBOURS = 3
# Rows of a matrix of distances that are in memory at once.
_ROWS = 2048
# Of squared norms: distances are differences of them, and below this they are rounding.
_ROUNDING = 1e-12

Features = Float[np.ndarray, "N F"]


class Overlap(NamedTuple):
    """Which pictures of one set lie where those of another do.

    Attributes:
      precise: whether each generated picture lies among real ones; the mean is precision.
      recalled: whether each real picture lies among generated ones; the mean is recall.
    """

    precise: Bool[np.ndarray, "N"]
    recalled: Bool[np.ndarray, "N"]


class Manifold:
    """Where the pictures of a set lie: in the balls around them that reach to their k-th nearest neighbour.

    Args:
      features: of the set.
      k: the neighbour, 3 in the paper; where there are not so many, the farthest.
    """

    def __init__(self, features: Features, k: int = NEIGHBOURS):
        self.features = features.astype(np.float64)
        k = min(k, len(features) - 1)
        near = [np.partition(distances, k, axis=1)[:, k] for distances in self._distances(self.features)]
        self._radii = np.concatenate(near)

    def holds(self, features: Features) -> Bool[np.ndarray, "N"]:
        """Whether each of these lies in one ball or more, borders included."""
        return np.concatenate([(each <= self._radii).any(1) for each in self._distances(features.astype(np.float64))])

    def _distances(self, features: Features) -> Iterator[Float[np.ndarray, "n N"]]:
        """Squared distances from some rows to all of the set's."""
        own = np.sum(self.features**2, 1)
        for start in range(0, len(features), _ROWS):
            rows = features[start : start + _ROWS]
            norms = np.sum(rows**2, 1)[:, None] + own
            squared = norms - 2 * rows @ self.features.T
            yield np.where(squared > _ROUNDING * norms, squared, 0)


def overlap(real: Manifold, generated: Manifold) -> Overlap:
    """Improved precision and recall (Kynkäänniemi et al. 2019, Eqs. 1 and 2) as one value a picture.

    Their standard errors over pictures take the other set, whose balls the pictures are looked for in, as given. Both
    depend on the number of pictures: only those of equally many compare.

    Args:
      real: of real pictures.
      generated: of as many generated ones.
    """
    return Overlap(real.holds(generated.features), generated.holds(real.features))
