"""Every tuple once an epoch, and presence follows its tuple."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmvae_jax.data.batching import batch_at, fixed_split, take
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
    split = fixed_split({"a": jnp.zeros((5, 2)), "b": jnp.zeros(5), "c": jnp.zeros(5)}, jnp.zeros(5, int))
    assert take(split, jax.random.key(0), 5).present.tolist() == [[True] * 3] * 5


@pytest.mark.parametrize("n", [0, 13])
def test_take_refuses_more_than_there_is(split, n):
    with pytest.raises(UserError, match=f"{n} tuples asked of a split of 12"):
        take(split, jax.random.key(0), n)


def test_unequal_lengths_are_refused():
    with pytest.raises(UserError, match="lengths"):
        fixed_split({"a": jnp.zeros(4), "b": jnp.zeros(5)}, jnp.zeros(4, int))
    with pytest.raises(UserError, match=r"presence has shape \(4, 2\)"):
        fixed_split({"a": jnp.zeros(4)}, jnp.zeros(4, int), jnp.ones((4, 2), bool))
