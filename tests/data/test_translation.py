"""Sentence pairs: numbers in words, IWSLT'15's files and their damages, and subwords that make sentences up again."""

import unicodedata

import numpy as np
import pytest

from mmvae_jax.data.sentence_pairs import Pairs, iwslt15, numbers_in_words, read_sentences
from mmvae_jax.data.subwords import UNKNOWN, Subwords, padded
from mmvae_jax.data.translation import translation
from mmvae_jax.symbols import symbols_to_text

TEXT = {
    "train.en": "It is a good idea .\n\nThank you .\nOne , two , three , four , five , six .\n",
    "train.vi": "Đó là một ý tưởng hay .\n .\n Cảm ơn .\t\nMột , hai , ba , bốn , năm , sáu .\n",
    "tst2012.en": "a good idea\n",
    "tst2012.vi": "một ý tưởng hay\n",
    "tst2013.en": "a good idea €\nThank you . Thank you . Thank you .\n",
    "tst2013.vi": "một ý tưởng hay\nCảm ơn . Cảm ơn . Cảm ơn .\n",
}


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "iwslt15_en_vi"
    root.mkdir()
    for name, text in TEXT.items():
        (root / name).write_text(text, "utf-8")
    return root


def test_numbers_are_told_in_both_languages_and_none_is_in_both_splits():
    pairs = numbers_in_words(1, 1, 1, 0)
    assert {(en, vi) for split in pairs[:2] for en, vi in zip(*split, strict=True)} == {
        ("zero", "không"),
        ("one", "một"),
    }
    pairs = numbers_in_words(199, 150, 50, 3)
    (train, train_vi), (test, test_vi), *_ = pairs
    assert (len(train), len(set(train)), len(test), len(set(test))) == (150, 150, 50, 50)
    told = dict(zip(train + test, train_vi + test_vi, strict=True))
    assert len(set(told.values())) == 200
    assert told["one hundred and twenty-one"] == "một trăm hai mươi mốt"
    assert pairs == numbers_in_words(199, 150, 50, 3) != numbers_in_words(199, 150, 50, 4)
    assert pairs.names == ("en_numbers", "vi_numbers") and "a stand-in for IWSLT" in pairs.source


def test_official_files_are_read_line_by_line(folder):
    pairs = iwslt15(str(folder.parent))
    assert pairs == iwslt15(str(folder))
    assert pairs.train[0][:3] == ["It is a good idea .", "", "Thank you ."]
    assert pairs.train[1][2] == "Cảm ơn ."
    assert (pairs.names, len(pairs.test[0])) == (("en", "vi"), 2)
    assert iwslt15(str(folder), "tst2012").test == (["a good idea"], ["một ý tưởng hay"])
    (folder / "one.vi").write_text(unicodedata.normalize("NFD", "ý tưởng\u2028hay\r\n"), "utf-8")
    assert read_sentences(folder / "one.vi") == ["ý tưởng\u2028hay"]


def test_subwords_make_sentences_up_again_but_for_unknown_characters():
    (train, _), (test, _), *_ = numbers_in_words(999, 300, 100, 0)
    subwords = Subwords(train, 60)
    assert len(subwords.symbols) == 61 and subwords.symbols[-1] == ""
    rows = subwords.encode(test)
    assert all(row[-1] == 60 and min(row) > 0 and max(row[:-1]) < 60 for row in rows)
    array = padded(rows, max(map(len, rows)))
    assert (array[0][len(rows[0]) :] == -1).all() and (array < 0).any()
    assert [symbols_to_text(row, subwords.symbols) for row in array] == test
    (unknown,) = subwords.encode(["one € two"])
    assert symbols_to_text(unknown, subwords.symbols) == f"one {UNKNOWN} two"
    assert Subwords(train, 60).symbols == subwords.symbols
    # All there are, where more are asked for; they are words then.
    assert {"▁hundred", "▁twenty", "seven"} < set(Subwords(train, 5000).symbols) and len(
        Subwords(train, 5000).symbols
    ) < 5000


def test_pairs_that_are_blank_or_too_long_are_left_out_and_counted_and_none_is_cut(folder):
    dataset = translation(iwslt15(str(folder)), pieces=45, max_tokens=21)
    told = {
        name: [symbols_to_text(row, dataset.sentences[name]) for row in np.asarray(dataset.train.arrays[0][name])]
        for name in dataset.modalities
    }
    assert told == {"en": ["It is a good idea .", "Thank you ."], "vi": ["Đó là một ý tưởng hay .", "Cảm ơn ."]}
    assert dataset.provenance["left out"] == (
        "1 training pairs longer than 21 subwords, 1 blank; 1 test pairs longer than 21 subwords, 0 blank"
    )
    assert "2 train, 1 test" in dataset.provenance["tuples"]
    assert "1 test pairs have an unknown character" in dataset.provenance["subwords"]
    lengths = [(np.asarray(x) >= 0).sum(1).max() for x in dataset.train.arrays[0].values()]
    assert all(x.shape[1] <= 22 for x in dataset.test.arrays[0].values()) and max(lengths) <= 22


def test_vocabularies_are_of_the_training_sentences_only():
    pairs = Pairs((["abc abd"], ["xyz xyy"]), (["aqc"], ["xyz"]), ("en", "vi"), "made up")
    dataset = translation(pairs, pieces=10)
    symbols = dataset.sentences["en"]
    assert not any("q" in symbol for symbol in symbols)
    assert symbols_to_text(np.asarray(dataset.test.arrays[0]["en"])[0], symbols) == f"a{UNKNOWN}c"


def test_supervision_keeps_so_many_pairs():
    dataset = translation(numbers_in_words(99, 40, 10, 0), supervision=0.1, seed=5)
    assert np.asarray(dataset.train.presence).sum(0).tolist() == [22, 22]
    assert dataset.test.presence is None


def test_real_files(real_data):
    dataset = translation(iwslt15(real_data), pieces=500, max_tokens=30)
    assert dataset.train.size > 1000 and dataset.test.size > 300
    assert [len(symbols) for symbols in dataset.sentences.values()] == [501, 501]


def test_mistakes(folder, error_of):
    def damaged(name, content):
        (folder / name).write_bytes(content)
        return error_of(iwslt15, str(folder))

    assert "1 lines" in (error := damaged("tst2013.vi", b"mot\n")) and "tst2013.en has 2 lines" in error
    assert f"{folder / 'train.vi'} is not UTF-8 (byte 1)" in damaged("train.vi", b"m\xe1\xbbt\n")
    assert f"{folder / 'train.en'} is empty" in damaged("train.en", b" \n\n")
    (folder / "train.en").unlink()
    assert f"{folder / 'train.en'} cannot be read: No such file" in error_of(iwslt15, str(folder))
    assert "no such folder" in error_of(iwslt15, str(folder / "nowhere"))
    pairs = numbers_in_words(99, 40, 10, 0)
    assert "pieces=5: the sentences have" in error_of(translation, pairs, 5)
    assert "max-tokens=0: no training pair is so short" in error_of(translation, pairs, 100, 0)
    assert "supervision level 2" in error_of(translation, pairs, 100, 40, 2.0)
    assert "highest=10000001: give at most 10000000" in error_of(numbers_in_words, 10_000_001, 5, 5, 0)
    assert "highest=8: give at least 9" in error_of(numbers_in_words, 8, 5, 5, 0)
    assert "test-tuples=0" in error_of(numbers_in_words, 8, 5, 0, 0)
    assert "data-seed=-1" in error_of(numbers_in_words, 8, 5, 2, -1)
