"""Attributes: whether what is generated has those that it should, each of them and all together.

Modalities that a data set can read are read exactly; of every other one a classifier that is trained on real data tells
all attributes. What either says is scored as coherence is.
"""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, Num, Shaped

from mmvae_jax import subsets
from mmvae_jax.data.attributes import Attributes, Read
from mmvae_jax.data.batching import Arrays, Batch, Dataset, Plan, Split
from mmvae_jax.evaluation.classifiers import Classifier, ClassifierSettings, Report, trained_classifiers
from mmvae_jax.evaluation.coherence import agreement, joint_classes, judged, subset_matches
from mmvae_jax.model import Model, Params
from mmvae_jax.priors import Density


class ExactReader(nn.Module):
    """Attributes that a function reads, without parameters; those that it cannot read are of one class more.

    Where it tells probabilities of attributes that are there or not, these are put out, nothing being illegible.

    Attributes:
      read: see `Attributes`.
      values: of the attribute that has most.
    """

    read: Read
    values: int

    def __call__(self, x: Num[Array, "B ..."]) -> Float[Array, "B A N"]:
        """One logit of 1 for every attribute, or those of being absent and present."""
        classes = self.read(x)
        if jnp.issubdtype(classes.dtype, jnp.floating):
            return jnp.stack([1 - classes, classes], -1)
        return jax.nn.one_hot(jnp.where(classes < 0, self.values, classes), self.values + 1)


def trained_readers(
    dataset: Dataset,
    attributes: Attributes,
    cache_dir: Path | str,
    settings: ClassifierSettings | None = None,
    report: Report = print,
    pixels: Collection[str] | None = None,
    symbols: Collection[str] | None = None,
) -> dict[str, Classifier]:
    """What tells all attributes of every modality, logits [B, A, N]: its own reader, or a classifier trained here.

    These are trained as `trained_classifiers` are, one network for all attributes of a modality, and kept in the same
    cache.

    Args:
      dataset: trained on its training split, its test split says how good they are.
      attributes: the data set's.
      cache_dir: folder of the cache, made if missing.
      settings: of training.
      report: gets a line for the classifiers that are trained.
      pixels: as of `trained_classifiers`.
      symbols: likewise.
    """
    values = tuple(map(len, attributes.values.values()))
    exact = np.ones((dataset.test.size, len(values)), bool)
    readers = {name: Classifier(ExactReader(read, max(values)), {}, exact) for name, read in attributes.read.items()}
    told = labelled_by_attributes(dataset, attributes)
    return readers | trained_classifiers(
        told,
        cache_dir,
        settings,
        lambda line: report(f"attributes: {line}"),
        pixels=pixels,
        symbols=symbols,
        attributes=values,
    )


def labelled_by_attributes(dataset: Dataset, attributes: Attributes) -> Dataset:
    """The same tuples, labelled by all attributes, [B, A], without the modalities that are read exactly."""

    def told(split: Split) -> Split:
        def gather(arrays: Arrays, rows: Plan) -> tuple[dict[str, Array], Int[Array, "B A"]]:
            x, _ = split.gather(arrays, rows)
            return x, attributes.of(x)

        return replace(split, gather=gather)

    others = tuple(name for name in dataset.modalities if name not in attributes.read)
    return replace(dataset, modalities=others, train=told(dataset.train), test=told(dataset.test))


def attribute_matches(
    model: Model,
    params: Params,
    key: Key[Array, ""],
    batch: Batch,
    subset_masks: Bool[np.ndarray, "S M"],
    attributes: Attributes,
    readers: dict[str, Classifier],
) -> dict[str, Bool[np.ndarray, "B A"]]:
    """Whether what is generated has each attribute of its tuple, by `<given>-><generated>`, of what is not given.

    Args:
      model: any model.
      params: its parameters.
      key: PRNG key.
      batch: test tuples.
      subset_masks: the subsets, [S, M].
      attributes: the data set's.
      readers: from `trained_readers`.
    """
    masks = subset_masks[~subset_masks.all(1)]
    right = subset_matches(model, params, key, batch._replace(label=attributes.of(batch.x)), masks, readers)
    return _of_others(model, masks, right)


def attribute_scores(
    model: Model,
    params: Params,
    key: Key[Array, ""],
    batch: Batch,
    subset_masks: Bool[np.ndarray, "S M"],
    readers: dict[str, Classifier],
) -> dict[str, Float[np.ndarray, "B A"]]:
    """By how much what is generated rather has each binary attribute than not, as `attribute_matches`.

    Args:
      model: any model.
      params: its parameters.
      key: PRNG key; the same key scores the generations of `attribute_matches`.
      batch: test tuples.
      subset_masks: the subsets, [S, M].
      readers: from `trained_readers`.
    """
    masks = subset_masks[~subset_masks.all(1)]
    return _of_others(model, masks, judged(model, params, key, batch, masks, readers, presence))


def presence(logits: Float[Array, "*B N"]) -> Float[Array, "*B"]:
    """The log-odds of what is there or not; of an exact reader another increasing function of the probability."""
    return logits[..., 1] - logits[..., 0]


def _of_others(
    model: Model, masks: Bool[np.ndarray, "S M"], found: Shaped[np.ndarray, "S B A M"]
) -> dict[str, Shaped[np.ndarray, "B A"]]:
    return {
        f"{subsets.label(mask, model.names)}->{target}": found[s, ..., m]
        for s, mask in enumerate(masks)
        for m, target in enumerate(model.names)
        if not mask[m]
    }


def joint_attribute_matches(
    model: Model,
    params: Params,
    key: Key[Array, ""],
    samples: int,
    attributes: Attributes,
    readers: dict[str, Classifier],
    sampler: Density | None = None,
) -> Bool[np.ndarray, "N"]:
    """Whether all modalities of an unconditional sample show the same attributes, all of which can be read.

    Args:
      model: any model.
      params: its parameters.
      key: PRNG key.
      samples: N.
      attributes: the data set's.
      readers: from `trained_readers`.
      sampler: what z is drawn from in place of the model's prior.
    """
    classes = joint_classes(model, params, key, samples, readers, sampler)
    counts = np.array([len(values) for values in attributes.values.values()])
    return np.all(agreement(classes) & (classes[..., 0] < counts), 1)
