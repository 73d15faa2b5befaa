"""Pictures of what a model does: data, reconstructions, samples, and metrics against the number of inputs.

A picture of examples is a stack of strips, one row of examples of one modality each. How a strip is drawn depends on
what the modality's x is: an image, a string of class indices, a vector (a curve), or a label.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmvae_jax.data.batching import Batch, Dataset, take
from mmvae_jax.data.mnist_svhn_text import ALPHABET
from mmvae_jax.modality import Modality
from mmvae_jax.model import Model, Params

DPI = 150
COLUMNS = 10
MAX_CANDIDATES = 1000
DRAWS = 6
CELL_INCHES = 0.62
MARGIN = 0.03
GROUP_GAP = 0.28
LABEL_INCHES = 1.1
TITLE_INCHES = 0.42
INK, FAINT = "#1f2933", "#7b8794"
COLOURS = ("#2563a8", "#d9622b", "#2f8f5b", "#8a4fbf", "#c2334d", "#7a6a3a", "#3aa0b8", "#6b7280")

CURVES = (
    ("probe", "Linear probe", "accuracy of logistic regression"),
    ("coherence/conditional", "Conditional coherence", "fraction of the right class"),
    ("log_likelihood/joint", "Joint log-likelihood", "log p(X), nats"),
)


class Strip(NamedTuple):
    """A row of examples of one modality.

    Attributes:
      modality: decides how they are drawn.
      values: [n, *shape], pixels in 0..255 (uint8) or 0..1.
      label: written to the left.
      starts_group: leave a wider gap above.
    """

    modality: Modality
    values: np.ndarray
    label: str
    starts_group: bool = False


def strips_figure(strips: Sequence[Strip], title: str, note: str = "") -> Figure:
    """Rows of examples under each other, cells of one column aligned.

    Args:
      strips: from top to bottom, each with the same number of examples.
      title: of the picture.
      note: one line under the title, in small print.
    """
    columns = len(strips[0].values)
    heights = [CELL_INCHES * _cell_height(strip.modality) for strip in strips]
    gaps = [0.0, *(CELL_INCHES * GROUP_GAP * s.starts_group for s in strips[1:])]
    top = TITLE_INCHES + (0.2 if note else 0.0)
    width = LABEL_INCHES + columns * CELL_INCHES + 0.15
    height = top + sum(heights) + sum(gaps) + 0.12
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    left = LABEL_INCHES / width
    figure.text(left, 1 - 0.14 / height, title, va="top", fontsize=10.5, color=INK, weight="bold")
    if note:
        figure.text(left, 1 - 0.38 / height, note, va="top", fontsize=7.5, color=FAINT)
    y = top
    for strip, strip_height, gap in zip(strips, heights, gaps, strict=True):
        y += gap
        box = (left, 1 - (y + strip_height) / height, columns * CELL_INCHES / width, strip_height / height)
        _draw_strip(figure.add_axes(box), strip)
        y += strip_height
    return figure


def _cell_height(modality: Modality) -> float:
    """Height of a cell, in widths of it."""
    if len(modality.shape) >= 2:
        return modality.shape[0] / modality.shape[1]
    return 0.6 if len(modality.shape) == 1 and not modality.discrete else 0.4


def _draw_strip(axes: Axes, strip: Strip) -> None:
    modality, n = strip.modality, len(strip.values)
    height = _cell_height(modality)
    axes.set(xlim=(0, n), ylim=(0, height))
    axes.set_axis_off()
    axes.text(-0.18, height / 2, strip.label, ha="right", va="center", fontsize=8, color=INK)
    draw = _draw_images if len(modality.shape) >= 2 else _draw_curves
    if modality.discrete:
        draw = _draw_symbols
    draw(axes, strip.values, height)


def _draw_images(axes: Axes, images: np.ndarray, height: float) -> None:
    images = images / 255 if images.dtype == np.uint8 else images
    images = np.clip(np.asarray(images, np.float32), 0, 1)
    images = images[..., None] if images.ndim == 3 else images
    if images.shape[-1] != 3:
        images = np.repeat(images.mean(-1, keepdims=True), 3, -1)
    for i, image in enumerate(images):
        extent = (i + MARGIN, i + 1 - MARGIN, MARGIN, height - MARGIN)
        axes.imshow(image, extent=extent, interpolation="nearest", aspect="auto")
    axes.set(xlim=(0, len(images)), ylim=(0, height))


def _draw_symbols(axes: Axes, values: np.ndarray, height: float) -> None:
    for i, row in enumerate(values):
        text = str(int(row)) if row.ndim == 0 else symbols_to_text(row)
        size = min(9.0, 52.0 / max(len(text), 1))
        axes.text(i + 0.5, height / 2, text, ha="center", va="center", fontsize=size, family="monospace", color=INK)


def symbols_to_text(row: Sequence[int] | np.ndarray) -> str:
    """Class indices as letters (padding dropped); as numbers where they are no positions of the alphabet."""
    indices = [int(index) for index in row if index >= 0]
    if all(index < len(ALPHABET) for index in indices):
        return "".join(ALPHABET[index] for index in indices)
    return " ".join(str(index) for index in indices)


def _draw_curves(axes: Axes, vectors: np.ndarray, height: float) -> None:
    """Every vector as a curve over its index, all on one scale."""
    low, high = float(np.nanmin(vectors)), float(np.nanmax(vectors))
    span = high - low if high > low else 1.0
    for i, vector in enumerate(vectors):
        x = i + 0.08 + 0.84 * (np.arange(len(vector)) + 0.5) / len(vector)
        y = height * (0.1 + 0.8 * (np.asarray(vector, float) - low) / span)
        marker = "o" if len(vector) <= 16 else ""
        axes.plot(x, y, color=COLOURS[0], linewidth=0.8, marker=marker, markersize=1.6)


def data_figure(model: Model, batch: Batch) -> Figure:
    """Tuples of the data, one a column."""
    strips = [Strip(m, np.asarray(batch.x[m.name]), m.name) for m in model.modalities]
    return strips_figure(strips, "Data", "each column is one test tuple")


def reconstructions_figure(model: Model, params: Params, key: Array, batch: Batch) -> Figure:
    """Every modality above its reconstruction from all modalities (Sutter et al. 2021, Figure 8)."""
    everything = np.ones(len(model.names), bool)
    decoded = _generate(model, 1, params, key, batch, everything)
    strips = []
    for m in model.modalities:
        strips.append(Strip(m, np.asarray(batch.x[m.name]), m.name, starts_group=True))
        strips.append(Strip(m, np.asarray(decoded[m.name][0]), "reconstructed"))
    return strips_figure(strips, "Reconstructions", "from one sample of the posterior given all modalities")


def unconditional_figure(model: Model, params: Params, key: Array, columns: int = COLUMNS) -> Figure:
    """Samples from the prior, one latent code a column (Sutter et al. 2021, Figure 9)."""
    decoded = jax.jit(partial(model.generate, samples=columns))(params, key)
    strips = [Strip(m, np.asarray(decoded[m.name]), m.name) for m in model.modalities]
    return strips_figure(strips, "Unconditional samples", "each column decodes one sample of the prior")


def conditional_figure(
    model: Model,
    params: Params,
    key: Array,
    batch: Batch,
    subset: Sequence[str],
    target: str,
    draws: int = DRAWS,
) -> Figure:
    """Inputs on top, several generations of the target below them (Sutter et al. 2021, Figures 10 and 11).

    Args:
      model: any model.
      params: its parameters.
      key: PRNG key.
      batch: the inputs, one a column.
      subset: names of the modalities that are given.
      target: the modality to generate.
      draws: rows of generations, each from its own sample of the posterior.
    """
    mask = np.isin(np.asarray(model.names), list(subset))
    decoded = _generate(model, draws, params, key, batch, mask)[target]
    modalities = {m.name: m for m in model.modalities}
    strips = [Strip(modalities[name], np.asarray(batch.x[name]), f"given {name}") for name in subset]
    for i, values in enumerate(np.asarray(decoded)):
        strips.append(Strip(modalities[target], values, f"generated {target}" if i == 0 else "", starts_group=i == 0))
    return strips_figure(
        strips,
        f"{target} generated from {' + '.join(subset)}",
        "each row below the inputs is another sample of the posterior",
    )


@partial(jax.jit, static_argnums=(0, 1))
def _generate(
    model: Model, draws: int, params: Params, key: Array, batch: Batch, mask: Bool[Array, "M"]
) -> dict[str, Array]:
    """Point estimates of every modality given a subset, [draws, B, *shape]."""
    codes = model.encode(params, batch)
    draw = partial(model.draw, params, codes, batch.present, jnp.asarray(mask))
    return model.point_estimates(params, jax.vmap(draw)(jax.random.split(key, draws)))


def by_size(metrics: Mapping[str, float], prefix: str) -> dict[int, float]:
    """A metric's means by number of inputs, from the keys `<prefix>/by_size/<n>`."""
    start = f"{prefix}/by_size/"
    found = {int(name[len(start) :]): value for name, value in metrics.items() if name.startswith(start)}
    return dict(sorted(found.items()))


