"""The training loop: many steps in one dispatch, epochs, and a look at the host in between."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Key, PyTree
from tqdm import tqdm

from mmvae_jax.data.batching import Batch, Split, fixed_split, gather_batch, take
from mmvae_jax.data.streaming import Streamed
from mmvae_jax.errors import UserError
from mmvae_jax.inputs import Presence, check_columns, checked_presence, needs_a_look
from mmvae_jax.model import Model
from mmvae_jax.objectives import OBJECTIVES, Terms, check
from mmvae_jax.sharding import check_batch_size, over_all_devices, placed, platform, split_over_devices
from mmvae_jax.training import ORDER, Training, TrainState, init_state, train_step
from mmvae_jax.validation import Validation, Watch

# Tuples of a streamed split that are looked at before training.
_LOOKED_AT = 64
# Without this analysis XLA's CPU compiler copies both of Adam's moments in every step.
CPU_OPTIONS = {"xla_cpu_copy_insertion_use_region_analysis": True}


class Progress(NamedTuple):
    """What a stretch of steps reports: the step reached and the mean of every term over it."""

    step: int
    terms: dict[str, float]


class Diverged(UserError):
    """Training met a loss or gradient that is not finite."""


def steps_per_epoch(split: Split, training: Training) -> int:
    """Whole batches in an epoch.

    Raises:
      UserError: if there is none.
    """
    if training.step_size > split.size:
        times = f" x accumulate={training.accumulate}" if training.accumulate > 1 else ""
        given = f"batch-size={training.batch_size}{times}"
        raise UserError(f"{given} with {split.size} training tuples: give at most {split.size}")
    return split.size // training.step_size


class Tally(NamedTuple):
    """A stretch of steps under way: the state, the sums of all terms, and whether all was finite."""

    state: TrainState
    sums: Terms
    finite: Bool[Array, ""]


def make_stretch(
    model: Model, training: Training, split: Split, one_dispatch: bool | None = None
) -> Callable[..., Tally]:
    """A compiled function (state, arrays, plan, stop) -> Tally that trains to step `stop`, the state donated.

    Args:
      model, training, split: what to train, how, on what.
      one_dispatch: run the steps as one `lax.while_loop` (any number of steps, one trace). Default: except where the
        step runs XLA's convolution on the CPU, which is many times slower inside a loop than outside; our own
        convolutions are not.

    Returns:
      The function. Its tally's sums are over the steps taken; where a step was not finite they are that step's terms,
      and the state is the last good one.
    """

    @partial(jax.jit, inline=True)
    def take_step(state: TrainState, arrays: PyTree, plan: PyTree) -> tuple[TrainState, Terms, Array]:
        batch = split.batch_of(arrays, plan, state.step, training.step_size)
        return train_step(model, training, state, split_over_devices(batch))

    def advance(tally: Tally, arrays: PyTree, plan: PyTree) -> Tally:
        state, terms, finite = take_step(tally.state, arrays, plan)
        sums = jax.tree.map(lambda total, term: jnp.where(finite, total + term, term), tally.sums, terms)
        return Tally(state, sums, finite)

    def start(state: TrainState, arrays: PyTree, plan: PyTree) -> Tally:
        terms = jax.eval_shape(take_step, state, arrays, plan)[1]
        return Tally(state, jax.tree.map(lambda term: jnp.zeros(term.shape, term.dtype), terms), jnp.array(True))

    def loop(state: TrainState, arrays: PyTree, plan: PyTree, stop: Int[Array, ""]) -> Tally:
        def unfinished(tally: Tally) -> Bool[Array, ""]:
            return tally.finite & (tally.state.step < stop)

        return jax.lax.while_loop(unfinished, lambda tally: advance(tally, arrays, plan), start(state, arrays, plan))

    together, compiled = in_place(loop), in_place(advance)

    def one_by_one(state: TrainState, arrays: PyTree, plan: PyTree, stop: int | Int[Array, ""]) -> Tally:
        tally = start(state, arrays, plan)
        for _ in range(int(stop) - int(state.step)):
            tally = compiled(tally, arrays, plan)
        return tally

    def steps(state: TrainState, arrays: PyTree, plan: PyTree, stop: int | Int[Array, ""]) -> Tally:
        nonlocal one_dispatch
        with over_all_devices(training.model_parallel):
            if one_dispatch is None:
                one_dispatch = not slow_in_loops(together.lower(state, arrays, plan, stop))
            return (together if one_dispatch else one_by_one)(state, arrays, plan, stop)

    return steps


def in_place(function: Callable) -> jax.stages.Wrapped:
    """The function compiled so that its result takes the place of its first argument, a state, which is donated."""
    return jax.jit(function, donate_argnums=0, compiler_options=CPU_OPTIONS if platform() == "cpu" else None)


def slow_in_loops(lowered: jax.stages.Lowered) -> bool:
    """Whether a computation holds XLA's convolution on the CPU."""
    return platform() == "cpu" and "stablehlo.convolution" in lowered.as_text()


