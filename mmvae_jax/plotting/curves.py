"""Metrics against the number of inputs or the fraction of paired tuples, of one run or of several models."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from mmvae_jax.evaluation.measuring import (
    arrows,
    by_size,
    few_labels,
    labelled,
    mean_and_spread,
    spread_of,
    standard_error,
)
from mmvae_jax.evaluation.metrics import METRICS
from mmvae_jax.evaluation.published import Published
from mmvae_jax.plotting.style import COLOURS, DPI, FAINT, RULE, label_axes, legend_below, marker

_COLUMNS = 3
_BAND, BARS = "standard deviation over runs", "bars: standard deviation over runs, of one its standard error"
Runs = Sequence[Mapping[str, float]]
# What a log has besides the loss and its parts.
_NO_TERMS = ("step", "seconds", "examples_per_second", "gradient_norm", "learning_rate", "beta")


def metrics_figure(
    runs: Mapping[str, Runs], published: Mapping[str, Sequence[Published]] | None = None
) -> Figure | None:
    """Metrics against the number of inputs (Sutter et al. 2021, Figure 3), mean and standard deviation over runs.

    None where no run has one by number of inputs.

    Args:
      runs: label of a model -> the metrics of its runs, which differ in their seeds.
      published: label of a model -> numbers of others, drawn as hollow points in its colour.
    """
    everything = [metrics for several in runs.values() for metrics in several]
    shown = [prefix for prefix in METRICS if any(by_size(metrics, prefix) for metrics in everything)]
    if not shown:
        return None
    lone = len(everything) == 1
    figure, panels = _panels(len(shown))
    published = published or {}
    shapes = _shapes(published, lambda each: any(by_size(each.metrics, prefix) for prefix in shown))
    for axes, prefix in zip(panels, shown, strict=True):
        for i, (label, metrics) in enumerate(runs.items()):
            if known := [sizes for each in metrics if (sizes := by_size(each, prefix))]:
                _draw_curve(axes, known, label, i)
            for each in published.get(label, ()):
                if found := by_size(each.metrics, prefix):
                    _draw_published(axes, found, i, shapes[each.source])
        if lone:
            _draw_subsets(axes, everything[0], prefix)
        draw_chance(axes, prefix, everything)
        label_axes(axes, METRICS[prefix].title, METRICS[prefix].unit, "number of input modalities")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.ticklabel_format(axis="y", useOffset=False)
    if lone or len(runs) > 1 or shapes:
        _legend(figure, shapes)
    return figure


def levels_figure(
    curves: Mapping[str, Mapping[float, Sequence[float]]],
    title: str,
    unit: str,
    errors: Mapping[tuple[str, float], float] | None = None,
) -> Figure:
    """A metric against the fraction of paired tuples, on a logarithmic axis; mean and standard deviation over runs.

    Args:
      curves: label of a model -> fraction -> the metric of its runs, which differ in their seeds.
      title: of the picture.
      unit: of the metric.
      errors: label and fraction -> standard error of a run that is alone there.
    """
    figure = Figure(figsize=(7.5, 4.2), dpi=DPI, facecolor="white", layout="constrained")
    axes = figure.subplots()
    for i, (label, curve) in enumerate(curves.items()):
        values = {level: spread_of(found, (errors or {}).get((label, level))) for level, found in curve.items()}
        _draw_values(axes, values, label, i)
    label_axes(axes, title, unit, "fraction of paired training tuples")
    axes.set_xscale("log")
    figure.legend(title=BARS, title_fontsize=7.5, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure


def setting_figure(curves: Mapping[str, Mapping[float, Runs]], setting: str) -> Figure | None:
    """Metrics against a setting, such as `supervision` (SVAE paper 2021, Figures 4, 6, 7), one panel a metric.

    Every value of a metric by subset or by target has one where they are few, else the fewest and the most inputs. The
    axis is logarithmic where the setting is positive and grows tenfold.

    Args:
      curves: label of a model -> value of the setting -> the metrics of its runs, which differ in their seeds.
      setting: what it is called.

    Returns:
      None where no run has such a metric.
    """
    everything = [metrics for curve in curves.values() for runs in curve.values() for metrics in runs]
    panels = {(prefix, name): title for prefix in METRICS for name, title in _few_lines(everything, prefix).items()}
    if not panels:
        return None
    values = {value for curve in curves.values() for value in curve}
    figure, drawn = _panels(len(panels))
    for axes, ((prefix, name), title) in zip(drawn, panels.items(), strict=True):
        for i, (label, curve) in enumerate(curves.items()):
            known = [value for value, runs in curve.items() if any(name in metrics for metrics in runs)]
            _draw_values(axes, {value: mean_and_spread(curve[value], name) for value in known}, label, i)
        draw_chance(axes, prefix, everything)
        label_axes(axes, title, METRICS[prefix].unit, setting)
        if min(values) > 0 and max(values) >= 10 * min(values):
            axes.set_xscale("log")
    _legend(figure, {}, title=BARS, title_fontsize=7.5)
    return figure


def single_figure(
    runs: Mapping[str, Runs],
    prefix: str,
    published: Mapping[str, Sequence[Published]] | None = None,
) -> Figure:
    """A metric that is one number a run: of one run with its standard error, of several their standard deviation.

    Args:
      runs: label of a model -> the metrics of its runs.
      prefix: the metric's key.
      published: as in `metrics_figure`.
    """
    published = published or {}
    shapes = _shapes(published, lambda each: prefix in each.metrics)
    figure, (axes,) = _panels(1, width=6, height=1.3 + 0.35 * len(runs))
    for i, (label, metrics) in enumerate(runs.items()):
        values = np.array([each[prefix] for each in metrics if prefix in each])
        if len(values):
            spread = np.std(values, ddof=1) if len(values) > 1 else standard_error(metrics[0], prefix) or 0
            colour = COLOURS[i % len(COLOURS)]
            axes.errorbar(values.mean(), i, xerr=spread, fmt="o", color=colour, markersize=5, capsize=3)
        for each in published.get(label, ()):
            if prefix in each.metrics:
                _draw_published(axes, {each.metrics[prefix]: i}, i, shapes[each.source])
    axes.set_yticks(range(len(runs)), runs)
    axes.set_ylim(len(runs) - 0.5, -0.5)
    label_axes(axes, METRICS[prefix].title, "", f"{METRICS[prefix].unit}\n{BARS}")
    axes.grid(axis="x", color=RULE, linewidth=0.8)
    if shapes:
        _legend(figure, shapes)
    return figure


def learning_curve_figure(points: Runs, metrics: Mapping[str, float] | None = None) -> Figure:
    """Metrics against epochs, a line for every number of inputs or, where a metric has none, for every label.

    Args:
      points: metrics of every checkpoint by flat names, with `train/epochs`; bars are their standard errors.
      metrics: of the run.
    """
    lines = {prefix: names for prefix in METRICS if (names := _lines(points, prefix))}
    figure, panels = _panels(len(lines))
    for axes, (prefix, names) in zip(panels, lines.items(), strict=True):
        for i, (name, label) in enumerate(names.items()):
            at = [point for point in points if name in point]
            errors = [standard_error(point, name) or 0 for point in at]
            axes.errorbar(
                [point["train/epochs"] for point in at],
                [point[name] for point in at],
                yerr=errors,
                color=COLOURS[i % len(COLOURS)],
                marker="o",
                markersize=3.5,
                linewidth=1.4,
                elinewidth=0.8,
                label=label,
            )
        draw_chance(axes, prefix, [metrics or {}])
        label_axes(axes, METRICS[prefix].title, METRICS[prefix].unit, "epochs (bars: standard errors)")
        axes.legend(frameon=False, fontsize=7)
    return figure


def loss_figure(log: Sequence[Mapping[str, float | None]]) -> Figure:
    """The loss in training and its parts against steps; axes fit what follows the first twentieth.

    Args:
      log: the rows of `log.jsonl`, means over the steps since the row before.
    """

    def column(name: str) -> np.ndarray:
        return np.array([row.get(name) for row in log], object).astype(float)  # what was not finite is null

    names = dict.fromkeys(name for row in log for name in row if name not in _NO_TERMS)
    terms = {name: column(name) for name in ("loss", *names)}
    panels: dict[str, dict[str, np.ndarray]] = {}
    for name, values in terms.items():
        if np.nan_to_num(values).any():
            title, _, label = name.partition("/")
            panels.setdefault(title.replace("_", " "), {})[label] = values
    figure, drawn = _panels(len(panels))
    steps, settled = column("step"), len(log) // 20
    for axes, (title, lines) in zip(drawn, panels.items(), strict=True):
        for i, (label, values) in enumerate(lines.items()):
            axes.plot(steps, values, color=COLOURS[i % len(COLOURS)], linewidth=1.2, label=label)
        later = np.concatenate([values[settled:] for values in lines.values()])
        low, high = np.nanmin(later), np.nanmax(later)
        if low < high:
            axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
        label_axes(axes, title, "nats, training batches", "steps")
        if len(lines) > 1:
            axes.legend(frameon=False, fontsize=7, ncols=1 + len(lines) // 8)
    return figure


def draw_chance(axes: Axes, prefix: str, metrics: Runs) -> None:
    """Fractions of the right class from 0 to 1, with a line at what a guess gets, where the number of classes is known.

    Args:
      axes: with the metric upwards.
      prefix: the metric's key.
      metrics: of the runs that are drawn.
    """
    if not METRICS[prefix].guessed:
        return
    axes.set_ylim(-0.03, 1.03)  # 0 to 1, with room for the markers there
    for classes in {each["data/classes"] for each in metrics if "data/classes" in each}:
        axes.axhline(1 / classes, color=FAINT, linewidth=0.9, linestyle=":", zorder=1)
        place = {"xy": (1, 1 / classes), "xycoords": ("axes fraction", "data"), "ha": "right", "va": "bottom"}
        axes.annotate("chance", **place, fontsize=6.5, color=FAINT)


def _lines(points: Runs, prefix: str) -> dict[str, str]:
    """Name -> label of the curves of a metric."""
    sizes = sorted(set().union(*(by_size(point, prefix) for point in points)))
    if sizes:
        return {f"{prefix}/by_size/{n}": f"{n} input{'s' * (n > 1)}" for n in sizes}
    labels = dict.fromkeys(label for point in points for label in labelled(point, prefix))
    return {f"{prefix}/{label}" if label else prefix: label or METRICS[prefix].title for label in labels}


def _few_lines(points: Runs, prefix: str) -> dict[str, str]:
    """Name -> title of the curves of a metric that have a panel each; none of what is not the model's."""
    row = METRICS[prefix]
    of_model = row.by_size or row.by_subset or prefix.startswith("log_likelihood/")
    names = few_labels(points, prefix) if of_model else {}
    if not names and row.by_size:
        sizes = list(_lines(points, prefix).items())
        names = dict([*sizes[:1], *sizes[1:][-1:]])
    if any(prefix in point for point in points):
        names = {prefix: "", **names}
    return {name: f"{row.title}\n{arrows(label)}" if label else row.title for name, label in names.items()}


