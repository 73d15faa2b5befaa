"""The shared runner: from a command line to a trained, evaluated and drawn run folder."""

import json
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Generic, NamedTuple

import jax
import jax.numpy as jnp
from etils import epath

from mmvae_jax import hosts
from mmvae_jax.compilation import cache_compiled
from mmvae_jax.data.batching import Dataset
from mmvae_jax.data.streaming import Streamed
from mmvae_jax.errors import UserError
from mmvae_jax.evaluation import Context, chosen_metrics, measure
from mmvae_jax.evaluation.inception import inception
from mmvae_jax.evaluation.published import Published, comparable
from mmvae_jax.listing import model_table
from mmvae_jax.loop import Diverged, Progress, check_data, fit, steps_per_epoch
from mmvae_jax.modality import Modality
from mmvae_jax.model import Model
from mmvae_jax.plotting.figures import draw_all
from mmvae_jax.plotting.powerset import powerset_shown
from mmvae_jax.runs.checkpoints import Checkpoints
from mmvae_jax.runs.command import exit_code, program
from mmvae_jax.runs.config import ASIDE, Config, Own, from_record, parse, to_record
from mmvae_jax.runs.curve import curve_points
from mmvae_jax.runs.folder import (
    CHECKPOINTS_FOLDER,
    CURVE_FILE,
    METRICS_FILE,
    POWERSET_FILE,
    check_config,
    drop_results,
    flat_settings,
    has_checkpoints,
    has_config,
    has_results,
    held,
    prepare_folder,
    read_config,
    read_metrics,
    write_config,
    write_whole,
    writing,
)
from mmvae_jax.runs.interrupts import Interrupts
from mmvae_jax.runs.log import RunLog, read_log
from mmvae_jax.runs.origin import plain_published, versions, write_origin
from mmvae_jax.runs.report import model_label, write_report
from mmvae_jax.sharding import placed
from mmvae_jax.training import Training, TrainState, init_state

# What may differ between a run and its continuation.
_FREE = (*ASIDE, "evaluation")
_FREE_WITHOUT_SCHEDULE = ("epochs", "training.steps")
# Steps between two looks at signals, checkpoints and the log.
_STEPS_AT_ONCE = 25


@dataclass(frozen=True)
class Experiment(Generic[Own]):
    """What is special to one experiment.

    Attributes:
      name: of the run folders, `runs/<name>/...`.
      presets: name -> configuration; the first is the default.
      load: configuration -> data set.
      modalities: (configuration, data set) -> the model's modalities.
      published: published numbers of models, in the tables and figures of reports and comparisons.
      reads_data: whether `load` reads the configuration's `data`; where it does not, `--data` is refused.
    """

    name: str
    presets: dict[str, Config[Own]]
    load: Callable[[Config[Own]], Dataset]
    modalities: Callable[[Config[Own], Dataset], tuple[Modality, ...]]
    published: tuple[Published, ...] = ()
    reads_data: bool = False


def main(experiment: Experiment, arguments: Sequence[str] | None = None) -> int:
    """Run an experiment from a command line, that of the process by default; see `exit_code` for what it returns."""

    def work() -> None:
        typed = sys.argv[1:] if arguments is None else arguments
        config = parse(experiment.presets, program(), typed)
        if config.list_models:
            print(model_table(5))
            return
        hosts.join(config.distributed, config.distributed_timeout)
        run(experiment, config, f"{program()} {shlex.join(typed)}")

    return exit_code(work)


class Prepared(NamedTuple):
    """Everything that a configuration determines before the first step."""

    dataset: Dataset
    model: Model
    training: Training
    template: TrainState


def prepare(experiment: Experiment[Own], config: Config[Own]) -> Prepared:
    """Data, model and a fresh training state."""
    if not experiment.reads_data and config.data != Config.data:
        raise UserError(f"data={config.data}: {experiment.name} reads no files, its data are made: leave --data out")
    dataset = experiment.load(config)
    if config.streaming == "on" and not isinstance(dataset.train, Streamed):
        raise UserError(
            f"streaming=on: --data={config.data} is not read tuple by tuple, it cannot be streamed; drop it"
        )
    model = replace(config.architecture, modalities=experiment.modalities(config, dataset))
    check_data(model, dataset.test)
    training = _in_steps(config, steps_per_epoch(dataset.train, config.training))
    return Prepared(dataset, model, training, init_state(model, training, jax.random.key(config.seed)))


def _in_steps(config: Config, epoch: int) -> Training:
    """The training, epochs of so many steps being counted in steps."""
    training = config.training
    return replace(
        training,
        steps=training.steps or config.epochs * epoch,
        anneal_steps=training.anneal_steps or config.anneal_epochs * epoch,
    )


