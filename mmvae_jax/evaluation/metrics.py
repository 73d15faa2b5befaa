"""What a trained model is measured by: `METRICS` maps the name of a metric to its row.

`evaluate`, the report, comparisons of runs and figures read this one table. To add a metric, add a row.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Shaped

from mmvae_jax import subsets
from mmvae_jax.data.batching import Dataset
from mmvae_jax.evaluation.accuracy import matches, predictions
from mmvae_jax.evaluation.attributes import joint_attribute_matches
from mmvae_jax.evaluation.bleu import bleu_replicates
from mmvae_jax.evaluation.coherence import agreement, surprise
from mmvae_jax.evaluation.context import Context, complete, first
from mmvae_jax.evaluation.correlation import cross_correlations, joint_correlations
from mmvae_jax.evaluation.probe import probe_matches
from mmvae_jax.evaluation.synergy import reassembly_matches

# Label -> one value an example, or the metric and its replicates where a row says `resampled`. A label is a subset that
# is given, `m0+m3`, or with a target, `m0+m3->m1`; anything else that is measured, such as a modality; or "" where
# there is only one.
Values = Mapping[str, Shaped[np.ndarray, "N"]]

# Mean entropy in nats below which unconditional samples show one class and little else.
COLLAPSED = 0.1
# Effective sample size below which one importance weight of K is nearly all. The bound is then loose by 1 / (2 size)
# nats and more, whatever K; of weights without a variance by far more, which the estimated size does not show.
FEW_SAMPLES = 1.5


def _always(dataset: Dataset) -> bool:
    return True


def has_classes(dataset: Dataset) -> bool:
    """Whether the tuples of a data set have classes that can be told apart."""
    return dataset.num_classes >= 2


def has_attributes(dataset: Dataset) -> bool:
    """Whether a data set says which attributes its modalities show."""
    return dataset.attributes is not None


def has_captions(dataset: Dataset) -> bool:
    """Whether a data set says what its captions describe, and has classes to tell what describes them apart by."""
    return dataset.captioned is not None and has_classes(dataset)


def has_binary_attributes(dataset: Dataset) -> bool:
    """Whether these are all there or not, as what faces wear."""
    return dataset.attributes is not None and dataset.attributes.binary


def has_judges(dataset: Dataset) -> bool:
    """Whether classifiers of its modalities are trained, of classes or of attributes."""
    return has_classes(dataset) or has_attributes(dataset)


def has_tasks(dataset: Dataset) -> bool:
    """Whether a data set says what its pictures are to be made into."""
    return bool(dataset.tasks)


def has_sentences(dataset: Dataset) -> bool:
    """Whether modalities of a data set are sentences."""
    return bool(dataset.sentences)


@dataclass(frozen=True)
class Metric:
    """A row of `METRICS`.

    Attributes:
      function: context -> label -> one value for every example. Their mean is the metric, and its standard error is
        made of them.
      title: what it is called in tables and figures.
      unit: of its axis in figures.
      by_subset: its labels are subsets that are given, a row each in tables.
      by_size: they are, and it is averaged over those of as many modalities, a panel in figures.
      fraction: its values are between 0 and 1, and tables shade them.
      higher_is_better: which way models are ranked.
      resampled: it is no mean over examples: its function gives the metric first and then bootstrap replicates of it,
        equally many and of the same examples for all labels, whose deviation is its standard error.
      by_attribute: its labels end in an attribute, a row each in tables.
      applies: whether a data set has what it needs.
      family: title of the columns that it shares with others, where its labels have targets.
      remark: what to say, in words, of a mean; "" for nothing.
    """

    function: Callable[[Context], Values]
    title: str
    unit: str
    by_subset: bool = False
    by_size: bool = False
    fraction: bool = False
    higher_is_better: bool = True
    resampled: bool = False
    by_attribute: bool = False
    applies: Callable[[Dataset], bool] = _always
    family: str = ""
    remark: Callable[[float], str] = lambda mean: ""


def _labelled(labels: Iterable[str], values: Iterable[Shaped[np.ndarray, "N"]]) -> Values:
    return dict(zip(labels, values, strict=True))


def _probe(context: Context) -> Values:
    key = jax.random.fold_in(context.keys.train, 1)
    masks, judged = context.masks, context.judged
    return _labelled(context.labels, probe_matches(context.model, context.params, key, context.fitted, judged, masks))


def _of_targets(context: Context, values: Shaped[np.ndarray, "S M N"], own: bool) -> Values:
    """Of targets that are themselves given, or of all others."""
    return {
        f"{label}->{target}": values[s, m]
        for s, label in enumerate(context.labels)
        for m, target in enumerate(context.model.names)
        if context.masks[s, m] == own
    }


def _coherence(context: Context, own: bool) -> Values:
    return _of_targets(context, np.moveaxis(context.matches, 2, 1), own)


def _accuracy(context: Context) -> Values:
    """Of labels, of whole sentences, and of other strings digit by digit, given subsets without them."""
    model, test, key = context.model, context.judged, jax.random.fold_in(context.key, 3)
    labels = tuple(m.name for m in model.modalities if m.discrete and m.shape == ())
    sentences = context.dataset.sentences
    strings = [(m.name,) for m in model.modalities if m.row.autoregressive and m.name not in sentences]
    found = dict(_exact(context))
    # All labels at once, whose decoders cost little beside the encoders of everything.
    for targets in (labels, *strings):
        columns = [model.names.index(name) for name in targets]
        masks = context.masks[~context.masks[:, columns].all(1)]
        if not len(masks):
            continue
        told = predictions(model, context.params, key, test, masks, targets)
        for m, name in zip(columns, targets, strict=True):
            truth, end = np.asarray(test.x[name]), model.classes[name] - 1
            for mask, each in zip(masks, told[name], strict=True):
                places = {} if mask[m] else matches(each, truth, end)
                label = f"{subsets.label(mask, model.names)}->{name}"
                found |= {label + place: right for place, right in places.items()}
    return found


def _exact(context: Context) -> Values:
    """Whether sentences are told as they are, in whichever pieces."""
    return {
        f"{label}->{name}": np.array([said == meant for said, meant in zip(told[s], context.meant[name], strict=True)])
        for name, told in context.told.items()
        for s, label in enumerate(context.labels)
        if not context.masks[s, context.model.names.index(name)]
    }


def _bleu(context: Context) -> Values:
    """Of sentences told greedily, given every subset; those given the sentence itself are reconstructions."""
    meant = context.meant
    return {
        f"{label}->{name}": bleu_replicates(each, meant[name], seed=len(each))
        for name, told in context.told.items()
        for label, each in zip(context.labels, told, strict=True)
    }


def _synergy(context: Context) -> Values:
    """How often the oracle reads the right digit off what is generated and joined (SVAE paper 2021, section 5)."""
    join, oracle = context.dataset.join, context.oracle
    assert join is not None and oracle is not None
    take_key, draw_key = jax.random.split(context.key)
    test = first(complete(context.dataset.test, take_key), context.settings.test_examples)
    model, params = context.model, context.params
    return _labelled(context.labels, reassembly_matches(model, params, draw_key, test, context.masks, join, oracle))


def _by_attribute(names: Iterable[str], found: Mapping[str, Shaped[np.ndarray, "N A"]]) -> Values:
    """One label an attribute."""
    return {f"{label}/{name}": each[:, a] for label, each in found.items() for a, name in enumerate(names)}


def _readers(context: Context) -> Values:
    """Of those that are trained."""
    exact = context.attributes.read
    right = {name: each.right for name, each in context.readers.items() if name not in exact}
    return _by_attribute(context.attributes.values, right)


def _precisions(context: Context, generated: bool) -> Values:
    return {label: each.mean(1) for label, each in _of(context.precisions.found, generated).items()}


def _precisions_each(context: Context, generated: bool) -> Values:
    return _by_attribute(context.precisions.names, _of(context.precisions.found, generated))


def _joint_attributes(context: Context) -> Values:
    model, params, key = context.model, context.params, jax.random.split(context.keys.coherence)[1]
    samples, attributes, readers = context.settings.joint_samples, context.attributes, context.readers
    return {"": joint_attribute_matches(model, params, key, samples, attributes, readers, context.sampler)}


def _cross_correlations(context: Context) -> Values:
    key = jax.random.split(context.keys.coherence)[0]
    return cross_correlations(context.correlator, context.model, context.params, key, context.judged)


def _joint_correlations(context: Context) -> Values:
    model, params, key = context.model, context.params, jax.random.split(context.keys.coherence)[1]
    samples = context.settings.joint_samples
    return {"": joint_correlations(context.correlator, model, params, key, samples, context.sampler)}


def _classifiers(context: Context) -> Values:
    found = {name: context.classifiers[name].right for name in context.model.names}
    return found if context.oracle is None else {**found, "oracle": context.oracle.right}


def _of(found: Mapping[str, Shaped[np.ndarray, "N"]], conditional: bool) -> Values:
    """What is measured of pictures generated from some modalities, or from nothing."""
    return {label: each for label, each in found.items() if ("->" in label) == conditional}


def _precision(context: Context, conditional: bool) -> Values:
    return _of({label: found.precise for label, found in context.overlaps.items()}, conditional)


def _recall(context: Context, conditional: bool) -> Values:
    return _of({label: found.recalled for label, found in context.overlaps.items()}, conditional)


def _marginal(context: Context, of: str) -> Values:
    """An entry of the estimates of log p(x_m): the first subsets are those of one modality."""
    return _labelled(context.model.names, getattr(context.estimates.own, of)[: len(context.model.names)])


def _conditional(context: Context) -> Values:
    """log p(x_m|x_A) = log p(x_m, x_A) - log p(x_A), each by its own posterior; where both subsets are evaluated."""
    own = dict(zip(context.labels, context.estimates.own.log_prob, strict=True))
    names = context.model.names
    pairs = {
        f"{label}->{target}": (subsets.label(mask | subsets.select(target, names), names), label)
        for mask, label in zip(context.masks, context.labels, strict=True)
        for m, target in enumerate(names)
        if not mask[m]
    }
    return {pair: own[both] - own[given] for pair, (both, given) in pairs.items() if both in own}


def _cross(context: Context, own: bool) -> Values:
    return _of_targets(context, context.estimates.cross, own)


def _variance(context: Context, function: Callable[[Context], Values]) -> Values:
    """Of one importance sample there is no variance."""
    return function(context) if context.settings.log_likelihood_samples > 1 else {}


def _annealed(context: Context) -> Values:
    return context.annealed if context.settings.estimator == "ais" else {}


def _looseness(context: Context) -> Values:
    """By how much importance sampling under the same modalities' posterior is lower, on the same examples."""
    sampled = dict(zip(context.labels, context.estimates.own.log_prob, strict=True))
    return {label: each - sampled[label][: len(each)] for label, each in _annealed(context).items()}


