"""Captions as words, their vocabulary, and vectors of words against sums and singular values computed apart."""

import numpy as np
import pytest

from mmvae_jax.data.captions import build_vocabulary, encode_captions, words_of
from mmvae_jax.data.word_vectors import learned_vectors, read_vectors, word_vectors

SAID = [words_of(text) for text in ("A red bird.", "a RED, red bill", "A small bird's bill")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("White-bellied bird, it's small.", ["white", "bellied", "bird", "it's", "small"]),
        ("  3 \"wings\" ...\t'tail' ", ["3", "wings", "tail"]),
        ("Größe_2\ufffd�", ["größe", "2"]),
        (".,;", []),
    ],
)
def test_words_are_runs_of_letters_and_digits(text, words):
    assert words_of(text) == words


def test_vocabulary_has_frequent_words_first_and_ties_by_alphabet():
    assert build_vocabulary(SAID, 1) == ("", "<unknown>", "a", "red", "bill", "bird", "bird's", "small")
    assert build_vocabulary(SAID, 2) == ("", "<unknown>", "a", "red", "bill")
    assert build_vocabulary(SAID, 9) == ("", "<unknown>")


def test_captions_are_cut_and_padded_and_rare_words_are_unknown():
    encoded = encode_captions(SAID, build_vocabulary(SAID, 2), 3)
    np.testing.assert_array_equal(encoded, [[2, 3, 1], [2, 3, 3], [2, 1, 1]])
    np.testing.assert_array_equal(encode_captions([["red"], []], ("", "<unknown>", "red"), 2), [[2, 0], [0, 0]])


def test_learned_vectors_are_the_singular_vectors_of_positive_pointwise_mutual_information():
    vocabulary = ("", "<unknown>", "a", "b", "c", "d")
    captions = np.array([[2, 3, 0], [2, 3, 3], [4, 1, 5], [4, 5, 2], [5, 0, 0], [3, 2, 1]])
    n = len(vocabulary)
    together = np.zeros((n, n))
    for caption in captions:
        for i in set(caption) - {0, 1}:
            for j in set(caption) - {0, 1, i}:
                together[i, j] += 1
    total, alone = together.sum(), together.sum(1)
    ppmi = np.zeros((n, n))
    for i, j in np.argwhere(together):
        ppmi[i, j] = max(0, np.log(together[i, j] * total / alone[i] / alone[j]))
    u, s, _ = np.linalg.svd(ppmi)
    vectors = learned_vectors(captions, vocabulary, 2)
    assert vectors.shape == (6, 2) and np.all(vectors[:2] == 0)
    # Of tied values any basis will do: what is compared is no single vector.
    np.testing.assert_allclose(vectors @ vectors.T, (u[:, :2] * s[:2]) @ u[:, :2].T, atol=1e-12)
    np.testing.assert_array_equal(vectors, learned_vectors(captions, vocabulary, 2))


def vector_file(folder, text):
    path = folder / "words.vec"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("header", ["", "4 2\n"])
def test_vectors_are_read_of_the_words_that_there_are_and_weighted_by_their_frequency(tmp_path, header):
    vocabulary = ("", "<unknown>", "red", "bill", "café")
    path = vector_file(tmp_path, header + "red 1 -2\nother 5\ncafé 3e0 0.5 \n<unknown> 1 1\n")
    np.testing.assert_array_equal(read_vectors(path, vocabulary), [[0, 0], [0, 0], [1, -2], [0, 0], [3, 0.5]])
    # Of six words that are no padding three are red, one is café.
    captions = np.array([[2, 2, 0, 0], [2, 4, 1, 3]])
    found = word_vectors(captions, vocabulary, path)
    np.testing.assert_allclose(found[2], np.array([1, -2]) * 1e-3 / (1e-3 + 3 / 6), rtol=1e-6)
    np.testing.assert_allclose(found[4], np.array([3, 0.5]) * 1e-3 / (1e-3 + 1 / 6), rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("red 1 2\nbill 1\n", "line 2: no word and as many numbers"),
        ("red 1 x\n", "line 1: no word and as many numbers"),
        ("bill 1 2\nred\n", "line 2: no word and as many numbers"),
        ("red 1 nan\n", "line 1: no word and as many numbers"),
        ("blue 1 2\n", "has none of the captions' 2 words"),
    ],
)
def test_files_that_hold_no_vectors_are_refused(error_of, tmp_path, text, said):
    path = vector_file(tmp_path, text)
    message = error_of(read_vectors, path, ("", "<unknown>", "red", "bill"))
    assert said in message and f"word-vectors={path}" in message


def test_missing_and_binary_files_of_vectors_are_refused(error_of, tmp_path):
    assert "cannot be read (No such file" in error_of(read_vectors, str(tmp_path / "none"), ("red",))
    (tmp_path / "binary").write_bytes(b"red \xff\xfe")
    assert "is not UTF-8 text" in error_of(read_vectors, str(tmp_path / "binary"), ("red",))
