"""Captions as class indices of words: how they are cut, the vocabulary, and which modality describes which."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int32, UInt8

# A caption ends where padding starts: the networks see and generate it as a word, the empty one.
PADDING, UNKNOWN = "", "<unknown>"

LookUp = Callable[[np.ndarray], UInt8[np.ndarray, "N H W 3"]]


@dataclass(frozen=True, eq=False)
class Captioned:
    """Which modality of a data set holds captions of which other one, and what their words are.

    Attributes:
      pictures: the modality that is described, pictures [H, W, C] or features of them [F].
      captions: the modality of captions, class indices [L].
      vocabulary: the words in the order of their class indices.
      vectors: of every word, times its weight in a caption's mean; zero for what does not count, such as padding.
      look_up: finds the photographs that features come closest to; None where the pictures are pictures.
    """

    pictures: str
    captions: str
    vocabulary: tuple[str, ...]
    vectors: Float[np.ndarray, "V E"]
    look_up: LookUp | None = None


def words_of(text: str) -> list[str]:
    """The words of a caption: runs of letters and digits in lower case, apostrophes within; all else parts them.

    "White-bellied bird, it's small." is white, bellied, bird, it's, small.
    """
    return re.findall(r"[^\W_]+(?:'[^\W_]+)*", text.lower())


def build_vocabulary(captions: Sequence[Sequence[str]], min_count: int) -> tuple[str, ...]:
    """Padding, the unknown word, then all words that occur often enough: the most frequent first, ties by alphabet.

    Args:
      captions: the words of every training caption.
      min_count: how often a word must occur; all others are the unknown word.
    """
    counts = Counter(word for caption in captions for word in caption)
    frequent = [word for word, count in counts.items() if count >= min_count]
    return (PADDING, UNKNOWN, *sorted(frequent, key=lambda word: (-counts[word], word)))


def encode_captions(
    captions: Sequence[Sequence[str]], vocabulary: Sequence[str], length: int
) -> Int32[np.ndarray, "N L"]:
    """Class indices of words: what is longer is cut, what is shorter padded.

    Args:
      captions: the words of every caption.
      vocabulary: from `build_vocabulary`.
      length: L.
    """
    index = {word: i for i, word in enumerate(vocabulary)}
    encoded = np.full((len(captions), length), index[PADDING], np.int32)
    for row, caption in zip(encoded, captions, strict=True):
        known = [index.get(word, index[UNKNOWN]) for word in caption[:length]]
        row[: len(known)] = known
    return encoded
