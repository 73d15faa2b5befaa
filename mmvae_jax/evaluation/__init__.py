"""Everything that a trained model is measured by, one file a metric; `evaluate` runs them all."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Array, Bool, Float

from mmvae_jax import subsets
from mmvae_jax.data.batching import Batch, Dataset, take
from mmvae_jax.errors import UserError
from mmvae_jax.evaluation.classifiers import (
    Classifier,
    ClassifierSettings,
    trained_classifiers,
)
from mmvae_jax.evaluation.coherence import joint_coherence, subset_coherence
from mmvae_jax.evaluation.likelihood import importance_estimates
from mmvae_jax.evaluation.probe import probe_accuracy
from mmvae_jax.model import Model, Params

Masks = Bool[np.ndarray, "S M"]
Metrics = dict[str, float]

# The powerset of five modalities; of more of them, as many subsets are chosen.
MAX_SUBSETS = 31


@dataclass(frozen=True)
class EvaluationSettings:
    """What a model is measured on.

    Attributes:
      log_likelihood_samples: K, importance samples (15 in the MoPoE paper, 1000 for real estimates).
      log_likelihood_examples: test tuples whose log-likelihood is estimated; None: all.
      test_examples: test tuples for the probe and for coherence; None: all.
      probe_train_examples: training tuples that the linear probe is fitted on.
      joint_samples: draws from the prior for joint coherence.
      classifier: how the classifiers that judge coherence are trained.
    """

    log_likelihood_samples: int = 15
    log_likelihood_examples: int | None = 256
    test_examples: int | None = None
    probe_train_examples: int = 500
    joint_samples: int = 10_000
    classifier: ClassifierSettings = field(default_factory=ClassifierSettings)

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, int) and value < 1:
                raise UserError(f"{name.replace('_', '-')}={value}: give at least 1")


def evaluate(
    model: Model,
    params: Params,
    dataset: Dataset,
    key: Array,
    settings: EvaluationSettings | None = None,
    cache_dir: Path | str = "cache",
    report: Callable[[str], None] = print,
) -> Metrics:
    """All metrics of SPEC section 6, averaged over test tuples; log-likelihoods in nats.

    Args:
      model: any model of the data set's modalities.
      params: its parameters.
      dataset: incomplete test tuples are left out; of a data set without classes (`num_classes` < 2) only the
        log-likelihoods are measured.
      key: PRNG key; the same key gives the same numbers.
      settings: the sizes of everything.
      cache_dir: where the classifiers are kept.
      report: gets a line for every stage.

    Returns:
      `probe/<subset>`, `coherence/conditional/<subset>-><target>`, `coherence/self/<subset>-><target>`,
      `coherence/joint`, `classifier/<modality>` (test accuracy), `log_likelihood/joint/<subset>`,
      `log_likelihood/marginal/<modality>`, `log_likelihood/ess/<subset>` (effective sample size), and
      `<metric>/by_size/<n>`, the mean over subsets of n modalities.

    Raises:
      UserError: no complete test tuple.
    """
    settings = settings or EvaluationSettings()
    names, masks = model.names, evaluated_subsets(len(model.modalities))
    data_key, train_key, coherence_key, likelihood_key = jax.random.split(key, 4)
    probe_key = jax.random.fold_in(train_key, 1)
    test = _complete(dataset, data_key)
    metrics: Metrics = {}
    if dataset.num_classes >= 2:
        start = time.perf_counter()
        fitted = take(dataset.train, train_key, min(settings.probe_train_examples, dataset.train.size))
        judged = _first(test, settings.test_examples)
        metrics |= _probe_metrics(names, masks, probe_accuracy(model, params, probe_key, fitted, judged, masks))
        report(_line("linear probe", metrics, "probe/by_size/", start))
        classifiers = trained_classifiers(dataset, cache_dir, settings.classifier, report)
        start = time.perf_counter()
        metrics |= _coherence_metrics(model, params, coherence_key, judged, masks, classifiers, settings.joint_samples)
        report(_line("conditional coherence", metrics, "coherence/conditional/by_size/", start))
    start = time.perf_counter()
    weighed = _first(test, settings.log_likelihood_examples)
    metrics |= _likelihood_metrics(model, params, likelihood_key, weighed, masks, settings.log_likelihood_samples)
    report(_line("joint log-likelihood", metrics, "log_likelihood/joint/by_size/", start))
    return metrics


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


def _complete(dataset: Dataset, key: Array) -> Batch:
    """All test tuples that have every modality, in a random order."""
    test = take(dataset.test, key, dataset.test.size)
    rows = np.flatnonzero(np.asarray(test.present).all(1))
    if len(rows) == 0:
        raise UserError(f"{dataset.name} has no test tuple with every modality: evaluation needs some")
    return test if len(rows) == len(test.label) else jax.tree.map(lambda v: v[rows], test)


def _first(batch: Batch, count: int | None) -> Batch:
    return jax.tree.map(lambda values: values[:count], batch)


def _by_size(prefix: str, masks: Masks, values: Float[np.ndarray, "S"]) -> Metrics:
    """The mean over subsets of each size; a subset without a value (nan) does not count."""
    sizes = np.where(np.isnan(values), 0, masks.sum(1))
    return {
        f"{prefix}/by_size/{size}": float(values[sizes == size].mean()) for size in np.unique(sizes[sizes > 0]).tolist()
    }


def _by_subset(prefix: str, names: Iterable[str], masks: Masks, values: Float[np.ndarray, "S"]) -> Metrics:
    names = tuple(names)
    return {f"{prefix}/{subsets.label(mask, names)}": float(value) for mask, value in zip(masks, values, strict=True)}


def _probe_metrics(names: tuple[str, ...], masks: Masks, accuracies: Float[np.ndarray, "S"]) -> Metrics:
    return {
        **_by_size("probe", masks, accuracies),
        **_by_subset("probe", names, masks, accuracies),
    }


def _coherence_metrics(
    model: Model,
    params: Params,
    key: Array,
    test: Batch,
    masks: Masks,
    classifiers: dict[str, Classifier],
    joint_samples: int,
) -> Metrics:
    conditional_key, joint_key = jax.random.split(key)
    matches = subset_coherence(model, params, conditional_key, test, masks, classifiers)
    outside = np.where(masks, np.nan, matches)
    missing = masks.shape[1] - masks.sum(1)
    means = np.where(missing > 0, np.nansum(outside, 1) / np.maximum(missing, 1), np.nan)
    metrics = _by_size("coherence/conditional", masks, means)
    for mask, row in zip(masks, matches, strict=True):
        for i, target in enumerate(model.names):
            kind = "self" if mask[i] else "conditional"
            metrics[f"coherence/{kind}/{subsets.label(mask, model.names)}->{target}"] = float(row[i])
    metrics["coherence/joint"] = joint_coherence(model, params, joint_key, joint_samples, classifiers)
    return metrics | {f"classifier/{name}": classifiers[name].accuracy for name in model.names}


def _likelihood_metrics(model: Model, params: Params, key: Array, test: Batch, masks: Masks, samples: int) -> Metrics:
    """Joint log p(X) under every subset and the marginal log p(x_m), in one sweep."""
    single = subsets.singletons(masks.shape[1])
    proposals = np.concatenate([masks, single])
    targets = np.concatenate([np.ones_like(masks), single])
    estimates = importance_estimates(model, params, key, test, proposals, targets, samples)
    values, ess = estimates.log_prob.mean(1), estimates.ess.mean(1)
    joint, marginal = np.split(values, [len(masks)])
    return {
        **_by_size("log_likelihood/joint", masks, joint),
        **_by_subset("log_likelihood/joint", model.names, masks, joint),
        **_by_subset("log_likelihood/marginal", model.names, single, marginal),
        **_by_subset("log_likelihood/ess", model.names, masks, ess[: len(masks)]),
    }


def _line(what: str, metrics: Metrics, prefix: str, start: float) -> str:
    """One line of progress: the values by number of inputs and the time since `start`."""
    values = [f"{v:.4g}" for name, v in metrics.items() if name.startswith(prefix)]
    seconds = time.perf_counter() - start
    return f"{what}, by number of inputs: {' '.join(values)} ({seconds:.0f} s)"