def load_run(experiment: Experiment[Own], folder: epath.PathLike) -> tuple[Prepared, TrainState]:
    """A finished or interrupted run: its data set and model, and the state of its newest checkpoint.

    Raises:
      UserError: if there is no run in the folder.
    """
    record = read_config(folder)
    if record is None:
        raise UserError(f"no run in {folder}: it has no config.json")
    prepared = prepare(experiment, from_record(next(iter(experiment.presets.values())), record))
    with Checkpoints(epath.Path(folder) / CHECKPOINTS_FOLDER) as checkpoints:
        state = checkpoints.restore(prepared.template, _say)
    if state is None:
        raise UserError(f"no checkpoint in {folder}: train first")
    return prepared, state


def run(experiment: Experiment[Own], config: Config[Own], command: str) -> None:
    """Train, evaluate and draw one run, going on from its checkpoints where there are any.

    On several hosts all of them call it, and process 0 alone prints and writes, checkpoints apart.

    Args:
      experiment: what is special to it.
      config: of the run.
      command: that asked for it, for `run.json`.
    """
    folder = epath.Path(config.out or f"runs/{experiment.name}/{config.label}-seed{config.seed}")
    if config.eval_only:
        hosts.by_first(lambda: _check_checkpoints(folder))
        config = _as_trained(config, folder)
    cache = Path(config.cache).expanduser()
    prepare_folder(cache, "--cache")
    cache_compiled(cache / "compiled")
    if config.evaluation.inception_weights:
        inception(config.evaluation.inception_weights)  # refused before the training, not after it
    prepared = prepare(experiment, config)
    for names in (config.evaluation.metrics, config.curve):
        chosen_metrics(names, prepared.dataset)
    record = _record(config, prepared)
    with ExitStack() as while_running:

        def begin() -> None:
            prepare_folder(folder)
            while_running.enter_context(held(folder))
            if not config.fresh:
                free = _FREE + (_FREE_WITHOUT_SCHEDULE if prepared.training.schedule == "constant" else ())
                check_config(folder, record, free)

        hosts.by_first(begin)
        state = _train(config, prepared, folder, record, command)
        if state is not None:
            _evaluate(experiment, config, prepared, state, folder, record, command)
        hosts.wait_for_all("ended")


def check_folder(folder: epath.PathLike, config: Config, remedy: str) -> None:
    """`check_config` of the settings that are known before data are read."""
    unknown = ("dataset", "training.anneal_steps")
    check_config(folder, to_record(config), (*_FREE, *_FREE_WITHOUT_SCHEDULE, *unknown), remedy)


def finished(folder: epath.PathLike, config: Config) -> bool:
    """Whether the run of this configuration has been trained to its end, measured and drawn in a folder.

    Raises:
      UserError: its `config.json` or `metrics.json` cannot be read.
    """
    folder = epath.Path(folder)
    if not has_results(folder) or (config.curve and not (folder / CURVE_FILE).exists()):
        return False
    kind = config.figure_format
    if kind != "png" and not any((folder / "figures").glob(f"*.{kind}")):
        return False
    metrics = read_metrics(folder) or {}
    steps, epochs = (metrics.get(f"train/{unit}", 0) for unit in ("steps", "epochs"))
    training = _in_steps(config, round(steps / epochs) if epochs else 0)
    record = {**to_record(config), "training": asdict(training)}
    return steps == training.steps and has_config(folder, record, (*ASIDE, "dataset"))


def _as_trained(config: Config[Own], folder: epath.Path) -> Config[Own]:
    """The configuration with as much training as the run in the folder was given, whatever is asked for now."""
    record = read_config(folder) or {}
    try:
        epochs, steps = record["epochs"], record["training"]["steps"]
    except (LookupError, TypeError):  # `check_config` says what is wrong with it
        return config
    return replace(config, epochs=epochs, training=replace(config.training, steps=steps))


def _check_checkpoints(folder: epath.Path) -> None:
    if not has_checkpoints(folder):
        raise UserError(_nothing_to_evaluate(folder))


def _nothing_to_evaluate(folder: epath.Path) -> str:
    return f"no checkpoint in {folder} to evaluate: train first, without --eval-only"


