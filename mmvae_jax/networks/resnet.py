"""Residual networks: a small classifier, and encoders and decoders of pictures and of strings.

The classifier is the oracle that judges re-assembled digits (the SVAE paper uses a ResNet-18). The encoders and
decoders are for CelebA, where Sutter et al. (2021, E.2) use residual blocks for both modalities. All are normalised by
groups of channels and not by batches, under which a sample's posterior would depend on the others.
"""

import math

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from mmvae_jax.errors import UserError
from mmvae_jax.networks.layers import Conv, ConvTranspose, Dense, images, normalised, planes
from mmvae_jax.networks.products import transposed
from mmvae_jax.networks.windows import Pair, pair


class ResidualBlock(nn.Module):
    """Two normalised convolutions beside a shortcut (pre-activation, He et al. 2016).

    Attributes:
      width: channels, a multiple of 4.
      stride: of the first one, one number or (vertical, horizontal).
      kernel: of both, odd, likewise.
    """

    width: int
    stride: Pair = 1
    kernel: Pair = 3

    @nn.compact
    def __call__(self, x: Float[Array, "C H W B"]) -> Float[Array, "width h w B"]:
        """The block's output."""
        h, padding = normalised(x), _same(self.kernel)
        if pair(self.stride) != (1, 1) or len(x) != self.width:
            x = Conv(self.width, 1, self.stride)(h)
        h = Conv(self.width, self.kernel, self.stride, padding)(h)
        return x + Conv(self.width, self.kernel, 1, padding)(normalised(h))


class ResidualUpBlock(nn.Module):
    """A transposed convolution and a convolution, normalised, beside a shortcut that repeats pixels.

    Attributes:
      width: channels, a multiple of 4.
      stride: how many times as large the map becomes, as (vertical, horizontal).
      kernel: of the convolution, odd, likewise; the transposed one's is larger by the stride less 1.
    """

    width: int
    stride: tuple[int, int] = (2, 2)
    kernel: tuple[int, int] = (3, 3)

    @nn.compact
    def __call__(self, x: Float[Array, "C h w B"]) -> Float[Array, "width H W B"]:
        """The block's output."""
        h, (rows, columns) = normalised(x), self.stride
        x = jnp.repeat(jnp.repeat(Conv(self.width, 1)(h), rows, 1), columns, 2)
        h = ConvTranspose(self.width, _larger(self.kernel, self.stride), self.stride, _same(self.kernel))(h)
        return x + Conv(self.width, self.kernel, 1, _same(self.kernel))(normalised(h))


def _same(kernel: Pair) -> tuple[int, int]:
    """The padding that keeps the size of a map."""
    rows, columns = pair(kernel)
    return rows // 2, columns // 2


def _larger(kernel: tuple[int, int], stride: tuple[int, int]) -> tuple[int, int]:
    """The kernel of a transposed convolution that makes a map exactly so many times as large."""
    rows, columns = (k + s - 1 for k, s in zip(kernel, stride, strict=True))
    return rows, columns


# Kernel and stride of pictures and of strings, which are pictures of one row.
_PICTURES, _STRINGS = ((3, 3), (2, 2)), ((1, 7), (1, 4))


class ResNetEncoder(nn.Module):
    """A strided convolution, then strided residual blocks; what is left of the map is flattened.

    Attributes:
      widths: channels of the convolution and of each block, multiples of 4; each halves the map, or quarters a string.
      categories: number of symbols of strings; 0 for pictures. Padding (a negative index) is a zero vector.
    """

    widths: tuple[int, ...] = (64, 128, 256, 512)
    categories: int = 0

    @nn.compact
    def __call__(self, x: Num[Array, "B ..."]) -> Float[Array, "B F"]:
        """Features of pictures [B, H, W, C] or strings [B, L]."""
        kernel, stride = _STRINGS if self.categories else _PICTURES
        h = planes(nn.one_hot(x, self.categories)[:, None] if self.categories else x)
        h = Conv(self.widths[0], kernel, stride, _same(kernel))(h)
        for width in self.widths[1:]:
            h = ResidualBlock(width, stride, kernel)(h)
        h = normalised(h)
        return transposed(h.transpose(1, 2, 0, 3).reshape(-1, h.shape[3]))


class ResNetDecoder(nn.Module):
    """The encoder's maps backwards: a dense layer, residual blocks that double the map, a transposed convolution.

    Attributes:
      shape: (height, width, channels) of pictures, or (length,) of strings.
      widths: channels of the smallest map and after each block, multiples of 4.
      categories: number of symbols of strings; 0 for pictures.

    Raises:
      UserError: a side of the shape cannot be halved, or a length quartered, as often as there are widths.
    """

    shape: tuple[int, ...]
    widths: tuple[int, ...] = (512, 256, 128, 64)
    categories: int = 0

    @nn.compact
    def __call__(self, z: Float[Array, "N D"]) -> Float[Array, "N ..."]:
        """Likelihood parameters of pictures [N, H, W, C], or logits of strings [N, L, C]."""
        kernel, stride = _STRINGS if self.categories else _PICTURES
        sides = (1, *self.shape) if self.categories else self.shape[:2]
        factors = [step ** len(self.widths) for step in stride]
        for side, factor in zip(sides, factors, strict=True):
            if side % factor:
                raise UserError(f"a side of {side} with {len(self.widths)} widths: give a multiple of {factor}")
        rows, columns = (side // factor for side, factor in zip(sides, factors, strict=True))
        h = Dense(math.prod((rows, columns, self.widths[0])))(transposed(z))
        h = h.reshape(rows, columns, self.widths[0], -1).transpose(2, 0, 1, 3)
        for width in self.widths[1:]:
            h = ResidualUpBlock(width, stride, kernel)(h)
        channels = self.categories or self.shape[2]
        h = images(ConvTranspose(channels, _larger(kernel, stride), stride, _same(kernel))(normalised(h)))
        return h[:, 0] if self.categories else h


class ResNetClassifier(nn.Module):
    """A strided convolution, three stages of one residual block, the average over the image, logits.

    Attributes:
      classes: number of classes.
      dropout: rate while training.
      widths: channels of each stage, multiples of 4.
    """

    classes: int
    dropout: float = 0.0
    widths: tuple[int, ...] = (16, 32, 64)

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], train: bool = False) -> Float[Array, "B classes"]:
        """Logits of pixels in [0, 1]."""
        x = Conv(self.widths[0], 3, 2, 1)(planes(x - 0.5))
        for stage, width in enumerate(self.widths):
            x = ResidualBlock(width, stride=2 if stage else 1)(x)
        x = jnp.mean(normalised(x), (1, 2)).T
        return nn.Dense(self.classes)(nn.Dropout(self.dropout, deterministic=not train)(x))
