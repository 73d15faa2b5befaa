"""Data, checkpoints and the full evaluation."""

import shutil
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import jax

from benchmarks.measure import Work
from benchmarks.models import dataset, paper_training, polymnist_model, polymnist_run
from benchmarks.scales import Scale
from mmvae_jax.data.batching import batch_at
from mmvae_jax.evaluation import EvaluationSettings, evaluate
from mmvae_jax.evaluation.classifiers import ClassifierSettings, trained_classifiers
from mmvae_jax.runs.checkpoints import Checkpoints
from mmvae_jax.training import TrainState, init_state


def build_data(scale: Scale, data: str | None) -> Work:
    """From files to arrays on the device."""
    notes = {"tuples": str(dataset(data).provenance["tuples"])}

    def call() -> None:
        jax.block_until_ready(dataset(data).train.arrays)

    return Work(call, notes=notes)


def plan_epoch(scale: Scale, data: str | None) -> Work:
    """One epoch's plan."""
    split = dataset(data).train
    plan = jax.jit(split.plan)

    def call() -> None:
        jax.block_until_ready(plan(split.arrays, jax.random.key(0)))

    return Work(call, unit="epoch", notes={"tuples": split.size})


def compose_batch(scale: Scale, data: str | None) -> Work:
    """Batches of the training split, uint8."""
    split, batches = dataset(data).train, 10
    plan = jax.jit(split.plan)(split.arrays, jax.random.key(0))
    compose = jax.jit(lambda arrays, plan, start: batch_at(split, arrays, plan, start, scale.batch))

    def call() -> None:
        for i in range(batches):
            jax.block_until_ready(compose(split.arrays, plan, i * scale.batch))

    return Work(call, unit="batch", per=batches)


def save(scale: Scale, data: str | None) -> Work:
    """Written in the background while training goes on; timed until it is on disk."""
    state, folder = _state(scale), TemporaryDirectory(prefix="benchmark-save-")
    steps = count(1)

    def call() -> None:
        with Checkpoints(Path(folder.name) / "checkpoints") as checkpoints:
            checkpoints.save(state._replace(step=state.step + next(steps)), 0.0)

    return Work(call, unit="state", notes=_size(state), finish=folder.cleanup)


def restore(scale: Scale, data: str | None) -> Work:
    """Read, checked and on the device."""
    state, folder = _state(scale), TemporaryDirectory(prefix="benchmark-restore-")
    with Checkpoints(Path(folder.name)) as checkpoints:
        checkpoints.save(state, 0.0)

    def call() -> None:
        with Checkpoints(Path(folder.name)) as checkpoints:
            jax.block_until_ready(checkpoints.restore(state, print))

    return Work(call, unit="state", notes=_size(state), finish=folder.cleanup)


def evaluation(scale: Scale, data: str | None) -> Work:
    """`evaluate` with the paper preset's settings; the classifiers are trained before."""
    run = polymnist_run(scale, data)
    found, settings = dataset(data), _settings(scale)
    folder = TemporaryDirectory(prefix="benchmark-evaluate-")
    trained_classifiers(found, folder.name, settings.classifier, _silent)

    def call() -> None:
        evaluate(run.model, run.state.params, found, jax.random.key(0), settings, folder.name, _silent)

    return Work(call, finish=folder.cleanup)


def classifiers(scale: Scale, data: str | None) -> Work:
    """All five, from nothing to disk."""
    found, settings = dataset(data), _settings(scale)
    folder = TemporaryDirectory(prefix="benchmark-classifiers-")

    def call() -> None:
        shutil.rmtree(folder.name)
        trained_classifiers(found, folder.name, settings.classifier, _silent)

    return Work(call, finish=folder.cleanup)


def _settings(scale: Scale) -> EvaluationSettings:
    if not scale.quick:
        return EvaluationSettings()
    return EvaluationSettings(2, 8, 16, 40, 16, ClassifierSettings(steps=2))


def _state(scale: Scale) -> TrainState:
    training = paper_training(scale.batch)
    return init_state(polymnist_model("mopoe", scale.latent), training, jax.random.key(0))


def _size(state: TrainState) -> dict[str, float]:
    leaves = jax.tree.leaves(state._replace(key=None))
    return {"mib": sum(leaf.nbytes for leaf in leaves) / 2**20}


def _silent(line: str) -> None:
    pass
