"""Convolutions in PyTorch's conventions on planes `[C, H, W, B]`, in the form that suits the platform.

`conv2d` and `conv_transpose2d` are one geometry of windows read in two directions, so each is the other's adjoint. The
CPU runs both as a matrix product beside windows that are cut out, or laid down and summed, which stores
`kh kw / stride^2` copies of the image; other platforms run `lax.conv_general_dilated`, whose gradients take several
times as long on the CPU, and tens of times inside its `lax.scan`.

The batch comes last because the CPU then moves windows in runs of a whole batch, and because none of the three products
of a layer has to gather the numbers it sums from distant places. Elsewhere the order of the axes says nothing about
memory: XLA lays the planes out as the convolution likes.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from mmvae_jax.errors import UserError
from mmvae_jax.networks.products import correlate, product, spread
from mmvae_jax.networks.windows import Pair, Windows, conv_size, pair
from mmvae_jax.sharding import by_shares


def conv2d(
    x: Float[Array, "I H W B"],
    kernel: Float[Array, "kh kw I O"],
    stride: Pair = 1,
    padding: Pair = 0,
) -> Float[Array, "O h w B"]:
    """Cross-correlation: torch.nn.functional.conv2d, on planes.

    `out[o, y, x] = sum_ijc in[c, s y + i - p, s x + j - p] kernel[i, j, c, o]`,
    `h = floor((H + 2 p - kh) / s) + 1`. Differentiable in reverse mode only.

    Args:
      x: images.
      kernel: weights, of the images' dtype.
      stride: step `s` in pixels, one number or (vertical, horizontal).
      padding: zeros `p` put on each side in pixels, likewise.

    Raises:
      UserError: the kernel is larger than the padded image.
    """
    (_, height, width, _), (kh, kw, _, _) = x.shape, kernel.shape
    grid = conv_size((height, width), (kh, kw), stride, padding)
    at = Windows((height, width), grid, (kh, kw), pair(stride), pair(padding))
    return _conv(at, x, kernel)


def conv_transpose2d(
    x: Float[Array, "I h w B"],
    kernel: Float[Array, "kh kw I O"],
    stride: Pair = 1,
    padding: Pair = 0,
    output_padding: Pair = 0,
) -> Float[Array, "O H W B"]:
    """Transposed convolution: torch.nn.functional.conv_transpose2d, on planes.

    `out[o, s y + i - p, s x + j - p] += in[c, y, x] kernel[i, j, c, o]`,
    `H = (h - 1) s - 2 p + kh + output_padding`: the adjoint of `conv2d` under the kernel with I and
    O exchanged. Differentiable in reverse mode only.

    Args:
      x: feature maps.
      kernel: weights, of the maps' dtype.
      stride: step `s` in pixels, one number or (vertical, horizontal).
      padding: pixels `p` cut off each side, likewise.
      output_padding: pixels added at the bottom and on the right, likewise; less than the stride.

    Raises:
      UserError: `output_padding` is outside `[0, stride)`, or the padding cuts everything off.
    """
    (_, h, w, _), (kh, kw, _, _) = x.shape, kernel.shape
    stride, padding, extra = pair(stride), pair(padding), pair(output_padding)
    if not all(0 <= e < s for e, s in zip(extra, stride, strict=True)):
        raise UserError(f"output_padding {extra} must be at least 0 and less than stride {stride}")
    geometry = zip((h, w), (kh, kw), stride, padding, extra, strict=True)
    height, width = ((n - 1) * s - 2 * p + k + e for n, k, s, p, e in geometry)
    if height < 1 or width < 1:
        raise UserError(f"padding {padding} leaves an image of {height}x{width}; lower it")
    return _conv_transpose(Windows((height, width), (h, w), (kh, kw), stride, padding), x, kernel)


def dense(x: Float[Array, "I *P"], kernel: Float[Array, "I O"]) -> Float[Array, "O *P"]:
    """`sum_i kernel[i, o] x[i]`: a dense layer at every place. Differentiable in reverse mode only."""
    return _dense(None, x, kernel)


def _dense_cpu(_: None, x: Array, kernel: Array) -> Array:
    return product(x, kernel)


def _conv_transpose_cpu(at: Windows, x: Array, kernel: Array) -> Array:
    return spread(at, x, kernel.swapaxes(2, 3))


def _dense_default(_: None, x: Array, kernel: Array) -> Array:
    return jnp.tensordot(kernel, x, (0, 0))


_LAYOUT = ("CHWN", "HWIO", "CHWN")


def xla_conv(at: Windows, x: Array, kernel: Array) -> Array:
    """`conv2d` as XLA's convolution, which platforms other than the CPU run."""
    pads = [(p, p) for p in at.padding]
    return lax.conv_general_dilated(x, kernel, at.stride, pads, dimension_numbers=_LAYOUT)


def xla_conv_transpose(at: Windows, x: Array, kernel: Array) -> Array:
    """`conv_transpose2d` as XLA's convolution of the dilated maps."""
    geometry = zip(at.image, at.grid, at.kernel, at.stride, at.padding, strict=True)
    pads = [(k - 1 - p, image - (n - 1) * s - 1 + p) for image, n, k, s, p in geometry]
    flipped = kernel[::-1, ::-1]
    return lax.conv_general_dilated(x, flipped, (1, 1), pads, lhs_dilation=at.stride, dimension_numbers=_LAYOUT)


def _by_platform(cpu: Callable, default: Callable) -> Callable:
    """`(at, x, kernel) -> array`, and its gradients, in the form that suits the platform."""

    @partial(jax.custom_vjp, nondiff_argnums=(0,))
    def apply(at, x, kernel):
        def in_shares(x: Array, kernel: Array) -> Array:
            return by_shares(partial(cpu, at), (x,), (kernel,))

        return lax.platform_dependent(x, kernel, cpu=in_shares, default=partial(default, at))

    def forward(at, x, kernel):
        return apply(at, x, kernel), (x, kernel)

    def backward(at, saved, g):
        def gradients(form: Callable, x: Array, g: Array, kernel: Array) -> tuple[Array, Array]:
            return jax.vjp(partial(form, at), x, kernel)[1](g)

        def in_shares(x: Array, g: Array, kernel: Array) -> tuple[Array, Array]:
            return by_shares(partial(gradients, cpu), (x, g), (kernel,), summed=(False, True))

        x, kernel = saved
        return lax.platform_dependent(x, g, kernel, cpu=in_shares, default=partial(gradients, default))

    apply.defvjp(forward, backward)
    return apply


_conv = _by_platform(correlate, xla_conv)
_conv_transpose = _by_platform(_conv_transpose_cpu, xla_conv_transpose)
_dense = _by_platform(_dense_cpu, _dense_default)
