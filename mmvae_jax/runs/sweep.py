"""Runs of one experiment for all combinations of its flags' values, then what they show together."""

import importlib.util
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from mmvae_jax.errors import UserError
from mmvae_jax.evaluation.comparison import SPREAD, compare
from mmvae_jax.plotting.curves import metrics_figure, setting_figure
from mmvae_jax.plotting.style import save
from mmvae_jax.plotting.tradeoff import tradeoff_figure
from mmvae_jax.runs.command import exit_code, program
from mmvae_jax.runs.compare import grouped, read_run
from mmvae_jax.runs.config import Config, parse, settings, to_record
from mmvae_jax.runs.finished import Run, data_of, experiments
from mmvae_jax.runs.folder import flat_settings, held, in_bucket, prepare_folder, read_config, write_whole, writing
from mmvae_jax.runs.jobs import Job, run_jobs
from mmvae_jax.runs.runner import Experiment, check_folder, finished

# Flags of a single run that make no sense of several which the same command goes on with.
_REFUSED = {
    "out": "every run has a folder of its own within the sweep's --out",
    "fresh": "a sweep goes on from what is there; choose another --out, or delete its folder",
    "eval-only": "a run whose evaluation settings have changed is evaluated again as it is",
    "list-models": "ask the experiment itself",
}


@dataclass(frozen=True)
class Sweep:
    """Runs of an experiment for all combinations of the values of its flags.

    EXPERIMENT is one of this package's, or a file of yours with an `EXPERIMENT`. Every flag of its own that is given
    before `--` takes a list, --beta=0.5,1,2.5; of a flag without a value true and false; several values in one, as
    --widths takes them, are set apart by spaces. Flags after `--` are those of all runs.

    Every run is a process of the experiment's own command, in a folder that is named after its values. The same command
    again runs what is missing or has failed, resumes what was interrupted and skips what is done. In the end there are
    comparison.md, comparison.png and tradeoff.png in the sweep's folder, and of every flag whose values are numbers a
    figure of metrics against it, such as by_supervision.png.

    Attributes:
      seeds: runs of every combination, of seeds 0, 1 and so on; --seed=3,5 names them instead.
      jobs: runs at a time.
      out: the sweep's folder; default runs/<experiment>/sweep.
    """

    seeds: int = 1
    jobs: int = 1
    out: str = ""

    def __post_init__(self) -> None:
        for name in ("seeds", "jobs"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)}: give a whole number of at least 1")
        if in_bucket(self.out):
            raise UserError(f"out={self.out}: a sweep's folder is on this machine")


class Given(NamedTuple):
    """A command line in its parts.

    Attributes:
      experiment: its name or file; "" where none is given.
      own: the sweep's flags.
      swept: flag -> its values.
      common: flags of all runs.
    """

    experiment: str
    own: list[str]
    swept: dict[str, list[str]]
    common: list[str]


def main(package: str, arguments: Sequence[str] | None = None) -> int:
    """Sweep an experiment of the package, or of a file; the exit code: 0, 1 where a run failed, see `exit_code`."""
    failed: dict[str, str] = {}

    def work() -> None:
        given = _given(sys.argv[1:] if arguments is None else arguments)
        sweep = settings(Sweep, Sweep(), f"{program()} EXPERIMENT", given.own)
        command, experiment = _experiment(package, given.experiment)
        if sweep.seeds > 1 and "seed" in given.swept:
            raise UserError("seeds and seed: give one of them")
        folder = Path(sweep.out or f"runs/{experiment.name}/sweep")
        seeds = {"seed": [str(seed) for seed in range(sweep.seeds)]}
        runs = planned({**seeds, **given.swept}, given.common, command, experiment, folder)
        prepare_folder(folder)
        with held(folder):
            failed.update(run_jobs([job for job, _ in runs], sweep.jobs))
            conclude([(job.folder, values) for job, values in runs if job.name not in failed], folder)
        for name, words in failed.items():
            print(f"failed: {name}: {words}", file=sys.stderr)

    return exit_code(work) or int(bool(failed))


