"""Residual networks: residual by construction, and blind to nothing in the picture or the string."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmvae_jax.errors import UserError
from mmvae_jax.networks.resnet import (
    ResidualBlock,
    ResidualUpBlock,
    ResNetClassifier,
    ResNetDecoder,
    ResNetEncoder,
)

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


@pytest.mark.parametrize(("stride", "kernel"), [((2, 2), (3, 3)), ((1, 4), (1, 5))])
def test_a_doubling_block_whose_convolutions_are_zero_repeats_its_shortcut(stride, kernel):
    x = jax.random.normal(KEY, (8, 2, 3, 2))
    block = ResidualUpBlock(4, stride, kernel)
    params = jax.tree.map(jnp.zeros_like, block.init(KEY, x)["params"])
    params["GroupNorm_0"]["scale"] = jnp.ones(8)
    params["Conv_0"]["kernel"] = params["Conv_0"]["kernel"].at[0, 0, 5, 2].set(1.0)
    found: Any = block.apply({"params": params}, x)
    of_flax: Any = nn.GroupNorm(num_groups=4).apply({"params": params["GroupNorm_0"]}, x.transpose(3, 1, 2, 0))
    shortcut = nn.relu(of_flax).transpose(3, 1, 2, 0)
    assert found.shape == (4, 2 * stride[0], 3 * stride[1], 2)
    np.testing.assert_allclose(found[2], np.repeat(np.repeat(shortcut[5], stride[0], 0), stride[1], 1), atol=1e-6)
    assert not found[:2].any() and not found[3].any()


@pytest.mark.parametrize(("shape", "categories", "features"), [((16, 24, 3), 0, 8 * 4 * 6), ((32,), 5, 8 * 2)])
def test_encoder_sees_everything_and_decoder_is_its_mirror(shape, categories, features):
    """Two widths: a quarter of each side of a picture, a sixteenth of a string."""
    encoder, decoder = ResNetEncoder((4, 8), categories), ResNetDecoder(shape, (8, 4), categories)
    x = jax.random.uniform(KEY, (1, *shape)) if not categories else jnp.arange(32)[None] % categories
    params = encoder.init(KEY, x)
    found: Any = jax.eval_shape(encoder.apply, params, x)
    assert found.shape == (1, features)
    z = jax.random.normal(KEY, (2, 3))
    made: Any = decoder.init_with_output(KEY, z)[0]
    assert made.shape == (2, *shape, *([categories] if categories else [])) and np.isfinite(made).all()
    assert (np.abs(made[0] - made[1]) > 0).mean() > 0.99
    if categories:
        encode = jax.jit(encoder.apply)
        for place in range(32):
            other: Any = encode(params, x.at[0, place].set(-1))
            assert not np.allclose(other, encode(params, x), atol=1e-5), place


def test_sides_that_cannot_be_halved_so_often_are_refused():
    with pytest.raises(UserError, match="a side of 10 with 2 widths: give a multiple of 4"):
        ResNetDecoder((12, 10, 3), (8, 4)).init(KEY, jnp.zeros((1, 3)))
