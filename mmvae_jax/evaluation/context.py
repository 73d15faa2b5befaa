"""What metrics are computed from: a trained model, its data, and what several metrics share."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Self

import jax
import numpy as np
from jaxtyping import Array, Bool, Int, Key

from mmvae_jax import subsets
from mmvae_jax.data.batching import Batch, Dataset, Split, take
from mmvae_jax.errors import UserError
from mmvae_jax.evaluation.classifiers import Classifier, trained_classifiers
from mmvae_jax.evaluation.coherence import joint_classes, subset_matches
from mmvae_jax.evaluation.likelihood import Estimates, importance_estimates
from mmvae_jax.evaluation.samplers import SAMPLERS
from mmvae_jax.evaluation.settings import EvaluationSettings
from mmvae_jax.evaluation.synergy import trained_oracle
from mmvae_jax.model import Model, Params
from mmvae_jax.priors import Density
from mmvae_jax.sharding import whole

Masks = Bool[np.ndarray, "S M"]

# The powerset of five modalities; of more of them, as many subsets are chosen.
MAX_SUBSETS = 31


class Keys(NamedTuple):
    """Keys of what metrics share, all of them of one key: the same key gives the same numbers."""

    test: Key[Array, ""]
    train: Key[Array, ""]
    coherence: Key[Array, ""]
    likelihood: Key[Array, ""]


@dataclass(frozen=True, eq=False)
class Context:
    """A trained model and what it is measured on; what is shared is computed when it is first asked for, and kept.

    Attributes:
      model: any model of the data set's modalities.
      params: its parameters.
      dataset: incomplete test tuples are left out.
      key: PRNG key; the same key gives the same numbers.
      settings: the sizes of everything.
      cache_dir: where classifiers are kept.
      report: gets a line for every stage.
    """

    model: Model
    params: Params
    dataset: Dataset
    key: Key[Array, ""]
    settings: EvaluationSettings = field(default_factory=EvaluationSettings)
    cache_dir: Path | str = "cache"
    report: Callable[[str], None] = print

    def on_one_host(self) -> Self:
        """The same, and what was computed so far, for one host to go on with alone; all hosts must ask for it."""
        alone = copy.copy(self)
        object.__setattr__(alone, "params", whole(self.params))
        alone.__dict__["sampler"] = self.sampler
        return alone

    @cached_property
    def keys(self) -> Keys:
        """Keys of the shared parts; a metric of one's own folds something of its own into `key`."""
        return Keys(*jax.random.split(self.key, 4))

    @cached_property
    def masks(self) -> Masks:
        """The subsets that are given, [S, M]; see `evaluated_subsets`."""
        return evaluated_subsets(len(self.model.modalities))

    @property
    def labels(self) -> list[str]:
        """The subsets that are given, written like `m0+m3`."""
        return [subsets.label(mask, self.model.names) for mask in self.masks]

    @cached_property
    def test(self) -> Batch:
        """All test tuples that have every modality, in a random order."""
        return complete(self.dataset.test, self.keys.test)

    @property
    def judged(self) -> Batch:
        """As many of them as `settings.test_examples`."""
        return first(self.test, self.settings.test_examples)

    @cached_property
    def fitted(self) -> Batch:
        """The training tuples that probes are fitted on."""
        count = min(self.settings.probe_train_examples, self.dataset.train.size)
        return take(self.dataset.train, self.keys.train, count)

    @cached_property
    def classifiers(self) -> dict[str, Classifier]:
        """One for every modality."""
        pixels = [m.name for m in self.model.modalities if m.pixels]
        settings = self.settings.classifier
        return trained_classifiers(self.dataset, self.cache_dir, settings, self.report, pixels=pixels)

    @cached_property
    def oracle(self) -> Classifier | None:
        """The classifier of whole images, where the data set says how its parts make up one."""
        if self.dataset.join is None:
            return None
        return trained_oracle(self.dataset, self.dataset.join, self.cache_dir, self.settings.classifier, self.report)

    @cached_property
    def sampler(self) -> Density | None:
        """What unconditional samples are drawn from; None: the model's prior."""
        fit = SAMPLERS[self.settings.sampler].function
        key = jax.random.fold_in(self.keys.train, 2)
        return fit(self.model, self.params, self.dataset, key, self.settings.sampler_components)

    @cached_property
    def matches(self) -> Bool[np.ndarray, "S B M"]:
        """Whether each modality generated from each subset shows the tuple's class."""
        key = jax.random.split(self.keys.coherence)[0]
        return subset_matches(self.model, self.params, key, self.judged, self.masks, self.classifiers)

    @cached_property
    def joint_classes(self) -> Int[np.ndarray, "N M"]:
        """The classes that unconditional samples show."""
        key, count = jax.random.split(self.keys.coherence)[1], self.settings.joint_samples
        return joint_classes(self.model, self.params, key, count, self.classifiers, self.sampler)

    @cached_property
    def estimates(self) -> tuple[Estimates, Estimates]:
        """log p(X) under every subset, and log p(x_m) under each modality alone, in one sweep."""
        single = subsets.singletons(self.masks.shape[1])
        proposals, targets = np.concatenate([self.masks, single]), np.concatenate([np.ones_like(self.masks), single])
        weighed = first(self.test, self.settings.log_likelihood_examples)
        samples = self.settings.log_likelihood_samples
        found = importance_estimates(
            self.model, self.params, self.keys.likelihood, weighed, proposals, targets, samples
        )
        joint, marginal = zip(*(np.split(leaf, [len(self.masks)]) for leaf in found), strict=True)
        return Estimates(*joint), Estimates(*marginal)


def evaluated_subsets(m: int) -> Masks:
    """The powerset of up to five modalities; of more: singletons, the full set and a fixed sample of all sizes."""
    if 2**m - 1 <= MAX_SUBSETS:
        return subsets.powerset(m)
    rng = np.random.default_rng(m)
    sizes = np.linspace(2, m - 1, max(0, MAX_SUBSETS - m - 1)).round().astype(int)
    drawn = [tuple(sorted(rng.choice(m, size, replace=False).tolist())) for size in sizes]
    chosen = sorted(set(drawn), key=lambda rows: (len(rows), rows))
    masks = [subsets.singletons(m), subsets.from_indices(chosen, m), subsets.full(m)]
    return np.concatenate(masks)


def complete(split: Split, key: Key[Array, ""]) -> Batch:
    """All tuples of a split that have every modality, in a random order.

    Raises:
      UserError: there is none.
    """
    everything = take(split, key, split.size)
    rows = np.flatnonzero(np.asarray(everything.present).all(1))
    if len(rows) == 0:
        raise UserError("no test tuple with every modality: evaluation needs some")
    return everything if len(rows) == split.size else jax.tree.map(lambda values: values[rows], everything)


def first(batch: Batch, count: int | None) -> Batch:
    """The first examples of a batch; None: all."""
    return jax.tree.map(lambda values: values[:count], batch)
