"""Class indices as text: letters, words, names of classes, or pieces of words."""

from collections.abc import Sequence

import numpy as np

# What sentencepiece writes in place of a space; a vocabulary with it is one of pieces.
SPACE = "\N{LOWER ONE EIGHTH BLOCK}"


def symbols_to_text(row: Sequence[int] | np.ndarray, symbols: Sequence[str] = ()) -> str:
    """Class indices by their names, or as numbers; padding is dropped, and an empty name ends the text.

    Letters make up words, pieces make up sentences: they are joined, and `SPACE` in them is a space. All other names
    are words, with spaces between them.
    """
    indices = [int(index) for index in row if index >= 0]
    names = [symbols[index] if index < len(symbols) else str(index) for index in indices]
    names = names[: names.index("")] if "" in names else names
    if any(SPACE in symbol for symbol in symbols):
        return "".join(names).replace(SPACE, " ").strip()
    letters = max(indices, default=0) < len(symbols) and all(len(symbol) == 1 for symbol in symbols)
    return ("" if letters else " ").join(names)
