"""Numbers that others report, under the names that metrics have here, so that they stand beside a run's own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class Published:
    """What one source reports of one model.

    Attributes:
      model: as runs call it, a key of `MODELS` mostly.
      source: who reports it, in a few words.
      metrics: as in `Metrics`, such as `coherence/conditional/by_size/2`; `<metric>` is the mean over everything that
        is given. See `by_inputs`.
      settings: how it was trained, as far as it is known.
      given: settings that a run must have for these numbers to be held against its own, such as
        `{"own.supervision": 0.05}`.
    """

    model: str
    source: str
    metrics: Mapping[str, float]
    settings: str = ""
    given: Mapping[str, Any] = field(default_factory=dict)


def comparable(published: Sequence[Published], model: str, settings: Mapping[str, Any]) -> list[Published]:
    """What is published of a run's model and settings.

    Args:
      published: of an experiment.
      model: of the run.
      settings: of the run, flat.
    """
    return [
        each
        for each in published
        if each.model == model and all(settings.get(name) == value for name, value in each.given.items())
    ]


def by_inputs(metric: str, *values: float) -> dict[str, float]:
    """A metric's values for 1, 2, ... inputs under their flat names."""
    return {f"{metric}/by_size/{n}": value for n, value in enumerate(values, 1)}


def by_supervision(
    model: str,
    source: str,
    metric: str,
    values: Mapping[float, float],
    settings: str = "",
    given: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[Published, ...]:
    """A metric's values at several fractions of paired training tuples, each for runs of that `--supervision`."""
    return tuple(
        Published(
            model,
            f"{source}, {100 * level:g} % pairs",
            {metric: value},
            settings,
            {"own.supervision": level, **given},
        )
        for level, value in values.items()
    )
