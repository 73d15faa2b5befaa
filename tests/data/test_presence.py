"""Masks of what is observed have the promised fractions."""

import jax
import numpy as np
import pytest

from mmvae_jax.data.presence import dropped_presence, supervision_presence
from mmvae_jax.errors import UserError


@pytest.mark.parametrize("level", [0.0, 0.1, 0.5, 1.0])
def test_supervision_level_counts(level):
    present = np.asarray(supervision_presence(jax.random.key(1), 1000, 3, level))
    observed = present.sum(axis=1)
    assert (observed == 3).sum() == round(level * 1000)
    assert set(observed) <= {1, 3}
    alone = present[observed == 1].sum(axis=0)
    assert alone.max() - alone.min() <= 1


def test_supervision_depends_on_the_key_alone():
    masks = [np.asarray(supervision_presence(jax.random.key(k), 50, 2, 0.3)) for k in (0, 0, 1)]
    np.testing.assert_array_equal(masks[0], masks[1])
    assert (masks[0] != masks[2]).any()


def test_dropped_presence_has_the_probability_of_independent_drops_with_a_rescue():
    n, m, p = 20_000, 3, 0.6
    present = np.asarray(dropped_presence(jax.random.key(2), n, m, p))
    assert present.any(axis=1).all()
    expected = (1 - p) + p**m / m
    z = (present.mean(axis=0) - expected) / np.sqrt(expected * (1 - expected) / n)
    assert np.abs(z).max() < 4
    both = (1 - p) ** 2
    z = (np.mean(present[:, 0] & present[:, 1]) - both) / np.sqrt(both * (1 - both) / n)
    assert abs(z) < 4


@pytest.mark.parametrize(("p", "observed"), [(0.0, 4), (1.0, 1)])
def test_dropped_presence_at_the_ends(p, observed):
    present = dropped_presence(jax.random.key(0), 30, 4, p)
    assert (present.sum(axis=1) == observed).all()


@pytest.mark.parametrize("mask", [supervision_presence, dropped_presence])
@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_fractions_outside_the_unit_interval_are_refused(mask, value):
    with pytest.raises(UserError, match="0 to 1"):
        mask(jax.random.key(0), 10, 2, value)
