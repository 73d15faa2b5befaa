"""Training: the guard against NaN, bit-identical resuming, schedules, and one-line errors."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmvae_jax.data.batching import Batch, fixed_split
from mmvae_jax.errors import UserError
from mmvae_jax.likelihoods import Likelihood, normal
from mmvae_jax.loop import Diverged, Progress, fit, in_place, make_stretch, slow_in_loops, steps_per_epoch
from mmvae_jax.networks.operations import conv2d
from mmvae_jax.objectives import OBJECTIVES, Options
from mmvae_jax.training import Training, TrainState, init_state, train_step
from tests.oracle import LinearGaussian

ORACLE = LinearGaussian((3, 2), latent_dim=2)
_CHECKED = ORACLE.model("mopoe")
# A normal likelihood that takes any value, so that training can diverge.
MODEL = replace(_CHECKED, modalities=tuple(replace(m, likelihood=Likelihood(normal)) for m in _CHECKED.modalities))
N = 50
DATA = ORACLE.sample(jax.random.key(0), N).x
# Three epochs of six steps, everything that depends on the step switched on.
TRAINING = Training(
    steps=17,
    batch_size=8,
    learning_rate=0.02,
    schedule="cosine",
    warmup_steps=4,
    clip_norm=5.0,
    beta=0.8,
    anneal_steps=9,
)


def copied(state: TrainState) -> TrainState:
    return jax.tree.map(jnp.copy, state)


def bits(state: TrainState) -> list[bytes]:
    plain = state._replace(key=jax.random.key_data(state.key))
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(plain)]


@pytest.fixture(scope="module")
def uninterrupted(newer_emitters: None) -> TrainState:
    return fit(MODEL, DATA, TRAINING, jax.random.key(7))


@pytest.mark.parametrize("steps_per_dispatch", [1, 4])
def test_dispatch_size_has_no_influence_on_the_bits(uninterrupted, steps_per_dispatch):
    state = fit(MODEL, DATA, TRAINING, jax.random.key(7), steps_per_dispatch=steps_per_dispatch)
    assert int(state.step) == 17
    assert bits(state) == bits(uninterrupted)


@pytest.mark.parametrize("stop", [3, 6, 13])
def test_resumed_training_is_the_uninterrupted_one_bit_for_bit(uninterrupted, stop):
    """Stopped inside an epoch and between two, and gone on from the state alone, through the host as in a checkpoint."""
    half = fit(MODEL, DATA, TRAINING, jax.random.key(7), after=lambda _, p: p.step == stop, steps_per_dispatch=1)
    assert int(half.step) == stop
    on_host = jax.tree.map(np.asarray, half._replace(key=jax.random.key_data(half.key)))
    restored = jax.tree.map(jnp.asarray, on_host)
    restored = restored._replace(key=jax.random.wrap_key_data(restored.key))
    state = fit(MODEL, DATA, TRAINING, jax.random.key(999), state=restored)
    assert bits(state) == bits(uninterrupted)


def test_the_key_decides_everything(uninterrupted):
    other = fit(MODEL, DATA, TRAINING, jax.random.key(8))
    assert bits(other) != bits(uninterrupted)
    split = fixed_split(DATA, jnp.zeros(N, int))
    assert bits(fit(MODEL, split, TRAINING, jax.random.key(7))) == bits(uninterrupted)


def test_one_dispatch_and_many_take_the_same_steps():
    split = fixed_split(DATA, jnp.zeros(N, int))
    plan = split.plan(split.arrays, jax.random.key(1))
    tallies = []
    for one_dispatch in (True, False):
        stretch = make_stretch(MODEL, TRAINING, split, one_dispatch)
        tally = stretch(init_state(MODEL, TRAINING, jax.random.key(2)), split.arrays, plan, 2)
        tallies.append(stretch(tally.state, split.arrays, plan, 6))
    for one, many in zip(
        *map(jax.tree.leaves, ([t.state.params, t.state.opt_state, t.sums] for t in tallies)), strict=True
    ):
        np.testing.assert_allclose(one, many, rtol=1e-5, atol=1e-6)
    assert [int(t.state.step) for t in tallies] == [6, 6]


def test_xlas_convolution_is_told_from_ours_on_the_cpu():
    x, kernel = jnp.zeros((1, 4, 4, 1)), jnp.zeros((2, 2, 1, 1))
    xla = jax.jit(lambda x, kernel: nn.Conv(1, (2, 2)).apply({"params": {"kernel": kernel, "bias": jnp.zeros(1)}}, x))
    assert slow_in_loops(xla.lower(x, kernel)) == (jax.default_backend() == "cpu")
    assert not slow_in_loops(jax.jit(jax.grad(lambda x, kernel: conv2d(x, kernel).sum())).lower(x, kernel))


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the CPU compiler's copies")
def test_adams_moments_are_not_copied_before_they_are_overwritten():
    adam, start, x = optax.adam(1e-3), jnp.ones((48, 96)), jnp.ones((8, 48))

    def step(_: Any, state: tuple) -> tuple:
        gradient = jax.grad(lambda kernel: jnp.sum(jnp.tanh(x @ kernel)))(state[0])
        updates, moments = adam.update(gradient, state[1])
        good = jnp.isfinite(optax.tree.norm(gradient))
        stepped = (optax.apply_updates(state[0], updates), moments)
        return jax.tree.map(lambda new, old: jnp.where(good, new, old), stepped, state)

    def copies(compiled: jax.stages.Wrapped) -> int:
        text = compiled.lower((start, adam.init(start))).compile().as_text() or ""
        return text.count("f32[48,96]{1,0} copy(")

    def steps(state: tuple) -> tuple:
        return jax.lax.fori_loop(0, 3, step, state)

    assert copies(jax.jit(steps, donate_argnums=0)) == 2
    assert copies(in_place(steps)) == 0


def test_a_step_is_adams_on_the_objective_at_the_steps_key():
    """Against optax written out: fold_in(key, noise), fold_in(step), then the gradient, clipping and the schedule."""
    batch = MODEL.batch(DATA)
    state = init_state(MODEL, TRAINING, jax.random.key(3))._replace(step=jnp.array(5))
    key = jax.random.fold_in(jax.random.fold_in(state.key, 1), 5)

    def loss(params: Any) -> jax.Array:
        return OBJECTIVES["elbo"].loss(MODEL, params, key, batch, 0.8 * 5 / 9, Options())[0]

    value, gradient = jax.jit(jax.value_and_grad(loss))(state.params)
    optimizer = optax.chain(optax.clip_by_global_norm(5.0), optax.adam(TRAINING.learning_rate_at))
    updates, _ = optimizer.update(gradient, state.opt_state, state.params)
    expected = optax.apply_updates(state.params, updates)
    stepped, terms, finite = jax.jit(lambda s: train_step(MODEL, TRAINING, s, batch))(state)
    assert bool(finite)
    assert int(stepped.step) == 6
    np.testing.assert_allclose(terms["loss"], value, rtol=1e-5)
    np.testing.assert_allclose(terms["gradient_norm"], optax.tree.norm(gradient), rtol=1e-4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), stepped.params, expected)
    jax.tree.map(np.testing.assert_array_equal, jax.random.key_data(stepped.key), jax.random.key_data(state.key))


def test_clipping_bounds_the_gradient_that_adam_sees():
    training = Training(clip_norm=0.5)
    state = init_state(MODEL, training, jax.random.key(3))
    stepped, terms, _ = jax.jit(lambda s: train_step(MODEL, training, s, MODEL.batch(DATA)))(state)
    assert float(terms["gradient_norm"]) > 0.5
    seen = optax.tree.norm(optax.tree_utils.tree_get(stepped.opt_state, "mu")) / 0.1
    np.testing.assert_allclose(seen, 0.5, rtol=1e-4)


def test_progress_is_the_mean_over_the_stretch_and_training_learns():
    singles: list[Progress] = []
    stretches: list[Progress] = []
    training = Training(steps=12, batch_size=8, learning_rate=0.03)
    fit(MODEL, DATA, training, after=lambda _, p: singles.append(p), steps_per_dispatch=1)
    fit(MODEL, DATA, training, after=lambda _, p: stretches.append(p), steps_per_dispatch=4)
    assert [p.step for p in singles] == list(range(1, 13))
    # A dispatch ends with the epoch, of six steps here.
    assert [p.step for p in stretches] == [4, 6, 10, 12]
    for name, value in stretches[2].terms.items():
        np.testing.assert_allclose(value, np.mean([p.terms[name] for p in singles[6:10]]), rtol=1e-5)
    assert stretches[-1].terms["loss"] < stretches[0].terms["loss"]


def order_of_epoch(key: jax.Array, epoch: int) -> np.ndarray:
    """The samples of an epoch, in order, of a run under `key`."""
    split = fixed_split(DATA, jnp.zeros(N, int))
    run_key = init_state(MODEL, TRAINING, key).key
    order_key = jax.random.fold_in(jax.random.fold_in(run_key, 0), epoch)
    return np.asarray(split.plan(split.arrays, order_key)["index"])


def poisoned(sample: int | np.integer) -> dict[str, jax.Array]:
    """One sample of m1 is finite, but its square is not."""
    return {**DATA, "m1": DATA["m1"].at[int(sample)].set(1e30)}


@pytest.mark.parametrize(("step", "steps_per_dispatch"), [(0, 25), (3, 1), (5, 4), (9, 25)])
def test_divergence_names_step_and_term(step, steps_per_dispatch):
    """At the very step, of the first or the second epoch, whose batch holds the poisoned sample."""
    key = jax.random.key(11)
    order = order_of_epoch(key, 0)
    if step < 6:
        sample = order[8 * step + 3]
    else:
        # One of the two samples of fifty that six batches of eight leave out, met again in the second epoch.
        place = np.flatnonzero(np.isin(order_of_epoch(key, 1), order[48:]))[0]
        sample, step = order_of_epoch(key, 1)[place], 6 + place // 8
    seen: list[int] = []
    with pytest.raises(Diverged) as caught:
        fit(
            MODEL,
            poisoned(sample),
            TRAINING,
            key,
            after=lambda _, p: seen.append(p.step),
            steps_per_dispatch=steps_per_dispatch,
        )
    message = str(caught.value)
    assert message.startswith(f"not finite at step {step}: ")
    assert "log_likelihood/m1, loss" in message
    assert "log_likelihood/m0" not in message
    assert "\n" not in message
    ends = {0: [], 3: [1, 2, 3], 5: [4]}
    assert seen == ends.get(step, [6])


@pytest.mark.parametrize("one_dispatch", [True, False])
def test_the_guard_keeps_the_last_good_state(one_dispatch):
    """To the bit that of a run that stops just before; the sums are the bad step's terms."""
    key, good = jax.random.key(11), 3
    split = fixed_split(poisoned(order_of_epoch(key, 0)[8 * good]), jnp.zeros(N, int))
    state = init_state(MODEL, TRAINING, key)
    plan = split.plan(split.arrays, jax.random.fold_in(jax.random.fold_in(state.key, 0), 0))
    stretch = make_stretch(MODEL, TRAINING, split, one_dispatch)
    before = stretch(copied(state), split.arrays, plan, good)
    assert bool(before.finite)
    after = stretch(copied(state), split.arrays, plan, 6)
    assert not bool(after.finite)
    assert int(after.state.step) == good
    assert bits(after.state) == bits(before.state)
    assert np.isinf(after.sums["log_likelihood/m1"])
    assert np.isfinite(after.sums["log_likelihood/m0"])


