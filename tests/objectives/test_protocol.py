"""What every model must do: take any presence mask as data in one trace, ignore what is absent, and learn."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmvae_jax.data.batching import Batch
from mmvae_jax.listing import handles_missing
from mmvae_jax.model import Model
from mmvae_jax.training import Training, TrainState, init_state, train_step
from mmvae_jax.zoo import MODELS
from tests import toy

B = 16
# All eight presence masks of three modalities, twice, or of two, four times.
EVERY_MASK = np.tile(np.array(list(np.ndindex(2, 2, 2)), bool), (2, 1))
MASKS = {
    "all": np.ones((B, 3), bool),
    "every mask": EVERY_MASK,
    "first only": np.tile([True, False, False], (B, 1)),
    "last missing": np.tile([True, True, False], (B, 1)),
    "nothing": np.zeros((B, 3), bool),
    "one each": np.eye(3, dtype=bool)[np.arange(B) % 3],
}
# Programs take long to compile: what one likelihood does in one model, the others of its form do in all.
CASES = [(row, kinds) for kinds in ("image-vector-label", "grid-string") for row in MODELS]
CASES += [("mopoe", "counts"), ("mmvae_plus", "measurements")]
every_case = pytest.mark.parametrize(("row", "kinds"), CASES)


@dataclass(frozen=True)
class Stepper:
    """A model of the registry with its compiled train step, which notes when it is traced."""

    model: Model
    state: TrainState
    x: dict[str, jax.Array]
    step: Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array], jax.Array]]
    traces: list[int]

    def batch(self, present: np.ndarray) -> Batch:
        """Of two modalities the masks' last columns count."""
        return Batch(self.x, jnp.asarray(present[:, -len(self.model.modalities) :]), jnp.zeros(B, jnp.int32))


@functools.cache
def stepper(row: str, kinds: str) -> Stepper:
    model = toy.model(row, toy.KINDS[kinds])
    objective = MODELS[row].objective
    options = toy.options(objective, importance_samples=2, random_subsets=1)
    training = Training(objective, learning_rate=2e-2, options=options)
    traces: list[int] = []

    @jax.jit
    def step(state: TrainState, batch: Batch) -> Any:
        traces.append(1)
        return train_step(model, training, state, batch)

    state = init_state(model, training, jax.random.key(0))
    return Stepper(model, state, toy.data(toy.KINDS[kinds], B), step, traces)


def gradient_of(state: TrainState) -> Any:
    """The gradient of the one step taken so far, up to Adam's factor 0.1."""
    return optax.tree_utils.tree_get(state.opt_state, "mu")


@every_case
def test_three_steps_under_every_mask_are_finite_and_traced_once(row, kinds):
    case = stepper(row, kinds)
    for present in MASKS.values():
        state = case.state
        for _ in range(3):
            state, terms, finite = case.step(state, case.batch(present))
            assert bool(finite)
            assert all(np.isfinite(value) for value in terms.values()), terms
        assert int(state.step) == 3
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(state.params))
    assert len(case.traces) == 1


def garbage(x: jax.Array, present: jax.Array, value: float) -> jax.Array:
    """The data with `value`, or the nearest thing its type holds, in place of what is absent."""
    if x.dtype == jnp.uint8:
        wrong = 255 - x
    elif jnp.issubdtype(x.dtype, jnp.integer):
        wrong = jnp.full_like(x, 10**6 if np.isnan(value) else -(10**6))
    else:
        wrong = jnp.full_like(x, value)
    return jnp.where(present.reshape(-1, *[1] * (x.ndim - 1)), x, wrong)


@every_case
def test_the_content_of_absent_entries_does_not_matter(row, kinds):
    """Garbage and NaN there change no bit of loss, gradient or step."""
    case = stepper(row, kinds)
    clean = case.batch(EVERY_MASK)
    expected = case.step(case.state, clean)
    for value in (1e6, np.nan):
        x = {name: garbage(v, clean.present[:, i], value) for i, (name, v) in enumerate(case.x.items())}
        actual = case.step(case.state, clean._replace(x=x))
        jax.tree.map(np.testing.assert_array_equal, actual[0].params, expected[0].params)
        jax.tree.map(np.testing.assert_array_equal, gradient_of(actual[0]), gradient_of(expected[0]))
        jax.tree.map(np.testing.assert_array_equal, actual[1], expected[1])
    assert len(case.traces) == 1


@every_case
def test_a_modality_absent_everywhere_has_no_gradient(row, kinds):
    """Not in its decoder nor in any network that reads it; the others learn, if the model needs no complete tuple."""
    case = stepper(row, kinds)
    state, _, _ = case.step(case.state, case.batch(MASKS["last missing"]))
    gradient = gradient_of(state)
    last = len(case.model.modalities) - 1
    readers = [network.name for network in case.model.networks if last in network.inputs]
    silent = {"decoders": [case.model.names[last]], "inference": readers}
    for group, names in silent.items():
        for name in names:
            assert all(np.all(np.asarray(leaf) == 0) for leaf in jax.tree.leaves(gradient[group][name])), name
    moved = [np.any(np.asarray(leaf) != 0) for leaf in jax.tree.leaves(gradient["decoders"][case.model.names[0]])]
    assert all(moved) == handles_missing(MODELS[row])


@every_case
def test_the_loss_falls_on_a_toy_problem(row, kinds):
    case = stepper(row, kinds)
    state, losses = case.state, []
    for _ in range(120):
        state, terms, _ = case.step(state, case.batch(MASKS["all"]))
        losses.append(float(terms["loss"]))
    first, last = np.array(losses[:10]), np.array(losses[-20:])
    assert last.mean() < 0.8 * first.mean()
    assert last.mean() < first.mean() - 4 * last.std()
    assert len(case.traces) == 1
