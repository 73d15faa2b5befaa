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
from mmvae_jax.model import Model, Params
from mmvae_jax.priors import Density
from mmvae_jax.sharding import on_all_devices, split_over_devices

Sets = dict[str, Float[np.ndarray, "N F"]]
Modules = tuple[tuple[str, nn.Module], ...]
Weights = dict[str, Any]


class Extractor(NamedTuple):
    """A network that sows `features` of pictures.

    Attributes:
      module: Linen module of pictures [B, H, W, C] in 0..1.
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


def pictured(model: Model) -> list[str]:
    """The modalities whose x are pictures [H, W, C]."""
    return [m.name for m in model.modalities if len(m.shape) == 3 and not m.discrete]


def following_subsets(m: int, target: int) -> Bool[np.ndarray, "S M"]:
    """For every number of inputs the modalities that follow the target, which comes after the last again.

    One subset of each size, and over all targets every modality is given equally often: a fair part of the powerset.
    """
    rows = [(target + 1 + np.arange(size)) % m for size in range(1, m)]
    return subsets.from_indices(rows, m) if rows else np.zeros((0, m), bool)


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
    modules = tuple((name, extractors[name].module) for name in names)
    weights = {name: extractors[name].params for name in names}
    masks = {name: following_subsets(len(model.names), model.names.index(name)) for name in names}
    pieces: list[tuple[Sets, ...]] = []
    for chunk in chunks(batch, min(limit, decoded_at_once(model, params))):
        chunk_key = jax.random.fold_in(key, chunk.index)
        arguments = model, modules, params, weights, chunk_key
        given = _given(*arguments, chunk.batch, masks)
        size = len(chunk.batch.label)
        nothing = _from_nothing(model, modules, size, params, weights, chunk_key, sampler)
        real, conditional = ({name: each[i] for name, each in given.items()} for i in (0, 1))
        labelled = {
            f"{subsets.label(mask, model.names)}->{name}": features
            for name, sets in conditional.items()
            for mask, features in zip(masks[name], sets, strict=True)
        }
        sets = (real, labelled, nothing)
        pieces.append(jax.tree.map(lambda values, size=chunk.size: np.asarray(values)[:size], sets))
    return PictureFeatures(*jax.tree.map(lambda *parts: np.concatenate(parts), *pieces))


def _features(module: nn.Module, params: Any, x: Num[Array, "B H W C"]) -> Float[Array, "B F"]:
    """What the last layer of a classifier reads."""
    _, sown = module.apply({"params": params}, x, mutable=("intermediates",))
    return sown["intermediates"]["features"][0]


@on_all_devices(static=(0, 1))
def _given(
    model: Model,
    modules: Modules,
    params: Params,
    weights: Weights,
    key: Key[Array, ""],
    batch: Batch,
    masks: dict[str, Bool[Array, "S M"]],
) -> dict[str, tuple[Float[Array, "B F"], Float[Array, "S B F"]]]:
    codes, found = model.encode(params, batch), {}
    modalities = {m.name: m for m in model.modalities}
    for i, (name, module) in enumerate(modules):

        def one(arguments: tuple[Array, Array], module: nn.Module = module, name: str = name) -> Float[Array, "B F"]:
            draw_key, mask = arguments
            latents = model.draw(params, codes, batch.present, mask, draw_key)
            return _features(module, weights[name], model.point_estimates(params, latents, name)[name])

        keys = jax.random.split(jax.random.fold_in(key, i), len(masks[name]))
        real = _features(module, weights[name], modalities[name].in_units(batch.x[name]))
        found[name] = real, jax.lax.map(one, (keys, jnp.asarray(masks[name])))
    return found


@on_all_devices(static=(0, 1, 2))
def _from_nothing(
    model: Model,
    modules: Modules,
    size: int,
    params: Params,
    weights: Weights,
    key: Key[Array, ""],
    sampler: Density | None,
) -> dict[str, Float[Array, "B F"]]:
    latents = split_over_devices(model.draw_prior(params, jax.random.fold_in(key, len(modules)), size, sampler))
    shown = model.point_estimates(params, latents, [name for name, _ in modules])
    return {name: _features(module, weights[name], shown[name]) for name, module in modules}
