"""Layers: pictures as planes and back, and PyTorch's initial weights."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmvae_jax.networks.conv import ConvDecoder, ConvEncoder
from mmvae_jax.networks.layers import images, planes
from tests.networks.reference import draw, init


@pytest.mark.parametrize("channels", [1, 3, 6])
def test_planes_and_images_are_one_transpose(channels):
    image, weights = draw(12, (2, 4, 5, channels), (channels, 4, 5, 2), dtype="float32")
    np.testing.assert_array_equal(planes(image), image.transpose(3, 1, 2, 0))
    np.testing.assert_array_equal(images(weights), weights.transpose(3, 1, 2, 0))
    gradients = [
        jax.grad(lambda x: jnp.vdot(planes(x), weights))(image),
        jax.grad(lambda x: jnp.vdot(images(x), image))(weights),
    ]
    np.testing.assert_array_equal(gradients[0], weights.transpose(3, 1, 2, 0))
    np.testing.assert_array_equal(gradients[1], image.transpose(3, 1, 2, 0))


def test_initial_weights_are_pytorchs():
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)), fan_in from the second axis of PyTorch's weight."""
    encoder = init(ConvEncoder(), jnp.zeros((1, 28, 28, 3)))
    decoder = init(ConvDecoder(), jnp.zeros((1, 512)))
    fans = {
        "Conv_1": (encoder, 32 * 9),
        "Dense_0": (encoder, 2048),
        "ConvTranspose_0": (decoder, 64 * 9),
        "ConvTranspose_1": (decoder, 32 * 9),
    }
    for name, (params, fan_in) in fans.items():
        bound = 1 / math.sqrt(fan_in)
        kernel, bias = params[name]["kernel"], params[name]["bias"]
        assert 0.99 * bound < jnp.abs(kernel).max() <= bound, name
        assert 0.7 * bound < jnp.abs(bias).max() <= bound, name
        np.testing.assert_allclose(jnp.std(kernel), bound / math.sqrt(3), rtol=0.01)
