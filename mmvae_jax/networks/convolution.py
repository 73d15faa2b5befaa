"""Convolutions in PyTorch's conventions, in the form that suits the platform.

`conv2d` and `conv_transpose2d` are one geometry of windows read in two directions, so each is the
other's adjoint. The CPU runs both as one matrix product beside `_patches` (cut the windows out) or
`_overlap_add` (lay them down and sum), which stores `kh kw / stride^2` copies of the image; other
platforms run `lax.conv_general_dilated`, whose gradients take several times as long on the CPU,
and tens of times inside its `lax.scan`.
"""

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from mmvae_jax.errors import UserError

Pair = int | tuple[int, int]
Size = tuple[int, int]


class _Windows(NamedTuple):
    """Where a kernel is laid on an image: `grid` windows, `stride` apart, from `-padding` on."""

    image: Size
    grid: Size
    kernel: Size
    stride: Size
    padding: Size


def conv2d(
    x: Float[Array, "B H W I"],
    kernel: Float[Array, "kh kw I O"],
    stride: Pair = 1,
    padding: Pair = 0,
) -> Float[Array, "B h w O"]:
    """Cross-correlation: torch.nn.functional.conv2d, in NHWC.

    `out[y, x, o] = sum_ijc in[s y + i - p, s x + j - p, c] kernel[i, j, c, o]`,
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
    at = _Windows((height, width), grid, (kh, kw), pair(stride), pair(padding))
    return _conv(at, x, kernel)


def conv_transpose2d(
    x: Float[Array, "B h w I"],
    kernel: Float[Array, "kh kw I O"],
    stride: Pair = 1,
    padding: Pair = 0,
    output_padding: Pair = 0,
) -> Float[Array, "B H W O"]:
    """Transposed convolution: torch.nn.functional.conv_transpose2d, in NHWC.

    `out[s y + i - p, s x + j - p, o] += in[y, x, c] kernel[i, j, c, o]`,
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
    return _conv_transpose(_Windows((height, width), (h, w), (kh, kw), stride, padding), x, kernel)


