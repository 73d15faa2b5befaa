"""Tasks: how far what is made of a picture is from what it should be, and how far a guess without learning is."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Num

from mmvae_jax import subsets
from mmvae_jax.data.batching import Batch
from mmvae_jax.data.tasks import Task
from mmvae_jax.evaluation.accuracy import predictions
from mmvae_jax.evaluation.chunks import MAX_ENCODED
from mmvae_jax.model import Model, Params


class TaskErrors(NamedTuple):
    """Squared differences, averaged over the pixels that count and their channels; pixels are in 0..1.

    Attributes:
      model: of every tuple, the model's.
      guess: the guess's.
    """

    model: Float[np.ndarray, "B"]
    guess: Float[np.ndarray, "B"]


def task_errors(model: Model, params: Params, key: Key[Array, ""], batch: Batch, task: Task) -> TaskErrors:
    """Of a picture made of another: the mean of p(x|z) at the mean of q(z|given), against the tuple's own.

    Args:
      model: any model of the task's modalities.
      params: its parameters.
      key: PRNG key, of a mixture's components.
      batch: the tuples.
      task: what is made of what.
    """
    masks = subsets.select(task.given, model.names)[None]
    (made,) = predictions(model, params, key, batch, masks, (task.target,))[task.target]
    modalities = {m.name: m for m in model.modalities}
    errors = []
    for start in range(0, len(made), MAX_ENCODED):  # in numbers of 64 bits a few hundred pictures are many
        rows = slice(start, start + MAX_ENCODED)
        given, truth = (
            modalities[name].in_units(jnp.asarray(batch.x[name][rows])) for name in (task.given, task.target)
        )
        errors.append((_squared(task, made[rows], truth), _squared(task, task.guess(given), truth)))
    return TaskErrors(*(np.concatenate(pieces) for pieces in zip(*errors, strict=True)))


def _squared(
    task: Task, made: Num[Array, "B H W C"] | Num[np.ndarray, "B H W C"], truth: Num[Array, "B H W C"]
) -> Float[np.ndarray, "B"]:
    differences = np.square(np.asarray(made, np.float64) - np.asarray(truth, np.float64))
    counted = np.ones(truth.shape[1:3], bool) if task.counted is None else task.counted
    return differences[:, counted].mean((1, 2))
