"""Held-out tuples in training: their loss, the state that is kept, and the end of patience."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmvae_jax import Training, UserError, Validation, fit
from mmvae_jax.data.batching import fixed_split, take
from mmvae_jax.objectives import OBJECTIVES
from mmvae_jax.training import TrainState
from tests.oracle import LinearGaussian

ORACLE = LinearGaussian((3, 2), latent_dim=2)
MODEL = ORACLE.model("mopoe")
DATA, HELD_OUT = (ORACLE.sample(jax.random.key(i), n).x for i, n in enumerate((3, 25)))
# Three tuples are soon learned by heart; an epoch is a step.
TRAINING = Training(steps=60, batch_size=3, learning_rate=0.1, anneal_steps=10)
KEY = jax.random.key(7)


def watched(
    training: Training, validation: Validation | None
) -> tuple[TrainState, dict[int, float], dict[int, TrainState]]:
    """The state that training returns, and after every epoch the validation loss and the state."""
    losses, states = {}, {}

    def after(state, progress):
        states[progress.step] = jax.tree.map(jnp.copy, state)
        if "validation_loss" in progress.terms:
            losses[progress.step] = progress.terms["validation_loss"]

    return fit(MODEL, DATA, training, KEY, after=after, validation=validation), losses, states


def test_the_loss_is_the_objectives_of_all_held_out_tuples_at_the_final_beta():
    _, losses, states = watched(TRAINING, Validation(HELD_OUT))
    assert [*losses] == [*range(1, 61)]
    loss = OBJECTIVES["elbo"].loss
    batch = take(fixed_split(HELD_OUT, jnp.zeros(25, int)), jax.random.key(0), 25)
    parts = [jax.tree.map(lambda leaf, i=i: leaf[i : i + 3], batch) for i in range(0, 25, 3)]
    for step in (1, 60):
        each = [
            len(part.label)
            * float(
                loss(MODEL, states[step].params, jax.random.fold_in(jax.random.key(0), i), part, 1.0, TRAINING.options)[
                    0
                ]
            )
            for i, part in enumerate(parts)
        ]
        assert losses[step] == pytest.approx(sum(each) / 25, rel=1e-5)


def test_the_state_of_the_lowest_loss_is_returned():
    best, losses, states = watched(TRAINING, Validation(HELD_OUT))
    step = min(losses, key=lambda step: losses[step])
    assert step < 60 and int(best.step) == step
    jax.tree.map(np.testing.assert_array_equal, best.params, states[step].params)
    last, none, unwatched = watched(TRAINING, None)
    assert int(last.step) == 60 and none == {}
    jax.tree.map(np.testing.assert_array_equal, last.params, states[60].params)
    jax.tree.map(np.testing.assert_array_equal, last.params, unwatched[60].params)


def test_patience_ends_training_after_so_many_epochs_without_a_lower_loss():
    _, whole, _ = watched(TRAINING, Validation(HELD_OUT))
    best, losses, _ = watched(TRAINING, Validation(HELD_OUT, patience=2))
    steps = [*whole]
    end = next(
        i
        for i in range(2, len(steps))
        if min(whole[s] for s in steps[i - 1 : i + 1]) >= min(whole[s] for s in steps[: i - 1])
    )
    assert [*losses] == steps[: end + 1] and len(losses) < len(steps)
    assert int(best.step) == steps[end - 2]


def test_held_out_tuples_may_be_incomplete_or_a_split():
    presence = np.ones((25, 2), bool)
    presence[::2, 1] = False
    poisoned = HELD_OUT | {"m1": jnp.where(presence[:, 1:], HELD_OUT["m1"], jnp.nan)}
    _, losses, _ = watched(TRAINING, Validation(poisoned, presence))
    split = fixed_split(HELD_OUT, jnp.zeros(25, int), jnp.asarray(presence))
    _, same, _ = watched(TRAINING, Validation(split))
    assert np.isfinite([*losses.values()]).all()
    # A split's tuples come in another order, so with other noise.
    assert losses[60] == pytest.approx(same[60], rel=0.2)


def test_mistakes_are_told():
    with pytest.raises(UserError, match="patience=-1: give a number of epochs"):
        Validation(HELD_OUT, patience=-1)
    with pytest.raises(UserError, match="m1"):
        fit(MODEL, DATA, TRAINING, KEY, validation={"m1": HELD_OUT["m0"]})


def test_progress_is_shown_where_it_is_asked_for(capfd: pytest.CaptureFixture[str]):
    fit(MODEL, DATA, TRAINING, KEY)
    assert capfd.readouterr().err == ""
    fit(MODEL, DATA, TRAINING, KEY, validation=Validation(HELD_OUT), show=True)
    err = capfd.readouterr().err
    assert "60/60" in err and "loss=" in err and "validation_loss=" in err
