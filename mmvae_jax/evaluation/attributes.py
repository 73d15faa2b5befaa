"""Attributes: whether what is generated has those that it should, each of them and all together.

Modalities that a data set can read are read exactly; of all others every attribute is told by a classifier of its own,
trained on real data. Either is a classifier of several attributes, and what it says is scored as coherence is.
"""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key, Num

from mmvae_jax import subsets
from mmvae_jax.data.attributes import Attributes, Read
from mmvae_jax.data.batching import Arrays, Batch, Dataset, Plan, Split
from mmvae_jax.evaluation.classifiers import Classifier, ClassifierSettings, Report, trained_classifiers
from mmvae_jax.evaluation.coherence import agreement, joint_classes, subset_matches
from mmvae_jax.model import Model, Params
from mmvae_jax.priors import Density


class ExactReader(nn.Module):
    """Attributes that a function reads, without parameters; those that it cannot read are of one class more.

    Attributes:
      read: see `Attributes`.
      values: of the attribute that has most.
    """

    read: Read
    values: int

    def __call__(self, x: Num[Array, "B ..."]) -> Float[Array, "B A N"]:
        """One logit of 1 for every attribute."""
        classes = self.read(x)
        return jax.nn.one_hot(jnp.where(classes < 0, self.values, classes), self.values + 1)


class TrainedReader(nn.Module):
    """Classifiers of one modality, one an attribute."""

    classifiers: tuple[nn.Module, ...]

    def __call__(self, x: Num[Array, "B ..."]) -> Float[Array, "B A N"]:
        """Logits of all attributes, minus infinity beyond an attribute's values."""
        logits = [classifier(x) for classifier in self.classifiers]
        most = max(each.shape[-1] for each in logits)
        widths = [((0, 0), (0, most - each.shape[-1])) for each in logits]
        padded = [jnp.pad(each, width, constant_values=-jnp.inf) for each, width in zip(logits, widths, strict=True)]
        return jnp.stack(padded, 1)


def trained_readers(
    dataset: Dataset,
    attributes: Attributes,
    cache_dir: Path | str,
    settings: ClassifierSettings | None = None,
    report: Report = print,
    pixels: Collection[str] | None = None,
) -> dict[str, Classifier]:
    """What tells all attributes of every modality, logits [B, A, N]: its own reader, or classifiers trained here.

    They are trained as `trained_classifiers` are, and kept in the same cache: an attribute that the tuples' classes
    are made by shares theirs.

    Args:
      dataset: trained on its training split, its test split says how good they are.
      attributes: the data set's.
      cache_dir: folder of the cache, made if missing.
      settings: of training.
      report: gets a line for every attribute whose classifiers are trained.
      pixels: as of `trained_classifiers`.
    """
    most = max(map(len, attributes.values.values()))
    exact = np.ones((dataset.test.size, len(attributes.values)), bool)
    readers = {name: Classifier(ExactReader(read, most), {}, exact) for name, read in attributes.read.items()}
    found = [
        trained_classifiers(
            of_attribute(dataset, attributes, attribute),
            cache_dir,
            settings,
            lambda line, attribute=attribute: report(f"{attribute}: {line}"),
            pixels=pixels,
        )
        for attribute in attributes.values
    ]
    for name in found[0]:
        each = [classifiers[name] for classifiers in found]
        module = TrainedReader(tuple(classifier.module for classifier in each))
        params = {f"classifiers_{i}": classifier.params for i, classifier in enumerate(each)}
        readers[name] = Classifier(module, params, np.stack([classifier.right for classifier in each], 1))
    return readers


def of_attribute(dataset: Dataset, attributes: Attributes, attribute: str) -> Dataset:
    """The same tuples, of classes by one attribute, without the modalities that are read exactly."""
    column = list(attributes.values).index(attribute)

    def told(split: Split) -> Split:
        def gather(arrays: Arrays, rows: Plan) -> tuple[dict[str, Array], Array]:
            x, _ = split.gather(arrays, rows)
            return x, attributes.of(x)[:, column]

        return replace(split, gather=gather)

    return replace(
        dataset,
        modalities=tuple(name for name in dataset.modalities if name not in attributes.read),
        train=told(dataset.train),
        test=told(dataset.test),
        num_classes=len(attributes.values[attribute]),
    )


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
    return {
        f"{subsets.label(mask, model.names)}->{target}": right[s, ..., m]
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
