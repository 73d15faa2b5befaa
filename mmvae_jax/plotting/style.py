"""What all pictures share: resolution, colours, and how they are saved."""

import textwrap
from collections.abc import Mapping
from typing import Any, Literal

from etils import epath
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

FigureFormat = Literal["png", "pdf", "svg"]

DPI = 150
_LEGEND_SIZE, _LETTERS_AN_INCH = 8, 15
INK, FAINT, RULE = "#1f2933", "#7b8794", "#e4e7eb"
COLOURS = ("#2563a8", "#d9622b", "#2f8f5b", "#8a4fbf", "#c2334d", "#7a6a3a", "#3aa0b8", "#6b7280")


# Of files that would hold the time: without it the same picture is the same file.
_UNDATED: dict[str, dict[str, Any]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}


def save(figure: Figure, path: epath.PathLike, of: str = "") -> None:
    """Saves a picture as what the file's name says: .png, .pdf or .svg.

    Args:
      figure: the picture.
      path: of the file.
      of: which runs it shows, in its upper right corner.
    """
    if of:
        inch = 1 / figure.get_figheight()
        figure.suptitle(of, x=0.995, y=1 - 0.08 * inch, ha="right", va="top", fontsize=7.5, color=FAINT)
        if isinstance(layout := figure.get_layout_engine(), ConstrainedLayoutEngine):
            layout.set(rect=(0, 0, 1, 1 - 0.2 * inch))  # titles of panels below it
    path = epath.Path(path)
    kind = path.suffix[1:].lower()
    options = {"format": kind, "metadata": _UNDATED[kind]} if kind in _UNDATED else {}
    with path.open("wb") as file, rc_context({"svg.hashsalt": "mmvae_jax"}):
        figure.savefig(file, **options)


def label_axes(axes: Axes, title: str, unit: str, across: str) -> None:
    """Title, names of both axes, and lines across a panel.

    Args:
      axes: the panel.
      title: above it, to the left.
      unit: of what is upwards.
      across: what is across.
    """
    axes.set_title(title, fontsize=10, color=INK, loc="left", weight="bold")
    axes.set_xlabel(across, fontsize=8, color=INK)
    axes.set_ylabel(unit, fontsize=8, color=INK)
    axes.tick_params(labelsize=8, colors=INK)
    axes.grid(axis="y", color=RULE, linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)


def legend_below(figure: Figure, handles: Mapping[str, Any], **options: Any) -> None:
    """Says under all panels what is what; long labels are wrapped, and the figure grows by their lines.

    Args:
      figure: its layout is constrained.
      handles: label -> what it stands for.
      options: of matplotlib's legend.
    """
    width, height = figure.get_size_inches()
    columns = int(width / (0.5 + max(map(len, handles)) / _LETTERS_AN_INCH))
    columns = min(max(columns, 1), len(handles))
    labels = [textwrap.fill(label, int((width - 0.5) * _LETTERS_AN_INCH)) for label in handles]
    lines = sum(1 + label.count("\n") for label in labels) / columns
    figure.set_figheight(height + lines * _LEGEND_SIZE / 50)  # of 72 points an inch, a line taking 1.44 of its size
    place: dict[str, Any] = {"loc": "outside lower center", "ncols": columns, "frameon": False, **options}
    figure.legend(handles.values(), labels, fontsize=_LEGEND_SIZE, **place)


def marker(index: int) -> tuple[str, str]:
    """Symbol and line of the index-th curve of a figure: more different ones than there are colours."""
    return "osD^vPX*"[index % 8], ("-", "--", ":")[index // 8 % 3]
