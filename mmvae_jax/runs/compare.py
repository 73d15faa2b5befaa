"""Compare finished runs: one table and the MoPoE paper's Figure 3, with standard errors and deviations over seeds.

    python -m experiments.compare runs/polymnist/*-seed* --out comparison.png
    python -m experiments.compare runs/mnist_split/* --metrics synergy/top+bottom synergy/top synergy/bottom
    python -m experiments.compare runs/polymnist/*-seed* --markdown results/polymnist.md

Runs whose configurations differ only in the seed are one model. The table is Markdown.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmvae_jax.errors import UserError
from mmvae_jax.evaluation.comparison import SPREAD, compare
from mmvae_jax.plotting.curves import metrics_figure
from mmvae_jax.plotting.style import save
from mmvae_jax.runs.command import exit_code, program
from mmvae_jax.runs.config import ASIDE
from mmvae_jax.runs.finished import Run, data_of, experiments
from mmvae_jax.runs.folder import CONFIG_FILE, METRICS_FILE, flat_settings, read_metrics, read_object
from mmvae_jax.runs.origin import read_origin
from mmvae_jax.runs.report import model_label
from mmvae_jax.runs.results import write_results


class Parser(argparse.ArgumentParser):
    """One whose errors are a user's mistakes, told in one line."""

    def error(self, message: str) -> Any:
        """Raise the mistake."""
        raise UserError(f"{message} (see {self.prog} --help)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table and draw the figure; the exit code: 0, or 2 after a user's mistake, told in one line."""
    return exit_code(lambda: _compare(arguments))


def _compare(arguments: Sequence[str] | None) -> None:
    parser = Parser(program(), description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="folder of a finished run")
    parser.add_argument(
        "--out", type=Path, default=Path("comparison.png"), metavar="FILE", help="figure: .png, .pdf, .svg"
    )
    about = "a table of these metrics instead, one row a model, from its best to its worst in the first"
    parser.add_argument("--metrics", nargs="+", default=(), metavar="NAME", help=about)
    about = "write tables, figures and numbers of the runs, beside published ones: FILE.md and a folder FILE"
    parser.add_argument("--markdown", type=Path, metavar="FILE", help=about)
    typed = sys.argv[1:] if arguments is None else arguments
    parsed = parser.parse_args(typed)
    runs = [read_run(folder) for folder in dict.fromkeys(parsed.folders)]
    groups = grouped(runs)
    print(compare(groups, parsed.metrics))
    print(f"\n{SPREAD}\n{data_of(runs)}")
    if parsed.markdown is not None:
        command = f"{parser.prog} {shlex.join(typed)}"
        write_results(parsed.markdown, grouped_runs(runs), command, compare(groups))
        print(f"wrote {parsed.markdown} and {parsed.markdown.with_suffix('')}/")
        return
    drawn = _save_figure(groups, parsed.out, experiments(runs))
    print(f"wrote {parsed.out}" if drawn else "no figure: none of these runs has a metric by number of inputs")


def read_run(folder: Path) -> Run:
    """Configuration and metrics of a run.

    Raises:
      UserError: no such folder, not a finished run, or a damaged file.
    """
    if not folder.is_dir():
        raise UserError(f"no folder {folder}: give folders of finished runs")
    config = read_object(folder / CONFIG_FILE, "evaluate the run again with --eval-only")
    metrics = read_metrics(folder)
    if config is None or metrics is None:
        missing = CONFIG_FILE if config is None else METRICS_FILE
        raise UserError(f"no {missing} in {folder}: is it the folder of a finished run?")
    aside = tuple(f"{name}." for name in ("seed", *ASIDE))
    settings = {name: value for name, value in flat_settings(config).items() if not f"{name}.".startswith(aside)}
    return Run(settings, model_label(config), metrics, config, folder, read_origin(folder))


def grouped(runs: Sequence[Run]) -> dict[str, list[Mapping[str, float]]]:
    """Label -> metrics of the runs that differ only in their seeds; see `grouped_runs`."""
    return {label: [run.metrics for run in group] for label, group in grouped_runs(runs).items()}


def grouped_runs(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Label -> the runs that differ only in their seeds, in order of first appearance.

    Where several models would have the same label, the settings in which they differ are added to it.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(json.dumps(run.settings, sort_keys=True), []).append(run)
    firsts = [group[0] for group in groups.values()]
    labels = [_label(run, [other for other in firsts if other.label == run.label]) for run in firsts]
    return dict(zip(labels, groups.values(), strict=True))


def _label(run: Run, namesakes: Sequence[Run]) -> str:
    names = dict.fromkeys(name for other in namesakes for name in other.settings)
    absent = object()
    differing = [
        name
        for name in names
        if any(other.settings.get(name, absent) != run.settings.get(name, absent) for other in namesakes)
    ]
    if not differing:
        return run.label
    # What data are made of follows from settings, where those differ.
    differing = [name for name in differing if not name.startswith("dataset.")] or differing
    details = ", ".join(f"{name.rpartition('.')[2]} {run.settings.get(name)}" for name in differing)
    return f"{run.label} ({details})"


def _save_figure(groups: Mapping[str, Sequence[Mapping[str, float]]], path: Path, of: str) -> bool:
    if path.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise UserError(f"--out={path}: name a .png, .pdf or .svg file")
    figure = metrics_figure(groups)
    if figure is None:
        return False
    try:
        save(figure, path, of)
    except OSError as error:
        raise UserError(f"--out={path} cannot be written: {error.strerror}") from None
    return True
