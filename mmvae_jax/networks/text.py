"""Convolutions over the characters of short strings: the released MoPoE code's networks for MNIST-SVHN-Text."""

import flax.linen as nn
from jaxtyping import Array, Float, Int

from mmvae_jax.networks.layers import Conv, ConvTranspose, images, planes


class TextEncoder(nn.Module):
    """One-hot characters, a pointwise layer, a convolution that halves the length, one over all that is left.

    Attributes:
      categories: size of the alphabet; padding (a negative index) is a zero vector.
      width: channels.
    """

    categories: int
    width: int = 128

    @nn.compact
    def __call__(self, x: Int[Array, "B L"]) -> Float[Array, "B F"]:
        """Features of every string, L even."""
        h = planes(nn.one_hot(x, self.categories)[:, None])
        h = nn.relu(Conv(self.width, 1)(h))
        h = nn.relu(Conv(self.width, (1, 4), (1, 2), (0, 1))(h))
        h = nn.relu(Conv(self.width, (1, x.shape[1] // 2))(h))
        return images(h).reshape(len(x), -1)


class TextDecoder(nn.Module):
    """The encoder's layers in reverse, after a dense layer without a ReLU, as released.

    Attributes:
      length: of the strings, even.
      categories: size of the alphabet.
      width: channels.
    """

    length: int
    categories: int
    width: int = 128

    @nn.compact
    def __call__(self, z: Float[Array, "N D"]) -> Float[Array, "N L C"]:
        """Logits at every position."""
        h = planes(nn.Dense(self.width)(z)[:, None, None])
        h = nn.relu(ConvTranspose(self.width, (1, self.length // 2))(h))
        h = nn.relu(ConvTranspose(self.width, (1, 4), (1, 2), (0, 1))(h))
        return images(Conv(self.categories, 1)(h))[:, 0]
