"""A small residual classifier: the oracle that judges re-assembled digits (the SVAE paper uses a ResNet-18)."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmvae_jax.networks.layers import Conv, normalised, planes


class ResidualBlock(nn.Module):
    """Two normalised 3x3 convolutions beside a shortcut (pre-activation, He et al. 2016)."""

    width: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: Float[Array, "C H W B"]) -> Float[Array, "width h w B"]:
        """The block's output."""
        h = normalised(x)
        if self.stride > 1 or len(x) != self.width:
            x = Conv(self.width, 1, self.stride)(h)
        h = Conv(self.width, 3, self.stride, 1)(h)
        return x + Conv(self.width, 3, 1, 1)(normalised(h))


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