def _panels(count: int, width: float = 3.5, height: float = 3.3) -> tuple[Figure, list[Axes]]:
    """A figure of so many panels, three a row."""
    columns = min(max(count, 1), _COLUMNS)
    rows = math.ceil(max(count, 1) / columns)
    figure = Figure(figsize=(width * columns, height * rows), dpi=DPI, facecolor="white", layout="constrained")
    panels = list(np.ravel(figure.subplots(rows, columns, squeeze=False)))
    for spare in panels[max(count, 1) :]:
        spare.remove()
    return figure, panels[:count]


def _shapes(published: Mapping[str, Sequence[Published]], drawn: Callable[[Published], object]) -> dict[str, str]:
    """Source -> marker, the same in all figures, of the sources of which something is drawn."""
    sources = dict.fromkeys(each.source for several in published.values() for each in several)
    used = {each.source for several in published.values() for each in several if drawn(each)}
    return {source: marker(i)[0] for i, source in enumerate(sources) if source in used}


def _legend(figure: Figure, shapes: Mapping[str, str], **options: Any) -> None:
    """Models by their colours, then sources of published numbers by their markers."""
    found = [zip(*axes.get_legend_handles_labels(), strict=True) for axes in figure.axes]
    handles: dict[str, Any] = {label: line for pairs in found for line, label in pairs}
    for source, symbol in shapes.items():
        handles[source] = Line2D([], [], color=FAINT, linestyle="", marker=symbol, fillstyle="none", markersize=7)
    if handles.pop(_BAND, None):
        handles[_BAND] = Patch(facecolor=FAINT, alpha=0.3)
    legend_below(figure, handles, **options)


