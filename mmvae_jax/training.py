"""Training: one pure step, many steps in one dispatch, and the loop around them.

Randomness is one key per run: the epoch's order is drawn from `fold_in(key, epoch)`, a step's noise from
`fold_in(key, step)`. A resumed run therefore repeats the uninterrupted one bit for bit.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, ArrayLike, Bool, Int, PyTree

from mmvae_jax.data.batching import Batch, Split, batch_at, fixed_split
from mmvae_jax.errors import UserError
from mmvae_jax.model import Model, Params
from mmvae_jax.objectives import NEEDS_PAIRS, OBJECTIVES, Options, Terms
from mmvae_jax.sharding import check_batch_size, replicated, split_over_devices

_ORDER, _NOISE = 0, 1


class TrainState(NamedTuple):
    """Everything that training changes, and the run's key."""

    params: Params
    opt_state: PyTree
    step: Int[Array, ""]
    key: Array


@dataclass(frozen=True)
class Training:
    """How to train.

    Attributes:
      objective: elbo, powerset_elbo, mvae, mmjsd, mvtcae, iwae, iwae_loose, dreg, dreg_loose, mmvae_plus, jmvae, vaevae
        or svae; see `objectives.OBJECTIVES`.
      steps: optimisation steps in all; in an experiment 0 leaves it to its epochs.
      batch_size: tuples a step.
      learning_rate: Adam's, at its peak.
      schedule: of the learning rate after the warm-up: constant, or down to zero along a cosine.
      warmup_steps: steps over which the learning rate rises linearly from zero.
      clip_norm: largest global norm of a gradient; 0 for none.
      beta: weight of the KL to the prior.
      anneal_steps: steps over which beta rises linearly from zero.
      options: what else the objective may be told.
    """

    objective: str = "elbo"
    steps: int = 1000
    batch_size: int = 64
    learning_rate: float = 1e-3
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = 0
    clip_norm: float = 0.0
    beta: float = 1.0
    anneal_steps: int = 0
    options: Options = field(default_factory=Options)

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise UserError(f"unknown objective {self.objective!r}: choose one of {', '.join(OBJECTIVES)}")
        for name in ("steps", "warmup_steps", "anneal_steps", "clip_norm", "beta"):
            if not getattr(self, name) >= 0:
                raise UserError(f"{name.replace('_', '-')}={getattr(self, name)}: give a number of at least 0")
        if self.batch_size < 1:
            raise UserError(f"batch-size={self.batch_size}: give a whole number of at least 1")
        if not self.learning_rate > 0:
            raise UserError(f"learning-rate={self.learning_rate}: give a number above 0")

    def optimizer(self) -> optax.GradientTransformation:
        """Adam with the schedule and, if asked for, clipping."""
        adam = optax.adam(self.learning_rate_at)
        return optax.chain(optax.clip_by_global_norm(self.clip_norm), adam) if self.clip_norm else adam

    def learning_rate_at(self, step: ArrayLike) -> ArrayLike:
        """The learning rate of a step."""
        if self.schedule == "cosine":
            return optax.warmup_cosine_decay_schedule(
                0.0 if self.warmup_steps else self.learning_rate,
                self.learning_rate,
                self.warmup_steps,
                max(self.steps, self.warmup_steps + 1),
            )(step)
        return optax.warmup_constant_schedule(
            0.0 if self.warmup_steps else self.learning_rate, self.learning_rate, self.warmup_steps
        )(step)

    def beta_at(self, step: ArrayLike) -> ArrayLike:
        """The KL weight of a step: linear from 0 to beta, then constant (Wu & Goodman 2018)."""
        return optax.linear_schedule(0.0 if self.anneal_steps else self.beta, self.beta, self.anneal_steps)(step)


class Progress(NamedTuple):
    """What a stretch of steps reports: the step reached and the mean of every term over it."""

    step: int
    terms: dict[str, float]


class Diverged(UserError):
    """Training met a loss or gradient that is not finite."""


def init_state(model: Model, training: Training, key: Array) -> TrainState:
    """A run's first state; everything follows from the key."""
    init_key, run_key = jax.random.split(key)
    params = model.init(init_key)
    return TrainState(params, training.optimizer().init(params), jnp.zeros((), jnp.int32), run_key)


