"""What a trained model is measured by: `METRICS` maps the name of a metric to its row.

`evaluate`, the report, comparisons of runs and figures read this one table. To add a metric, add a row.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Shaped

from mmvae_jax.data.batching import Dataset
from mmvae_jax.evaluation.coherence import agreement, surprise
from mmvae_jax.evaluation.context import Context, complete, first
from mmvae_jax.evaluation.probe import probe_matches
from mmvae_jax.evaluation.synergy import reassembly_matches

# Label -> one value an example. A label is a subset that is given, `m0+m3`, or with a target, `m0+m3->m1`; anything
# else that is measured, such as a modality; or "" where there is only one.
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
      applies: whether a data set has what it needs.
      remark: what to say, in words, of a mean; "" for nothing.
    """

    function: Callable[[Context], Values]
    title: str
    unit: str
    by_subset: bool = False
    by_size: bool = False
    fraction: bool = False
    higher_is_better: bool = True
    applies: Callable[[Dataset], bool] = _always
    remark: Callable[[float], str] = lambda mean: ""


def _labelled(labels: Iterable[str], values: Iterable[Shaped[np.ndarray, "N"]]) -> Values:
    return dict(zip(labels, values, strict=True))


def _probe(context: Context) -> Values:
    key = jax.random.fold_in(context.keys.train, 1)
    masks, judged = context.masks, context.judged
    return _labelled(context.labels, probe_matches(context.model, context.params, key, context.fitted, judged, masks))


def _coherence(context: Context, own: bool) -> Values:
    """Of targets that are themselves given, or of all others."""
    return {
        f"{label}->{target}": context.matches[s, :, m]
        for s, label in enumerate(context.labels)
        for m, target in enumerate(context.model.names)
        if context.masks[s, m] == own
    }


def _synergy(context: Context) -> Values:
    """How often the oracle reads the right digit off what is generated and joined (SVAE paper 2021, section 5)."""
    join, oracle = context.dataset.join, context.oracle
    assert join is not None and oracle is not None
    take_key, draw_key = jax.random.split(context.key)
    test = first(complete(context.dataset.test, take_key), context.settings.test_examples)
    model, params = context.model, context.params
    return _labelled(context.labels, reassembly_matches(model, params, draw_key, test, context.masks, join, oracle))


def _classifiers(context: Context) -> Values:
    found = {name: context.classifiers[name].right for name in context.model.names}
    return found if context.oracle is None else {**found, "oracle": context.oracle.right}


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
    "synergy": Metric(
        _synergy,
        "Synergy",
        "fraction of the right class, joined",
        by_size=True,
        fraction=True,
        applies=lambda dataset: dataset.join is not None and has_classes(dataset),
    ),
    "log_likelihood/joint": Metric(
        lambda context: _labelled(context.labels, context.estimates[0].log_prob),
        "Joint log-likelihood",
        "log p(X), nats",
        by_size=True,
    ),
    "log_likelihood/ess": Metric(
        lambda context: _labelled(context.labels, context.estimates[0].ess),
        "Effective sample size",
        "importance samples, of K",
        by_subset=True,
        remark=lambda mean: (
            "log p(X) is a loose bound: one importance sample carries nearly all the weight"
            if mean < FEW_SAMPLES
            else ""
        ),
    ),
    "log_likelihood/marginal": Metric(
        lambda context: _labelled(context.model.names, context.estimates[1].log_prob),
        "Marginal log-likelihood",
        "log p(x), nats",
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
    "classifier": Metric(
        _classifiers,
        "Classifier",
        "accuracy on test data",
        fraction=True,
        applies=has_classes,
    ),
}
