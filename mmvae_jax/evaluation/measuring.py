"""All metrics of a model as flat names and numbers, each with its standard error: made here and read here.

`<metric>` or `<metric>/<label>` is a mean over examples, `<metric>/by_size/<n>` its mean over the labels that give n
modalities, and `standard_error/<name>` the standard error of either.
"""

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Array, Float, Key, Shaped
from threadpoolctl import threadpool_limits

from mmvae_jax.data.batching import Dataset, fixed_split
from mmvae_jax.evaluation.context import Context
from mmvae_jax.evaluation.metrics import METRICS, Metric, Values, chosen_metrics
from mmvae_jax.evaluation.settings import EvaluationSettings
from mmvae_jax.inputs import check_columns, check_key, check_params
from mmvae_jax.model import Model, Params

Metrics = dict[str, float]


def evaluate(
    model: Model,
    params: Params,
    data: Dataset | Mapping[str, Any],
    key: Key[Array, ""],
    settings: EvaluationSettings | None = None,
    cache_dir: Path | str = "cache",
    report: Callable[[str], None] = print,
) -> Metrics:
    """All metrics that apply to a data set, averaged over examples; log-likelihoods in nats.

    Args:
      model: any model of the data set's modalities.
      params: its parameters.
      data: a Dataset, such as `Dataset.of` makes of arrays with class labels; its incomplete test tuples are left out.
        Or test tuples, a dict from modality name to array. Without classes (`num_classes` < 2) only log-likelihoods,
        accuracies of class indices and what the data set says of attributes are measured.
      key: PRNG key; the same key gives the same numbers.
      settings: the sizes of everything.
      cache_dir: where the classifiers are kept.
      report: gets a line for every stage.

    Returns:
      The metrics of `METRICS`: `probe/<subset>`, `coherence/conditional/<subset>-><target>`, `coherence/joint`,
      `log_likelihood/joint/<subset>` and so on, `<metric>/by_size/<n>`, the mean over subsets of n modalities, and
      `standard_error/<name>` of each.

    Raises:
      UserError: no complete test tuple, arrays that do not fit the model, what are no parameters or no key, or a metric
        is chosen that is none or that the data set has nothing for.
    """
    check_params(params)
    check_key(key)
    dataset = data if isinstance(data, Dataset) else _as_dataset(model, data)
    for split in (dataset.train, dataset.test):
        check_columns(model.names, split)
    return measure(Context(model, params, dataset, key, settings or EvaluationSettings(), cache_dir, report))


def _as_dataset(model: Model, data: Mapping[str, Any]) -> Dataset:
    batch = model.batch(data)
    split = fixed_split(batch.x, batch.label, batch.present)
    return Dataset("arrays", model.names, split, split, 0)


# NumPy's matrices are small: threads would wait for each other, for minutes where the machine is busy.
@threadpool_limits.wrap(limits=1, user_api="blas")
def measure(context: Context, names: Collection[str] | None = None) -> Metrics:
    """`evaluate`, of a context whose shared parts may serve figures as well.

    Args:
      context: the model and its data.
      names: of the metrics to measure, as of `EvaluationSettings.metrics`, whose place they take.
    """
    metrics: Metrics = {}
    errors: Metrics = {}
    for prefix in chosen_metrics(context.settings.metrics if names is None else names, context.dataset):
        metric = METRICS[prefix]
        start = time.perf_counter()
        values = {label: np.asarray(each) for label, each in metric.function(context).items()}
        if not values:
            continue
        estimate = _of_replicates if metric.resampled else _of_examples
        means, examples = {label: estimate(each)[0] for label, each in values.items()}, dict(values)
        for size, groups in _by_size(values).items() if metric.by_size else ():
            means[f"by_size/{size}"] = _mean(means, groups)
            examples[f"by_size/{size}"] = _mean(values, groups)
        metrics |= {_name(prefix, label): float(mean) for label, mean in means.items()}
        known = {_name(prefix, label): each for label, each in examples.items() if len(each) > 1}
        errors |= {f"standard_error/{name}": estimate(each)[1] for name, each in known.items()}
        context.report(f"{_line(prefix, metric, metrics)} ({time.perf_counter() - start:.0f} s)")
    return metrics | errors


def labelled(metrics: Mapping[str, float], prefix: str) -> dict[str, float]:
    """A metric's means by label, apart from those by size."""
    names = {name: name[len(prefix) + 1 :] for name in metrics if metric_of(name) == prefix}
    return {label: metrics[name] for name, label in names.items() if not label.startswith("by_size/")}


def by_size(metrics: Mapping[str, float], prefix: str) -> dict[int, float]:
    """A metric's means by number of inputs, in order."""
    start = f"{prefix}/by_size/"
    sizes = {name: name[len(start) :] for name in metrics if name.startswith(start)}
    return dict(sorted((int(size), metrics[name]) for name, size in sizes.items() if size.isdecimal()))


