"""What the folder of a finished run says of it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple


class Run(NamedTuple):
    """What a run's folder says of it.

    Attributes:
      settings: that make it another model than other runs, flat.
      label: of its model.
      metrics: of `metrics.json`.
      config: of `config.json`.
      folder: of the run.
      origin: of `run.json`; nothing where there is none.
    """

    settings: dict[str, Any]
    label: str
    metrics: dict[str, float]
    config: dict[str, Any]
    folder: Path
    origin: dict[str, Any]


def experiments(runs: Iterable[Run]) -> str:
    """The names of the runs' experiments, for a picture of them."""
    return ", ".join(dict.fromkeys(run.origin["experiment"] for run in runs if "experiment" in run.origin))


def data_of(runs: Iterable[Run]) -> str:
    """What the runs' data are, a line each: those of a stand-in say so."""
    lines = {}
    for run in runs:
        facts = run.config.get("dataset")
        if isinstance(facts, dict):
            said = "; ".join(f"{name}: {fact}" for name, fact in facts.items() if name != "fingerprint")
            lines[f"data of {run.origin.get('experiment', run.folder)}: {said}"] = None
    return "\n".join(lines)
