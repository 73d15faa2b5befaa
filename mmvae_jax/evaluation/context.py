"""What metrics are computed from: a trained model, its data, and what several metrics share."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from mmvae_jax import subsets
from mmvae_jax.data.attributes import Attributes
from mmvae_jax.data.batching import Batch, Dataset, Split, take
from mmvae_jax.errors import UserError
from mmvae_jax.evaluation.accuracy import predictions
from mmvae_jax.evaluation.annealing import annealed_estimates
from mmvae_jax.evaluation.attributes import attribute_matches, attribute_scores, trained_readers
from mmvae_jax.evaluation.average_precision import Precisions, precisions
from mmvae_jax.evaluation.chunks import MAX_EXAMPLES
from mmvae_jax.evaluation.classifiers import Classifier, trained_classifiers
from mmvae_jax.evaluation.coherence import joint_classes, subset_matches
from mmvae_jax.evaluation.correlation import Correlator, fitted_correlator
from mmvae_jax.evaluation.frechet import frechet_replicates
from mmvae_jax.evaluation.inception import AT_ONCE, inception
from mmvae_jax.evaluation.likelihood import SubsetEstimates, subset_estimates
from mmvae_jax.evaluation.overlap import Manifold, Overlap, overlap
from mmvae_jax.evaluation.picture_features import Extractor, PictureFeatures, picture_features, pictured
from mmvae_jax.evaluation.probe import probe_scores
from mmvae_jax.evaluation.samplers import SAMPLERS
from mmvae_jax.evaluation.settings import EvaluationSettings
from mmvae_jax.evaluation.synergy import trained_oracle
from mmvae_jax.evaluation.tasks import TaskErrors, task_errors
from mmvae_jax.inputs import absent_where_nan
from mmvae_jax.model import Model, Params
from mmvae_jax.priors import Density
from mmvae_jax.sharding import whole
from mmvae_jax.symbols import symbols_to_text

Masks = Bool[np.ndarray, "S M"]

# The powerset of five modalities; of more of them, as many subsets are chosen.
MAX_SUBSETS = 31
# Training pairs that canonical correlation is fitted to, at most.
MAX_PAIRS = 10_000


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

    def of(self, params: Params) -> Self:
        """The same of other parameters, such as an earlier checkpoint's; what depends on the data alone is shared."""
        other = replace(self, params=params)
        for name in ("keys", "masks", "test", "fitted", "classifiers", "oracle", "readers", "correlator"):
            if name in self.__dict__:
                other.__dict__[name] = self.__dict__[name]
        return other

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
        return complete(self.model, self.dataset.test, self.keys.test)

    @property
    def judged(self) -> Batch:
        """As many of them as `settings.test_examples`."""
        return first(self.test, self.settings.test_examples)

    @cached_property
    def fitted(self) -> Batch:
        """The training tuples that probes are fitted on."""
        count = min(self.settings.probe_train_examples, self.dataset.train.size)
        return absent_where_nan(self.model.modalities, take(self.dataset.train, self.keys.train, count))

    @cached_property
    def classifiers(self) -> dict[str, Classifier]:
        """One for every modality."""
        settings, (pixels, symbols) = self.settings.classifier, self._pixels_and_symbols
        return trained_classifiers(self.dataset, self.cache_dir, settings, self.report, pixels=pixels, symbols=symbols)

    @cached_property
    def oracle(self) -> Classifier | None:
        """The classifier of whole images, where the data set says how its parts make up one."""
        if self.dataset.join is None:
            return None
        return trained_oracle(self.dataset, self.dataset.join, self.cache_dir, self.settings.classifier, self.report)

    @property
    def attributes(self) -> Attributes:
        """Those of the data set, where it has some."""
        assert self.dataset.attributes is not None
        return self.dataset.attributes

    @cached_property
    def readers(self) -> dict[str, Classifier]:
        """What tells the attributes of every modality."""
        settings, units = self.settings.classifier, self._pixels_and_symbols
        return trained_readers(self.dataset, self.attributes, self.cache_dir, settings, self.report, *units)

    @property
    def _pixels_and_symbols(self) -> tuple[list[str], list[str]]:
        """Which modalities are of either."""
        modalities = self.model.modalities
        return [m.name for m in modalities if m.pixels], [m.name for m in modalities if m.discrete]

    @cached_property
    def correlator(self) -> Correlator:
        """What tells how well pictures and captions go together, where the data set has captions."""
        captioned, train = self.dataset.captioned, self.dataset.train
        assert captioned is not None
        pairs = take(train, jax.random.fold_in(self.keys.train, 3), min(MAX_PAIRS, train.size))
        return fitted_correlator(self.model, captioned, pairs, self.classifiers)

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
    def attribute_matches(self) -> dict[str, Bool[np.ndarray, "B A"]]:
        """Whether what is generated has each attribute of its tuple, by `<given>-><generated>`."""
        key = jax.random.split(self.keys.coherence)[0]
        return attribute_matches(self.model, self.params, key, self.judged, self.masks, self.attributes, self.readers)

    @cached_property
    def precisions(self) -> Precisions:
        """Average precisions of binary attributes, told from latents and read off what is generated."""
        attributes, judged, fitted = self.attributes, self.judged, self.fitted
        key, seeds = jax.random.fold_in(self.keys.train, 1), jax.random.fold_in(self.keys.coherence, 4)
        has = np.asarray(attributes.of(fitted.x)) == 1
        latent = probe_scores(self.model, self.params, key, fitted, judged, self.masks, has)
        key = jax.random.split(self.keys.coherence)[0]
        generated = attribute_scores(self.model, self.params, key, judged, self.masks, self.readers)
        scores = {**dict(zip(self.labels, latent, strict=True)), **generated}
        truth, seed = np.asarray(attributes.of(judged.x)) == 1, int(jax.random.randint(seeds, (), 0, 2**31 - 1))
        return precisions(scores, truth, list(attributes.values), seed)

    @cached_property
    def task_errors(self) -> dict[str, TaskErrors]:
        """How far the model's pictures and a guess's are from what they should be, by task."""
        key = jax.random.fold_in(self.key, 4)
        return {
            name: task_errors(self.model, self.params, key, self.judged, task)
            for name, task in self.dataset.tasks.items()
        }

    @cached_property
    def told(self) -> dict[str, list[list[str]]]:
        """Sentences that every subset of the test tuples' modalities says, by the modality that is told."""
        key = jax.random.fold_in(self.key, 3)
        found = {}
        for name in self.dataset.sentences:
            rows = predictions(self.model, self.params, key, self.judged, self.masks, (name,))[name]
            found[name] = [self._texts(name, each) for each in rows]
        return found

    @property
    def meant(self) -> dict[str, list[str]]:
        """The test tuples' own sentences."""
        return {name: self._texts(name, np.asarray(self.judged.x[name])) for name in self.dataset.sentences}

    def _texts(self, name: str, rows: Int[np.ndarray, "B L"]) -> list[str]:
        return [symbols_to_text(row, self.dataset.sentences[name]) for row in rows]

    @cached_property
    def joint_classes(self) -> Int[np.ndarray, "N M"]:
        """The classes that unconditional samples show."""
        key, count = jax.random.split(self.keys.coherence)[1], self.settings.joint_samples
        return joint_classes(self.model, self.params, key, count, self.classifiers, self.sampler)

    @property
    def weighed(self) -> Batch:
        """As many test tuples as `settings.log_likelihood_examples`."""
        return first(self.test, self.settings.log_likelihood_examples)

    @cached_property
    def pictures(self) -> PictureFeatures | None:
        """Test pictures and generated ones as the last layers of the classifiers see them; None without any."""
        if not self._pictured:
            return None
        return self._features(self._judges, MAX_EXAMPLES)

    @property
    def _judges(self) -> dict[str, Extractor]:
        """The classifiers of pictures, of classes where there are some, else of attributes."""
        if self.dataset.num_classes >= 2:
            return {name: Extractor(found.module, found.params) for name, found in self.classifiers.items()}
        heads: dict[str, Any] = {name: self.readers[name] for name in self._pictured}
        return {name: Extractor(found.module.network, found.params["network"]) for name, found in heads.items()}

    @cached_property
    def inception_pictures(self) -> PictureFeatures | None:
        """The same pictures as Inception-v3 sees them; None without its weights."""
        if not self._pictured or not self.settings.inception_weights:
            return None
        extractor = inception(self.settings.inception_weights)
        return self._features({name: extractor for name in self._pictured}, AT_ONCE)

    @property
    def _pictured(self) -> list[str]:
        """The modalities of pictures, if there are enough of them to compare."""
        return pictured(self.model) if len(self._compared.label) > 1 else []

    @property
    def _compared(self) -> Batch:
        return first(self.judged, self.settings.pictures)

    def _features(self, extractors: Mapping[str, Extractor], limit: int) -> PictureFeatures:
        key = jax.random.fold_in(self.keys.coherence, 2)
        return picture_features(self.model, self.params, key, self._compared, extractors, self.sampler, limit)

    @cached_property
    def overlaps(self) -> dict[str, Overlap]:
        """Where real and generated pictures overlap, by `<given>-><modality>` and by `<modality>` from nothing."""
        if self.pictures is None:
            return {}
        real = {name: Manifold(features) for name, features in self.pictures.real.items()}
        return {
            label: overlap(real[label.rpartition("->")[2]], Manifold(features))
            for label, features in self.pictures.generated.items()
        }

    @cached_property
    def distances(self) -> dict[str, Float[np.ndarray, "R"]]:
        """Fréchet distances and their replicates, by the same labels."""
        return self._distances(self.pictures)

    @cached_property
    def inception_distances(self) -> dict[str, Float[np.ndarray, "R"]]:
        """The same in Inception's features."""
        return self._distances(self.inception_pictures)

    def _distances(self, found: PictureFeatures | None) -> dict[str, Float[np.ndarray, "R"]]:
        if found is None:
            return {}
        seed = int(jax.random.randint(jax.random.fold_in(self.keys.coherence, 3), (), 0, 2**31 - 1))
        return frechet_replicates(found.real, found.generated, seed)

    @cached_property
    def estimates(self) -> SubsetEstimates:
        """Log-likelihoods under every subset's posterior: of everything, of what is given, of each modality."""
        samples = self.settings.log_likelihood_samples
        return subset_estimates(self.model, self.params, self.keys.likelihood, self.weighed, self.masks, samples)

    @cached_property
    def annealed(self) -> dict[str, Float[np.ndarray, "B"]]:
        """log p(x_m) of every modality, then log p(X), by annealed importance sampling; of the first of `weighed`."""
        batch, names = first(self.weighed, self.settings.ais.examples), self.model.names
        targets = {"+".join(target): target for target in [*((name,) for name in names), names]}
        return {
            label: annealed_estimates(
                self.model, self.params, jax.random.fold_in(self.keys.likelihood, i), batch, target, self.settings.ais
            ).log_prob
            for i, (label, target) in enumerate(targets.items())
        }


