"""Features of test pictures and of generated ones, in which sets of pictures are compared."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key, Num

from mmvae_jax import subsets
from mmvae_jax.data.batching import Batch
from mmvae_jax.evaluation.chunks import MAX_EXAMPLES, chunks, decoded_at_once
from mmvae_jax.model import Latents, Model, Params
from mmvae_jax.priors import Density
from mmvae_jax.sharding import on_all_devices, split_over_devices

Sets = dict[str, Float[np.ndarray, "N F"]]


class Extractor(NamedTuple):
    """A network that sows `features`, such as those of pictures.

    Attributes:
      module: Linen module of x [B, ...] in the model's units: pictures in 0..1.
      params: its parameters.
    """

    module: nn.Module
    params: Any


class PictureFeatures(NamedTuple):
    """Features of equally many pictures, row i of each set of tuple i.

    Attributes:
      real: modality -> of test pictures.
      conditional: `<given>-><modality>` -> of pictures generated from the given modalities of the test tuples.
      unconditional: modality -> of pictures generated from nothing.
    """

    real: Sets
    conditional: Sets
    unconditional: Sets

    @property
    def generated(self) -> Sets:
        """All that is generated, by label."""
        return {**self.conditional, **self.unconditional}


def pictured(model: Model) -> list[str]:
    """The modalities whose x are pictures [H, W, C]."""
    return [m.name for m in model.modalities if len(m.shape) == 3 and not m.discrete]


def following_subsets(m: int, target: int) -> Bool[np.ndarray, "S M"]:
    """For every number of inputs the modalities that follow the target, which comes after the last again.

    One subset of each size, and over all targets every modality is given equally often: a fair part of the powerset.
    """
    return subsets.from_indices([[(target + 1 + i) % m for i in range(size)] for size in range(1, m)], m)


def picture_features(
    model: Model,
    params: Params,
    key: Key[Array, ""],
    batch: Batch,
    extractors: Mapping[str, Extractor],
    sampler: Density | None = None,
    limit: int = MAX_EXAMPLES,
) -> PictureFeatures:
    """Features of the test pictures and of means of p(x_m|z), z ~ q(z|X_A) with `following_subsets` or z ~ p(z).

    Args:
      model: any model.
      params: its parameters.
      key: PRNG key.
      batch: test tuples.
      extractors: for every modality of pictures.
      sampler: what unconditional z are drawn from in place of the model's prior.
      limit: pictures of a modality at once.
    """
    names = tuple(pictured(model))
    masks = {name: following_subsets(len(model.names), model.names.index(name)) for name in names}
    labels = {name: [f"{subsets.label(mask, model.names)}->{name}" for mask in masks[name]] for name in names}
    found: dict[str, list[Float[np.ndarray, "S B F"]]] = {name: [] for name in names}
    # Of every tuple as many pictures of a modality are decoded at once as there are modalities: subsets, and nothing.
    at_once = max(1, decoded_at_once(model, params) // len(model.names))
    for chunk in chunks(batch, min(limit, at_once)):
        chunk_key = jax.random.fold_in(key, chunk.index)
        pictures = _pictures(model, names, params, chunk_key, chunk.batch, masks, sampler)
        for name in names:
            sets = sown_features(*extractors[name], pictures[name])
            found[name].append(np.asarray(sets)[:, : chunk.size])
    sets = {name: np.concatenate(pieces, 1) for name, pieces in found.items()}
    return PictureFeatures(
        {name: each[0] for name, each in sets.items()},
        {label: each for name in names for label, each in zip(labels[name], sets[name][2:], strict=True)},
        {name: each[1] for name, each in sets.items()},
    )


@on_all_devices(static=(0, 1))
def _pictures(
    model: Model,
    names: tuple[str, ...],
    params: Params,
    key: Key[Array, ""],
    batch: Batch,
    masks: Mapping[str, Bool[Array, "S M"] | Bool[np.ndarray, "S M"]],
    sampler: Density | None,
) -> dict[str, Float[Array, "2+S B H W C"]]:
    """Of every modality the real ones, those from nothing, then those from each subset."""
    codes, found = model.encode(params, batch), {}
    nothing = split_over_devices(
        model.draw_prior(params, jax.random.fold_in(key, len(names)), len(batch.label), sampler)
    )
    modalities = {m.name: m for m in model.modalities}
    for i, name in enumerate(names):

        def one(arguments: tuple[Array, Array]) -> Latents:
            draw_key, mask = arguments
            return model.draw(params, codes, batch.present, mask, draw_key)

        keys = jax.random.split(jax.random.fold_in(key, i), len(masks[name]))
        given = jax.lax.map(one, (keys, jnp.asarray(masks[name])))
        # All of a modality is decoded together: its decoder is compiled once.
        latents = jax.tree.map(lambda first, others: jnp.concatenate([first[None], others]), nothing, given)
        real = modalities[name].in_units(batch.x[name])
        found[name] = jnp.concatenate([real[None], model.point_estimates(params, latents, name)[name]])
    return found


@on_all_devices(static=(0,))
def sown_features(module: nn.Module, params: Any, x: Num[Array, "S B ..."]) -> Float[Array, "S B F"]:
    """What a network sows as `features` of one set after another: its activations are many times a picture.

    Args:
      module: sows them, such as a classifier of pictures what its last layer reads.
      params: its parameters.
      x: sets of examples in the model's units.
    """

    def one(x: Num[Array, "B ..."]) -> Float[Array, "B F"]:
        _, sown = module.apply({"params": params}, x, mutable=("intermediates",))
        features: Any = sown["intermediates"]["features"][0]
        return features.reshape(len(x), -1)

    return jax.lax.map(one, split_over_devices(x, 1))
