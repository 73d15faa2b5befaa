"""The convolutional encoder and decoder of the papers, and their layers, initialised as PyTorch's."""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen.dtypes import promote_dtype
from flax.typing import Dtype
from jaxtyping import Array, Float

from mmvae_jax.networks.convolution import Pair, Size, conv2d, conv_size, conv_transpose2d, dense, pair, transposed


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


# Pictures of so many channels are turned by a stack, a loop of its own on the CPU. A transpose is merged into the
# windows and likelihoods that read it, which then read from a distance; of many channels a stack is a large program.
_FEW_CHANNELS = 4


def planes(x: Float[Array, "B H W C"]) -> Float[Array, "C H W B"]:
    """Images as the layers take them."""
    if x.shape[3] > _FEW_CHANNELS:
        return x.transpose(3, 1, 2, 0)
    return jnp.stack([x[..., c].transpose(1, 2, 0) for c in range(x.shape[3])])


@jax.custom_vjp
def images(x: Float[Array, "C H W B"]) -> Float[Array, "B H W C"]:
    """Planes as images again."""
    if len(x) > _FEW_CHANNELS:
        return x.transpose(3, 1, 2, 0)
    return jnp.stack([plane.transpose(2, 0, 1) for plane in x], 3)


images.defvjp(lambda x: (images(x), None), lambda _, g: (planes(g),))


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
        x = planes(x)
        for width in self.widths:
            x = nn.relu(Conv(width, self.kernel, self.stride, self.padding, self.dtype)(x))
        x = x.transpose(1, 2, 0, 3).reshape(-1, x.shape[3])
        if self.hidden is not None:
            x = nn.relu(Dense(self.hidden, self.dtype)(x))
        return transposed(x)


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
        x = transposed(z)
        if self.hidden is not None:
            x = nn.relu(Dense(self.hidden, self.dtype)(x))
        x = Dense(math.prod(sizes[0]) * self.widths[0], self.dtype)(x)
        x = x.reshape(*sizes[0], self.widths[0], -1).transpose(2, 0, 1, 3)
        for image, features in zip(sizes[1:], (*self.widths[1:], self.shape[2]), strict=True):
            extra = self._output_padding(image)
            layer = ConvTranspose(features, self.kernel, self.stride, self.padding, extra, self.dtype)
            x = layer(nn.relu(x))
        return images(x)

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
