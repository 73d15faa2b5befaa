"""How examples are drawn: a stack of strips, one row of examples of one modality each.

How a strip is drawn depends on what the modality's x is: an image, a string of class indices, a vector (a curve, or the
square picture that is looked up for it), or a label.
"""

import textwrap
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath

from mmvae_jax.modality import Modality
from mmvae_jax.plotting.style import COLOURS, DPI, FAINT, INK
from mmvae_jax.symbols import symbols_to_text

CELL_INCHES = 0.62
MARGIN = 0.03
GROUP_GAP = 0.28
LINE = 12  # letters in a line of text
LINES = 12  # of text in a cell, at most; what is longer ends in dots
LONG, LONG_LINE = 60, 16  # where a text has more letters than LONG
LINE_POINTS = 1.3  # of a line, in sizes of its letters
LABEL_INCHES = 1.1  # at least
LABEL_SIZE = 8
LABEL_GAP = 0.18  # in cells
TITLE_INCHES = 0.42


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
    heights = [CELL_INCHES * _cell_height(strip) for strip in strips]
    gaps = [0.0, *(CELL_INCHES * GROUP_GAP * s.starts_group for s in strips[1:])]
    top = TITLE_INCHES + (0.2 if note else 0.0)
    label_width = max(LABEL_INCHES, *(_inches(strip.label) + 2 * LABEL_GAP * CELL_INCHES for strip in strips))
    width = label_width + columns * CELL_INCHES + 0.15
    height = top + sum(heights) + sum(gaps) + 0.12
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    left = label_width / width
    write_title(figure, left, title, note)
    y = top
    for strip, strip_height, gap in zip(strips, heights, gaps, strict=True):
        y += gap
        box = (left, 1 - (y + strip_height) / height, columns * CELL_INCHES / width, strip_height / height)
        _draw_strip(figure.add_axes(box), strip)
        y += strip_height
    return figure


def write_title(figure: Figure, left: float, title: str, note: str) -> None:
    """A figure's title, and the note below it in small print."""
    height = figure.get_figheight()
    figure.text(left, 1 - 0.14 / height, title, va="top", fontsize=10.5, color=INK, weight="bold")
    if note:
        figure.text(left, 1 - 0.38 / height, note, va="top", fontsize=7.5, color=FAINT)


def _inches(label: str) -> float:
    """Width of a label's longest line."""
    return max((TextPath((0, 0), line, LABEL_SIZE).get_extents().width / 72 for line in label.splitlines()), default=0)


def _cell_height(strip: Strip) -> float:
    """Height of a cell, in widths of it."""
    modality = strip.modality
    if modality.look_up is not None:
        return 1.0
    if len(modality.shape) >= 2:
        return modality.shape[0] / modality.shape[1]
    if modality.symbols and modality.shape:
        cells = _cells(strip)
        most = max(len(text.splitlines()) for text in cells)
        return max(0.4, 0.05 + most * LINE_POINTS * _text_size(cells) / 72 / CELL_INCHES)
    return 0.6 if len(modality.shape) == 1 and not modality.discrete else 0.4


def _draw_strip(axes: Axes, strip: Strip) -> None:
    modality, n = strip.modality, len(strip.values)
    height = _cell_height(strip)
    axes.set(xlim=(0, n), ylim=(0, height))
    axes.set_axis_off()
    axes.text(-LABEL_GAP, height / 2, strip.label, ha="right", va="center", fontsize=LABEL_SIZE, color=INK)
    match drawn_as(modality):
        case "pictures":
            _draw_pictures(axes, pictures(modality, strip.values), height)
        case "texts":
            _draw_texts(axes, _cells(strip), height)
        case "curves":
            _draw_curves(axes, strip.values, height)


def drawn_as(modality: Modality) -> Literal["pictures", "texts", "curves"]:
    """What examples of a modality are drawn as."""
    if modality.look_up is None and (modality.discrete or modality.symbols):
        return "texts"
    return "pictures" if modality.look_up is not None or len(modality.shape) >= 2 else "curves"


def pictures(modality: Modality, values: np.ndarray) -> Float[np.ndarray, "N H W 3"]:
    """Examples [N, *shape] as colours in 0..1: their own, or those that are looked up for them."""
    images = values if modality.look_up is None else modality.look_up(values)
    images = images / 255 if images.dtype == np.uint8 else images
    images = np.clip(np.asarray(images, np.float32), 0, 1)
    images = images[..., None] if images.ndim == 3 else images
    return images if images.shape[-1] == 3 else np.repeat(images.mean(-1, keepdims=True), 3, -1)


def texts(modality: Modality, values: np.ndarray) -> list[str]:
    """Examples [N, *shape] in symbols, or by the names of their entries above one half."""
    rows = [np.ravel(row) for row in values]
    if not modality.discrete:
        rows = [np.flatnonzero(row > 0.5) for row in rows]
    return [symbols_to_text(row, modality.symbols).strip() for row in rows]


def _draw_pictures(axes: Axes, images: Float[np.ndarray, "N H W 3"], height: float) -> None:
    for i, image in enumerate(images):
        extent = (i + MARGIN, i + 1 - MARGIN, MARGIN, height - MARGIN)
        axes.imshow(image, extent=extent, interpolation="nearest", aspect="auto")
    axes.set(xlim=(0, len(images)), ylim=(0, height))


def _cells(strip: Strip) -> list[str]:
    """What is written into the cells, in several lines."""
    found = texts(strip.modality, strip.values)
    line = LINE if max(map(len, found)) <= LONG else LONG_LINE
    return [wrapped(text, line, LINES) if len(text) > line else text for text in found]


def _text_size(cells: Sequence[str]) -> float:
    """So that the longest line fits into a cell."""
    return min(9.0, 52.0 / max([1, *(len(line) for text in cells for line in text.splitlines())]))


def _draw_texts(axes: Axes, cells: Sequence[str], height: float) -> None:
    """All of one size."""
    size = _text_size(cells)
    for i, text in enumerate(cells):
        said = {"family": "monospace", "color": INK, "parse_math": False}
        axes.text(i + 0.5, height / 2, text, ha="center", va="center", fontsize=size, **said)


def wrapped(text: str, width: int, lines: int) -> str:
    """Text in lines of so many letters, between words where that is possible; dots stand for what is too much."""
    return textwrap.fill(text, width, max_lines=lines, placeholder=" …")


def _draw_curves(axes: Axes, vectors: np.ndarray, height: float) -> None:
    """Every vector as a curve over its index, all on one scale."""
    low, high = float(np.nanmin(vectors)), float(np.nanmax(vectors))
    span = high - low if high > low else 1.0
    for i, vector in enumerate(vectors):
        x = i + 0.08 + 0.84 * (np.arange(len(vector)) + 0.5) / len(vector)
        y = height * (0.1 + 0.8 * (np.asarray(vector, float) - low) / span)
        marker = "o" if len(vector) <= 16 else ""
        axes.plot(x, y, color=COLOURS[0], linewidth=0.8, marker=marker, markersize=1.6)
