"""Class indices as text."""

from mmvae_jax.symbols import symbols_to_text


def test_symbols_are_written_by_their_names():
    letters, words = tuple("abcdefghi"), ("cat", "hat")
    assert symbols_to_text([7, 8, -1], letters) == "hi"
    assert symbols_to_text([7, 99], letters) == "h 99"
    assert symbols_to_text([1, 0], words) == "hat cat"
    assert symbols_to_text([7, 8, -1]) == "7 8"
    assert symbols_to_text([-1], letters) == symbols_to_text([-1]) == ""
    assert symbols_to_text([1, 2, 0, 2, 0], ("", "cat", "a")) == "cat a"  # an empty name ends it


def test_pieces_of_words_make_up_sentences():
    pieces = ("⁇", "▁twenty", "▁", "-", "one", "▁a", "")
    assert symbols_to_text([1, 3, 4, 5, 6, -1], pieces) == "twenty-one a"
    assert symbols_to_text([2, 4, 0, 2, 4], pieces) == "one⁇ one"
    assert symbols_to_text([6, -1], pieces) == ""
