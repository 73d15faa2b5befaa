"""Every tuple once an epoch, presence follows its tuple, masks have the promised fractions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmvae_jax.data.batching import (
    batch_at,
    dropped_presence,
    fixed_split,
    supervision_presence,
    take,
)
from mmvae_jax.errors import UserError


@pytest.fixture
def split():
    """Twelve tuples whose value tells the tuple: a = i, b = 100 + i, label = i % 3."""
    i = jnp.arange(12)
    presence = jnp.stack([i % 2 == 0, i >= 0], axis=1)
    return fixed_split({"a": i[:, None], "b": 100 + i}, i % 3, presence)


def test_an_epoch_has_every_tuple_once_and_keeps_it_together(split):
    plan = split.plan(split.arrays, jax.random.key(0))
    step = jax.jit(lambda arrays, plan, start: batch_at(split, arrays, plan, start, 4))
    batches = [step(split.arrays, plan, start) for start in (0, 4, 8)]
    a = np.concatenate([batch.x["a"][:, 0] for batch in batches])
    assert sorted(a) == list(range(12))
    assert list(a) != list(range(12))
    for batch in batches:
        np.testing.assert_array_equal(batch.x["b"], 100 + batch.x["a"][:, 0])
        np.testing.assert_array_equal(batch.label, batch.x["a"][:, 0] % 3)
        np.testing.assert_array_equal(batch.present[:, 0], batch.x["a"][:, 0] % 2 == 0)
        assert batch.present[:, 1].all()


def test_the_key_decides_the_order(split):
    first, again, other = (take(split, jax.random.key(seed), 12).label for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_jit_takes_the_arrays_as_arguments(split):
    jaxpr = jax.make_jaxpr(lambda arrays, plan, start: split.gather(arrays, jax.tree.map(lambda v: v[:4], plan)))(
        split.arrays, split.plan(split.arrays, jax.random.key(0)), 0
    )
    assert all(np.size(const) < 12 for const in jaxpr.consts)


def test_everything_is_present_without_a_mask():
    split = fixed_split({"a": jnp.zeros((5, 2)), "b": jnp.zeros(5), "c": jnp.zeros(5)}, jnp.zeros(5))
    assert take(split, jax.random.key(0), 5).present.tolist() == [[True] * 3] * 5


@pytest.mark.parametrize("n", [0, 13])
def test_take_refuses_more_than_there_is(split, n):
    with pytest.raises(UserError, match=f"{n} tuples asked of a split of 12"):
        take(split, jax.random.key(0), n)


def test_unequal_lengths_are_refused():
    with pytest.raises(UserError, match="lengths"):
        fixed_split({"a": jnp.zeros(4), "b": jnp.zeros(5)}, jnp.zeros(4))
    with pytest.raises(UserError, match=r"presence has shape \(4, 2\)"):
        fixed_split({"a": jnp.zeros(4)}, jnp.zeros(4), jnp.ones((4, 2), bool))


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