def metrics_figure(runs: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """Metrics against the number of inputs (Sutter et al. 2021, Figure 3), mean and standard deviation over runs.

    Args:
      runs: label of a model -> the metrics of its runs, which differ in their seeds.
    """
    shown = [curve for curve in CURVES if any(by_size(m, curve[0]) for all_of in runs.values() for m in all_of)]
    figure = Figure(figsize=(3.5 * max(len(shown), 1), 3.3), dpi=DPI, facecolor="white", layout="constrained")
    for axes, (prefix, title, unit) in zip(np.ravel(figure.subplots(1, max(len(shown), 1))), shown, strict=False):
        for i, (label, metrics) in enumerate(runs.items()):
            _draw_curve(axes, [by_size(m, prefix) for m in metrics], label, i)
        if len(runs) == 1 and len(only := next(iter(runs.values()))) == 1:
            _draw_subsets(axes, only[0], prefix)
        axes.set_title(title, fontsize=10, color=INK, loc="left", weight="bold")
        axes.set_xlabel("number of input modalities", fontsize=8, color=INK)
        axes.set_ylabel(unit, fontsize=8, color=INK)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.ticklabel_format(axis="y", useOffset=False)
        axes.tick_params(labelsize=8, colors=INK)
        axes.grid(axis="y", color="#e4e7eb", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
    if len(runs) > 1:
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(runs), 5), frameon=False, fontsize=8)
    return figure


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
    names = [name for name in metrics if name.startswith(f"{prefix}/") and "/by_size/" not in name]
    sizes = [name.split("->")[0].count("+") + 1 for name in names]
    axes.scatter(sizes, [metrics[name] for name in names], s=7, color=COLOURS[0], alpha=0.25, linewidths=0, zorder=1)