def fit(
    model: Model,
    data: Split | Mapping[str, Any],
    training: Training | None = None,
    key: Key[Array, ""] | None = None,
    presence: Presence | None = None,
    state: TrainState | None = None,
    after: Callable[[TrainState, Progress], bool | None] | None = None,
    steps_per_dispatch: int = 25,
    validation: Validation | Split | Mapping[str, Any] | None = None,
    show: bool | None = None,
) -> TrainState:
    """Train a model.

    Args:
      model: its description.
      data: a Split, or a dict from modality name to array.
      training: hyperparameters.
      key: the run's key; default `jax.random.key(0)`. With `state` it is not used.
      presence: with a dict, which modalities of which sample were observed, [N, M]; default all.
      state: where to go on from (a restored checkpoint); it is donated.
      after: called after every dispatch with the state (valid until it returns) and the progress; true stops training.
      steps_per_dispatch: steps between two looks at the host; no influence on the result, but for rounding where
        data are streamed.
      validation: held-out tuples, or a `Validation` with more to say of them. After every epoch the objective's loss on
        them, in nats a tuple, is among the progress's terms, `validation_loss`.
      show: a progress bar on stderr; default where that is a terminal.

    Returns:
      The last state, with `validation` that of the lowest validation loss; `state.params` go into `Model.infer` and the
      rest.

    Raises:
      Diverged: loss or gradient not finite, naming the step and the term.
      UserError: data that do not fit the model or the objective.
    """
    training = Training() if training is None else training
    check(model, training.objective, training.options)
    split, watch = _checked_split(model, training, data, presence), None
    if validation is not None:
        validation = validation if isinstance(validation, Validation) else Validation(validation)
        held_out = _checked_split(model, training, validation.data, validation.presence)
        watch = Watch(model, training, held_out, validation.patience)
    state = init_state(model, training, jax.random.key(0) if key is None else key) if state is None else state
    check_batch_size(training.batch_size, training.accumulate)
    start, per_epoch = int(state.step), steps_per_epoch(split, training)
    dispatches = _dispatches(model, training, split, state, steps_per_dispatch)
    with tqdm(total=training.steps, initial=start, unit="step", disable=None if show is None else not show) as bar:
        for state, progress in dispatches:
            step, terms = progress
            if watch is not None and (step % per_epoch == 0 or step == training.steps):
                terms["validation_loss"] = watch.look(state)
            bar.update(step - bar.n)
            bar.set_postfix({name: f"{terms[name]:.4g}" for name in ("loss", "validation_loss") if name in terms})
            if (after is not None and after(state, progress)) or (watch is not None and watch.over):
                break
    return state if watch is None or watch.best is None else watch.best


def _dispatches(
    model: Model, training: Training, split: Split, state: TrainState, steps_per_dispatch: int
) -> Iterator[tuple[TrainState, Progress]]:
    """The states after every dispatch, the one before donated, to the end of training."""
    state, arrays = placed(state, training.model_parallel), placed(split.arrays)
    stretch, plan_of = make_stretch(model, training, split), jax.jit(split.plan)
    per_epoch = steps_per_epoch(split, training)
    step, epoch = int(state.step), -1
    feed: Any = None
    at_once = split.at_once(training.step_size, steps_per_dispatch)
    while step < training.steps:
        if step // per_epoch != epoch:
            epoch = step // per_epoch
            plan = plan_of(arrays, jax.random.fold_in(jax.random.fold_in(state.key, ORDER), epoch))
            feed = split.feed(arrays, plan, step % per_epoch, training.step_size, at_once)
        stop = min(step + at_once, (epoch + 1) * per_epoch, training.steps)
        state, sums, finite = stretch(state, *feed(step, stop), stop)
        taken, step = int(state.step) - step, int(state.step)
        terms = {name: float(total) / max(taken, 1) for name, total in sums.items()}
        if not finite:
            bad = ", ".join(name for name, value in terms.items() if not np.isfinite(value))
            raise Diverged(f"not finite at step {step}: {bad}; try a smaller learning-rate or clip-norm=10")
        yield state, Progress(step, terms)


def _checked_split(
    model: Model, training: Training, data: Split | Mapping[str, Any], presence: Presence | None
) -> Split:
    split = data if isinstance(data, Split) else _as_split(model, data, presence)
    _check_presence(model, training, split)
    if split is data:
        check_data(model, split)
    return split


def _as_split(model: Model, data: Mapping[str, Any], presence: Presence | None) -> Split:
    batch = model.batch(data, presence)
    return fixed_split(batch.x, batch.label, batch.present)


def _check_presence(model: Model, training: Training, split: Split) -> None:
    if split.presence is None:
        return
    present = np.asarray(checked_presence(split.presence, split.presence.shape))
    if not present.any():
        raise UserError("presence is false everywhere: no training tuple has an observed modality")
    if OBJECTIVES[training.objective].needs_pairs and not present.all(-1).any():
        raise UserError(
            f"objective {training.objective} learns from complete tuples only, and no training tuple has all of "
            f"{', '.join(model.names)}: use one that trains on incomplete data (--list-models shows which)"
        )


def check_data(model: Model, split: Split) -> None:
    """One look at all tuples of a split, or some streamed ones; bytes that are pixels cannot be wrong, nor are made.

    Raises:
      UserError: data that do not fit the model, naming the first bad sample, or other columns of presence.
    """
    check_columns(model.names, split)
    key = jax.random.key(0)
    if isinstance(split, Streamed):
        model.batch(take(split, key, min(split.size, _LOOKED_AT)))
        return
    shapes = jax.eval_shape(lambda arrays: split.gather(arrays, split.plan(arrays, key))[0], split.arrays)
    suspects = [m.name for m in model.modalities if needs_a_look(m, shapes[m.name].dtype)]

    @jax.jit
    def in_order(arrays: PyTree) -> Batch:
        plan = split.plan(arrays, key)
        batch = gather_batch(split, arrays, jax.tree.map(lambda rows: rows[jnp.argsort(plan["index"])], plan))
        return batch._replace(x={name: batch.x[name] for name in suspects})

    if suspects:
        model.batch(in_order(split.arrays))