def arrows(label: str) -> str:
    """A label as it is written for people."""
    return label.replace("->", " → ")


def few_labels(runs: Sequence[Mapping[str, float]], prefix: str, most: int = 6) -> dict[str, str]:
    """Name -> label of a metric's values in any of the runs; nothing where there are more than `most`.

    Places of strings are left out, as in `image->string/3`, and what has no label.
    """
    labels = dict.fromkeys(label for metrics in runs for label in labelled(metrics, prefix) if label)
    found = [label for label in labels if not label.rpartition("/")[2].isdecimal()]
    return {f"{prefix}/{label}": label for label in found} if len(found) <= most else {}


def by_attribute(metrics: Mapping[str, float], prefix: str) -> dict[str, dict[str, str]]:
    """The names of a metric of single attributes: what is given, as in its labels, -> attribute -> name."""
    found: dict[str, dict[str, str]] = {}
    for label in labelled(metrics, prefix) if METRICS[prefix].by_attribute else ():
        given, _, attribute = label.rpartition("/")
        found.setdefault(given, {})[attribute] = f"{prefix}/{label}"
    return found


def standard_error(metrics: Mapping[str, float], name: str) -> float | None:
    """The standard error of the metric called `name`; None where it is not known."""
    return metrics.get(f"standard_error/{name}")


def mean_and_spread(runs: Sequence[Mapping[str, float]], name: str) -> tuple[float, float]:
    """The mean of a metric over the runs that have it, and its spread.

    That is the standard deviation over several, and of a single one its standard error; NaN where that is not known.
    """
    values = [metrics[name] for metrics in runs if name in metrics]
    error = next((standard_error(metrics, name) for metrics in runs if name in metrics), None)
    return spread_of(values, error) if values else (math.nan, math.nan)


def spread_of(values: Sequence[float], error: float | None) -> tuple[float, float]:
    """The mean of values and their spread, as in `mean_and_spread`; `error` is the standard error of a single one."""
    found = np.asarray(values, np.float64)
    if len(found) > 1:
        return float(found.mean()), float(found.std(ddof=1))
    return float(found[0]), math.nan if error is None else error


def without_errors(metrics: Mapping[str, float]) -> Metrics:
    """The metrics themselves, without their standard errors."""
    return {name: value for name, value in metrics.items() if not name.startswith("standard_error/")}


def metric_of(name: str) -> str | None:
    """The key of `METRICS` that a flat name belongs to; None for what is no metric's, such as a standard error."""
    parts = name.split("/")
    prefixes = ("/".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next((prefix for prefix in prefixes if prefix in METRICS), None)


def _name(prefix: str, label: str) -> str:
    return f"{prefix}/{label}" if label else prefix


def _line(prefix: str, metric: Metric, metrics: Metrics) -> str:
    """The values by number of inputs, which are named where some are left out, or else their mean."""
    sizes, labels = by_size(metrics, prefix), labelled(metrics, prefix)
    shown = sizes or {"": np.mean(list(labels.values()))}
    how = ", by number of inputs" if sizes else ", mean" if len(labels) > 1 else ""
    if [*sizes] != [*range(1, len(sizes) + 1)]:
        how += f" ({', '.join(map(str, sizes))})"
    return f"{metric.title}{how}: {' '.join(f'{value:.4g}' for value in shown.values())}"


def _by_size(values: Values) -> dict[int, list[list[str]]]:
    """Number of modalities that are given -> of every such subset its labels, one a target."""
    sizes: dict[int, dict[str, list[str]]] = {}
    for label in values:
        given = label.partition("->")[0]
        sizes.setdefault(given.count("+") + 1, {}).setdefault(given, []).append(label)
    return {size: list(groups.values()) for size, groups in sorted(sizes.items())}


def _mean(values: Mapping[str, Any], groups: Sequence[Sequence[str]]) -> Any:
    """The mean over subsets of the means over their targets."""
    return np.mean([np.mean([values[label] for label in labels], axis=0) for labels in groups], axis=0)


def _of_examples(values: Shaped[np.ndarray, "N"]) -> tuple[float, float]:
    """The mean and its standard error; nan of a single example."""
    deviation = np.std(values, ddof=1, dtype=np.float64) if len(values) > 1 else np.nan
    return float(values.mean()), float(deviation / math.sqrt(len(values)))


def _of_replicates(values: Float[np.ndarray, "R"]) -> tuple[float, float]:
    """The value of all examples, and the deviation of its bootstrap replicates, which follow it."""
    return float(values[0]), float(np.std(values[1:], ddof=1))
