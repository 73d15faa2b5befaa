"""The convolutional encoder and decoder of the papers, and those of signals."""

import math

from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float

from mmvae_jax.networks.layers import Conv, ConvTranspose, Dense, images, planes
from mmvae_jax.networks.products import transposed
from mmvae_jax.networks.windows import Pair, Size, conv_size, pair


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
      shape: height, width and channels of the output, and the numbers of one channel where there are several.
      widths: channels before each transposed convolution.
      kernel: kernel size of each in pixels, one number or (vertical, horizontal).
      stride: step of each in pixels, likewise.
      padding: pixels cut off each side, likewise.
      hidden: width of a dense layer ahead of the one that makes the smallest map; None for none.
      dtype: dtype of the computation; None follows the inputs and parameters.

    Raises:
      UserError: `shape` is too small for so many layers.
    """

    shape: tuple[int, ...] = (28, 28, 3)
    widths: tuple[int, ...] = (128, 64, 32)
    kernel: Pair = 3
    stride: Pair = 2
    padding: Pair = 1
    hidden: int | None = None
    dtype: Dtype | None = None

    @nn.compact
    def __call__(self, z: Float[Array, "N D"]) -> Float[Array, "N H W *C"]:
        """Decode latents into the parameters of the images."""
        sizes = self._sizes()
        x = transposed(z)
        if self.hidden is not None:
            x = nn.relu(Dense(self.hidden, self.dtype)(x))
        x = Dense(math.prod(sizes[0]) * self.widths[0], self.dtype)(x)
        x = x.reshape(*sizes[0], self.widths[0], -1).transpose(2, 0, 1, 3)
        for image, features in zip(sizes[1:], (*self.widths[1:], math.prod(self.shape[2:])), strict=True):
            extra = self._output_padding(image)
            layer = ConvTranspose(features, self.kernel, self.stride, self.padding, extra, self.dtype)
            x = layer(nn.relu(x))
        return images(x).reshape(-1, *self.shape)

    def _sizes(self) -> list[Size]:
        """Sizes of the maps, smallest first: a convolution's sizes read backwards."""
        sizes = [(self.shape[0], self.shape[1])]
        for _ in self.widths:
            sizes.append(conv_size(sizes[-1], self.kernel, self.stride, self.padding))
        return sizes[::-1]

    def _output_padding(self, image: Size) -> Size:
        """Pixels of `image` that a convolution's last window does not reach."""
        geometry = zip(image, pair(self.kernel), pair(self.stride), pair(self.padding), strict=True)
        rows, columns = ((n + 2 * p - k) % s for n, k, s, p in geometry)
        return rows, columns


class ConvEncoder1D(nn.Module):
    """`ConvEncoder` of signals, along their time.

    Attributes:
      widths: channels of each convolution.
      kernel: kernel size of each in time steps.
      stride: step of each in time steps.
      padding: zeros on each side in time steps.
      hidden: width of the dense layer; None leaves the flattened map.
      dtype: dtype of the computation; None follows the inputs and parameters.
    """

    widths: tuple[int, ...] = (32, 64, 128)
    kernel: int = 3
    stride: int = 2
    padding: int = 1
    hidden: int | None = 512
    dtype: Dtype | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "B T *C"]) -> Float[Array, "B F"]:
        """Encode signals, of one or of several channels, into features."""
        kernel, stride, padding = (self.kernel, 1), (self.stride, 1), (self.padding, 0)
        columns = x.reshape(*x.shape[:2], 1, math.prod(x.shape[2:]))
        return ConvEncoder(self.widths, kernel, stride, padding, self.hidden, self.dtype)(columns)


class ConvDecoder1D(nn.Module):
    """`ConvDecoder` of signals, back along the lengths of a `ConvEncoder1D`.

    Attributes:
      shape: time steps of the output, then its channels, and the numbers of one where there are several.
      widths: channels before each transposed convolution.
      kernel: kernel size of each in time steps.
      stride: step of each in time steps.
      padding: time steps cut off each side.
      hidden: width of a dense layer ahead of the one that makes the shortest map; None for none.
      dtype: dtype of the computation; None follows the inputs and parameters.

    Raises:
      UserError: `shape` is too short for so many layers.
    """

    shape: tuple[int, ...]
    widths: tuple[int, ...] = (128, 64, 32)
    kernel: int = 3
    stride: int = 2
    padding: int = 1
    hidden: int | None = None
    dtype: Dtype | None = None

    @nn.compact
    def __call__(self, z: Float[Array, "N D"]) -> Float[Array, "N T *C"]:
        """Decode latents into the parameters of the signals."""
        kernel, stride, padding = (self.kernel, 1), (self.stride, 1), (self.padding, 0)
        columns = (self.shape[0], 1, *self.shape[1:])
        decoder = ConvDecoder(columns, self.widths, kernel, stride, padding, self.hidden, self.dtype)
        return decoder(z).reshape(-1, *self.shape)
