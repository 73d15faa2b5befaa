"""Texts of attributes: what is written is read, and nothing else is."""

import jax.numpy as jnp
import numpy as np
import pytest

from mmvae_jax.data.attribute_text import ALPHABET, longest_text, read_texts, write_texts
from mmvae_jax.errors import UserError

NAMES = ("5_o_Clock_Shadow", "Bald", "Big_Nose", "Nose")


def letters(texts):
    return "".join(ALPHABET[index] for index in np.ravel(texts))


def codes(*texts, length=40):
    return jnp.array([[ALPHABET.index(letter) for letter in text.ljust(length)] for text in texts])


def test_what_is_present_is_named_in_the_order_of_the_columns():
    present = np.array([[True, False, True, False], [False] * 4])
    texts = write_texts(present, NAMES, 30)
    assert letters(texts[0]) == "5 o clock shadow, big nose".ljust(30) and letters(texts[1]) == " " * 30
    assert longest_text(present, NAMES) == 26


def test_every_set_of_attributes_is_read_as_it_was_written():
    present = np.array([[i >> a & 1 for a in range(4)] for i in range(16)], bool)
    for length in (longest_text(present, NAMES), 40):
        np.testing.assert_array_equal(read_texts(jnp.asarray(write_texts(present, NAMES, length)), NAMES), present)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("nose, bald", [0, 1, 0, 1]),  # in any order
        ("bald, bald", [0, 1, 0, 0]),
        ("big nose", [0, 0, 1, 0]),  # no nose of its own
        ("balds, nosebald", [0, 0, 0, 0]),
        ("bal, bald x, nose", [0, 0, 0, 1]),
        ("xx, bald,nose", [0, 1, 0, 0]),
        (" bald", [0, 0, 0, 0]),
        ("", [0, 0, 0, 0]),
        ("5 o clock shadow, 5 o clock shadow, nose"[:36] + "nose", [1, 0, 0, 1]),  # to the very end
    ],
)
def test_only_whole_names_are_read(text, found):
    assert read_texts(codes(text), NAMES)[0].tolist() == found


@pytest.mark.parametrize(
    ("names", "length", "said"),
    [
        (("Bald", "Big_Nose"), 13, "text-length=13: the longest text has 14 letters, give at least as many"),
        (("Bald", "Naïve"), 20, "an attribute with 'ï' in its name"),
        (("Bald", "a,b"), 20, "an attribute with ',' in its name"),
    ],
)
def test_what_cannot_be_written_is_refused(names, length, said):
    with pytest.raises(UserError, match=said):
        write_texts(np.ones((1, 2), bool), names, length)