def evaluated_subsets(m: int) -> Masks:
    """The powerset of up to five modalities; of more: singletons, all, all but the first, and a fixed sample."""
    if 2**m - 1 <= MAX_SUBSETS:
        return subsets.powerset(m)
    rng = np.random.default_rng(m)
    sizes = np.linspace(2, m - 1, max(0, MAX_SUBSETS - m - 1)).round().astype(int)
    drawn = [tuple(sorted(rng.choice(m, size, replace=False).tolist())) for size in sizes]
    if tuple(range(1, m)) not in drawn:
        drawn[-1:] = [tuple(range(1, m))]
    chosen = sorted(set(drawn), key=lambda rows: (len(rows), rows))
    masks = [subsets.singletons(m), subsets.from_indices(chosen, m), subsets.full(m)]
    return np.concatenate(masks)


def complete(model: Model, split: Split, key: Key[Array, ""]) -> Batch:
    """All tuples of a split that have every modality of the model, in a random order.

    Raises:
      UserError: there is none.
    """
    everything = absent_where_nan(model.modalities, take(split, key, split.size))
    rows = np.flatnonzero(np.asarray(everything.present).all(1))
    if len(rows) == 0:
        raise UserError("no test tuple with every modality: evaluation needs some")
    return everything if len(rows) == split.size else jax.tree.map(lambda values: values[rows], everything)


def first(batch: Batch, count: int | None) -> Batch:
    """The first examples of a batch; None: all."""
    return jax.tree.map(lambda values: values[:count], batch)
