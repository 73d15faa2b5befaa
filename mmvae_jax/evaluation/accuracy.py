"""What a model tells of one modality given others, and whether class indices, labels or symbols, are told right."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, Num

from mmvae_jax.data.batching import Batch
from mmvae_jax.evaluation.chunks import MAX_ENCODED, chunks, decoded_at_once
from mmvae_jax.evaluation.probe import component_mean
from mmvae_jax.model import Latents, Model, Params
from mmvae_jax.sharding import on_all_devices


def predictions(
    model: Model,
    params: Params,
    key: Key[Array, ""],
    batch: Batch,
    subset_masks: Bool[np.ndarray, "S M"],
    targets: tuple[str, ...],
) -> dict[str, Num[np.ndarray, "S B *shape"]]:
    """The mean (mode, for class indices) of p(x_m|z) at the mean of q(z|X_A), of every target, subset A and tuple.

    Of a mixture it is the mean of one component for each tuple, as for the linear probe; a private latent is at the
    mean of its prior.

    Args:
      model: any model.
      params: its parameters.
      key: PRNG key.
      batch: the tuples.
      subset_masks: the subsets A, [S, M].
      targets: the modalities, m.
    """
    masks = jnp.asarray(subset_masks)
    pieces = [
        _on_all_devices(model, targets, params, jax.random.fold_in(key, chunk.index), chunk.batch, masks)
        for chunk in chunks(batch, min(MAX_ENCODED, decoded_at_once(model, params)))
    ]
    whole = jax.tree.map(lambda *parts: np.concatenate(parts, 1), *pieces)
    return {name: found[:, : len(batch.label)] for name, found in whole.items()}


def matches(
    told: Int[np.ndarray, "B *L"], truth: Int[np.ndarray, "B *L"], end: int
) -> dict[str, Bool[np.ndarray, "_"] | Float[np.ndarray, "B"]]:
    """Whether labels are right; of strings, whether every symbol is, together ("") and by place ("/1", "/2", ...).

    Together it is a number a string, whose mean is the fraction of all symbols that are right, and whose spread over
    strings is the fraction's: the symbols of a string come from one latent, and are not independent.

    Args:
      told: what was generated.
      truth: the tuples' own.
      end: the symbol that ends a string; neither it nor padding counts.
    """
    right = told == truth
    if truth.ndim == 1:
        return {"": right}
    counts = (truth >= 0) & (truth != end)
    places = {f"/{t + 1}": right[counts[:, t], t] for t in range(truth.shape[1]) if counts[:, t].any()}
    if not places:
        return {}
    symbols, told_right = counts.sum(1), (right & counts).sum(1)
    mean = told_right.sum() / symbols.sum()
    return {"": mean + (told_right - mean * symbols) / symbols.mean(), **places}


def at_means(
    model: Model,
    targets: tuple[str, ...],
    params: Params,
    key: Key[Array, ""],
    batch: Batch,
    masks: Bool[Array, "S M"],
) -> dict[str, Num[Array, "S B *shape"]]:
    """`predictions` of a few tuples, under `jit`: one program for all subsets."""
    mean = partial(component_mean, model, params, model.encode(params, batch), batch.present, key)
    private = {m.name: jnp.zeros((len(batch.label), m.private_dim)) for m in model.modalities if m.private_dim}

    def of_subset(mask: Bool[Array, "M"]) -> dict[str, Num[Array, "B *shape"]]:
        return model.point_estimates(params, Latents(mean(mask), private), targets)

    return jax.lax.map(of_subset, masks)


_on_all_devices = on_all_devices(static=(0, 1))(at_means)
