"""Training as a pure step: the settings, the state and what one batch makes of it.

Randomness is one key per run: a step's noise is drawn from `fold_in(key, step)`, an epoch's order (see `loop`) from
`fold_in(key, epoch)`. A resumed run therefore repeats the uninterrupted one bit for bit.
"""

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Self, get_args

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, ArrayLike, Bool, Int, Key, PyTree

from mmvae_jax.accumulation import in_parts
from mmvae_jax.data.batching import Batch
from mmvae_jax.errors import UserError, check_choice
from mmvae_jax.inputs import absent_where_nan, check_key
from mmvae_jax.model import Model, Params
from mmvae_jax.objectives import OBJECTIVES, Options, Terms, check
from mmvae_jax.sharding import as_placed, everywhere
from mmvae_jax.zoo import model_row

ORDER, NOISE = 0, 1
Schedule = Literal["constant", "cosine"]


class TrainState(NamedTuple):
    """Everything that training changes, and the run's key."""

    params: Params
    opt_state: PyTree
    step: Int[Array, ""]
    key: Key[Array, ""]


@dataclass(frozen=True)
class Training:
    """How to train.

    Attributes:
      objective: a key of `objectives.OBJECTIVES`.
      steps: optimisation steps in all; in an experiment 0 leaves it to its epochs.
      batch_size: tuples a step, or in each of its parts.
      learning_rate: Adam's, at its peak.
      schedule: of the learning rate after the warm-up: constant, or down to zero along a cosine.
      warmup_steps: steps over which the learning rate rises linearly from zero.
      clip_norm: largest global norm of a gradient; 0 for none.
      beta: weight of the KL to the prior.
      anneal_steps: steps over which beta rises linearly from zero.
      options: what else the objective may be told.
      accumulate: parts of a step's batch, passed through the networks one after the other: the result of a batch as
        many times larger, in the memory of one part.
      model_parallel: devices over which large parameters and their moments are split (fully sharded data parallelism);
        1: every device holds everything.
    """

    objective: str = "elbo"
    steps: int = 1000
    batch_size: int = 64
    learning_rate: float = 1e-3
    schedule: Schedule = "constant"
    warmup_steps: int = 0
    clip_norm: float = 0.0
    beta: float = 1.0
    anneal_steps: int = 0
    options: Options = field(default_factory=Options)
    accumulate: int = 1
    model_parallel: int = 1

    def __post_init__(self) -> None:
        check_choice(self.objective, OBJECTIVES, "objective")
        check_choice(self.schedule, get_args(Schedule), "schedule")
        for name in ("steps", "warmup_steps", "anneal_steps", "clip_norm", "beta"):
            if not getattr(self, name) >= 0:
                raise UserError(f"{name.replace('_', '-')}={getattr(self, name)}: give a number of at least 0")
        for name in ("batch_size", "accumulate", "model_parallel"):
            if getattr(self, name) < 1:
                raise UserError(f"{name.replace('_', '-')}={getattr(self, name)}: give a whole number of at least 1")
        if not self.learning_rate > 0:
            raise UserError(f"learning-rate={self.learning_rate}: give a number above 0")

    @classmethod
    def of(cls, model: str, **settings: Any) -> Self:
        """The settings with the objective of a paper's model.

        Args:
          model: a key of `zoo.MODELS`.
          settings: further fields; these win.

        Raises:
          UserError: for an unknown model or a value that no field takes.
        """
        return cls(**{"objective": model_row(model).objective, **settings})

    @property
    def step_size(self) -> int:
        """Tuples that one step learns from."""
        return self.batch_size * self.accumulate

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


def init_state(model: Model, training: Training, key: Key[Array, ""]) -> TrainState:
    """A run's first state; everything follows from the key.

    Raises:
      UserError: for an objective that cannot train the model, or what is no key.
    """
    check_key(key)
    check(model, training.objective, training.options)
    init_key, run_key = jax.random.split(key)
    params = model.init(init_key)
    return TrainState(params, training.optimizer().init(params), jnp.zeros((), jnp.int32), run_key)


def train_step(
    model: Model, training: Training, state: TrainState, batch: Batch
) -> tuple[TrainState, Terms, Bool[Array, ""]]:
    """One optimisation step: the new state, the loss and its terms in nats, and whether loss and gradient were finite.

    A step that met something not finite leaves the state as it was.
    """
    key = jax.random.fold_in(jax.random.fold_in(state.key, NOISE), state.step)
    batch = absent_where_nan(model.modalities, batch)
    loss = OBJECTIVES[training.objective]
    parted = in_parts(model, training.accumulate)

    def loss_of(params: Params) -> tuple[Array, Terms]:
        return loss(parted, params, key, batch, training.beta_at(state.step), training.options)

    (value, terms), gradient = jax.value_and_grad(loss_of, has_aux=True)(everywhere(state.params))
    gradient = as_placed(gradient, training.model_parallel)
    norm = optax.tree.norm(gradient)
    finite = jnp.isfinite(value) & jnp.isfinite(norm)
    updates, opt_state = training.optimizer().update(gradient, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    stepped = (params, opt_state, state.step + 1)
    kept = jax.tree.map(lambda new, old: jnp.where(finite, new, old), stepped, state[:3])
    params, opt_state, step = as_placed(kept, training.model_parallel)
    return TrainState(params, opt_state, step, state.key), {"loss": value, **terms, "gradient_norm": norm}, finite