def test_missing_data_may_be_anything_in_a_fit():
    """NaN where presence says unobserved trains to the bits of zeros there."""
    presence = np.array(jax.random.bernoulli(jax.random.key(4), 0.6, (N, 2)))
    states = []
    for value in (0.0, np.nan):
        data = {name: jnp.where(presence[:, [i]], DATA[name], value) for i, name in enumerate(MODEL.names)}
        states.append(fit(MODEL, data, TRAINING, jax.random.key(5), presence=jnp.asarray(presence)))
    assert bits(states[0]) == bits(states[1])
    complete = fit(MODEL, DATA, TRAINING, jax.random.key(5))
    assert bits(complete) != bits(states[0])


def test_a_modality_left_out_of_the_data_keeps_its_decoder():
    state = fit(MODEL, {"m0": DATA["m0"]}, TRAINING, jax.random.key(6))
    first = init_state(MODEL, TRAINING, jax.random.key(6))
    jax.tree.map(np.testing.assert_array_equal, state.params["decoders"]["m1"], first.params["decoders"]["m1"])
    jax.tree.map(np.testing.assert_array_equal, state.params["inference"]["m1"], first.params["inference"]["m1"])
    assert np.abs(state.params["decoders"]["m0"]["bias"] - first.params["decoders"]["m0"]["bias"]).max() > 0.01