def train_step(
    model: Model, training: Training, state: TrainState, batch: Batch
) -> tuple[TrainState, Terms, Bool[Array, ""]]:
    """One optimisation step: the new state, the loss and its terms in nats, and whether loss and gradient were finite.

    A step that met something not finite leaves the state as it was.
    """
    key = jax.random.fold_in(jax.random.fold_in(state.key, _NOISE), state.step)
    objective = OBJECTIVES[training.objective]

    def loss_of(params: Params) -> tuple[Array, Terms]:
        return objective(model, params, key, batch, training.beta_at(state.step), training.options)

    (loss, terms), gradient = jax.value_and_grad(loss_of, has_aux=True)(state.params)
    norm = optax.tree.norm(gradient)
    finite = jnp.isfinite(loss) & jnp.isfinite(norm)
    updates, opt_state = training.optimizer().update(gradient, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    stepped = (params, opt_state, state.step + 1)
    params, opt_state, step = jax.tree.map(lambda new, old: jnp.where(finite, new, old), stepped, state[:3])
    return TrainState(params, opt_state, step, state.key), {"loss": loss, **terms, "gradient_norm": norm}, finite


def steps_per_epoch(split: Split, batch_size: int) -> int:
    """Whole batches in an epoch.

    Raises:
      UserError: if there is none.
    """
    if batch_size > split.size:
        raise UserError(f"batch-size={batch_size} with {split.size} training tuples: give at most {split.size}")
    return split.size // batch_size


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
    per_epoch = steps_per_epoch(split, training.batch_size)

    @partial(jax.jit, inline=True)
    def take_step(state: TrainState, arrays: PyTree, plan: PyTree) -> tuple[TrainState, Terms, Array]:
        row = (state.step % per_epoch) * training.batch_size
        batch = batch_at(split, arrays, plan, row, training.batch_size)
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

    def one_by_one(state: TrainState, arrays: PyTree, plan: PyTree, stop: int) -> Tally:
        tally = start(state, arrays, plan)
        for _ in range(stop - int(state.step)):
            tally = compiled(tally, arrays, plan)
        return tally

    def steps(state: TrainState, arrays: PyTree, plan: PyTree, stop: int) -> Tally:
        nonlocal one_dispatch
        if one_dispatch is None:
            one_dispatch = not slow_in_loops(together.lower(state, arrays, plan, stop))
        return (together if one_dispatch else one_by_one)(state, arrays, plan, stop)

    return steps


def in_place(function: Callable) -> jax.stages.Wrapped:
    """The function compiled so that its result takes the place of its first argument, a state, which is donated."""
    # Without this analysis XLA's CPU compiler copies both of Adam's moments in every step.
    cpu = {"xla_cpu_copy_insertion_use_region_analysis": True}
    return jax.jit(function, donate_argnums=0, compiler_options=cpu if jax.default_backend() == "cpu" else None)


def slow_in_loops(lowered: jax.stages.Lowered) -> bool:
    """Whether a computation holds XLA's convolution on the CPU."""
    return jax.default_backend() == "cpu" and "stablehlo.convolution" in lowered.as_text()


def fit(
    model: Model,
    data: Split | Mapping[str, Any],
    training: Training | None = None,
    key: Array | None = None,
    presence: Bool[Array, "N M"] | None = None,
    state: TrainState | None = None,
    after: Callable[[TrainState, Progress], bool | None] | None = None,
    steps_per_dispatch: int = 25,
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
      steps_per_dispatch: steps between two looks at the host; no influence on the result.

    Returns:
      The last state; `state.params` go into `Model.infer` and the rest.

    Raises:
      Diverged: loss or gradient not finite, naming the step and the term.
      UserError: data that do not fit the model or the objective.
    """
    training = Training() if training is None else training
    split = data if isinstance(data, Split) else _as_split(model, data, presence)
    _check_pairs(model, training, split)
    state = init_state(model, training, jax.random.key(0) if key is None else key) if state is None else state
    check_batch_size(training.batch_size)
    state, arrays = replicated((state, split.arrays))
    stretch, plan_of = make_stretch(model, training, split), jax.jit(split.plan)
    per_epoch = steps_per_epoch(split, training.batch_size)
    step, epoch, plan = int(state.step), -1, None
    while step < training.steps:
        if step // per_epoch != epoch:
            epoch = step // per_epoch
            plan = plan_of(arrays, jax.random.fold_in(jax.random.fold_in(state.key, _ORDER), epoch))
        stop = min(step + steps_per_dispatch, (epoch + 1) * per_epoch, training.steps)
        state, sums, finite = stretch(state, arrays, plan, stop)
        taken, step = int(state.step) - step, int(state.step)
        terms = {name: float(total) / max(taken, 1) for name, total in sums.items()}
        if not finite:
            bad = ", ".join(name for name, value in terms.items() if not np.isfinite(value))
            raise Diverged(f"not finite at step {step}: {bad}; try a smaller learning-rate or clip-norm=10")
        progress = Progress(step, terms)
        if after is not None and after(state, progress):
            break
    return state


def _as_split(model: Model, data: Mapping[str, Any], presence: Bool[Array, "N M"] | None) -> Split:
    batch = model.batch(data, presence)
    for i, m in enumerate(model.modalities):
        finite = np.isfinite(batch.x[m.name]).reshape(len(batch.label), -1).all(-1)
        bad = np.flatnonzero(~finite & np.asarray(batch.present[:, i]))
        if len(bad):
            raise UserError(f"{m.name}: NaN or infinite value in observed sample {bad[0]}: mend it or mark it missing")
    return fixed_split(batch.x, batch.label, batch.present)


def _check_pairs(model: Model, training: Training, split: Split) -> None:
    if training.objective in NEEDS_PAIRS and split.presence is not None and not bool(split.presence.all(-1).any()):
        raise UserError(
            f"objective {training.objective} learns from complete tuples only, and no training tuple has all of "
            f"{', '.join(model.names)}: use one that trains on incomplete data (--list-models shows which)"
        )