def planned(
    swept: Mapping[str, Sequence[str]],
    common: Sequence[str],
    command: Sequence[str],
    experiment: Experiment,
    folder: Path,
) -> list[tuple[Job, dict[str, str]]]:
    """Every run with its values, those of the first seed first.

    Args:
      swept: flag -> its values; `seed` is among them.
      common: flags of all runs.
      command: that runs the experiment.
      experiment: what it runs.
      folder: of the sweep.

    Raises:
      UserError: a flag or value that the experiment does not take, two runs that would be the same, or a folder of a
        run with other settings.
    """
    flags = ["seed", *sorted(swept.keys() - {"seed"})]
    runs, configs = [], {}
    shown = " ".join((Path(command[0]).name, *command[1:]))
    for chosen in product(*(swept[flag] for flag in flags)):
        values = dict(zip(flags, chosen, strict=True))
        words = [word for flag, value in values.items() if not _is_switch(value) for word in _words(flag, value)]
        config = parse(experiment.presets, shown, [*common, *words])
        if switches := {flag: value for flag, value in values.items() if _is_switch(value)}:
            without = flat_settings(to_record(config))
            words += [word for flag, value in switches.items() for word in _switch(flag, value, without)]
            config = parse(experiment.presets, shown, [*common, *words])
        name = ",".join(f"{flag}={quote(values[flag], safe=' +')}" for flag in [*flags[1:], "seed"])
        for other, its in configs.items():
            if its == config:
                raise UserError(f"{other} and {name} are the same run: drop one of the values")
        configs[name] = config
        own = folder / name
        _check_run(own, config)
        job = Job(name, own, [*command, *common, *words, f"--out={own}"], lambda own=own, c=config: _done(own, c))
        runs.append((job, values))
    return runs


def conclude(runs: Sequence[tuple[Path, Mapping[str, str]]], folder: Path) -> None:
    """Print and write the table of finished runs and the figures of them all; nothing where none has finished.

    Args:
      runs: their folders and values.
      folder: of the sweep.
    """
    if not runs:
        return
    read = {own: read_run(own) for own, _ in runs}
    groups = grouped(list(read.values()))
    text = f"{compare(groups)}\n\n{SPREAD}\n{data_of(read.values())}\n"
    print(text)
    points = [(read[own], values) for own, values in runs]
    write_whole(folder / "comparison.md", text)
    betas = _along("beta", points, lambda value: value and f"beta {value}")
    figures = {"comparison.png": metrics_figure(groups), "tradeoff.png": tradeoff_figure(betas)}
    for flag in _numeric([values for _, values in runs]):
        figures[f"by_{flag}.png"] = setting_figure(_along(flag, points, float), flag)
    for name, figure in figures.items():
        if figure is not None:
            with writing(folder / name):
                save(figure, folder / name, experiments(read.values()))
    names = ["comparison.md", *(name for name, figure in figures.items() if figure is not None)]
    print(f"wrote {', '.join(names)} in {folder}")


def _along(
    flag: str, points: Sequence[tuple[Run, Mapping[str, str]]], called: Callable[[str], Any]
) -> dict[str, dict[Any, list[Mapping[str, float]]]]:
    """Values of all other flags -> value of this one, as it is called -> metrics of its runs."""
    curves: dict[str, dict[Any, list[Mapping[str, float]]]] = {}
    for run, values in points:
        label = ", ".join(_called(other, values[other]) for other in sorted(values.keys() - {"seed", flag}))
        point = called(values.get(flag, ""))
        curves.setdefault(label or run.label, {}).setdefault(point, []).append(run.metrics)
    return curves


def _numeric(runs: Sequence[Mapping[str, str]]) -> list[str]:
    """The flags that have several numbers as their values."""
    swept = {flag: {values[flag] for values in runs} for flag in runs[0] if flag != "seed"}
    return [flag for flag, values in swept.items() if len(values) > 1 and all(map(_is_number, values))]


def _is_number(value: str) -> bool:
    try:
        return math.isfinite(float(value))
    except ValueError:
        return False


def _called(flag: str, value: str) -> str:
    return value if flag in ("model", "fusion") else f"{flag} {value}"


def _check_run(folder: Path, config: Config) -> None:
    """Refuses runs of other settings before any is started; of a damaged folder its own run says what is wrong."""
    try:
        saved = read_config(folder)
    except UserError:
        return
    if saved is not None:
        check_folder(folder, config, "use another --out for this sweep")