def at(schedule: Callable[[int], Any], *steps: int) -> list[float]:
    return [float(schedule(step)) for step in steps]


def test_learning_rate_schedules():
    constant = Training(learning_rate=0.1)
    assert at(constant.learning_rate_at, 0, 1, 10_000) == pytest.approx([0.1, 0.1, 0.1])
    warm = Training(learning_rate=0.1, warmup_steps=10)
    assert at(warm.learning_rate_at, 0, 5, 10, 999) == pytest.approx([0.0, 0.05, 0.1, 0.1])
    cosine = Training(learning_rate=0.1, steps=110, schedule="cosine", warmup_steps=10)
    assert at(cosine.learning_rate_at, 0, 5, 10, 60, 110) == pytest.approx([0.0, 0.05, 0.1, 0.05, 0.0], abs=1e-7)
    cold = Training(learning_rate=0.1, steps=100, schedule="cosine")
    assert at(cold.learning_rate_at, 0, 50, 100) == pytest.approx([0.1, 0.05, 0.0], abs=1e-7)


def test_beta_rises_linearly():
    assert at(Training(beta=2.0).beta_at, 0, 1, 99) == [2.0, 2.0, 2.0]
    assert at(Training(beta=2.0, anneal_steps=10).beta_at, 0, 5, 10, 99) == pytest.approx([0.0, 1.0, 2.0, 2.0])