def conv_size(image: Size, kernel: Pair, stride: Pair, padding: Pair) -> Size:
    """Size of the map that `conv2d` makes of an image.

    Raises:
      UserError: the kernel is larger than the padded image.
    """
    geometry = zip(image, pair(kernel), pair(stride), pair(padding), strict=True)
    rows, columns = ((n + 2 * p - k) // s + 1 for n, k, s, p in geometry)
    if rows < 1 or columns < 1:
        raise UserError(
            f"kernel {kernel} is larger than an image of {image} with padding {padding}; "
            "use fewer layers or a smaller kernel"
        )
    return rows, columns


def pair(value: Pair) -> Size:
    """A number given once for both directions, twice."""
    return (value, value) if isinstance(value, int) else value


def _patches(at: _Windows, x: Float[Array, "B H W C"]) -> Float[Array, "B h w khkwC"]:
    """Cut the windows out of the image (im2col)."""
    (kh, kw), (rows, columns), (down, right) = at.kernel, at.grid, at.stride
    padded = jnp.pad(x, ((0, 0), *((p, p) for p in at.padding), (0, 0)))
    bottom, end = down * (rows - 1) + 1, right * (columns - 1) + 1
    # Nested stacks, not one concatenation: XLA compiles them to a single loop on the CPU.
    lines = (padded[:, i : i + bottom : down] for i in range(kh))
    taps = [jnp.stack([line[:, :, j : j + end : right] for j in range(kw)], 3) for line in lines]
    return jnp.stack(taps, 3).reshape(x.shape[0], rows, columns, kh * kw * x.shape[3])


def _overlap_add(at: _Windows, windows: Float[Array, "B h w khkwC"]) -> Float[Array, "B H W C"]:
    """Lay the windows down on the image and sum (col2im): the adjoint of `_patches`."""
    (height, width), (down, right), (kh, kw) = at.image, at.stride, at.kernel
    batch, channels = windows.shape[0], windows.shape[3] // (kh * kw)
    taps = windows.reshape(batch, *at.grid, kh, kw, channels)
    rows, columns = -(-height // down), -(-width // right)
    # The pixels of one residue modulo the stride are sums of taps moved by whole cells, so that
    # every loop runs over contiguous channels; the residues are interleaved last.
    residues = [[_residue(at, taps, (a, b)) for b in range(right)] for a in range(down)]
    lines = [jnp.stack(line, 3).reshape(batch, rows, columns * right, channels) for line in residues]
    image = jnp.stack(lines, 2).reshape(batch, rows * down, columns * right, channels)
    return image[:, :height, :width]


def _residue(at: _Windows, taps: Float[Array, "B h w kh kw C"], residue: Size) -> Float[Array, "B rows columns C"]:
    """The image's pixels at `stride * cell + residue`."""
    batch, h, w, *_, channels = taps.shape
    rows, columns = (-(-n // s) for n, s in zip(at.image, at.stride, strict=True))
    vertical, horizontal = (
        [(i, (i - p - r) // s) for i in range(k) if (i - p - r) % s == 0]
        for k, s, p, r in zip(at.kernel, at.stride, at.padding, residue, strict=True)
    )
    zero, none = jnp.zeros((), taps.dtype), (0, 0, 0)
    total = jnp.zeros((batch, rows, columns, channels), taps.dtype)
    for (i, down), (j, right) in itertools.product(vertical, horizontal):
        pads = (none, (down, rows - h - down, 0), (right, columns - w - right, 0), none)
        total += lax.pad(taps[:, :, :, i, j], zero, pads)
    return total


def _weight_product(patches: Float[Array, "*B K"], maps: Float[Array, "*B N"]) -> Array:
    """`patches^T maps` over all positions; flat operands spare XLA an explicit transpose."""
    a, b = (m.reshape(math.prod(m.shape[:-1]), m.shape[-1]) for m in (patches, maps))
    return lax.dot_general(a, b, (((0,), (0,)), ((), ())))


def _conv_matmul(at: _Windows, x: Array, kernel: Array) -> Array:
    return _patches(at, x) @ kernel.reshape(-1, kernel.shape[3])


def _conv_matmul_grads(at: _Windows, x: Array, kernel: Array, g: Array) -> tuple[Array, Array]:
    weights = _weight_product(_patches(at, x), g)
    return _conv_transpose_matmul(at, g, kernel.swapaxes(2, 3)), weights.reshape(kernel.shape)


def _conv_transpose_matmul(at: _Windows, x: Array, kernel: Array) -> Array:
    return _overlap_add(at, x @ kernel.transpose(2, 0, 1, 3).reshape(kernel.shape[2], -1))


def _conv_transpose_matmul_grads(at: _Windows, x: Array, kernel: Array, g: Array) -> tuple[Array, Array]:
    adjoint, patches = kernel.swapaxes(2, 3), _patches(at, g)
    weights = _weight_product(patches, x).reshape(adjoint.shape)
    return patches @ adjoint.reshape(-1, adjoint.shape[3]), weights.swapaxes(2, 3)


_LAYOUT = ("NHWC", "HWIO", "NHWC")


def _conv_lax(at: _Windows, x: Array, kernel: Array) -> Array:
    pads = [(p, p) for p in at.padding]
    return lax.conv_general_dilated(x, kernel, at.stride, pads, dimension_numbers=_LAYOUT)


def _conv_transpose_lax(at: _Windows, x: Array, kernel: Array) -> Array:
    geometry = zip(at.image, at.grid, at.kernel, at.stride, at.padding, strict=True)
    pads = [(k - 1 - p, image - (n - 1) * s - 1 + p) for image, n, k, s, p in geometry]
    flipped = kernel[::-1, ::-1]
    return lax.conv_general_dilated(x, flipped, (1, 1), pads, lhs_dilation=at.stride, dimension_numbers=_LAYOUT)


def _by_platform(cpu: Callable, cpu_grads: Callable, default: Callable) -> Callable:
    """`(at, x, kernel) -> array`, and its gradients, in the form that suits the platform."""

    def default_grads(at, x, kernel, g):
        return jax.vjp(partial(default, at), x, kernel)[1](g)

    @partial(jax.custom_vjp, nondiff_argnums=(0,))
    def apply(at, x, kernel):
        forms = {"cpu": partial(cpu, at), "default": partial(default, at)}
        return lax.platform_dependent(x, kernel, **forms)

    def forward(at, x, kernel):
        return apply(at, x, kernel), (x, kernel)

    def backward(at, saved, g):
        forms = {"cpu": partial(cpu_grads, at), "default": partial(default_grads, at)}
        return lax.platform_dependent(*saved, g, **forms)

    apply.defvjp(forward, backward)
    return apply


_conv = _by_platform(_conv_matmul, _conv_matmul_grads, _conv_lax)
_conv_transpose = _by_platform(_conv_transpose_matmul, _conv_transpose_matmul_grads, _conv_transpose_lax)
