"""What a trained model is measured by: `METRICS` maps the name of a metric to its row.

`evaluate`, the report, comparisons of runs and figures read this one table. To add a metric, add a row.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from mmvae_jax.data.batching import Dataset
from mmvae_jax.errors import UserError, check_choice
from mmvae_jax.evaluation import measures
from mmvae_jax.evaluation.coherence import agreement, surprise
from mmvae_jax.evaluation.context import Context
from mmvae_jax.evaluation.measures import Values

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
      guessed: it is the fraction of the right class, of which a guess gets one over their number, a line in figures.
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
    guessed: bool = False
    higher_is_better: bool = True
    resampled: bool = False
    by_attribute: bool = False
    applies: Callable[[Dataset], bool] = _always
    family: str = ""
    remark: Callable[[float], str] = lambda mean: ""


METRICS: dict[str, Metric] = {
    "probe": Metric(
        measures.probe,
        "Linear probe",
        "accuracy of logistic regression",
        by_size=True,
        fraction=True,
        guessed=True,
        applies=has_classes,
    ),
    "coherence/conditional": Metric(
        lambda context: measures.coherence(context, own=False),
        "Conditional coherence",
        "fraction of the right class",
        by_size=True,
        fraction=True,
        guessed=True,
        applies=has_classes,
    ),
    "coherence/self": Metric(
        lambda context: measures.coherence(context, own=True),
        "Self-coherence",
        "fraction of the right class",
        by_subset=True,
        fraction=True,
        guessed=True,
        applies=has_classes,
    ),
    "accuracy": Metric(
        measures.accuracy,
        "Accuracy",
        "fraction of labels, of sentences, or of symbols at their places, told right",
        by_subset=True,
        fraction=True,
    ),
    "bleu": Metric(
        measures.bleu,
        "BLEU",
        "of the corpus, 0 to 100, by sacrebleu",
        by_subset=True,
        resampled=True,
        applies=has_sentences,
        family="BLEU",
    ),
    "synergy": Metric(
        measures.synergy,
        "Synergy",
        "fraction of the right class, joined",
        by_size=True,
        fraction=True,
        guessed=True,
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
        lambda context: measures.by_attribute(context.attributes.values, context.attribute_matches),
        "Attributes, one by one",
        "fraction with the attribute right",
        by_attribute=True,
        fraction=True,
        applies=has_attributes,
    ),
    "average_precision/latent": Metric(
        lambda context: measures.average_precision(context, generated=False),
        "Average precision of latents",
        "mean over attributes, logistic regression",
        by_size=True,
        fraction=True,
        resampled=True,
        applies=has_binary_attributes,
    ),
    "average_precision/generated": Metric(
        lambda context: measures.average_precision(context, generated=True),
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
        lambda context: measures.average_precision_each(context, generated=False),
        "Average precision, latent",
        "logistic regression",
        fraction=True,
        resampled=True,
        by_attribute=True,
        applies=has_binary_attributes,
    ),
    "average_precision/generated_each": Metric(
        lambda context: measures.average_precision_each(context, generated=True),
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
        lambda context: measures.labelled(context.labels, context.estimates.joint.log_prob),
        "Joint log-likelihood",
        "log p(X), nats",
        by_size=True,
    ),
    "log_likelihood/conditional": Metric(
        measures.conditional_log_likelihood,
        "Conditional log-likelihood",
        "log p(x|given), nats",
        by_size=True,
        family="Conditional log-likelihood",
    ),
    "log_likelihood/cross": Metric(
        lambda context: measures.cross_likelihood(context, own=False),
        "Cross-likelihood",
        "log E p(x|z), z given others, nats",
        by_size=True,
        family="Cross-likelihood",
    ),
    "log_likelihood/self": Metric(
        lambda context: measures.cross_likelihood(context, own=True),
        "Self-likelihood",
        "log E p(x|z), z given x, nats",
        by_subset=True,
        family="Cross-likelihood",
    ),
    "log_likelihood/ess": Metric(
        lambda context: measures.labelled(context.labels, context.estimates.joint.ess),
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
        lambda context: measures.where_varied(
            context, lambda of: measures.labelled(of.labels, of.estimates.joint.variance)
        ),
        "Variance of log weights",
        "nats squared",
        by_subset=True,
        higher_is_better=False,
    ),
    "log_likelihood/marginal": Metric(
        lambda context: measures.marginal(context, "log_prob"), "Marginal log-likelihood", "log p(x), nats"
    ),
    "log_likelihood/marginal_ess": Metric(
        lambda context: measures.marginal(context, "ess"),
        "Effective sample size of marginals",
        "importance samples, of K",
    ),
    "log_likelihood/marginal_variance": Metric(
        lambda context: measures.where_varied(context, lambda of: measures.marginal(of, "variance")),
        "Variance of log weights of marginals",
        "nats squared",
        higher_is_better=False,
    ),
    "log_likelihood/marginal_by_all": Metric(
        lambda context: measures.marginal(context, "log_prob", by_all=True),
        "Marginal log-likelihood by the posterior of all",
        "log p(x), nats",
    ),
    "log_likelihood/marginal_by_all_variance": Metric(
        lambda context: measures.where_varied(context, lambda of: measures.marginal(of, "variance", by_all=True)),
        "Variance of log weights of marginals by the posterior of all",
        "nats squared",
        higher_is_better=False,
    ),
    "log_likelihood/annealed": Metric(measures.annealed, "Annealed log-likelihood", "log p(x), nats"),
    "log_likelihood/looseness": Metric(
        measures.looseness,
        "Looseness: annealed above importance-sampled log-likelihood",
        "nats",
        higher_is_better=False,
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
        measures.joint_attributes,
        "Joint attributes",
        "fraction of samples whose modalities agree in all attributes",
        fraction=True,
        applies=has_attributes,
    ),
    "correlation/conditional": Metric(
        measures.cross_correlation,
        "Correlation with what is given",
        "canonical correlation of picture and caption",
        by_subset=True,
        applies=has_captions,
    ),
    "correlation/joint": Metric(
        measures.joint_correlation,
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
        lambda context: measures.of_pictures(context.distances, conditional=True),
        "FD of conditional pictures",
        "Fréchet distance, features of our classifiers",
        by_size=True,
        higher_is_better=False,
        resampled=True,
        applies=has_judges,
    ),
    "precision/conditional": Metric(
        lambda context: measures.precision(context, conditional=True),
        "Precision of conditional pictures",
        "fraction of generated among real ones",
        by_size=True,
        fraction=True,
        applies=has_judges,
    ),
    "recall/conditional": Metric(
        lambda context: measures.recall(context, conditional=True),
        "Recall of conditional pictures",
        "fraction of real among generated ones",
        by_size=True,
        fraction=True,
        applies=has_judges,
    ),
    "FD/unconditional": Metric(
        lambda context: measures.of_pictures(context.distances, conditional=False),
        "FD of unconditional pictures",
        "Fréchet distance, features of our classifiers",
        higher_is_better=False,
        resampled=True,
        applies=has_judges,
    ),
    "precision/unconditional": Metric(
        lambda context: measures.precision(context, conditional=False),
        "Precision of unconditional pictures",
        "fraction of generated among real ones",
        fraction=True,
        applies=has_judges,
    ),
    "recall/unconditional": Metric(
        lambda context: measures.recall(context, conditional=False),
        "Recall of unconditional pictures",
        "fraction of real among generated ones",
        fraction=True,
        applies=has_judges,
    ),
    "FID/conditional": Metric(
        lambda context: measures.of_pictures(context.inception_distances, conditional=True),
        "FID of conditional pictures",
        "Fréchet distance, features of Inception-v3",
        by_size=True,
        higher_is_better=False,
        resampled=True,
    ),
    "FID/unconditional": Metric(
        lambda context: measures.of_pictures(context.inception_distances, conditional=False),
        "FID of unconditional pictures",
        "Fréchet distance, features of Inception-v3",
        higher_is_better=False,
        resampled=True,
    ),
    "classifier": Metric(
        measures.classifiers,
        "Classifier",
        "accuracy on test data",
        fraction=True,
        applies=has_classes,
    ),
    "attributes/reader": Metric(
        measures.readers,
        "Classifier of an attribute",
        "accuracy on test data",
        fraction=True,
        by_attribute=True,
        applies=has_attributes,
    ),
}


def chosen_metrics(names: Collection[str], dataset: Dataset | None = None, what: str = "metric") -> tuple[str, ...]:
    """The keys of `METRICS` that are chosen, in their order.

    Args:
      names: keys, or how they begin before a slash: `coherence` for both of its kinds; none for all.
      dataset: keeps those that apply to it; None: all.
      what: they are called in a refusal.

    Raises:
      UserError: no key begins with a name, or none that does applies to the data set.
    """
    applying = [key for key, row in METRICS.items() if dataset is None or row.applies(dataset)]
    for name in names:
        check_choice(name, dict.fromkeys(start for key in METRICS for start in (key.partition("/")[0], key)), what)
        if not any(_begins(name, key) for key in applying):
            raise UserError(
                f"metrics {name}: {dataset and dataset.name} has nothing to be measured by it, leave it out"
            )
    return tuple(key for key in applying if not names or any(_begins(name, key) for name in names))


def _begins(name: str, key: str) -> bool:
    return f"{key}/".startswith(f"{name}/")
