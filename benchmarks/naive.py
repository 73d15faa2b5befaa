"""The straightforward formulation: PolyMNIST's networks in `lax` convolutions, products of experts one by one.

The modules carry the names and shapes of the library's parameters, so that both take the same ones: what the optimised
forms are timed against, and tested equal to.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float

from mmvae_jax import gaussian
from mmvae_jax.gaussian import Gaussian

_LAYOUT = ("NHWC", "HWIO", "NHWC")


class ConvTranspose(nn.Module):
    """A 3x3 transposed convolution of stride 2 and padding 1 in PyTorch's convention, by dilation of its input."""

    features: int
    extra: int

    @nn.compact
    def __call__(self, x: Float[Array, "B h w I"]) -> Float[Array, "B H W O"]:
        """Convolve, transposed."""
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (3, 3, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        pads = [(1, 1 + self.extra)] * 2
        flipped = kernel[::-1, ::-1]
        return lax.conv_general_dilated(x, flipped, (1, 1), pads, lhs_dilation=(2, 2), dimension_numbers=_LAYOUT) + bias


class ConvEncoder(nn.Module):
    """`mmvae_jax.networks.conv.ConvEncoder` for 28x28 images."""

    widths: tuple[int, ...]
    hidden: int

    @nn.compact
    def __call__(self, x: Float[Array, "B 28 28 C"]) -> Float[Array, "B F"]:
        """Encode images into features."""
        for width in self.widths:
            x = nn.relu(nn.Conv(width, (3, 3), strides=2, padding=1)(x))
        return nn.relu(nn.Dense(self.hidden)(x.reshape(x.shape[0], -1)))


class ConvDecoder(nn.Module):
    """`mmvae_jax.networks.conv.ConvDecoder` for 28x28 images and three widths."""

    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, z: Float[Array, "N D"]) -> Float[Array, "N 28 28 3"]:
        """Decode latents."""
        x = nn.Dense(16 * self.widths[0])(z).reshape(-1, 4, 4, self.widths[0])
        for extra, features in zip((0, 1, 1), (*self.widths[1:], 3), strict=True):
            x = ConvTranspose(features, extra)(nn.relu(x))
        return x


def products_one_by_one(experts: Gaussian, masks: Bool[np.ndarray, "S M"]) -> Gaussian:
    """The product of every subset's experts, subset by subset; leaves [S, B, D]."""
    members = [jax.tree.map(lambda leaf, mask=mask: leaf[np.flatnonzero(mask)], experts) for mask in masks]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *[gaussian.product(subset) for subset in members])