def _draw_published(axes: Axes, values: Mapping[Any, float], index: int, symbol: str) -> None:
    colour = COLOURS[index % len(COLOURS)]
    axes.plot(list(values), list(values.values()), symbol, color=colour, fillstyle="none", markersize=7)


def _draw_values(axes: Axes, values: Mapping[float, tuple[float, float]], label: str, index: int) -> None:
    """What is across -> mean and spread, joined in order; the spread as a bar where it is known."""
    across = sorted(values)
    mean, spread = np.array([values[value] for value in across]).reshape(-1, 2).T
    colour, (symbol, style) = COLOURS[index % len(COLOURS)], marker(index)
    axes.plot(across, mean, style, color=colour, marker=symbol, markersize=4.5, linewidth=1.6, label=label)
    axes.errorbar(across, mean, spread, ecolor=colour, elinewidth=0.8, alpha=0.5, fmt="none")


def _draw_curve(axes: Axes, runs: Sequence[Mapping[int, float]], label: str, index: int) -> None:
    colour = COLOURS[index % len(COLOURS)]
    sizes = sorted(set.intersection(*(set(run) for run in runs)))
    values = np.array([[run[size] for size in sizes] for run in runs])
    mean = values.mean(0)
    symbol, style = marker(index)
    axes.plot(sizes, mean, style, color=colour, marker=symbol, markersize=4.5, linewidth=1.6, label=label)
    if len(runs) > 1:
        deviation = values.std(0, ddof=1)
        axes.fill_between(sizes, mean - deviation, mean + deviation, color=colour, alpha=0.18, linewidth=0, label=_BAND)


def _draw_subsets(axes: Axes, metrics: Mapping[str, float], prefix: str) -> None:
    """Every single subset (and target) as a faint dot around the curve of a lone run."""
    values = labelled(metrics, prefix)
    sizes = [label.partition("->")[0].count("+") + 1 for label in values]
    axes.scatter(
        sizes, list(values.values()), s=7, color=COLOURS[0], alpha=0.25, linewidths=0, zorder=1, label="one subset"
    )
