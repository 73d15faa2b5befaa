"""English and Vietnamese sentences that say the same: IWSLT'15's files, or numbers in words."""

import unicodedata
from pathlib import Path
from typing import Literal, NamedTuple

import num2words
import numpy as np

from mmvae_jax.data.mnist import existing_folder
from mmvae_jax.errors import UserError

LANGUAGES = ("en", "vi")
FOLDER = "iwslt15_en_vi"
# The files that sentences to test on come from: IWSLT's development and test sets of the task (Luong & Manning 2015).
Held = Literal["tst2012", "tst2013"]
# Of all of them a permutation is made.
_HIGHEST = 10_000_000


class Pairs(NamedTuple):
    """Sentences of both languages, in the order of `LANGUAGES`, i-th to i-th.

    Attributes:
      train: of every language, to train on.
      test: of every language, to test on.
      names: of the modalities.
      source: where they came from, for the report.
    """

    train: tuple[list[str], ...]
    test: tuple[list[str], ...]
    names: tuple[str, ...]
    source: str


def numbers_in_words(highest: int, train: int, test: int, seed: int) -> Pairs:
    """Whole numbers as both languages say them, "twenty-one" and "hai mươi mốt", by the package num2words.

    Args:
      highest: they are drawn from 0 to this one, each at most once: no number is in both splits.
      train: how many to train on.
      test: how many to test on.
      seed: draws them.

    Raises:
      UserError: there are not so many, or too many to be drawn from, none are to be in a split, or a negative seed.
    """
    for name, value, low in (("train-tuples", train, 1), ("test-tuples", test, 1), ("data-seed", seed, 0)):
        if value < low:
            raise UserError(f"{name}={value}: give at least {low}")
    if highest > _HIGHEST:
        raise UserError(f"highest={highest}: give at most {_HIGHEST}")
    if highest + 1 < train + test:
        raise UserError(f"highest={highest}: give at least {train + test - 1}, for {train} + {test} different numbers")
    drawn = np.random.default_rng(seed).permutation(highest + 1)[: train + test].tolist()
    told = tuple([num2words.num2words(number, lang=language) for number in drawn] for language in LANGUAGES)
    names = tuple(f"{language}_numbers" for language in LANGUAGES)
    source = f"numbers in words, 0 to {highest}, by num2words: a stand-in for IWSLT'15"
    return Pairs(tuple(each[:train] for each in told), tuple(each[train:] for each in told), names, source)


def iwslt15(data: str, held: Held = "tst2013") -> Pairs:
    """IWSLT'15's English and Vietnamese: `train.en`, `train.vi`, and the same of what is held out.

    Args:
      data: a data root that has the subfolder `iwslt15_en_vi`, or the data set's own folder.
      held: which file to test on: `tst2012`, the development set, or `tst2013`, the test set.

    Raises:
      UserError: no such folder, a file is missing, empty or not UTF-8, or the languages differ in their lines.
    """
    root = existing_folder(data)
    folder = root / FOLDER if (root / FOLDER).is_dir() else root
    train, test = (_read_pair(folder, stem) for stem in ("train", held))
    return Pairs(train, test, LANGUAGES, f"IWSLT'15, train and {held} in {folder}")


def _read_pair(folder: Path, stem: str) -> tuple[list[str], ...]:
    paths = [folder / f"{stem}.{language}" for language in LANGUAGES]
    read = tuple(map(read_sentences, paths))
    if len({len(sentences) for sentences in read}) > 1:
        counts = " but ".join(f"{path} has {len(lines)} lines" for path, lines in zip(paths, read, strict=True))
        raise UserError(f"{counts}: they must say the same line by line; download both again")
    return read


def read_sentences(path: Path) -> list[str]:
    """The lines of a text file, without spaces at their ends, and accents as part of their letters (NFC).

    Vietnamese can be written with accents as characters of their own: to a vocabulary these are other words.

    Raises:
      UserError: missing, empty or not UTF-8.
    """
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; give a folder of IWSLT'15's files") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 (byte {error.start}): download it again") from None
    if not text.strip():
        raise UserError(f"{path} is empty: download it again")
    # Of all characters that end lines, these files end theirs with this one only.
    return [line.strip() for line in unicodedata.normalize("NFC", text).removesuffix("\n").split("\n")]