def test_annealing_starts_without_a_penalty():
    training = Training(beta=2.0, anneal_steps=10)
    state = init_state(MODEL, training, jax.random.key(0))
    step = jax.jit(lambda s: train_step(MODEL, training, s, MODEL.batch(DATA))[1])
    for number, beta in ((0, 0.0), (5, 1.0), (20, 2.0)):
        terms = {name: float(v) for name, v in step(state._replace(step=jnp.array(number))).items()}
        expected = -terms["log_likelihood/m0"] - terms["log_likelihood/m1"] + beta * terms["kl"]
        np.testing.assert_allclose(terms["loss"], expected, rtol=1e-5)


def test_no_steps_give_the_first_state():
    state = fit(MODEL, DATA, Training(steps=0, batch_size=8), jax.random.key(1))
    assert bits(state) == bits(init_state(MODEL, Training(steps=0), jax.random.key(1)))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"objective": "magic"}, "unknown objective 'magic': choose one of elbo, powerset_elbo"),
        ({"beta": -1.0}, "beta=-1.0: give a number of at least 0"),
        ({"beta": float("nan")}, "beta=nan: give a number of at least 0"),
        ({"steps": -5}, "steps=-5: give a number of at least 0"),
        ({"clip_norm": -0.1}, "clip-norm=-0.1: give a number of at least 0"),
        ({"anneal_steps": -1}, "anneal-steps=-1: give a number"),
        ({"batch_size": 0}, "batch-size=0: give a whole number of at least 1"),
        ({"learning_rate": 0.0}, "learning-rate=0.0: give a number above 0"),
    ],
)
def test_wrong_settings_are_refused(wrong, message):
    with pytest.raises(UserError, match=message):
        Training(**wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"random_subsets": -1}, "random-subsets=-1: give a number of at least 0"),
        ({"alpha": -0.1}, "alpha=-0.1: give a weight of at least 0"),
        ({"beta_style": -1.0}, "beta-style=-1.0: give a weight of at least 0"),
        ({"correlation": 1.5}, "correlation=1.5: give a weight between 0 and 1"),
    ],
)
def test_wrong_options_are_refused(wrong, message):
    with pytest.raises(UserError, match=message):
        Options(**wrong)


