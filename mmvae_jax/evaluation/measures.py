"""What the rows of `METRICS` measure: context -> label -> one value for every example."""

from collections.abc import Callable, Iterable, Mapping

import jax
import numpy as np
from jaxtyping import Shaped

from mmvae_jax import subsets
from mmvae_jax.evaluation.accuracy import matches, predictions
from mmvae_jax.evaluation.attributes import joint_attribute_matches
from mmvae_jax.evaluation.bleu import bleu_replicates
from mmvae_jax.evaluation.context import Context, complete, first
from mmvae_jax.evaluation.correlation import cross_correlations, joint_correlations
from mmvae_jax.evaluation.probe import probe_matches
from mmvae_jax.evaluation.synergy import reassembly_matches

# Label -> one value an example, or the metric and its replicates where a row says `resampled`. A label is a subset that
# is given, `m0+m3`, or with a target, `m0+m3->m1`; anything else that is measured, such as a modality; or "" where
# there is only one.
Values = Mapping[str, Shaped[np.ndarray, "N"]]


def labelled(labels: Iterable[str], values: Iterable[Shaped[np.ndarray, "N"]]) -> Values:
    """Values in the order of their labels."""
    return dict(zip(labels, values, strict=True))


def probe(context: Context) -> Values:
    """Of every subset, whether the class is told from its posterior mean."""
    key = jax.random.fold_in(context.keys.train, 1)
    masks, judged = context.masks, context.judged
    return labelled(context.labels, probe_matches(context.model, context.params, key, context.fitted, judged, masks))


def of_targets(context: Context, values: Shaped[np.ndarray, "S M N"], own: bool) -> Values:
    """Of targets that are themselves given, or of all others."""
    return {
        f"{label}->{target}": values[s, m]
        for s, label in enumerate(context.labels)
        for m, target in enumerate(context.model.names)
        if context.masks[s, m] == own
    }


def coherence(context: Context, own: bool) -> Values:
    """Whether what is generated shows its tuple's class."""
    return of_targets(context, np.moveaxis(context.matches, 2, 1), own)


def accuracy(context: Context) -> Values:
    """Of labels, of whole sentences, and of other strings digit by digit, given subsets without them."""
    model, test, key = context.model, context.judged, jax.random.fold_in(context.key, 3)
    labels = tuple(m.name for m in model.modalities if m.discrete and m.shape == ())
    sentences = context.dataset.sentences
    strings = [(m.name,) for m in model.modalities if m.row.autoregressive and m.name not in sentences]
    found = dict(exact_sentences(context))
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


def exact_sentences(context: Context) -> Values:
    """Whether sentences are told as they are, in whichever pieces."""
    return {
        f"{label}->{name}": np.array([said == meant for said, meant in zip(told[s], context.meant[name], strict=True)])
        for name, told in context.told.items()
        for s, label in enumerate(context.labels)
        if not context.masks[s, context.model.names.index(name)]
    }


def bleu(context: Context) -> Values:
    """Of sentences told greedily, given every subset; those given the sentence itself are reconstructions."""
    meant = context.meant
    return {
        f"{label}->{name}": bleu_replicates(each, meant[name], seed=len(each))
        for name, told in context.told.items()
        for label, each in zip(context.labels, told, strict=True)
    }


def synergy(context: Context) -> Values:
    """How often the oracle reads the right digit off what is generated and joined (SVAE paper 2021, section 5)."""
    join, oracle = context.dataset.join, context.oracle
    assert join is not None and oracle is not None
    take_key, draw_key = jax.random.split(context.key)
    test = first(complete(context.model, context.dataset.test, take_key), context.settings.test_examples)
    model, params = context.model, context.params
    return labelled(context.labels, reassembly_matches(model, params, draw_key, test, context.masks, join, oracle))


