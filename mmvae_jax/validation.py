"""A look at held-out tuples after every epoch: what the objective makes of them, the best state, and when to stop."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from mmvae_jax.data.batching import Batch, Split, take
from mmvae_jax.errors import UserError
from mmvae_jax.inputs import Presence, absent_where_nan
from mmvae_jax.model import Model, Params
from mmvae_jax.objectives import OBJECTIVES
from mmvae_jax.sharding import on_all_devices
from mmvae_jax.training import Training, TrainState


@dataclass(frozen=True)
class Validation:
    """What `fit` looks at after every epoch.

    Attributes:
      data: held-out tuples: a Split, or a dict from modality name to array.
      presence: with a dict, which modalities of which sample were observed, [N, M]; default all.
      patience: epochs without a lower loss after which training stops; 0 for never.
    """

    data: Split | Mapping[str, Any]
    presence: Presence | None = None
    patience: int = 0

    def __post_init__(self) -> None:
        if self.patience < 0:
            raise UserError(f"patience={self.patience}: give a number of epochs, or 0 to go on to the end")


class Watch:
    """The loss on held-out tuples and the state that had the lowest.

    Args:
      model: that is trained.
      training: how; losses are taken with its final beta, so that those of different epochs compare.
      split: the held-out tuples.
      patience: epochs without a lower loss after which to stop; 0 for never.

    Attributes:
      best: the state of the lowest loss; None before the first look.
      loss: that loss, in nats a tuple.
    """

    def __init__(self, model: Model, training: Training, split: Split, patience: int):
        self._model, self._training, self._patience = model, training, patience
        self._batch = absent_where_nan(model.modalities, take(split, jax.random.key(0), split.size))
        self._looks_since = 0
        self.best: TrainState | None = None
        self.loss = math.inf

    def look(self, state: TrainState) -> float:
        """The loss of a state, the mean over all held-out tuples in nats; the noise is the same at every look."""
        size, at_once = len(self._batch.label), self._training.batch_size
        total = 0.0
        for i, start in enumerate(range(0, size, at_once)):
            part = jax.tree.map(lambda leaf, start=start: leaf[start : start + at_once], self._batch)
            key = jax.random.fold_in(jax.random.key(0), i)
            total += len(part.label) * float(_loss(self._model, self._training, state.params, key, part))
        loss = total / size
        self._looks_since += 1
        if loss < self.loss:
            self.best, self.loss, self._looks_since = jax.tree.map(jnp.copy, state), loss, 0
        return loss

    @property
    def over(self) -> bool:
        """Whether patience has run out."""
        return 0 < self._patience <= self._looks_since


@on_all_devices(static=(0, 1))
def _loss(model: Model, training: Training, params: Params, key: Key[Array, ""], batch: Batch) -> Float[Array, ""]:
    return OBJECTIVES[training.objective](model, params, key, batch, training.beta, training.options)[0]
