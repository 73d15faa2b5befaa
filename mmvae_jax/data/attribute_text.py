"""Texts that name the attributes which are present, letter by letter, and what they say (Sutter et al. 2021, E.1).

"bangs, brown hair, smiling": names in the order of the columns, in small letters, blanks up to a fixed length. What is
absent is not named.
"""

from collections.abc import Sequence
from itertools import compress

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Int8, Int32

from mmvae_jax.errors import UserError

# A blank comes first: what texts are filled up with.
ALPHABET = " ,abcdefghijklmnopqrstuvwxyz0123456789"
_BETWEEN = ", "


def spelled(name: str) -> str:
    """An attribute's name as texts have it."""
    return name.lower().replace("_", " ")


def longest_text(present: Bool[np.ndarray, "N A"], names: Sequence[str]) -> int:
    """Letters of the longest text."""
    return max(map(len, _texts(present, names)))


def _texts(present: Bool[np.ndarray, "N A"], names: Sequence[str]) -> list[str]:
    words = [spelled(name) for name in names]
    return [_BETWEEN.join(compress(words, row)) for row in present]


def write_texts(present: Bool[np.ndarray, "N A"], names: Sequence[str], length: int) -> Int32[np.ndarray, "N L"]:
    """The text of every row, as indices into `ALPHABET`.

    Args:
      present: which attributes there are.
      names: of the attributes.
      length: of every text.

    Raises:
      UserError: a text is longer, or a name has a letter that is not in the alphabet.
    """
    strange = set("".join(map(spelled, names))) - (set(ALPHABET) - {","})
    if strange:
        raise UserError(f"an attribute with {min(strange)!r} in its name: texts have letters, digits and blanks")
    texts = _texts(present, names)
    longest = max(map(len, texts))
    if longest > length:
        raise UserError(f"text-length={length}: the longest text has {longest} letters, give at least as many")
    return _encoded([text.ljust(length) for text in texts]).astype(np.int32)


def read_texts(texts: Int[Array, "B L"], names: Sequence[str]) -> Int[Array, "B A"]:
    """Which names a text has, 1 or 0, each between commas or the ends of the text; what else it says plays no part."""
    length = texts.shape[1]
    patterns = _patterns(names)
    framed = jnp.pad(texts.astype(jnp.int8), ((0, 0), (len(_BETWEEN), patterns.shape[-1])))
    framed = framed.at[:, : len(_BETWEEN)].set(_encoded([_BETWEEN])[0])

    def named(pattern: Int8[Array, "K"]) -> Bool[Array, "B"]:
        at = jnp.ones((len(texts), length), bool)
        for k in range(len(pattern)):
            at &= (framed[:, k : k + length] == pattern[k]) | (pattern[k] < 0)
        return at.any(1)

    found = jax.lax.map(named, jnp.asarray(patterns).reshape(-1, patterns.shape[-1]))
    return found.reshape(*patterns.shape[:2], -1).any(0).T.astype(jnp.int32)


def _patterns(names: Sequence[str]) -> Int8[np.ndarray, "2 A K"]:
    """Every name behind a comma, before another one or a text's end; -1, which is any letter, behind it."""
    endings = [[_BETWEEN + spelled(name) + end for name in names] for end in (",", "  ")]
    longest = max(len(text) for texts in endings for text in texts)
    patterns = np.full((2, len(names), longest), -1, np.int8)
    for e, texts in enumerate(endings):
        for a, text in enumerate(texts):
            patterns[e, a, : len(text)] = _encoded([text])[0]
    return patterns


def _encoded(texts: Sequence[str]) -> Int8[np.ndarray, "N L"]:
    """Texts of one length."""
    letters = np.zeros(128, np.int8)
    letters[[ord(letter) for letter in ALPHABET]] = np.arange(len(ALPHABET))
    codes = np.frombuffer("".join(texts).encode("ascii"), np.uint8)
    return letters[codes].reshape(len(texts), -1)