def draw_all(
    model: Model,
    params: Params,
    dataset: Dataset,
    metrics: Mapping[str, float],
    key: Array,
    folder: Path | str,
) -> list[Path]:
    """Draw every picture of a run.

    Args:
      model: any model.
      params: its parameters.
      dataset: pictures are made from its test split, one tuple of each class where it has classes.
      metrics: from `evaluate`.
      key: PRNG key.
      folder: where the pictures go, made if missing.

    Returns:
      The files, in the order in which a report shows them.
    """
    batch_key, *keys = jax.random.split(key, 5)
    batch = examples(dataset, batch_key)
    target, others = model.names[0], model.names[1:]
    figures: dict[str, Callable[[], Figure]] = {
        "data": lambda: data_figure(model, batch),
        "reconstructions": lambda: reconstructions_figure(model, params, keys[0], batch),
        "unconditional": lambda: unconditional_figure(model, params, keys[1]),
    }
    for count in sorted({1, len(others)} - {0}):
        figures[f"conditional_{count}"] = lambda n=count: conditional_figure(
            model, params, keys[2], batch, others[:n], target
        )
    if any(by_size(metrics, prefix) for prefix, *_ in CURVES):
        figures["metrics"] = lambda: metrics_figure({"": [metrics]})
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, draw in figures.items():
        paths.append(folder / f"{name}.png")
        draw().savefig(paths[-1])
    return paths


def examples(dataset: Dataset, key: Array, count: int = COLUMNS) -> Batch:
    """A few complete test tuples, in the order of their classes and of different classes as far as possible."""
    test = take(dataset.test, key, dataset.test.size)
    complete = np.flatnonzero(np.asarray(test.present).all(1))[:MAX_CANDIDATES]
    labels = np.asarray(test.label)[complete]
    # The n-th tuple of its class comes after the (n-1)-th ones of all classes.
    turn = np.array([np.sum(labels[:i] == label) for i, label in enumerate(labels)])
    chosen = np.lexsort((labels, turn))[:count]
    chosen = chosen[np.argsort(labels[chosen], kind="stable")]
    return jax.tree.map(lambda values: values[complete[chosen]], test)
