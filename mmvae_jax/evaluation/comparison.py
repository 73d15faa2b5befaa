"""Metrics of several models side by side, as Markdown tables."""

from collections.abc import Mapping, Sequence

import numpy as np

from mmvae_jax.errors import UserError
from mmvae_jax.evaluation.measuring import arrows, by_size, few_labels, mean_and_spread, metric_of, without_errors
from mmvae_jax.evaluation.metrics import METRICS

SPREAD = "±: of one run the standard error over its examples, of several the standard deviation over their seeds"


def compare(
    models: Mapping[str, Mapping[str, float] | Sequence[Mapping[str, float]]], metrics: Sequence[str] = ()
) -> str:
    """A Markdown table of models as mean ± spread; see `SPREAD`.

    Args:
      models: label -> what `evaluate` said of a model, or of several that differ in their seeds.
      metrics: names of those to show, one row a model, from its best to its worst in the first; default all, one row a
        metric.

    Raises:
      UserError: a metric that no model has.

    Examples:
      >>> print(compare({"PoE": {"accuracy": 0.5}, "MoE": [{"accuracy": 0.6}, {"accuracy": 0.8}]}, ["accuracy"]))
      |     | accuracy      |
      |-----|---------------|
      | MoE | 0.700 ± 0.141 |
      | PoE | 0.500         |
    """
    groups = {label: [found] if isinstance(found, Mapping) else found for label, found in models.items()}
    return _chosen_table(groups, metrics) if metrics else _table(groups)


def _table(groups: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """A Markdown table, one row a metric and one column a model, as mean ± spread; see `SPREAD`."""
    rows = [["", *groups], ["runs", *(str(len(runs)) for runs in groups.values())]]
    rows += [
        [name, *(estimate(runs, key) for runs in groups.values())]
        for name, key in _rows([metrics for runs in groups.values() for metrics in runs])
    ]
    return markdown_table(rows)


def _chosen_table(groups: Mapping[str, Sequence[Mapping[str, float]]], names: Sequence[str]) -> str:
    """A Markdown table, one row a model and one column a metric, as mean ± spread; see `SPREAD`.

    Models are ranked by the first metric, from the best to the worst.

    Raises:
      UserError: a metric that no run has.
    """
    known = {name for runs in groups.values() for metrics in runs for name in without_errors(metrics)}
    for name in names:
        if name not in known:
            raise UserError(f"no run has the metric {name!r}; some of theirs are {', '.join(sorted(known)[:5])}")

    row = METRICS.get(metric_of(names[0]) or "")
    sign = 1 if row is not None and not row.higher_is_better else -1

    def rank(label: str) -> float:
        values = values_of(groups[label], names[0])
        return sign * values.mean() if len(values) else np.inf

    rows = [[label, *(estimate(groups[label], name) for name in names)] for label in sorted(groups, key=rank)]
    return markdown_table([["", *names], *rows])


def _rows(metrics: Sequence[Mapping[str, float]]) -> list[tuple[str, str]]:
    """Name and key of every row: single values where they are few, else means by number of inputs; then what is one."""
    rows = []
    for prefix, row in METRICS.items():
        single = few_labels(metrics, prefix)
        sizes = () if single else sorted(set().union(*(by_size(each, prefix) for each in metrics)))
        rows += [(f"{row.title}, {n} input{'s' * (n > 1)}", f"{prefix}/by_size/{n}") for n in sizes]
        rows += [(f"{row.title}, {arrows(label)}", name) for name, label in single.items()]
    rows += [(row.title, prefix) for prefix, row in METRICS.items()] + [("Training, s", "train/seconds")]
    return [row for row in rows if any(row[1] in each for each in metrics)]


def values_of(runs: Sequence[Mapping[str, float]], key: str) -> np.ndarray:
    """A metric of those runs that have it."""
    return np.array([metrics[key] for metrics in runs if key in metrics])


def estimate(runs: Sequence[Mapping[str, float]], key: str) -> str:
    """A metric as mean ± spread, see `SPREAD`; `-` where no run has it."""
    values = values_of(runs, key)
    if len(values) == 0:
        return "-"
    digits = 3 if np.all(np.abs(values) < 10) else 1
    mean, spread = mean_and_spread(runs, key)
    return f"{mean:.{digits}f}" if np.isnan(spread) else f"{mean:.{digits}f} ± {spread:.{digits}f}"


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, the first row its head."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["| " + " | ".join(cell.ljust(n) for cell, n in zip(row, widths, strict=True)) + " |" for row in rows]
    rule = "|" + "|".join("-" * (n + 2) for n in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])
