"""Sentences below each other, in full: translations are too long for the cells of strips."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from mmvae_jax.plotting.strips import LABEL_INCHES, LABEL_SIZE, TITLE_INCHES, wrapped, write_title
from mmvae_jax.plotting.style import DPI, FAINT, INK

WIDTH_INCHES = 8.0
LETTERS = 84  # in a line
LINES = 4  # of a sentence, at most
LINE_INCHES = 0.16
GAP_INCHES = 0.1


def sentences_figure(groups: Sequence[Sequence[tuple[str, str]]], title: str, note: str = "") -> Figure:
    """Groups of sentences that belong together, each with its label to the left.

    Args:
      groups: (label, sentence) from top to bottom.
      title: of the picture.
      note: one line under the title, in small print.
    """
    texts = [[(label, wrapped(sentence, LETTERS, LINES)) for label, sentence in group] for group in groups]
    lines = [[max(1, text.count("\n") + 1) for _, text in group] for group in texts]
    height = TITLE_INCHES + 0.2 + sum(GAP_INCHES + LINE_INCHES * sum(group) for group in lines) + 0.1
    figure = Figure(figsize=(WIDTH_INCHES, height), dpi=DPI, facecolor="white")
    left = (LABEL_INCHES + 0.5) / WIDTH_INCHES
    write_title(figure, left, title, note)
    y = TITLE_INCHES + 0.2
    for group, counts in zip(texts, lines, strict=True):
        for (label, text), count in zip(group, counts, strict=True):
            at = 1 - y / height
            figure.text(left - 0.01, at, label, ha="right", va="top", fontsize=LABEL_SIZE, color=FAINT)
            said = {"family": "monospace", "color": INK, "parse_math": False}
            figure.text(left, at, text, va="top", fontsize=LABEL_SIZE, **said)
            y += LINE_INCHES * count
        y += GAP_INCHES
    return figure
