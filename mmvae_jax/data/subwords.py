"""Subwords: a vocabulary of pieces of words, made of training sentences by sentencepiece, and sentences as indices."""

import io
import re
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import sentencepiece
from jaxtyping import Int32

from mmvae_jax.errors import UserError, one_line

# What stands for a character that no training sentence has.
UNKNOWN = "\N{DOUBLE QUESTION MARK}"
# Bytes of a sentence beyond which sentencepiece leaves it out, by default.
_LINE = 4192


class Subwords:
    """Byte-pair encoding of one language (Sennrich et al. 2016), by sentencepiece.

    The same sentences give the same pieces. Words are cut at spaces, and nothing is normalised: the pieces of a
    sentence make it up again exactly, but for spaces at its ends or next to each other and for characters that no
    training sentence has.

    Attributes:
      symbols: the pieces in the order of their class indices, for `symbols_to_text`: first `UNKNOWN`, and last the
        end of a sentence, which is empty.
    """

    symbols: tuple[str, ...]

    def __init__(self, sentences: Sequence[str], size: int):
        """Trains the pieces.

        Args:
          sentences: of the training split only.
          size: number of pieces; fewer where the sentences have no more.

        Raises:
          UserError: fewer pieces than the sentences have characters.
        """
        model = io.BytesIO()
        trainer: Any = sentencepiece.SentencePieceTrainer
        try:
            trainer.train(
                sentence_iterator=iter(sentences),
                model_writer=model,
                model_type="bpe",
                vocab_size=size,
                hard_vocab_limit=False,
                character_coverage=1.0,
                max_sentence_length=max(_LINE, *(len(sentence.encode()) for sentence in sentences)),
                normalization_rule_name="identity",
                unk_id=0,
                bos_id=-1,
                eos_id=-1,
                num_threads=1,
                minloglevel=2,
            )
        except RuntimeError as error:
            needed = re.search(r"smaller than required_chars. \d+ vs (\d+)", str(error))
            remedy = f"the sentences have {needed[1]} characters: give more" if needed else one_line(error)
            raise UserError(f"pieces={size}: {remedy}") from None
        self._processor = cast("Any", sentencepiece.SentencePieceProcessor(model_proto=model.getvalue()))
        pieces = range(1, self._processor.get_piece_size())
        self.symbols = (UNKNOWN, *map(self._processor.id_to_piece, pieces), "")

    def encode(self, sentences: Sequence[str]) -> list[list[int]]:
        """The class indices of sentences, each closed by the last class."""
        return [[*row, len(self.symbols) - 1] for row in self._processor.encode(list(sentences))]


def padded(rows: Sequence[Sequence[int]], length: int) -> Int32[np.ndarray, "N L"]:
    """Rows of class indices in one array, -1 after their ends.

    Args:
      rows: none of them longer than the array.
      length: L.
    """
    array = np.full((len(rows), length), -1, np.int32)
    for filled, row in zip(array, rows, strict=True):
        filled[: len(row)] = row
    return array
