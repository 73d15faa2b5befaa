"""Coherence: whether what is generated shows the class that it should (SPEC section 6)."""

import math
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mmvae_jax import likelihoods
from mmvae_jax.data.batching import Batch
from mmvae_jax.evaluation.chunks import MAX_EXAMPLES, chunks, decoded_at_once
from mmvae_jax.evaluation.classifiers import Classifier, classify
from mmvae_jax.model import Model, Params

Modules = tuple[nn.Module, ...]


def subset_coherence(
    model: Model,
    params: Params,
    key: Array,
    batch: Batch,
    subset_masks: Bool[np.ndarray, "S M"],
    classifiers: dict[str, Classifier],
) -> Float[np.ndarray, "S M"]:
    """The fraction of tuples whose generated x_m is classified as the tuple's label, for every subset A and target m.

    One z ~ q(z|X_A) for every tuple, decoded to every modality's mean (mode, for class indices). Conditional coherence
    where m is not in A, self-coherence where it is.

    Args:
      model: any model.
      params: its parameters.
      key: PRNG key.
      batch: test tuples with their labels.
      subset_masks: the subsets, [S, M].
      classifiers: for every modality.
    """
    modules, weights = _split(model, classifiers)
    masks = jnp.asarray(subset_masks)
    matches = []
    for chunk in chunks(batch, min(MAX_EXAMPLES, decoded_at_once(model, params))):
        chunk_key = jax.random.fold_in(key, chunk.index)
        classes = _conditional_classes(model, modules, params, weights, chunk_key, chunk.batch, masks)
        matches.append(np.asarray(classes == chunk.batch.label[:, None])[:, : chunk.size])
    return np.concatenate(matches, 1).mean(1)


def joint_coherence(
    model: Model, params: Params, key: Array, samples: int, classifiers: dict[str, Classifier]
) -> float:
    """The fraction of prior samples whose decoded modalities are all classified the same.

    Args:
      model: any model.
      params: its parameters.
      key: PRNG key.
      samples: number of draws from the prior.
      classifiers: for every modality.
    """
    modules, weights = _split(model, classifiers)
    count = math.ceil(samples / decoded_at_once(model, params))
    size = math.ceil(samples / count)
    classes = np.concatenate(
        [
            np.asarray(_prior_classes(model, modules, size, params, weights, jax.random.fold_in(key, i)))
            for i in range(count)
        ]
    )[:samples]
    return float(np.mean(np.all(classes == classes[:, :1], 1)))


def _split(model: Model, classifiers: dict[str, Classifier]) -> tuple[Modules, dict[str, Any]]:
    """The static and the traced part of the classifiers."""
    modules = tuple(classifiers[name].module for name in model.names)
    return modules, {name: classifiers[name].params for name in model.names}


def _classes(
    model: Model,
    modules: Modules,
    params: Params,
    weights: dict[str, Any],
    z: Float[Array, "B D"],
    private: dict[str, Array],
) -> Int[Array, "B M"]:
    decoded = model.decode(params, z, private)
    found = [
        classify(module, weights[name], likelihoods.point_estimate(decoded[name]))
        for module, name in zip(modules, model.names, strict=True)
    ]
    return jnp.stack(found, -1)


@partial(jax.jit, static_argnums=(0, 1))
def _conditional_classes(
    model: Model,
    modules: Modules,
    params: Params,
    weights: dict[str, Any],
    key: Array,
    batch: Batch,
    masks: Bool[Array, "S M"],
) -> Int[Array, "S B M"]:
    codes = model.encode(params, batch)

    def one(arguments: tuple[Array, Array]) -> Int[Array, "B M"]:
        subset_key, mask = arguments
        latents = model.draw(params, codes, batch.present, mask, subset_key)
        return _classes(model, modules, params, weights, *latents)

    return jax.lax.map(one, (jax.random.split(key, len(masks)), masks))


@partial(jax.jit, static_argnums=(0, 1, 2))
def _prior_classes(
    model: Model,
    modules: Modules,
    size: int,
    params: Params,
    weights: dict[str, Any],
    key: Array,
) -> Int[Array, "B M"]:
    return _classes(model, modules, params, weights, *model.draw_prior(params, key, size))