def by_attribute(names: Iterable[str], found: Mapping[str, Shaped[np.ndarray, "N A"]]) -> Values:
    """One label an attribute."""
    return {f"{label}/{name}": each[:, a] for label, each in found.items() for a, name in enumerate(names)}


def readers(context: Context) -> Values:
    """Of those that are trained."""
    exact = context.attributes.read
    right = {name: each.right for name, each in context.readers.items() if name not in exact}
    return by_attribute(context.attributes.values, right)


def average_precision(context: Context, generated: bool) -> Values:
    """The mean over attributes, and its replicates."""
    return {label: each.mean(1) for label, each in of_pictures(context.precisions.found, generated).items()}


def average_precision_each(context: Context, generated: bool) -> Values:
    """One label an attribute."""
    return by_attribute(context.precisions.names, of_pictures(context.precisions.found, generated))


def joint_attributes(context: Context) -> Values:
    """Whether unconditional samples agree in all attributes."""
    model, params, key = context.model, context.params, jax.random.split(context.keys.coherence)[1]
    samples, attributes, readers = context.settings.joint_samples, context.attributes, context.readers
    return {"": joint_attribute_matches(model, params, key, samples, attributes, readers, context.sampler)}


def cross_correlation(context: Context) -> Values:
    """Of a picture or a caption with what is generated of the other."""
    key = jax.random.split(context.keys.coherence)[0]
    return cross_correlations(context.correlator, context.model, context.params, key, context.judged)


def joint_correlation(context: Context) -> Values:
    """Of both, generated together."""
    model, params, key = context.model, context.params, jax.random.split(context.keys.coherence)[1]
    samples = context.settings.joint_samples
    return {"": joint_correlations(context.correlator, model, params, key, samples, context.sampler)}


def classifiers(context: Context) -> Values:
    """Whether classifiers, and the oracle where there is one, are right."""
    found = {name: context.classifiers[name].right for name in context.model.names}
    return found if context.oracle is None else {**found, "oracle": context.oracle.right}


def of_pictures(
    found: Mapping[str, Shaped[np.ndarray, "N *A"]], conditional: bool
) -> dict[str, Shaped[np.ndarray, "N *A"]]:
    """What is measured of what is generated from some modalities, or of all else."""
    return {label: each for label, each in found.items() if ("->" in label) == conditional}


def precision(context: Context, conditional: bool) -> Values:
    """Whether generated pictures are among real ones."""
    return of_pictures({label: found.precise for label, found in context.overlaps.items()}, conditional)


def recall(context: Context, conditional: bool) -> Values:
    """Whether real pictures are among generated ones."""
    return of_pictures({label: found.recalled for label, found in context.overlaps.items()}, conditional)


def marginal(context: Context, of: str, by_all: bool = False) -> Values:
    """An entry of the estimates of log p(x_m), by the posterior of x_m itself or by that of all modalities."""
    each = np.arange(len(context.model.names))
    # The first subsets are those of one modality.
    proposals = np.flatnonzero(context.masks.all(1)) if by_all else each
    return labelled(context.model.names, getattr(context.estimates.each, of)[proposals, each])


def conditional_log_likelihood(context: Context) -> Values:
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


def cross_likelihood(context: Context, own: bool) -> Values:
    """log E p(x_m|z), z given what is given: of what is given itself, or of all else."""
    return of_targets(context, context.estimates.cross, own)


def where_varied(context: Context, function: Callable[[Context], Values]) -> Values:
    """Of one importance sample there is no variance."""
    return function(context) if context.settings.log_likelihood_samples > 1 else {}


def annealed(context: Context) -> Values:
    """Estimates by annealed importance sampling, where they are asked for."""
    return context.annealed if context.settings.estimator == "ais" else {}


def looseness(context: Context) -> Values:
    """By how much importance sampling under the same modalities' posterior is lower, on the same examples."""
    sampled = dict(zip(context.labels, context.estimates.own.log_prob, strict=True))
    return {label: each - sampled[label][: len(each)] for label, each in annealed(context).items()}
