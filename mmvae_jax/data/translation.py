"""Translation as two modalities (Wu & Goodman 2018): sentences of two languages, as subwords."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from mmvae_jax.data.batching import Dataset, Split, fingerprint, fixed_split
from mmvae_jax.data.presence import supervision_presence
from mmvae_jax.data.sentence_pairs import Pairs
from mmvae_jax.data.subwords import Subwords, padded
from mmvae_jax.errors import UserError


class _Rows(NamedTuple):
    """Pairs of a split as class indices, and how many there are not: of a blank sentence, or of one too long."""

    kept: list[tuple[list[int], ...]]
    blank: int
    long: int


def translation(
    pairs: Pairs, pieces: int = 1000, max_tokens: int = 40, supervision: float = 1.0, seed: int = 0
) -> Dataset:
    """Sentence pairs as a data set of two modalities, without classes.

    Either language has a vocabulary of its own, made of its training sentences. Pairs of which a sentence is blank or
    of more than `max_tokens` subwords are left out of both splits; `Dataset.provenance` says how many. No sentence is
    cut.

    Args:
      pairs: the sentences.
      pieces: of either vocabulary, at most.
      max_tokens: subwords of the longest sentence.
      supervision: fraction of complete training tuples; of all others half keep the one language, half the other.
      seed: draws which tuples keep what.

    Raises:
      UserError: a fraction outside 0..1, too few pieces, or no sentence is short enough.
    """
    vocabularies = [Subwords([sentence for sentence in each if sentence], pieces) for each in pairs.train]
    train, test = (_rows(split, vocabularies, max_tokens) for split in (pairs.train, pairs.test))
    for name, rows in (("training", train), ("test", test)):
        if not rows.kept:
            raise UserError(f"max-tokens={max_tokens}: no {name} pair is so short; give more")
    lengths = [max(map(len, column)) for column in zip(*train.kept, *test.kept, strict=True)]
    presence = None
    if supervision != 1.0:
        presence = supervision_presence(jax.random.key(seed), len(train.kept), len(pairs.names), supervision)
    train_split, test_split = (
        _split(rows, pairs.names, lengths, seen) for rows, seen in ((train, presence), (test, None))
    )
    provenance = {
        "sentences": pairs.source,
        "tuples": f"{len(train.kept)} train, {len(test.kept)} test; {supervision:.4g} of train complete",
        "left out": "; ".join(
            f"{rows.long} {name} pairs longer than {max_tokens} subwords, {rows.blank} blank"
            for name, rows in (("training", train), ("test", test))
        ),
        "subwords": _told(pairs.names, vocabularies, test),
        "fingerprint": fingerprint(
            *(np.asarray(x) for split in (train_split, test_split) for x in split.arrays[0].values())
        ),
    }
    sentences = {name: each.symbols for name, each in zip(pairs.names, vocabularies, strict=True)}
    return Dataset("_".join(pairs.names), pairs.names, train_split, test_split, 1, provenance, sentences=sentences)


def _told(names: Sequence[str], vocabularies: Sequence[Subwords], test: _Rows) -> str:
    sizes = ", ".join(f"{len(each.symbols) - 1} {name}" for name, each in zip(names, vocabularies, strict=True))
    unknown = sum(any(0 in row for row in pair) for pair in test.kept)
    return f"byte pairs of the training sentences, {sizes}; {unknown} test pairs have an unknown character"


def _rows(texts: Sequence[Sequence[str]], vocabularies: Sequence[Subwords], max_tokens: int) -> _Rows:
    encoded = [vocabulary.encode(each) for vocabulary, each in zip(vocabularies, texts, strict=True)]
    pairs = list(zip(*encoded, strict=True))
    # A blank sentence is nothing but its end.
    told = [pair for pair in pairs if min(map(len, pair)) > 1]
    kept = [pair for pair in told if max(map(len, pair)) <= max_tokens + 1]
    return _Rows(kept, len(pairs) - len(told), len(told) - len(kept))


def _split(rows: _Rows, names: Sequence[str], lengths: Sequence[int], presence: jax.Array | None) -> Split:
    columns = zip(*rows.kept, strict=True)
    x = {name: padded(column, length) for name, column, length in zip(names, columns, lengths, strict=True)}
    return fixed_split(x, np.zeros(len(rows.kept), np.int32), presence)