METRICS: dict[str, Metric] = {
    "probe": Metric(
        _probe,
        "Linear probe",
        "accuracy of logistic regression",
        by_size=True,
        fraction=True,
        applies=has_classes,
    ),
    "coherence/conditional": Metric(
        lambda context: _coherence(context, own=False),
        "Conditional coherence",
        "fraction of the right class",
        by_size=True,
        fraction=True,
        applies=has_classes,
    ),
    "coherence/self": Metric(
        lambda context: _coherence(context, own=True),
        "Self-coherence",
        "fraction of the right class",
        by_subset=True,
        fraction=True,
        applies=has_classes,
    ),
    "accuracy": Metric(
        _accuracy,
        "Accuracy",
        "fraction of labels, of sentences, or of symbols at their places, told right",
        by_subset=True,
        fraction=True,
    ),
    "bleu": Metric(
        _bleu,
        "BLEU",
        "of the corpus, 0 to 100, by sacrebleu",
        by_subset=True,
        resampled=True,
        applies=has_sentences,
    ),
    "synergy": Metric(
        _synergy,
        "Synergy",
        "fraction of the right class, joined",
        by_size=True,
        fraction=True,
        applies=lambda dataset: dataset.join is not None and has_classes(dataset),
    ),
    "attributes/all": Metric(
        lambda context: {label: np.all(right, 1) for label, right in context.attribute_matches.items()},
        "All attributes",
        "fraction with every attribute right",
        by_size=True,
        fraction=True,
        applies=has_attributes,
    ),
    "attributes/each": Metric(
        lambda context: _by_attribute(context.attributes.values, context.attribute_matches),
        "Attributes, one by one",
        "fraction with the attribute right",
        by_attribute=True,
        fraction=True,
        applies=has_attributes,
    ),
    "average_precision/latent": Metric(
        lambda context: _precisions(context, generated=False),
        "Average precision of latents",
        "mean over attributes, logistic regression",
        by_size=True,
        fraction=True,
        resampled=True,
        applies=has_binary_attributes,
    ),
    "average_precision/generated": Metric(
        lambda context: _precisions(context, generated=True),
        "Average precision of generations",
        "mean over attributes, as they are read",
        by_size=True,
        fraction=True,
        resampled=True,
        applies=has_binary_attributes,
    ),
    "average_precision/chance": Metric(
        lambda context: {"": context.precisions.chance.mean(1)} if context.precisions.names else {},
        "Average precision by chance",
        "mean frequency of the attributes",
        fraction=True,
        resampled=True,
        applies=has_binary_attributes,
    ),
    "average_precision/frequency": Metric(
        lambda context: {name: context.precisions.chance[:, a] for a, name in enumerate(context.precisions.names)},
        "Frequency",
        "fraction that has it",
        fraction=True,
        resampled=True,
        by_attribute=True,
        applies=has_binary_attributes,
    ),
    "average_precision/latent_each": Metric(
        lambda context: _precisions_each(context, generated=False),
        "Average precision, latent",
        "logistic regression",
        fraction=True,
        resampled=True,
        by_attribute=True,
        applies=has_binary_attributes,
    ),
    "average_precision/generated_each": Metric(
        lambda context: _precisions_each(context, generated=True),
        "Average precision, generated",
        "as it is read",
        fraction=True,
        resampled=True,
        by_attribute=True,
        applies=has_binary_attributes,
    ),
    "task/error": Metric(
        lambda context: {name: errors.model for name, errors in context.task_errors.items()},
        "Error of a task",
        "mean squared error, pixels in 0..1",
        higher_is_better=False,
        applies=has_tasks,
    ),
    "task/guess": Metric(
        lambda context: {name: errors.guess for name, errors in context.task_errors.items()},
        "Error of a guess without learning",
        "mean squared error, pixels in 0..1",
        higher_is_better=False,
        applies=has_tasks,
    ),
    "log_likelihood/joint": Metric(
        lambda context: _labelled(context.labels, context.estimates.joint.log_prob),
        "Joint log-likelihood",
        "log p(X), nats",
        by_size=True,
    ),
    "log_likelihood/conditional": Metric(
        _conditional,
        "Conditional log-likelihood",
        "log p(x|given), nats",
        by_size=True,
        family="Conditional log-likelihood",
    ),
    "log_likelihood/cross": Metric(
        lambda context: _cross(context, own=False),
        "Cross-likelihood",
        "log E p(x|z), z given others, nats",
        by_size=True,
        family="Cross-likelihood",
    ),
    "log_likelihood/self": Metric(
        lambda context: _cross(context, own=True),
        "Self-likelihood",
        "log E p(x|z), z given x, nats",
        by_subset=True,
        family="Cross-likelihood",
    ),
    "log_likelihood/ess": Metric(
        lambda context: _labelled(context.labels, context.estimates.joint.ess),
        "Effective sample size",
        "importance samples, of K",
        by_subset=True,
        remark=lambda mean: (
            "log p(X) is a loose bound: one importance sample carries nearly all the weight"
            if mean < FEW_SAMPLES
            else ""
        ),
    ),
    "log_likelihood/variance": Metric(
        lambda context: _variance(context, lambda of: _labelled(of.labels, of.estimates.joint.variance)),
        "Variance of log weights",
        "nats squared",
        by_subset=True,
        higher_is_better=False,
    ),
    "log_likelihood/marginal": Metric(
        lambda context: _marginal(context, "log_prob"), "Marginal log-likelihood", "log p(x), nats"
    ),
    "log_likelihood/marginal_ess": Metric(
        lambda context: _marginal(context, "ess"), "Effective sample size of marginals", "importance samples, of K"
    ),
    "log_likelihood/marginal_variance": Metric(
        lambda context: _variance(context, lambda of: _marginal(of, "variance")),
        "Variance of log weights of marginals",
        "nats squared",
        higher_is_better=False,
    ),
    "log_likelihood/annealed": Metric(_annealed, "Annealed log-likelihood", "log p(x), nats"),
    "log_likelihood/looseness": Metric(
        _looseness, "Looseness: annealed above importance-sampled log-likelihood", "nats", higher_is_better=False
    ),
    "coherence/joint": Metric(
        lambda context: {"": agreement(context.joint_classes)},
        "Joint coherence",
        "fraction of samples whose modalities agree",
        fraction=True,
        applies=has_classes,
    ),
    "coherence/joint_entropy": Metric(
        lambda context: {"": surprise(context.joint_classes)},
        "Entropy of joint classes",
        "nats",
        applies=has_classes,
        remark=lambda mean: (
            "collapsed: nearly all unconditional samples show one class, and joint coherence says nothing"
            if mean < COLLAPSED
            else ""
        ),
    ),
    "attributes/joint": Metric(
        _joint_attributes,
        "Joint attributes",
        "fraction of samples whose modalities agree in all attributes",
        fraction=True,
        applies=has_attributes,
    ),
    "correlation/conditional": Metric(
        _cross_correlations,
        "Correlation with what is given",
        "canonical correlation of picture and caption",
        by_subset=True,
        applies=has_captions,
    ),
    "correlation/joint": Metric(
        _joint_correlations,
        "Correlation of samples",
        "canonical correlation of picture and caption",
        applies=has_captions,
    ),
    "correlation/data": Metric(
        lambda context: {"": context.correlator.of(context.judged.x)},
        "Correlation of real pairs",
        "canonical correlation of picture and caption",
        applies=has_captions,
    ),
    "FD/conditional": Metric(
        lambda context: _of(context.distances, conditional=True),
        "FD of conditional pictures",
        "Fréchet distance, features of our classifiers",
        by_size=True,
        higher_is_better=False,
        resampled=True,
        applies=has_judges,
    ),
    "precision/conditional": Metric(
        lambda context: _precision(context, conditional=True),
        "Precision of conditional pictures",
        "fraction of generated among real ones",
        by_size=True,
        fraction=True,
        applies=has_judges,
    ),
    "recall/conditional": Metric(
        lambda context: _recall(context, conditional=True),
        "Recall of conditional pictures",
        "fraction of real among generated ones",
        by_size=True,
        fraction=True,
        applies=has_judges,
    ),
    "FD/unconditional": Metric(
        lambda context: _of(context.distances, conditional=False),
        "FD of unconditional pictures",
        "Fréchet distance, features of our classifiers",
        higher_is_better=False,
        resampled=True,
        applies=has_judges,
    ),
    "precision/unconditional": Metric(
        lambda context: _precision(context, conditional=False),
        "Precision of unconditional pictures",
        "fraction of generated among real ones",
        fraction=True,
        applies=has_judges,
    ),
    "recall/unconditional": Metric(
        lambda context: _recall(context, conditional=False),
        "Recall of unconditional pictures",
        "fraction of real among generated ones",
        fraction=True,
        applies=has_judges,
    ),
    "FID/conditional": Metric(
        lambda context: _of(context.inception_distances, conditional=True),
        "FID of conditional pictures",
        "Fréchet distance, features of Inception-v3",
        by_size=True,
        higher_is_better=False,
        resampled=True,
    ),
    "FID/unconditional": Metric(
        lambda context: _of(context.inception_distances, conditional=False),
        "FID of unconditional pictures",
        "Fréchet distance, features of Inception-v3",
        higher_is_better=False,
        resampled=True,
    ),
    "classifier": Metric(
        _classifiers,
        "Classifier",
        "accuracy on test data",
        fraction=True,
        applies=has_classes,
    ),
    "attributes/reader": Metric(
        _readers,
        "Classifier of an attribute",
        "accuracy on test data",
        fraction=True,
        by_attribute=True,
        applies=has_attributes,
    ),
}
