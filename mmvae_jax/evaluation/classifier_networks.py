"""Networks that tell the class of one modality, chosen by what its x is.

Images [H, W, C], sequences of class indices [L], vectors [F] or single class indices [], all in the model's units:
pixels in 0..1, class indices as they are.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num

from mmvae_jax.networks.layers import Conv, images, planes

# The logit of a value that an attribute does not have: finite, so that none of it times nothing is none.
NEVER = -1e9


class AttributeHeads(nn.Module):
    """The outputs of a classifier as the logits of several attributes, `NEVER` beyond an attribute's values.

    Attributes:
      network: puts out as many logits as all attributes have values.
      values: how many each attribute has.
    """

    network: nn.Module
    values: tuple[int, ...]

    def __call__(self, x: Num[Array, "B ..."], train: bool = False) -> Float[Array, "B A N"]:
        """Logits of all attributes."""
        logits = jnp.split(self.network(x, train), np.cumsum(self.values)[:-1], -1)
        most = max(self.values)
        widths = [((0, 0), (0, most - count)) for count in self.values]
        padded = [jnp.pad(each, width, constant_values=NEVER) for each, width in zip(logits, widths, strict=True)]
        return jnp.stack(padded, 1)


class ImageClassifier(nn.Module):
    """Three strided convolutions and a dense layer, whose output is sown as `features`."""

    classes: int
    dropout: float

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], train: bool = False) -> Float[Array, "B N"]:
        """Logits of the classes."""
        x = planes(x - 0.5)
        for width in (32, 64, 64):
            x = nn.relu(Conv(width, kernel=3, stride=2, padding=1)(x))
        x = images(x)
        x = nn.Dropout(self.dropout, deterministic=not train)(x.reshape(len(x), -1))
        x = nn.relu(nn.Dense(128)(x))
        self.sow("intermediates", "features", x)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.classes)(x)


class SequenceClassifier(nn.Module):
    """Two convolutions over one-hot symbols (padding is all zero), the maximum over positions, a dense layer."""

    classes: int
    dropout: float
    symbols: int

    @nn.compact
    def __call__(self, x: Int[Array, "B L"], train: bool = False) -> Float[Array, "B N"]:
        """Logits of the classes."""
        x = planes(jax.nn.one_hot(x, self.symbols)[:, None])
        for _ in range(2):
            x = nn.relu(Conv(64, kernel=(1, 3), padding=(0, 1))(x))
        x = nn.Dropout(self.dropout, deterministic=not train)(x.max((1, 2)).T)
        return nn.Dense(self.classes)(x)


class VectorClassifier(nn.Module):
    """Two dense layers; a single class index is one-hot first."""

    classes: int
    dropout: float
    symbols: int = 0

    @nn.compact
    def __call__(self, x: Num[Array, "B ..."], train: bool = False) -> Float[Array, "B N"]:
        """Logits of the classes."""
        x = jax.nn.one_hot(x, self.symbols) if self.symbols else x
        for _ in range(2):
            x = nn.relu(nn.Dense(128)(x.reshape(len(x), -1)))
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.classes)(x)


def default_network(x: Num[Array, "B ..."], classes: int, dropout: float) -> nn.Module:
    """The network for data like x, in the model's units: for as many axes and its type; integers are symbols."""
    if x.ndim == 4:
        return ImageClassifier(classes, dropout)
    if not jnp.issubdtype(x.dtype, jnp.integer):
        return VectorClassifier(classes, dropout)
    symbols = int(x.max()) + 1
    return (SequenceClassifier if x.ndim == 2 else VectorClassifier)(classes, dropout, symbols)
