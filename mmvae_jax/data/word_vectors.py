"""Vectors of words: learned from captions, or read from a file, and weighted by how rare a word is."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array

from mmvae_jax.data.captions import PADDING, UNKNOWN
from mmvae_jax.errors import UserError

# Smooth inverse frequency (Arora et al. 2017): their a.
_SIF = 1e-3
_REMEDY = "give a text file with a word and its numbers in every line, as GloVe's and fastText's .vec"


def word_vectors(
    captions: Int[np.ndarray, "N L"], vocabulary: Sequence[str], path: str = "", dimensions: int = 50
) -> Float[np.ndarray, "V E"]:
    """Vectors of the words, each times `a / (a + p(word))`, a = 0.001: smooth inverse frequency (Arora et al. 2017).

    Their common component is left in, for canonical correlation centres and weighs directions itself.

    Args:
      captions: training captions, class indices, whose frequencies p are.
      vocabulary: the words; padding, the unknown word and words without a vector get zeros.
      path: of the vectors, see `read_vectors`; "": `learned_vectors`.
      dimensions: E of learned ones, at most.

    Raises:
      UserError: as `read_vectors`.
    """
    vectors = read_vectors(path, vocabulary) if path else learned_vectors(captions, vocabulary, dimensions)
    counts = np.bincount(captions.ravel(), minlength=len(vocabulary)) * (np.array(vocabulary) != PADDING)
    frequency = counts / max(1, counts.sum())
    return (vectors * (_SIF / (_SIF + frequency))[:, None]).astype(np.float32)


def learned_vectors(
    captions: Int[np.ndarray, "N L"], vocabulary: Sequence[str], dimensions: int
) -> Float[np.ndarray, "V E"]:
    """Truncated SVD of positive pointwise mutual information: `U sqrt(S)` (Levy, Goldberg & Dagan 2015).

    `PPMI_ij = max(0, log(c_ij c / (c_i c_j)))` with c_ij the number of captions that have both words, i unlike j. The
    same captions give the same vectors.

    Args:
      captions: class indices.
      vocabulary: the words; padding and the unknown word get zeros.
      dimensions: E, at most: there are no more than words.
    """
    counted = ~np.isin(vocabulary, (PADDING, UNKNOWN))
    rows, places = np.nonzero(counted[captions])
    there = csr_array((np.ones(len(rows)), (rows, captions[rows, places])), (len(captions), len(vocabulary)))
    there.data = np.minimum(there.data, 1)
    together = (there.T @ there).toarray()
    np.fill_diagonal(together, 0)
    alone = together.sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        information = np.log(together * alone.sum() / np.outer(alone, alone))
    # The matrix is symmetric: its singular vectors are eigenvectors.
    values, eigenvectors = np.linalg.eigh(np.where(together > 0, np.maximum(information, 0), 0))
    first = np.argsort(-np.abs(values), kind="stable")[:dimensions]
    return eigenvectors[:, first] * np.sqrt(np.abs(values[first])) * counted[:, None]


def read_vectors(path: str, vocabulary: Sequence[str]) -> Float[np.ndarray, "V E"]:
    """The vectors that a text file has of the words; zeros of those that it lacks.

    Args:
      path: every line a word and its numbers, parted by spaces; the first may say how many there are (fastText).
      vocabulary: the words.

    Raises:
      UserError: the file is missing, no such text, or has none of the words.
    """
    index = {word: i for i, word in enumerate(vocabulary) if word not in (PADDING, UNKNOWN)}
    found: dict[int, Float[np.ndarray, "E"]] = {}
    try:
        with Path(path).open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                word, *numbers = line.rstrip().split(" ")
                if word in index and not (number == 1 and len(numbers) == 1):
                    found[index[word]] = _numbers(path, number, numbers, found)
    except OSError as error:
        raise UserError(f"word-vectors={path} cannot be read ({error.strerror}): {_REMEDY}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"word-vectors={path} is not UTF-8 text: {_REMEDY}") from error
    if not found:
        raise UserError(f"word-vectors={path} has none of the captions' {len(index)} words: {_REMEDY}")
    vectors = np.zeros((len(vocabulary), len(next(iter(found.values())))))
    vectors[list(found)] = list(found.values())
    return vectors


def _numbers(
    path: str, number: int, texts: Sequence[str], found: dict[int, Float[np.ndarray, "E"]]
) -> Float[np.ndarray, "E"]:
    try:
        vector = np.array(texts, float)
    except ValueError:
        vector = np.empty(0)
    if len(vector) != len(next(iter(found.values()), texts)) or not len(vector) or not np.isfinite(vector).all():
        raise UserError(f"word-vectors={path}, line {number}: no word and as many numbers as in other lines; {_REMEDY}")
    return vector
