"""What all pictures share: resolution, colours, and how they are saved."""

from typing import Any, Literal

from etils import epath
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

FigureFormat = Literal["png", "pdf", "svg"]

DPI = 150
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
    inch = 1 / figure.get_figheight()
    figure.suptitle(of, x=0.995, y=1 - 0.08 * inch, ha="right", va="top", fontsize=7.5, color=FAINT)
    if of and isinstance(layout := figure.get_layout_engine(), ConstrainedLayoutEngine):
        layout.set(rect=(0, 0, 1, 1 - 0.2 * inch))  # titles of panels below it
    path = epath.Path(path)
    kind = path.suffix[1:].lower()
    options = {"format": kind, "metadata": _UNDATED[kind]} if kind in _UNDATED else {}
    with path.open("wb") as file, rc_context({"svg.hashsalt": "mmvae_jax"}):
        figure.savefig(file, **options)


def marker(index: int) -> tuple[str, str]:
    """Symbol and line of the index-th curve of a figure: more different ones than there are colours."""
    return "osD^vPX*"[index % 8], ("-", "--", ":")[index // 8 % 3]
