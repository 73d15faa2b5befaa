"""Finished runs: what a folder says of one, and what several say together."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmvae_jax.evaluation.measuring import mean_and_spread

SPREAD = "±: of one run the standard error over its examples, of several the standard deviation over their seeds"


class Run(NamedTuple):
    """What a run's folder says of it.

    Attributes:
      settings: that make it another model than other runs, flat.
      label: of its model.
      metrics: of `metrics.json`.
      config: of `config.json`.
      folder: of the run.
    """

    settings: dict[str, Any]
    label: str
    metrics: dict[str, float]
    config: dict[str, Any]
    folder: Path


def values_of(runs: Sequence[Mapping[str, float]], key: str) -> np.ndarray:
    """A metric of those runs that have it."""
    return np.array([metrics[key] for metrics in runs if key in metrics])


def estimate(runs: Sequence[Mapping[str, float]], key: str) -> str:
    """A metric as mean ± spread, see `SPREAD`; `-` where no run has it."""
    values = values_of(runs, key)
    if len(values) == 0:
        return "-"
    digits = 3 if np.all(np.abs(values) < 10) else 1
    mean, spread = mean_and_spread(runs, key)
    return f"{mean:.{digits}f}" if np.isnan(spread) else f"{mean:.{digits}f} ± {spread:.{digits}f}"


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, the first row its head."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["| " + " | ".join(cell.ljust(n) for cell, n in zip(row, widths, strict=True)) + " |" for row in rows]
    rule = "|" + "|".join("-" * (n + 2) for n in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])
