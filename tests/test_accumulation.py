"""Gradient accumulation is the large batch: for every objective, with what is missing and what is private."""

import jax
import numpy as np
import pytest

from mmvae_jax import Modality, Model
from mmvae_jax.accumulation import in_parts
from mmvae_jax.networks.mlp import MLPDecoder, MLPEncoder
from mmvae_jax.training import Training, init_state, train_step
from mmvae_jax.zoo import MODELS
from tests import toy

KINDS = toy.KINDS["image-vector-label"]
SIZE, PARTS = 12, 3
PRESENT = np.array(list(np.ndindex(2, 2, 2)) + [(1, 1, 1)] * 4, bool)


@pytest.mark.parametrize("row", {MODELS[name].objective: name for name in MODELS}.values())
def test_the_parts_make_the_large_batch(row):
    model = toy.model(row, KINDS)
    batch = model.batch(toy.data(KINDS, SIZE), PRESENT)
    objective = MODELS[row].objective
    options = toy.options(objective, importance_samples=3, samples_at_once=2)

    def stepped(training: Training):
        assert training.step_size == SIZE
        state = init_state(model, training, jax.random.key(0))
        return jax.jit(lambda state, batch: train_step(model, training, state, batch))(state, batch)

    whole, terms, _ = stepped(Training(objective, batch_size=SIZE, options=options))
    parts, their_terms, _ = stepped(Training(objective, batch_size=SIZE // PARTS, accumulate=PARTS, options=options))
    for name, value in terms.items():
        np.testing.assert_allclose(their_terms[name], value, rtol=2e-5, atol=1e-5, err_msg=name)
    for ours, theirs in zip(jax.tree.leaves(parts.opt_state), jax.tree.leaves(whole.opt_state), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=1e-5)


def test_activations_of_one_part_are_held_at_a_time():
    encoder, decoder = MLPEncoder((256, 256)), MLPDecoder((3,), (256, 256))
    model = Model(tuple(Modality(name, (3,), encoder, decoder) for name in "ab"), 2)
    batch = model.batch({name: np.zeros((4096, 3), np.float32) for name in "ab"})

    def temporaries(parts: int) -> int:
        training = Training(batch_size=4096 // parts, accumulate=parts)
        state = jax.eval_shape(lambda: init_state(model, training, jax.random.key(0)))
        step = jax.jit(lambda state, batch: train_step(model, training, state, batch))
        return step.lower(state, batch).compile().memory_analysis().temp_size_in_bytes

    assert temporaries(16) < temporaries(1) / 4


def test_a_single_part_is_the_model_itself():
    model = toy.model("mopoe", KINDS)
    assert in_parts(model, 1) is model
