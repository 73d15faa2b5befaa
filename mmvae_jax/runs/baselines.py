"""Accuracy against the paired fraction: baselines are trained, multimodal models are read from their runs' folders."""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mmvae_jax.baselines import BASELINES, BaselineSettings, accuracy
from mmvae_jax.data.batching import Dataset, take
from mmvae_jax.errors import UserError, check_choice
from mmvae_jax.evaluation.comparison import SPREAD, markdown_table
from mmvae_jax.evaluation.measuring import spread_of
from mmvae_jax.networks.foreign import as_linen
from mmvae_jax.plotting.curves import levels_figure
from mmvae_jax.plotting.style import save
from mmvae_jax.runs.command import exit_code, program
from mmvae_jax.runs.compare import Parser, grouped, read_run
from mmvae_jax.runs.config import Config
from mmvae_jax.runs.folder import prepare_folder, write_whole, writing
from mmvae_jax.runs.runner import Experiment

# Wu & Goodman 2018, supplement, Table 4.
LEVELS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0)
_LEVEL = "own.supervision"
# Of a run's settings, what says no more than its level of supervision, or what is compared by itself.
_ASIDE = (_LEVEL, "dataset.tuples", "dataset.fingerprint")
# Label of a model -> level -> accuracy of every run.
Curves = dict[str, dict[float, list[float]]]


def main(experiments: Sequence[Experiment], arguments: Sequence[str] | None = None) -> int:
    """Train the baselines, print the table and draw the figure; see `exit_code` for what it returns.

    Args:
      experiments: of images and labels, in this order, with a setting `supervision`.
      arguments: of the command line; that of the process by default.
    """
    return exit_code(lambda: _run(experiments, arguments))


def _run(experiments: Sequence[Experiment], arguments: Sequence[str] | None) -> None:
    named = {experiment.name: experiment for experiment in experiments}
    parsed = _parser(named).parse_args(arguments)
    check_choice(parsed.experiment, named, "experiment")
    for name in parsed.baselines:
        check_choice(name, BASELINES, "baseline")
    if parsed.steps < 1:
        raise UserError(f"--steps={parsed.steps}: give at least 1")
    folder = Path(parsed.out or f"runs/baselines/{parsed.experiment}-seed{parsed.seed}")
    prepare_folder(folder)
    experiment = named[parsed.experiment]
    preset = parsed.preset or next(iter(experiment.presets))
    check_choice(preset, experiment.presets, "preset")
    config = replace(experiment.presets[preset], data=parsed.data, seed=parsed.seed)
    sets = {level: experiment.load(_at(config, level)) for level in parsed.levels}
    first = next(iter(sets.values()))
    models, errors = _of_runs(parsed.runs, first)
    settings = BaselineSettings(encoder=as_linen(experiment.modalities(config, first)[0].encoder), steps=parsed.steps)
    known = _Known(folder / "accuracy.json", first, preset, parsed.seed, parsed.steps)
    curves: Curves = {}
    for name in parsed.baselines:
        for level, dataset in sets.items():
            found = known.accuracy(name, level, dataset, settings)
            curves.setdefault(name, {})[level] = [found]
            errors[name, level] = math.sqrt(found * (1 - found) / dataset.test.size)
    curves |= models
    shown = {level for curve in curves.values() for level in curve}
    text = f"{_table(curves | published_curves(experiment, first, shown), errors)}\n\n{SPREAD}\n"
    print(text)
    write_whole(folder / "accuracy.md", text)
    with writing(folder / "accuracy.png"):
        title = f"{first.modalities[0]}: label told from the image"
        save(levels_figure(curves, title, "accuracy", errors), folder / "accuracy.png", experiment.name)
    print(f"wrote accuracy.json, accuracy.md and accuracy.png in {folder}")


def _parser(named: Mapping[str, Experiment]) -> Parser:
    parser = Parser(program(), description=(__doc__ or "").splitlines()[0])
    parser.add_argument("experiment", help=f"one of {', '.join(named)}")
    parser.add_argument("--runs", nargs="+", type=Path, default=(), metavar="DIR", help="finished runs of it")
    about = "of the experiment, which gives data and image network; default its first"
    parser.add_argument("--preset", default="", help=about)
    parser.add_argument("--data", default="embedded", help="as of the experiment")
    parser.add_argument("--seed", type=int, default=0, help="of everything random")
    about = "fractions of training tuples with image and label (default: %(default)s)"
    parser.add_argument("--levels", nargs="+", type=float, default=LEVELS, metavar="FRACTION", help=about)
    about = "which to train (default: %(default)s)"
    parser.add_argument("--baselines", nargs="*", default=tuple(BASELINES), metavar="NAME", help=about)
    parser.add_argument("--steps", type=int, default=2000, help="of the network and the VAE (default: %(default)s)")
    parser.add_argument("--out", default="", help="folder; default runs/baselines/<experiment>-seed<seed>")
    return parser