def refused(
    message: str, data: dict[str, Any], presence: Any = None, objective: str = "elbo", batch_size: int = 8
) -> None:
    model = ORACLE.model("joint_network", joint_width=4) if objective == "jmvae" else MODEL
    with pytest.raises(UserError, match=message) as caught:
        fit(model, data, Training(objective, steps=1, batch_size=batch_size), presence=presence)
    assert "\n" not in str(caught.value)


def test_data_that_cannot_be_trained_on_are_refused():
    refused("batch-size=64 with 50 training tuples: give at most 50", DATA, batch_size=64)
    refused(r"m0: data of shape \(2,\), the modality is declared \(3,\)", {**DATA, "m0": DATA["m1"]})
    refused(
        "m1: value nan in observed sample 31: mend it or mark it missing",
        {**DATA, "m1": DATA["m1"].at[31].set(jnp.nan)},
    )
    refused("m1: value -inf in observed sample 4", {**DATA, "m1": DATA["m1"].at[4, 1].set(-jnp.inf)})
    refused(r"presence has shape \(50, 3\): give one of shape \(50, 2\)", DATA, jnp.ones((N, 3), bool))


def test_the_sample_named_is_the_users_not_the_observed_ones():
    """Sample 31 stays sample 31 when others before it are missing."""
    presence = jnp.ones((N, 2), bool).at[:10, 1].set(False)
    refused(
        "m1: value nan in observed sample 31: mend it or mark it missing",
        {**DATA, "m1": DATA["m1"].at[31].set(jnp.nan)},
        presence,
    )


def test_models_that_need_pairs_refuse_data_without_any():
    unpaired = jnp.asarray(np.eye(2, dtype=bool)[np.arange(N) % 2])
    refused("objective jmvae learns from complete tuples only", DATA, unpaired, "jmvae")
    refused("objective jmvae learns from complete tuples only", {"m0": DATA["m0"]}, None, "jmvae")


def test_steps_per_epoch_drops_the_incomplete_batch():
    split = fixed_split(DATA, jnp.zeros(N, int))
    assert steps_per_epoch(split, Training(batch_size=8)) == 6
    assert steps_per_epoch(split, Training(batch_size=50)) == 1
    plan = split.plan(split.arrays, jax.random.key(0))
    assert sorted(np.asarray(plan["index"])) == list(range(N))


def test_presence_with_its_columns_in_another_order_is_refused():
    presence = jnp.ones((N, 2), bool)
    swapped = fixed_split(dict(reversed(DATA.items())), jnp.zeros(N, int), presence)
    with pytest.raises(UserError, match="columns of presence m1, m0, the model has m0, m1: give the split these"):
        fit(MODEL, swapped, TRAINING, jax.random.key(0))
    assert fit(MODEL, replace(swapped, presence=None), TRAINING, jax.random.key(0)).step


def test_batches_keep_their_labels_out_of_training():
    """Labels have no influence: they are for evaluation."""
    states = [
        fit(MODEL, fixed_split(DATA, labels), TRAINING, jax.random.key(7))
        for labels in (jnp.zeros(N, int), jnp.arange(N))
    ]
    assert bits(states[0]) == bits(states[1])
    assert isinstance(MODEL.batch(DATA), Batch)
