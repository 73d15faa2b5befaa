"""The convolutional encoder and decoder of the papers, and their layers, initialised as PyTorch's."""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen.dtypes import promote_dtype
from flax.typing import Dtype
from jaxtyping import Array, Float

from mmvae_jax.networks.convolution import Pair, Size, conv2d, conv_size, conv_transpose2d, pair


def fan_in_uniform(fan_in: int) -> Callable[..., Array]:
    """PyTorch's default for weights and biases: U(-1/sqrt(fan_in), 1/sqrt(fan_in)).

    Its `kaiming_uniform_(a=sqrt(5))`; `fan_in` counts the second axis of PyTorch's weight times the
    kernel's area, so for a transposed convolution the output channels.
    """
    bound = 1.0 / math.sqrt(fan_in)

    def init(key: Array, shape: Sequence[int], dtype: Dtype = jnp.float32) -> Array:
        # Drawn flat: the same numbers, but the CPU compiles a four-dimensional draw 3 times as long.
        return jax.random.uniform(key, (math.prod(shape),), dtype, -bound, bound).reshape(shape)

    return init


class Conv(nn.Module):
    """torch.nn.Conv2d in NHWC: `conv2d` and a bias; `dtype` is the dtype of the computation."""

    features: int
    kernel: Pair = 3
    stride: Pair = 1
    padding: Pair = 0
    dtype: Dtype | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "B H W I"]) -> Float[Array, "B h w O"]:
        """Convolve."""
        shape = (*pair(self.kernel), x.shape[-1], self.features)
        init = fan_in_uniform(math.prod(shape[:3]))
        kernel = self.param("kernel", init, shape)
        bias = self.param("bias", init, (self.features,))
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        return conv2d(x, kernel, self.stride, self.padding) + bias


class ConvTranspose(nn.Module):
    """torch.nn.ConvTranspose2d in NHWC: `conv_transpose2d` and a bias; `dtype` as in `Conv`."""

    features: int
    kernel: Pair = 3
    stride: Pair = 1
    padding: Pair = 0
    output_padding: Pair = 0
    dtype: Dtype | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "B h w I"]) -> Float[Array, "B H W O"]:
        """Convolve, transposed."""
        rows, columns = pair(self.kernel)
        init = fan_in_uniform(rows * columns * self.features)
        kernel = self.param("kernel", init, (rows, columns, x.shape[-1], self.features))
        bias = self.param("bias", init, (self.features,))
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        return conv_transpose2d(x, kernel, self.stride, self.padding, self.output_padding) + bias


def _dense(x: Array, features: int, dtype: Dtype | None) -> Array:
    """torch.nn.Linear with its default initialisation."""
    init = fan_in_uniform(x.shape[-1])
    return nn.Dense(features, dtype=dtype, kernel_init=init, bias_init=init)(x)


class ConvEncoder(nn.Module):
    """Convolutions, flattening and a dense layer, a ReLU after each.

    The defaults are the PolyMNIST encoder of MoPoE-VAE (Sutter et al. 2021, released code) up to
    its mean and log-variance heads: 28x28 -> 14x14 -> 7x7 -> 4x4 -> 512.

    Attributes:
      widths: channels of each convolution.
      kernel: kernel size of each in pixels, one number or (vertical, horizontal).
      stride: step of each in pixels, likewise.
      padding: zeros on each side in pixels, likewise.
      hidden: width of the dense layer; None leaves the flattened map.
      dtype: dtype of the computation; None follows the inputs and parameters.
    """

    widths: tuple[int, ...] = (32, 64, 128)
    kernel: Pair = 3
    stride: Pair = 2
    padding: Pair = 1
    hidden: int | None = 512
    dtype: Dtype | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B F"]:
        """Encode images into features."""
        for width in self.widths:
            x = nn.relu(Conv(width, self.kernel, self.stride, self.padding, self.dtype)(x))
        x = x.reshape(x.shape[0], -1)
        if self.hidden is None:
            return x
        return nn.relu(_dense(x, self.hidden, self.dtype))


class ConvDecoder(nn.Module):
    """Dense layers, then transposed convolutions back along the sizes of a `ConvEncoder`.

    A ReLU after each layer but the last. The defaults are the PolyMNIST decoder of MoPoE-VAE
    (Sutter et al. 2021, released code): 4x4x128 -> 7x7x64 -> 14x14x32 -> 28x28x3.

    Attributes:
      shape: height, width and channels of the output.
      widths: channels before each transposed convolution.
      kernel: kernel size of each in pixels, one number or (vertical, horizontal).
      stride: step of each in pixels, likewise.
      padding: pixels cut off each side, likewise.
      hidden: width of a dense layer ahead of the one that makes the smallest map; None for none.
      dtype: dtype of the computation; None follows the inputs and parameters.

    Raises:
      UserError: `shape` is too small for so many layers.
    """

    shape: tuple[int, int, int] = (28, 28, 3)
    widths: tuple[int, ...] = (128, 64, 32)
    kernel: Pair = 3
    stride: Pair = 2
    padding: Pair = 1
    hidden: int | None = None
    dtype: Dtype | None = None

    @nn.compact
    def __call__(self, z: Float[Array, "N D"]) -> Float[Array, "N H W C"]:
        """Decode latents into the parameters of the images."""
        sizes = self._sizes()
        if self.hidden is not None:
            z = nn.relu(_dense(z, self.hidden, self.dtype))
        x = _dense(z, math.prod(sizes[0]) * self.widths[0], self.dtype)
        x = x.reshape(-1, *sizes[0], self.widths[0])
        for image, features in zip(sizes[1:], (*self.widths[1:], self.shape[2]), strict=True):
            extra = self._output_padding(image)
            layer = ConvTranspose(features, self.kernel, self.stride, self.padding, extra, self.dtype)
            x = layer(nn.relu(x))
        return x

    def _sizes(self) -> list[Size]:
        """Sizes of the maps, smallest first: a convolution's sizes read backwards."""
        sizes = [self.shape[:2]]
        for _ in self.widths:
            sizes.append(conv_size(sizes[-1], self.kernel, self.stride, self.padding))
        return sizes[::-1]

    def _output_padding(self, image: Size) -> Size:
        """Pixels of `image` that a convolution's last window does not reach."""
        geometry = zip(image, pair(self.kernel), pair(self.stride), pair(self.padding), strict=True)
        rows, columns = ((n + 2 * p - k) % s for n, k, s, p in geometry)
        return rows, columns
