"""Fully connected encoders and decoders for data of any shape."""

import math
from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Num


class MLPEncoder(nn.Module):
    """Flatten and apply dense layers; class indices are one-hot first.

    Attributes:
      widths: units of each layer.
      categories: number of classes of integer data; 0 for real data.
      activation: after each layer.
      dtype: of the computation.
    """

    widths: tuple[int, ...] = (400,)
    categories: int = 0
    activation: Callable[[Array], Array] = nn.relu
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: Num[Array, "B ..."]) -> Float[Array, "B F"]:
        """The last layer's activations."""
        x = nn.one_hot(x, self.categories) if self.categories else x
        x = x.reshape(x.shape[0], -1)
        for width in self.widths:
            x = self.activation(nn.Dense(width, dtype=self.dtype)(x))
        return x


class MLPDecoder(nn.Module):
    """Dense layers and a linear output of a given shape.

    Attributes:
      shape: of the output: the data's, with the number of classes appended for class indices, or that of the numbers
        that a likelihood takes for an element, where there are several.
      widths: units of each hidden layer.
      activation: after each hidden layer.
      dtype: of the computation.
    """

    shape: tuple[int, ...]
    widths: tuple[int, ...] = (400,)
    activation: Callable[[Array], Array] = nn.relu
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, z: Float[Array, "N D"]) -> Float[Array, "N ..."]:
        """The likelihood's parameters."""
        for width in self.widths:
            z = self.activation(nn.Dense(width, dtype=self.dtype)(z))
        return nn.Dense(math.prod(self.shape), dtype=self.dtype)(z).reshape(-1, *self.shape)
