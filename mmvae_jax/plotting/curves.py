"""Metrics against the number of inputs, of one run or of several models."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mmvae_jax.evaluation.measuring import by_size, labelled
from mmvae_jax.evaluation.metrics import METRICS
from mmvae_jax.plotting.style import COLOURS, DPI, INK, RULE


def shown_metrics(runs: Mapping[str, Sequence[Mapping[str, float]]]) -> list[str]:
    """The keys of the metrics that some of these runs have by number of inputs."""
    everything = [metrics for all_of in runs.values() for metrics in all_of]
    return [prefix for prefix in METRICS if any(by_size(metrics, prefix) for metrics in everything)]


def metrics_figure(runs: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """Metrics against the number of inputs (Sutter et al. 2021, Figure 3), mean and standard deviation over runs.

    Args:
      runs: label of a model -> the metrics of its runs, which differ in their seeds.
    """
    shown = shown_metrics(runs)
    figure = Figure(figsize=(3.5 * max(len(shown), 1), 3.3), dpi=DPI, facecolor="white", layout="constrained")
    for axes, prefix in zip(np.ravel(figure.subplots(1, max(len(shown), 1))), shown, strict=False):
        for i, (label, metrics) in enumerate(runs.items()):
            if known := [sizes for each in metrics if (sizes := by_size(each, prefix))]:
                _draw_curve(axes, known, label, i)
        if len(runs) == 1 and len(only := next(iter(runs.values()))) == 1:
            _draw_subsets(axes, only[0], prefix)
        _label(axes, METRICS[prefix].title, METRICS[prefix].unit)
    if len(runs) > 1:
        found = [zip(*axes.get_legend_handles_labels(), strict=True) for axes in figure.axes]
        handles = {label: line for pairs in found for line, label in pairs}
        figure.legend(
            handles.values(), handles, loc="outside lower center", ncols=min(len(runs), 5), frameon=False, fontsize=8
        )
    return figure


def _label(axes: Axes, title: str, unit: str) -> None:
    axes.set_title(title, fontsize=10, color=INK, loc="left", weight="bold")
    axes.set_xlabel("number of input modalities", fontsize=8, color=INK)
    axes.set_ylabel(unit, fontsize=8, color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.tick_params(labelsize=8, colors=INK)
    axes.grid(axis="y", color=RULE, linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_curve(axes: Axes, runs: Sequence[Mapping[int, float]], label: str, index: int) -> None:
    colour = COLOURS[index % len(COLOURS)]
    sizes = sorted(set.intersection(*(set(run) for run in runs)))
    values = np.array([[run[size] for size in sizes] for run in runs])
    mean = values.mean(0)
    marker, style = "osD^vPX*"[index % 8], ("-", "--", ":")[index // 8 % 3]
    axes.plot(sizes, mean, style, color=colour, marker=marker, markersize=4.5, linewidth=1.6, label=label)
    if len(runs) > 1:
        deviation = values.std(0, ddof=1)
        axes.fill_between(sizes, mean - deviation, mean + deviation, color=colour, alpha=0.18, linewidth=0)


def _draw_subsets(axes: Axes, metrics: Mapping[str, float], prefix: str) -> None:
    """Every single subset (and target) as a faint dot around the curve of a lone run."""
    values = labelled(metrics, prefix)
    sizes = [label.partition("->")[0].count("+") + 1 for label in values]
    axes.scatter(sizes, list(values.values()), s=7, color=COLOURS[0], alpha=0.25, linewidths=0, zorder=1)
