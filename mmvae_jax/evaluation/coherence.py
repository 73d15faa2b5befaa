"""Coherence: whether what is generated shows the class that it should."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, Shaped

from mmvae_jax.data.batching import Batch
from mmvae_jax.evaluation.chunks import MAX_EXAMPLES, chunks, decoded_at_once
from mmvae_jax.evaluation.classifiers import Classifier
from mmvae_jax.model import Latents, Model, Params
from mmvae_jax.priors import Density
from mmvae_jax.sharding import on_all_devices, split_over_devices

Modules = tuple[nn.Module, ...]
Judge = Callable[[Any], Array]


def most_likely(logits: Float[Array, "*B N"]) -> Int[Array, "*B"]:
    """The class that a classifier sees."""
    return jnp.argmax(logits, -1)


def subset_matches(
    model: Model,
    params: Params,
    key: Key[Array, ""],
    batch: Batch,
    subset_masks: Bool[np.ndarray, "S M"],
    classifiers: Mapping[str, Classifier],
) -> Bool[np.ndarray, "S B *A M"]:
    """Whether x_m generated from subset A is classified as the tuple's label, for every subset, tuple and target m.

    One z ~ q(z|X_A) for every tuple, decoded to every modality's mean (mode, for class indices). Its mean over tuples
    is conditional coherence where m is not in A, self-coherence where it is.

    Args:
      model: any model.
      params: its parameters.
      key: PRNG key.
      batch: test tuples with their labels, [B] or, of classifiers of A attributes, [B, A].
      subset_masks: the subsets, [S, M].
      classifiers: for every modality.
    """
    return judged(model, params, key, batch, subset_masks, classifiers) == np.asarray(batch.label)[..., None]


def judged(
    model: Model,
    params: Params,
    key: Key[Array, ""],
    batch: Batch,
    subset_masks: Bool[np.ndarray, "S M"],
    classifiers: Mapping[str, Classifier],
    judge: Judge = most_likely,
) -> Shaped[np.ndarray, "S B *A M"]:
    """What every modality generated from every subset shows, by the logits of its classifier.

    Args:
      model: any model.
      params: its parameters.
      key: PRNG key; the same key judges the same generations.
      batch: test tuples.
      subset_masks: the subsets, [S, M].
      classifiers: for every modality.
      judge: what their logits [..., N] come down to.
    """
    modules, weights = _split(model, classifiers)
    masks = jnp.asarray(subset_masks)
    found = []
    for chunk in chunks(batch, min(MAX_EXAMPLES, decoded_at_once(model, params))):
        chunk_key = jax.random.fold_in(key, chunk.index)
        shown = _conditional(model, modules, judge, params, weights, chunk_key, chunk.batch, masks)
        found.append(np.asarray(shown)[:, : chunk.size])
    return np.concatenate(found, 1)


def joint_classes(
    model: Model,
    params: Params,
    key: Key[Array, ""],
    samples: int,
    classifiers: Mapping[str, Classifier],
    sampler: Density | None = None,
) -> Int[np.ndarray, "N *A M"]:
    """The class, or that of every attribute, that each modality shows, of unconditional samples.

    Args:
      model: any model.
      params: its parameters.
      key: PRNG key.
      samples: N.
      classifiers: for every modality.
      sampler: what z is drawn from in place of the model's prior.
    """
    modules, weights = _split(model, classifiers)
    count = math.ceil(samples / decoded_at_once(model, params))
    size = math.ceil(samples / count)
    classes = [
        np.asarray(_joint_classes(model, modules, size, params, weights, jax.random.fold_in(key, i), sampler))
        for i in range(count)
    ]
    return np.concatenate(classes)[:samples]


def agreement(classes: Int[np.ndarray, "N *A M"]) -> Bool[np.ndarray, "N *A"]:
    """Whether all modalities of a sample show the same class; the mean is joint coherence."""
    return np.all(classes == classes[..., :1], -1)


def surprise(classes: Int[np.ndarray, "N M"]) -> Float[np.ndarray, "N"]:
    """`-log p_m(class)` in nats, averaged over modalities, with p_m the frequencies of the classes that m shows.

    Its mean is the entropy of one modality's classes, averaged over modalities: 0 for decoders that always draw the
    same, also where each draws another one, and log C for C equally frequent classes. All samples count, not only those
    whose modalities agree: of an incoherent model too few of them would be left to tell.
    """
    terms = []
    for column in classes.T:
        _, index, counts = np.unique(column, return_inverse=True, return_counts=True)
        terms.append(np.log(len(column) / counts)[index])
    return np.mean(terms, 0)


def _split(model: Model, classifiers: Mapping[str, Classifier]) -> tuple[Modules, dict[str, Any]]:
    """The static and the traced part of the classifiers."""
    modules = tuple(classifiers[name].module for name in model.names)
    return modules, {name: classifiers[name].params for name in model.names}


def _shown(
    model: Model, modules: Modules, judge: Judge, params: Params, weights: dict[str, Any], latents: Latents
) -> Shaped[Array, "B *A M"]:
    x = model.point_estimates(params, latents)
    pairs = zip(modules, model.names, strict=True)
    return jnp.stack([judge(module.apply({"params": weights[name]}, x[name])) for module, name in pairs], -1)


@on_all_devices(static=(0, 1, 2))
def _conditional(
    model: Model,
    modules: Modules,
    judge: Judge,
    params: Params,
    weights: dict[str, Any],
    key: Key[Array, ""],
    batch: Batch,
    masks: Bool[Array, "S M"],
) -> Shaped[Array, "S B *A M"]:
    codes = model.encode(params, batch)

    def one(arguments: tuple[Array, Array]) -> Shaped[Array, "B *A M"]:
        subset_key, mask = arguments
        latents = model.draw(params, codes, batch.present, mask, subset_key)
        return _shown(model, modules, judge, params, weights, latents)

    return jax.lax.map(one, (jax.random.split(key, len(masks)), masks))


@on_all_devices(static=(0, 1, 2))
def _joint_classes(
    model: Model,
    modules: Modules,
    size: int,
    params: Params,
    weights: dict[str, Any],
    key: Key[Array, ""],
    sampler: Density | None,
) -> Int[Array, "N *A M"]:
    latents = split_over_devices(model.draw_prior(params, key, size, sampler))
    return _shown(model, modules, most_likely, params, weights, latents)
