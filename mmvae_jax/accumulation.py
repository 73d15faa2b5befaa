"""Gradient accumulation: a large batch in the memory of a small one.

Only networks take much memory for every element of a batch, so only they see it in parts, one after the other, and the
parts' gradients are summed as they come. Noise, components and the rest of an objective are those of the whole batch:
whatever the objective, the result is the large batch's.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from mmvae_jax.data.batching import Batch
from mmvae_jax.model import Codes, Model, Params

Result = TypeVar("Result", bound=PyTree)


@dataclass(frozen=True)
class InParts(Model):
    """A model whose networks see a batch in parts; in the backward pass a part's activations are computed again.

    Attributes:
      parts: how many; every batch has a multiple of as many elements.
    """

    parts: int = 1

    def encode(self, params: Params, batch: Batch) -> Codes:
        """`Model.encode`, part by part."""
        encode = super().encode
        return self._in_turn(lambda piece, _: encode(params, piece), batch, ())

    def log_likelihoods(
        self,
        params: Params,
        z: Float[Array, "*K B D"],
        batch: Batch,
        private: Mapping[str, Float[Array, "*K B _"]] | None = None,
        names: Sequence[str] | None = None,
    ) -> Float[Array, "*K B _"]:
        """`Model.log_likelihoods`, part by part."""
        log_likelihoods = super().log_likelihoods
        return self._in_turn(
            lambda piece, draws: log_likelihoods(params, draws[0], piece, draws[1], names), batch, (z, private)
        )

    def _in_turn(self, function: Callable[[Batch, PyTree], Result], batch: Batch, others: PyTree) -> Result:
        """The function of all parts; the batch's elements are along the first axis, all others' along the last but one.

        Part i has the elements i, i + parts, ...: what a device holds of a batch is divided, not exchanged.
        """

        def split(leaf: Array, axis: int) -> Array:
            axis %= leaf.ndim
            pieces = leaf.reshape(*leaf.shape[:axis], -1, self.parts, *leaf.shape[axis + 1 :])
            return jnp.moveaxis(pieces, axis + 1, 0)

        def joined(leaf: Array) -> Array:
            pieces = jnp.moveaxis(leaf, 0, -2)
            return pieces.reshape(*pieces.shape[:-3], -1, pieces.shape[-1])

        pieces = jax.tree.map(lambda leaf: split(leaf, 0), batch), jax.tree.map(lambda leaf: split(leaf, -2), others)
        once_more = jax.checkpoint(lambda piece: function(*piece), prevent_cse=False)
        return jax.tree.map(joined, jax.lax.map(once_more, pieces))


def in_parts(model: Model, parts: int) -> Model:
    """The model, in parts if there are several."""
    fields = {name: getattr(model, name) for name in Model.__dataclass_fields__}
    return model if parts == 1 else InParts(**fields, parts=parts)
