"""Evaluation in pieces: how many latents may be decoded at once, and a batch cut into equal chunks."""

import math
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from mmvae_jax.data.batching import Batch
from mmvae_jax.model import Model, Params

# Elements of all modalities decoded at once. A decoder's activations take some twenty times its output, so this
# bounds memory by a few hundred MiB; larger chunks are no faster on a CPU, because they leave its caches.
MAX_DECODED_ELEMENTS = 2**22
MAX_EXAMPLES = 128
# Examples that are only encoded at once.
MAX_ENCODED = 512


class Chunk(NamedTuple):
    """A piece of a batch: all chunks have the same size, because the last one wraps around to the first examples.

    Attributes:
      index: of the chunk.
      batch: its examples.
      size: how many of them count, from the first on.
    """

    index: int
    batch: Batch
    size: int


def chunks(batch: Batch, limit: int) -> Iterator[Chunk]:
    """Equal chunks of at most `limit` examples."""
    total = len(batch.label)
    count = math.ceil(total / limit)
    size = math.ceil(total / count)
    for i in range(count):
        rows = np.arange(i * size, (i + 1) * size)
        piece = jax.tree.map(lambda values, rows=rows: values[rows % total], batch)
        yield Chunk(i, piece, min(size, total - i * size))


def decoded_at_once(model: Model, params: PyTree) -> int:
    """How many latents may be decoded to all modalities at once, at least one; the parameters' shapes suffice."""
    elements = sum(leaf.size for leaf in jax.tree.leaves(_decoded.eval_shape(model, params)))
    return max(1, MAX_DECODED_ELEMENTS // elements)


# Compiled never; but of one model it is traced only once.
@partial(jax.jit, static_argnums=0)
def _decoded(model: Model, params: Params) -> list[Array]:
    private = {m.name: jnp.zeros((1, m.private_dim)) for m in model.modalities}
    return [model.output(params, m, jnp.zeros((1, model.latent_dim)), private) for m in model.modalities]
