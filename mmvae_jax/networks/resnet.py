"""A small residual classifier: the oracle that judges re-assembled digits (the SVAE paper uses a ResNet-18)."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float


class ResidualBlock(nn.Module):
    """Two normalised 3x3 convolutions around a shortcut (pre-activation, He et al. 2016)."""

    width: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B h w width"]:
        """The block's output."""
        strides = (self.stride, self.stride)
        y = nn.relu(nn.GroupNorm(num_groups=4)(x))
        shortcut = x if x.shape[-1] == self.width else nn.Conv(self.width, (1, 1), strides)(y)
        y = nn.Conv(self.width, (3, 3), strides)(y)
        y = nn.Conv(self.width, (3, 3))(nn.relu(nn.GroupNorm(num_groups=4)(y)))
        return shortcut + y


class ResNetClassifier(nn.Module):
    """Three stages of residual blocks, global average, dropout, logits.

    Attributes:
      classes: number of classes.
      widths: channels of each stage.
      dropout: rate while training.
    """

    classes: int
    widths: tuple[int, ...] = (16, 32, 64)
    dropout: float = 0.2

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], train: bool = False) -> Float[Array, "B classes"]:
        """Logits."""
        x = nn.Conv(self.widths[0], (3, 3))(x)
        for stage, width in enumerate(self.widths):
            x = ResidualBlock(width, stride=1 if stage == 0 else 2)(x)
        x = jnp.mean(nn.relu(nn.GroupNorm(num_groups=4)(x)), (1, 2))
        return nn.Dense(self.classes)(nn.Dropout(self.dropout, deterministic=not train)(x))