def _at(config: Config[Any], level: float) -> Config[Any]:
    return replace(config, own=replace(config.own, supervision=level))


class _Known:
    """The accuracies in a file, trained where they are missing."""

    def __init__(self, path: Path, dataset: Dataset, preset: str, seed: int, steps: int):
        self._path, self._seed = path, seed
        self._suffix = f"preset {preset}, seed {seed}, {steps} steps, data {dataset.provenance['fingerprint'][:12]}"
        try:
            self._found: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}
        except (OSError, ValueError) as error:
            raise UserError(f"cannot read {path} ({error}): delete it, or choose another --out") from None

    def accuracy(self, name: str, level: float, dataset: Dataset, settings: BaselineSettings) -> float:
        entry = f"{name}, {level:g} paired, {self._suffix}"
        if entry not in self._found:
            self._found[entry] = _trained(name, dataset, jax.random.key(self._seed), settings)
            write_whole(self._path, json.dumps(self._found, indent=2) + "\n")
            print(f"{name}, {level:g} paired: {self._found[entry]:.4f}", flush=True)
        return self._found[entry]


def _trained(name: str, dataset: Dataset, key: jax.Array, settings: BaselineSettings) -> float:
    """On the images that are left, with the labels of complete tuples only."""
    image = dataset.modalities[0]
    train, test = (take(split, jax.random.key(0), split.size) for split in (dataset.train, dataset.test))
    present, label = np.asarray(train.present), np.asarray(train.label)
    label = np.where(present.all(1), label, -1)[present[:, 0]]
    pixels, held_out = (np.asarray(batch.x[image]) / np.float32(255) for batch in (train, test))
    return accuracy(name, pixels[present[:, 0]], label, held_out, np.asarray(test.label), key, settings)


def _of_runs(folders: Sequence[Path], dataset: Dataset) -> tuple[Curves, dict[tuple[str, float], float]]:
    """The accuracies of finished runs, and of every model and level the last standard error.

    Raises:
      UserError: a run of other data, or one without this accuracy.
    """
    name = f"accuracy/{'->'.join(dataset.modalities)}"
    runs = []
    for folder in dict.fromkeys(folders):
        run = read_run(folder)
        if run.settings.get("dataset.fingerprint") != dataset.provenance["fingerprint"]:
            raise UserError(
                f"{folder} was trained on other data than {dataset.name} of this --data and --preset: leave it out"
            )
        if name not in run.metrics:
            raise UserError(f"{folder} has no {name}: evaluate the run again with --eval-only")
        settings = {key: value for key, value in run.settings.items() if key not in _ASIDE}
        values = {"level": run.settings[_LEVEL], "error": run.metrics[f"standard_error/{name}"]}
        runs.append(run._replace(settings=settings, metrics={"accuracy": run.metrics[name], **values}))
    curves: Curves = {}
    errors = {}
    for label, found in grouped(runs).items():
        for values in found:
            curves.setdefault(label, {}).setdefault(values["level"], []).append(values["accuracy"])
            errors[label, values["level"]] = values["error"]
    return curves, errors


def published_curves(experiment: Experiment, dataset: Dataset, levels: Collection[float]) -> Curves:
    """What others report of the same data at these levels, by model and source."""
    name = f"accuracy/{'->'.join(dataset.modalities)}"
    curves: Curves = {}
    for each in experiment.published:
        if name in each.metrics and each.given.get(_LEVEL) in levels:
            curve = curves.setdefault(f"{each.model}, {each.source.partition(',')[0]}", {})
            curve[each.given[_LEVEL]] = [each.metrics[name]]
    return curves


def _table(curves: Curves, errors: Mapping[tuple[str, float], float]) -> str:
    """One row a model, one column a level, as mean ± spread; the latter where it is known."""
    levels = sorted({level for curve in curves.values() for level in curve})

    def cell(label: str, level: float) -> str:
        values = curves[label].get(level)
        if values is None:
            return "-"
        mean, spread = spread_of(values, errors.get((label, level)))
        return f"{mean:.3f}" if math.isnan(spread) else f"{mean:.3f} ± {spread:.3f}"

    rows = [[label, *(cell(label, level) for level in levels)] for label in curves]
    return markdown_table([["paired", *(f"{100 * level:g} %" for level in levels)], *rows])
