"""Numbers that others report, under the names that metrics have here, so that they stand beside a run's own."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """What one source reports of one model.

    Attributes:
      model: as runs call it, a key of `MODELS` mostly.
      source: who reports it, in a few words.
      metrics: as in `Metrics`, such as `coherence/conditional/by_size/2`; `<metric>` is the mean over everything that
        is given. See `by_inputs`.
      settings: how it was trained, as far as it is known.
    """

    model: str
    source: str
    metrics: Mapping[str, float]
    settings: str = ""


def by_inputs(metric: str, *values: float) -> dict[str, float]:
    """A metric's values for 1, 2, ... inputs under their flat names."""
    return {f"{metric}/by_size/{n}": value for n, value in enumerate(values, 1)}
