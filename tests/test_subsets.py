"""Masks against itertools, names there and back, and the law of random subsets."""

import itertools

import jax
import numpy as np
import pytest
from scipy import stats

from mmvae_jax import subsets
from mmvae_jax.errors import UserError

NAMES = ("image", "text", "sound")


@pytest.mark.parametrize("m", [1, 2, 5])
def test_powerset_is_every_nonempty_subset_by_size(m):
    rows = [tuple(np.flatnonzero(mask)) for mask in subsets.powerset(m)]
    assert rows == [c for size in range(1, m + 1) for c in itertools.combinations(range(m), size)]


def test_large_powersets_are_refused_with_the_remedy():
    assert len(subsets.powerset(12)) == 4095
    with pytest.raises(UserError, match=r"16 modalities has 65,535 subsets: use subsets=random:k"):
        subsets.powerset(16)


def test_full_and_singletons():
    assert subsets.full(3).tolist() == [[True, True, True]]
    assert subsets.singletons(2).tolist() == [[True, False], [False, True]]


def test_names_go_there_and_back():
    for mask in subsets.powerset(3):
        np.testing.assert_array_equal(subsets.select(subsets.label(mask, NAMES), NAMES), mask)
    assert subsets.label(np.array([True, False, True]), NAMES) == "image+sound"
    np.testing.assert_array_equal(subsets.select("sound+image", NAMES), [True, False, True])


@pytest.mark.parametrize("text", ["image+smell", "smell", "", "image+"])
def test_unknown_names_are_refused(text):
    unknown = text.split("+")[-1]
    with pytest.raises(UserError, match=f"unknown modality '{unknown}'.*choose among image, text, sound"):
        subsets.select(text, NAMES)


def test_empty_choice_is_refused():
    with pytest.raises(UserError, match="an empty subset"):
        subsets.select([], NAMES)


@pytest.mark.parametrize("m", [1, 2, 3])
def test_random_subsets_are_uniform_over_the_nonempty_ones(m):
    rows = np.asarray(subsets.random(jax.random.key(m), m, 20_000))
    codes = rows @ (1 << np.arange(m))
    counts = np.bincount(codes, minlength=2**m)
    assert counts[0] == 0
    if m > 1:
        assert stats.chisquare(counts[1:]).pvalue > 1e-3


def test_random_subsets_of_many_modalities():
    """Without building 2^40 rows; every modality is in half of them."""
    rows = np.asarray(subsets.random(jax.random.key(0), 40, 4_000))
    assert rows.shape == (4_000, 40)
    assert np.abs(rows.mean(0) - 0.5).max() < 4.5 * 0.5 / np.sqrt(4_000)
    assert np.abs(np.corrcoef(rows.T)[~np.eye(40, dtype=bool)]).max() < 5 / np.sqrt(4_000)
