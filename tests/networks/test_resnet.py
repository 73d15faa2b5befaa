"""The oracle's network: residual by construction, and blind to nothing in the image."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmvae_jax.networks.resnet import ResidualBlock, ResNetClassifier

KEY = jax.random.key(0)


def test_a_block_whose_convolutions_are_zero_is_its_shortcut():
    x = jax.random.normal(KEY, (8, 6, 6, 2))
    block = ResidualBlock(8)
    found: Any = block.apply(jax.tree.map(jnp.zeros_like, block.init(KEY, x)), x)
    np.testing.assert_array_equal(found, x)


def test_a_strided_block_halves_the_map():
    for width in (8, 16):
        block = ResidualBlock(width, stride=2)
        found = jax.eval_shape(block.init_with_output, KEY, jnp.zeros((8, 7, 7, 2)))[0]
        assert found.shape == (width, 4, 4, 2)


def test_every_pixel_counts():
    module = ResNetClassifier(10, widths=(4, 8))
    x = jax.random.uniform(KEY, (1, 28, 28, 1))
    params = module.init(KEY, x)

    def loss(x: jax.Array) -> jax.Array:
        logits: Any = module.apply(params, x)
        return jnp.vdot(logits, jnp.arange(10.0))

    gradient = jax.jit(jax.grad(loss))(x)
    assert (np.abs(gradient) > 0).mean() > 0.99