def _evaluate(
    experiment: Experiment[Own],
    config: Config[Own],
    prepared: Prepared,
    state: TrainState,
    folder: epath.Path,
    record: dict[str, Any],
    command: str,
) -> None:
    """Metrics by all hosts; files and figures by the first."""
    steps, (dataset, model, training, _) = int(state.step), prepared
    _print(f"evaluating {config.label} after {steps} steps")
    key, cache = jax.random.key(config.seed), Path(config.cache).expanduser() / experiment.name
    context = Context(model, state.params, dataset, key, config.evaluation, cache, _print)
    metrics, epoch = measure(context), steps_per_epoch(dataset.train, training)
    metrics |= {"train/steps": steps, "train/epochs": steps / epoch}
    points = curve_points(context, folder, config.curve, state, metrics)
    context = context.on_one_host()
    if not hosts.first_process():
        return
    if dataset.num_classes >= 2:
        metrics["data/classes"] = dataset.num_classes
    log, title = read_log(folder), f"{experiment.name}, {config.label}, seed {config.seed}"
    if log:
        seconds = log[-1]["seconds"]
        metrics |= {"train/seconds": seconds, "train/examples_per_second": steps * training.step_size / seconds}
    write_whole(folder / METRICS_FILE, json.dumps(metrics, indent=2) + "\n")
    with writing(folder / "figures"):
        figures = draw_all(context, metrics, folder / "figures", points, log, title, config.figure_format)
    powerset = powerset_shown(context)
    write_whole(folder / POWERSET_FILE, json.dumps(powerset) + "\n")
    published = comparable(experiment.published, model_label(record), flat_settings(record))
    write_origin(folder, "evaluated", command, experiment=experiment.name, published=plain_published(published))
    write_report(folder, record, metrics, figures, versions(), published, points, powerset, experiment.name)
    _print(f"wrote {folder}/metrics.json, figures/ and report.html")


def _record(config: Config, prepared: Prepared) -> dict[str, Any]:
    """The resolved configuration as plain values."""
    return {**to_record(config), "training": asdict(prepared.training), "dataset": prepared.dataset.provenance}


def _train(
    config: Config, prepared: Prepared, folder: epath.Path, record: dict[str, Any], command: str
) -> TrainState | None:
    """The trained state; None if a signal stopped it."""
    dataset, model, training, template = prepared
    saving = config.saving
    with Checkpoints(
        folder / CHECKPOINTS_FOLDER,
        saving.keep_last,
        every_steps=saving.every_steps,
        every_minutes=saving.every_minutes,
        keep_every=saving.keep_every * steps_per_epoch(dataset.train, training),
    ) as checkpoints:
        if config.fresh:
            checkpoints.clear()
        template = placed(template, training.model_parallel)
        restored = checkpoints.restore(template, _say)
        if config.eval_only and restored is None:
            raise UserError(_nothing_to_evaluate(folder))
        state = template if restored is None else restored
        start = int(state.step)
        if start > training.steps:
            raise UserError(
                f"{folder} has been trained for {start} steps, this run asks for {training.steps}: ask for as many "
                "without --eval-only, use --fresh to start over, or choose another --out"
            )

        def begin() -> None:
            if config.fresh or not has_config(folder, record, ASIDE):
                drop_results(folder)
            write_config(folder, record)

        hosts.by_first(begin)
        if config.eval_only or start >= training.steps:
            return state
        hosts.by_first(lambda: write_origin(folder, "trained", command))
        if start:
            _say(f"resuming at step {start} of {training.steps}")
        with Interrupts() as interrupts, ExitStack() as while_training:
            log, stopped = None, ""
            if hosts.first_process():
                log = while_training.enter_context(RunLog(folder, training.steps, start, training.step_size))

            def after(state: TrainState, progress: Progress) -> bool:
                nonlocal stopped
                if log is not None:
                    extra = {
                        "learning_rate": float(jnp.asarray(training.learning_rate_at(progress.step))),
                        "beta": float(jnp.asarray(training.beta_at(progress.step))),
                    }
                    log.report(progress.step, progress.terms | extra)
                wish = interrupts.requested
                stop, save = hosts.agreed(stop=wish is not None, save=checkpoints.due(progress.step))
                if stop:
                    stopped = wish or "another process was stopped"
                if stop or save or progress.step >= training.steps:
                    checkpoints.save(state, progress.terms["loss"])
                return stop

            try:
                at_once = min(_STEPS_AT_ONCE, saving.every_steps or _STEPS_AT_ONCE)
                state = fit(
                    model, dataset.train, training, state=state, after=after, steps_per_dispatch=at_once, show=False
                )
            except Diverged as error:
                saved = checkpoints.steps()
                last = f"step {saved[-1]} in {folder / CHECKPOINTS_FOLDER}" if saved else "none yet"
                raise UserError(f"{error} (last good checkpoint: {last})") from None
            if stopped:
                checkpoints.wait()
                _say(f"{stopped}: saved step {int(state.step)}; the same command resumes there")
                return None
    return state


def _say(line: str) -> None:
    if hosts.first_process():
        print(line, file=sys.stderr, flush=True)


def _print(line: str) -> None:
    if hosts.first_process():
        print(line, flush=True)
