"""What the objectives share: the weight of the private latents' KLs."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmvae_jax.data.batching import Batch
from mmvae_jax.objectives import OBJECTIVES, Options
from mmvae_jax.training import Training, init_state, train_step
from mmvae_jax.zoo import MODELS
from tests import toy

KINDS = ("normal", "laplace")
# A row of the papers' models for every objective that weights private latents.
ROWS = {row.objective: name for name, row in MODELS.items() if "beta_style" in OBJECTIVES[row.objective].options}


def test_every_objective_that_weights_private_latents_is_walked():
    assert set(ROWS) == {name for name, row in OBJECTIVES.items() if "beta_style" in row.options}


@pytest.mark.parametrize("objective", ROWS)
def test_private_kls_are_weighted_by_beta_times_beta_style_and_annealed_with_it(objective):
    """Loss(beta, style) - loss(beta, 0) = beta style KL: none at the first of annealed steps, all of it after them."""
    model = toy.model(ROWS[objective], KINDS)
    model = replace(model, modalities=tuple(replace(m, private_dim=2) for m in model.modalities))
    batch = Batch(toy.data(KINDS, 16), jnp.ones((16, 2), bool), jnp.zeros(16, jnp.int32))
    training = Training(objective, beta=2.5, anneal_steps=10)
    state = init_state(model, training, jax.random.key(0))

    @jax.jit
    def losses(step):
        """Under weights 0 and 3, and the KL itself."""
        chosen = [replace(training, options=Options(beta_style=style)) for style in (0.0, 3.0)]
        without, with_kl = (train_step(model, how, state._replace(step=step), batch)[1] for how in chosen)
        return without["loss"], with_kl["loss"], with_kl["kl_private"]

    for step, beta in ((0, 0.0), (4, 1.0), (10, 2.5), (50, 2.5)):
        without, with_kl, kl = losses(jnp.int32(step))
        assert kl > 0.1
        np.testing.assert_allclose(with_kl - without, beta * 3 * kl, rtol=1e-4, atol=1e-4)
