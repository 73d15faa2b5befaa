"""Fréchet distance between pictures, as Gaussians in a space of features (Heusel et al. 2017)."""

from collections.abc import Mapping
from typing import NamedTuple, Self

import numpy as np
from jaxtyping import Float

REPLICATES = 20

Features = Float[np.ndarray, "N F"]


class Moments(NamedTuple):
    """Mean and covariance of features.

    Attributes:
      mean: [F].
      root: R with R^T R the covariance (divisor N - 1), which may be singular.
    """

    mean: Float[np.ndarray, "F"]
    root: Float[np.ndarray, "R F"]

    @classmethod
    def of(cls, features: Features) -> Self:
        """The moments of two examples or more."""
        features = features.astype(np.float64)
        mean = features.mean(0)
        return cls(mean, np.linalg.qr(features - mean, mode="r") / np.sqrt(len(features) - 1))

    def distance(self, other: Self) -> float:
        """`frechet_distance` of what these are the moments of."""
        gap = sum(np.sum(values**2) for values in (self.mean - other.mean, self.root, other.root))
        if not np.isfinite(gap):
            return np.nan
        # tr (C1 C2)^(1/2) is the sum of the singular values of R1 R2^T: no root of a rounding error is taken.
        return float(gap - 2 * np.linalg.svd(self.root @ other.root.T, compute_uv=False).sum())


def frechet_distance(first: Features, second: Float[np.ndarray, "M F"]) -> float:
    """`|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))` with the means and covariances of two sets of features.

    It is biased upwards, the more so the fewer examples and the more features there are: of two samples of one
    distribution it is not 0 but of order F / N of the features' variance. Only distances of equally many examples
    compare (Heusel et al. 2017, Eq. 6; Bińkowski et al. 2018, section 4). Its unit is that of the features, squared.

    Args:
      first: two examples or more.
      second: two examples or more.
    """
    return Moments.of(first).distance(Moments.of(second))


def frechet_replicates(
    real: Mapping[str, Features], generated: Mapping[str, Features], seed: int, replicates: int = REPLICATES
) -> dict[str, Float[np.ndarray, "R"]]:
    """The distance of every generated set from the real one of its modality, then bootstrap replicates of it.

    A replicate draws as many tuples as there are with replacement, the same for all sets, so that errors of averages
    over sets can be told too. Replicates lie above the distance, being more biased; their deviation is its standard
    error.

    Args:
      real: modality -> features of its test pictures.
      generated: label, `<modality>` or `<given>-><modality>` -> features, row i generated from tuple i or nothing.
      seed: of the tuples that are drawn.
      replicates: how many.

    Returns:
      Label -> [1 + replicates].
    """
    rng = np.random.default_rng(seed)
    count = len(next(iter(real.values())))
    rows = [np.arange(count), *rng.integers(count, size=(replicates, count))]
    references = {name: [Moments.of(each[chosen]) for chosen in rows] for name, each in real.items()}
    return {
        label: np.array(
            [
                Moments.of(each[chosen]).distance(reference)
                for chosen, reference in zip(rows, references[label.rpartition("->")[2]], strict=True)
            ]
        )
        for label, each in generated.items()
    }