def _done(folder: Path, config: Config) -> bool:
    """A damaged folder is not done: its run says what is wrong with it."""
    try:
        return finished(folder, config)
    except UserError:
        return False


def _given(arguments: Sequence[str]) -> Given:
    """The parts of a command line.

    Raises:
      UserError: what is no flag, a flag given twice, or a value that is empty.
    """
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    words, common = list(arguments[:cut]), list(arguments[cut + 1 :])
    experiment = words.pop(0) if words and not words[0].startswith("-") else ""
    names, own, swept = {field.name for field in fields(Sweep)}, [], {}
    while words:
        word = words.pop(0)
        if word in ("-h", "--help"):
            own.append("--help")
            continue
        if not word.startswith("--"):
            raise UserError(f"{word!r} is no flag: {program()} EXPERIMENT --FLAG=VALUE,VALUE ... -- <flags for all>")
        flag, equals, value = word[2:].partition("=")
        flag = flag.replace("_", "-")
        if not equals:
            value = words.pop(0) if words and not words[0].startswith("--") else "true"
        if flag in names:
            own.append(f"--{flag}={value}")
            continue
        if flag in swept:
            raise UserError(f"--{flag} is given twice: give all its values in one, --{flag}=A,B")
        swept[flag] = list(dict.fromkeys(value.split(",")))
        if not all(swept[flag]):
            raise UserError(f"--{flag}={value}: a value is empty")
    for flag in [*swept, *(word[2:].partition("=")[0].replace("_", "-") for word in common if word.startswith("--"))]:
        if flag in _REFUSED:
            raise UserError(f"--{flag}: {_REFUSED[flag]}")
    for word in common:
        flag = word[2:].partition("=")[0].replace("_", "-")
        if word.startswith("--") and (flag in swept or flag == "seed"):
            raise UserError(f"--{flag} after --: give it before, once")
    return Given(experiment, own, swept, common)


def _words(flag: str, value: str) -> list[str]:
    """A flag with its value as arguments of a run."""
    parts = value.split()
    return [f"--{flag}={value}"] if len(parts) == 1 else [f"--{flag}", *parts]


def _is_switch(value: str) -> bool:
    return value.lower() in ("true", "false")


def _switch(flag: str, value: str, without: Mapping[str, Any]) -> list[str]:
    """A switch as arguments of a run, which without it has the settings `without`: a preset or model may turn it on."""
    name, wish = f".{flag.replace('-', '_')}", value.lower() == "true"
    if any(f".{setting}".endswith(name) and default is wish for setting, default in without.items()):
        return []
    return [f"--{flag}" if wish else f"--no-{flag}"]


def _experiment(package: str, name: str) -> tuple[list[str], Experiment]:
    """The command of an experiment, and what it runs.

    Raises:
      UserError: there is none of this name.
    """
    here = Path(importlib.import_module(package).__path__[0])
    ours = {path.stem for path in here.glob("[!_]*.py")}
    if name.endswith(".py") and Path(name).resolve().parent == here.resolve():
        name = Path(name).stem
    if name.endswith(".py"):
        if not Path(name).is_file():
            raise UserError(f"no file {name}: give an experiment's name or file")
        return [sys.executable, name], _of_file(name)
    experiments = {
        stem: module.EXPERIMENT
        for stem in sorted(ours)
        if hasattr(module := importlib.import_module(f"{package}.{stem}"), "EXPERIMENT")
    }
    if name not in experiments:
        what = f"unknown experiment {name!r}" if name else "no experiment"
        raise UserError(f"{what}: choose one of {', '.join(experiments)}, or a file (see {program()} --help)")
    return [sys.executable, "-m", f"{package}.{name}"], experiments[name]


def _of_file(name: str) -> Experiment:
    """The experiment in a file, which is run with what lies beside it in reach, as in a process of its own."""
    sys.path.insert(0, str(Path(name).resolve().parent))
    spec = importlib.util.spec_from_file_location("_swept_experiment", name)
    assert spec is not None and spec.loader is not None
    # Where the flags' descriptions are looked for.
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "EXPERIMENT"):
        raise UserError(f"{name} has no EXPERIMENT: call yours so, as in `mmvae_jax.runs`")
    return module.EXPERIMENT
