"""Layers on planes `[C, H, W, B]`, initialised as PyTorch's, and pictures as planes and back."""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen.dtypes import promote_dtype
from flax.typing import Dtype
from jax import lax
from jaxtyping import Array, Float, Key

from mmvae_jax.networks.operations import conv2d, conv_transpose2d, dense
from mmvae_jax.networks.windows import Pair, pair


def fan_in_uniform(fan_in: int) -> Callable[..., Array]:
    """PyTorch's default for weights and biases: U(-1/sqrt(fan_in), 1/sqrt(fan_in)).

    Its `kaiming_uniform_(a=sqrt(5))`; `fan_in` counts the second axis of PyTorch's weight times the
    kernel's area, so for a transposed convolution the output channels.
    """
    bound = 1.0 / math.sqrt(fan_in)

    def init(key: Key[Array, ""], shape: Sequence[int], dtype: Dtype = jnp.float32) -> Array:
        # Drawn flat: the same numbers, but the CPU compiles a four-dimensional draw 3 times as long.
        return jax.random.uniform(key, (math.prod(shape),), dtype, -bound, bound).reshape(shape)

    return init


class Conv(nn.Module):
    """torch.nn.Conv2d on planes `[C, H, W, B]`: `conv2d` and a bias; `dtype` is the dtype of the computation."""

    features: int
    kernel: Pair = 3
    stride: Pair = 1
    padding: Pair = 0
    dtype: Dtype | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "I H W B"]) -> Float[Array, "O h w B"]:
        """Convolve."""
        shape = (*pair(self.kernel), x.shape[0], self.features)
        init = fan_in_uniform(math.prod(shape[:3]))
        kernel = self.param("kernel", init, shape)
        bias = self.param("bias", init, (self.features,))
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        return conv2d(x, kernel, self.stride, self.padding) + bias[:, None, None, None]


class ConvTranspose(nn.Module):
    """torch.nn.ConvTranspose2d on planes: `conv_transpose2d` and a bias; `dtype` as in `Conv`."""

    features: int
    kernel: Pair = 3
    stride: Pair = 1
    padding: Pair = 0
    output_padding: Pair = 0
    dtype: Dtype | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "I h w B"]) -> Float[Array, "O H W B"]:
        """Convolve, transposed."""
        rows, columns = pair(self.kernel)
        init = fan_in_uniform(rows * columns * self.features)
        kernel = self.param("kernel", init, (rows, columns, x.shape[0], self.features))
        bias = self.param("bias", init, (self.features,))
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        return conv_transpose2d(x, kernel, self.stride, self.padding, self.output_padding) + bias[:, None, None, None]


class Dense(nn.Module):
    """torch.nn.Linear on planes `[F, B]`; `dtype` as in `Conv`."""

    features: int
    dtype: Dtype | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "I B"]) -> Float[Array, "O B"]:
        """Multiply and add."""
        init = fan_in_uniform(x.shape[0])
        kernel = self.param("kernel", init, (x.shape[0], self.features))
        bias = self.param("bias", init, (self.features,))
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        return dense(x, kernel) + bias[:, None]


def normalised(x: Float[Array, "C H W B"]) -> Float[Array, "C H W B"]:
    """Group normalisation (4 groups of channels) and a ReLU; within a module, whose parameters it has."""
    return nn.relu(planes(nn.GroupNorm(num_groups=4)(images(x))))


# Pictures of so many channels are turned by a stack on the CPU, a loop of its own. A transpose is merged into the
# windows and likelihoods that read it, which then read from a distance; of many channels a stack is a large program.
_FEW_CHANNELS = 4


def planes(x: Float[Array, "B H W C"]) -> Float[Array, "C H W B"]:
    """Images as the layers take them."""
    return _turned(x, x.shape[3], lambda x: jnp.stack([x[..., c].transpose(1, 2, 0) for c in range(x.shape[3])]))


@jax.custom_vjp
def images(x: Float[Array, "C H W B"]) -> Float[Array, "B H W C"]:
    """Planes as images again."""
    return _turned(x, len(x), lambda x: jnp.stack([plane.transpose(2, 0, 1) for plane in x], 3))


images.defvjp(lambda x: (images(x), None), lambda _, g: (planes(g),))


def _turned(x: Array, channels: int, stacked: Callable[[Array], Array]) -> Array:
    """The first and the last axis exchanged, in the form that suits the platform."""

    def transpose(x: Array) -> Array:
        return x.transpose(3, 1, 2, 0)

    return lax.platform_dependent(x, cpu=stacked if channels <= _FEW_CHANNELS else transpose, default=transpose)
