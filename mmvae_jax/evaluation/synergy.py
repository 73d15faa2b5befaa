"""Synergy: whether the parts of an image that a model generates make up the right digit (SVAE paper 2021, section 5).

All parts are generated given some of them and joined; an oracle trained on whole images tells the digit. Given all
parts its accuracy is the paper's synergy, given one or a few their cross-coherence.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Key

from mmvae_jax.data.batching import Batch, Dataset, Join, Split, fixed_split
from mmvae_jax.evaluation.chunks import MAX_EXAMPLES, chunks, decoded_at_once
from mmvae_jax.evaluation.classifiers import (
    Classifier,
    ClassifierSettings,
    Report,
    classify,
    trained_classifiers,
)
from mmvae_jax.model import Model, Params
from mmvae_jax.networks.resnet import ResNetClassifier
from mmvae_jax.sharding import on_all_devices

_WHOLE = "whole"


def reassembly_matches(
    model: Model,
    params: Params,
    key: Key[Array, ""],
    batch: Batch,
    subset_masks: Bool[np.ndarray, "S M"],
    join: Join,
    oracle: Classifier,
) -> Bool[np.ndarray, "S B"]:
    """Whether the oracle puts the re-assembled image into the tuple's class, for every subset A and tuple.

    One z ~ q(z|X_A) for every tuple, decoded to the mean of every part.

    Args:
      model: any model of the parts.
      params: its parameters.
      key: PRNG key.
      batch: test tuples with their labels.
      subset_masks: the subsets, [S, M].
      join: makes whole images of parts by name.
      oracle: a classifier of whole images.
    """
    masks, right = jnp.asarray(subset_masks), []
    for chunk in chunks(batch, min(MAX_EXAMPLES, decoded_at_once(model, params))):
        chunk_key = jax.random.fold_in(key, chunk.index)
        classes = _classes(model, join, oracle.module, params, oracle.params, chunk_key, chunk.batch, masks)
        right.append(np.asarray(classes == chunk.batch.label)[:, : chunk.size])
    return np.concatenate(right, 1)


def trained_oracle(
    dataset: Dataset,
    join: Join,
    cache_dir: Path | str,
    settings: ClassifierSettings | None = None,
    report: Report = print,
) -> Classifier:
    """A small ResNet trained on the whole images of a data set, all of them, from the cache where it is there.

    Args:
      dataset: of parts; what supervision leaves of it plays no part, nor does into how many parts it is divided.
      join: makes whole images of parts by name.
      cache_dir: folder of the cache, made if missing.
      settings: of training.
      report: gets a line if it is trained.
    """
    settings = settings or ClassifierSettings()
    network = ResNetClassifier(dataset.num_classes, dropout=settings.dropout)
    return trained_classifiers(whole_images(dataset, join), cache_dir, settings, report, {_WHOLE: network})[_WHOLE]


def whole_images(dataset: Dataset, join: Join) -> Dataset:
    """The data set with the joined parts as its only modality: complete, its arrays the same however it was divided."""

    def whole(split: Split) -> Split:
        plan = split.plan(split.arrays, jax.random.key(0))
        order = jnp.argsort(plan["index"])
        parts, label = split.gather(split.arrays, jax.tree.map(lambda values: values[order], plan))
        return fixed_split({_WHOLE: join(parts)}, label)

    return replace(
        dataset,
        name=_WHOLE,
        modalities=(_WHOLE,),
        train=whole(dataset.train),
        test=whole(dataset.test),
        provenance={},
        join=None,
    )


@on_all_devices(static=(0, 1, 2))
def _classes(
    model: Model,
    join: Join,
    module: nn.Module,
    params: Params,
    weights: Any,
    key: Key[Array, ""],
    batch: Batch,
    masks: Bool[Array, "S M"],
) -> Int[Array, "S B"]:
    codes = model.encode(params, batch)

    def one(arguments: tuple[Array, Array]) -> Int[Array, "B"]:
        subset_key, mask = arguments
        latents = model.draw(params, codes, batch.present, mask, subset_key)
        return classify(module, weights, join(model.point_estimates(params, latents)))

    return jax.lax.map(one, (jax.random.split(key, len(masks)), masks))
