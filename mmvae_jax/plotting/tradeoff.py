"""Coherence against log-likelihood: what a model gives up of one for the other."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from mmvae_jax.evaluation.measuring import arrows, by_size, few_labels, mean_and_spread, metric_of
from mmvae_jax.evaluation.metrics import METRICS
from mmvae_jax.plotting.curves import BARS, Runs, draw_chance
from mmvae_jax.plotting.style import COLOURS, DPI, RULE, label_axes, legend_below, marker

_COHERENCE, _JOINT, _LIKELIHOOD = "coherence/conditional", "coherence/joint", "log_likelihood/joint"
_COLUMNS = 3
# Of three modalities, given one or two of them.
_PAIRS = 9


def tradeoff_figure(curves: Mapping[str, Mapping[str, Runs]]) -> Figure | None:
    """Coherence against log p(X) (Sutter et al. 2021, Figures 1, 5 and 6), one panel for what is given and generated.

    Conditional coherence stands against log p(X) under the posterior of what is given, joint coherence against that
    under the posterior of all. Of more than three modalities a panel is of a number of inputs.

    Args:
      curves: label of a model -> label of a point on its curve, such as one beta -> the metrics of its runs, which
        differ in their seeds. Points are joined in the order in which they are given.

    Returns:
      None where no run has both metrics.
    """
    everything = [metrics for points in curves.values() for runs in points.values() for metrics in runs]
    panels = _panels(everything)
    if not panels:
        return None
    columns = min(len(panels), _COLUMNS)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.3 * columns, 3.6 * rows + 0.4), dpi=DPI, facecolor="white", layout="constrained")
    for i, (title, (x, y)) in enumerate(panels.items()):
        axes = figure.add_subplot(rows, columns, i + 1)
        for j, (label, points) in enumerate(curves.items()):
            _draw(axes, {point: runs for point, runs in points.items() if _known(runs, x, y)}, x, y, label, j)
        label_axes(axes, title, METRICS[_COHERENCE].unit, METRICS[_LIKELIHOOD].unit)
        axes.grid(axis="x", color=RULE, linewidth=0.8)
        axes.margins(0.12)
        draw_chance(axes, metric_of(y) or "", everything)
    handles = {
        label: line for axes in figure.axes for line, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    legend_below(figure, handles, title=BARS, title_fontsize=7.5)
    return figure


def _panels(everything: Runs) -> dict[str, tuple[str, str]]:
    """Title -> the metrics along x and y, of those panels for which a run has both."""
    sizes = sorted({size for metrics in everything for size in by_size(metrics, _LIKELIHOOD)})
    single = few_labels(everything, _COHERENCE, _PAIRS)
    panels = {
        f"{METRICS[_COHERENCE].title}, {arrows(label)}": (f"{_LIKELIHOOD}/{label.partition('->')[0]}", name)
        for name, label in single.items()
    } or {
        f"{METRICS[_COHERENCE].title}, {n} input{'s' * (n > 1)}": (
            f"{_LIKELIHOOD}/by_size/{n}",
            f"{_COHERENCE}/by_size/{n}",
        )
        for n in sizes
    }
    if sizes:
        panels[METRICS[_JOINT].title] = f"{_LIKELIHOOD}/by_size/{sizes[-1]}", _JOINT
    return {title: pair for title, pair in panels.items() if _known(everything, *pair)}


def _known(runs: Runs, *names: str) -> bool:
    return any(all(name in metrics for name in names) for metrics in runs)


def _draw(axes, points: Mapping[str, Runs], x: str, y: str, label: str, index: int) -> None:
    if not points:
        return
    (across, x_spread), (up, y_spread) = (
        np.array([mean_and_spread(runs, name) for runs in points.values()]).T for name in (x, y)
    )
    colour, (symbol, style) = COLOURS[index % len(COLOURS)], marker(index)
    axes.errorbar(across, up, y_spread, x_spread, ecolor=colour, elinewidth=0.8, alpha=0.5, fmt="none")
    axes.plot(across, up, style, color=colour, marker=symbol, markersize=4.5, linewidth=1.4, label=label)
    for name, *place in zip(points, across, up, strict=True):
        axes.annotate(name, place, xytext=(4, 4), textcoords="offset points", fontsize=6.5, color=colour)
