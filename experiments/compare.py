"""Several runs side by side: one table and the MoPoE paper's Figure 3, mean and deviation over seeds.

    python -m experiments.compare runs/polymnist/*-seed*
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from mmvae_jax.checkpoints import read_config
from mmvae_jax.errors import UserError
from mmvae_jax.plotting import by_size, metrics_figure
from mmvae_jax.report import model_label

Metrics = Mapping[str, float]
Runs = dict[str, list[Metrics]]
# What tells two seeds of one configuration apart, or is no part of it.
_APART = {"seed", "out", "cache", "fresh", "eval_only", "list_models", "evaluation", "saving"}
_CURVES = {"probe": "probe", "coherence/conditional": "coherence", "log_likelihood/joint": "log p(X)"}


@dataclass(frozen=True)
class Comparison:
    """Compare runs.

    Attributes:
      folders: run folders, each with metrics.json and config.json.
      out: the picture.
    """

    folders: tyro.conf.Positional[tuple[Path, ...]]
    out: Path = Path("comparison.png")


def read_runs(folders: Sequence[Path]) -> Runs:
    """Metrics by label; runs that differ only in their seed share one.

    Raises:
      UserError: for a folder that is missing or holds no finished run.
    """
    if not folders:
        raise UserError("no run folders: give at least one, such as runs/polymnist/mopoe-seed0")
    groups: dict[str, tuple[str, list[Metrics]]] = {}
    for folder in folders:
        config, metrics = _read(folder)
        identity = json.dumps({name: value for name, value in config.items() if name not in _APART}, sort_keys=True)
        groups.setdefault(identity, (model_label(config), []))[1].append(metrics)
    runs: Runs = {}
    for label, metrics in groups.values():
        count = sum(name == label or name.startswith(f"{label} (") for name in runs)
        runs[f"{label} ({count + 1})" if count else label] = metrics
    return runs


def _read(folder: Path) -> tuple[dict[str, Any], Metrics]:
    path = folder / "metrics.json"
    if not folder.is_dir():
        raise UserError(f"no run folder {folder}: give folders such as runs/polymnist/mopoe-seed0")
    try:
        metrics = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"no metrics.json in {folder}: finish the run, or evaluate it with --eval-only") from None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path} ({error}): evaluate the run again with --eval-only") from None
    config = read_config(folder)
    if config is None:
        raise UserError(f"no config.json in {folder}: it is not a run folder")
    return config, metrics


def table(runs: Runs) -> str:
    """One line a model: each metric by number of inputs, and joint coherence, mean ± deviation over seeds."""
    columns = [
        (f"{title} {size}", f"{prefix}/by_size/{size}")
        for prefix, title in _CURVES.items()
        for size in sorted({size for all_of in runs.values() for run in all_of for size in by_size(run, prefix)})
    ]
    columns.append(("joint coherence", "coherence/joint"))
    head = ["model", "seeds", *(title for title, _ in columns)]
    rows = [[label, str(len(all_of)), *(_cell(all_of, key) for _, key in columns)] for label, all_of in runs.items()]
    widths = [max(len(line[i]) for line in [head, *rows]) for i in range(len(head))]
    return "\n".join("  ".join(map(str.rjust, line, widths)) for line in [head, *rows])


def _cell(runs: Sequence[Metrics], key: str) -> str:
    values = [run[key] for run in runs if key in run]
    if not values:
        return "-"
    digits = 3 if abs(np.mean(values)) < 10 else 0
    deviation = f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{deviation}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table and draw the picture; the exit code: 0, or 2 after a user's mistake."""
    comparison = tyro.cli(Comparison, prog="python -m experiments.compare", args=arguments)
    try:
        runs = read_runs(comparison.folders)
        print(table(runs))
        try:
            metrics_figure(runs).savefig(comparison.out)
        except OSError as error:
            raise UserError(f"cannot write {comparison.out} ({error}): choose another --out") from None
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"wrote {comparison.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
