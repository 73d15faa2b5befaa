"""Convolutions in PyTorch's conventions on planes `[C, H, W, B]`, in the form that suits the platform.

`conv2d` and `conv_transpose2d` are one geometry of windows read in two directions, so each is the
other's adjoint. The CPU runs both as one matrix product beside `_patches` (cut the windows out) or
`_overlap_add` (lay them down and sum), which stores `kh kw / stride^2` copies of the image; other
platforms run `lax.conv_general_dilated`, whose gradients take several times as long on the CPU,
and tens of times inside its `lax.scan`.

The batch comes last because the CPU then moves windows in runs of a whole batch, and because none
of the three products of a layer has to gather the numbers it sums from distant places. Elsewhere
the order of the axes says nothing about memory: XLA lays the planes out as the convolution likes.
"""

import itertools
from collections.abc import Callable, Sequence
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
    at = _Windows((height, width), grid, (kh, kw), pair(stride), pair(padding))
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
    return _conv_transpose(_Windows((height, width), (h, w), (kh, kw), stride, padding), x, kernel)


def dense(x: Float[Array, "I *P"], kernel: Float[Array, "I O"]) -> Float[Array, "O *P"]:
    """`sum_i kernel[i, o] x[i]`: a dense layer at every place. Differentiable in reverse mode only."""
    return _dense(None, x, kernel)


def transposed(x: Float[Array, "M N"]) -> Float[Array, "N M"]:
    """The transpose as a copy; else XLA hands a product the operand as it was, which is slow on the CPU."""
    return lax.optimization_barrier(x.T)


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


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _patches(at: _Windows, x: Float[Array, "C H W B"]) -> Float[Array, "khkwC h w B"]:
    """Cut the windows out of the image (im2col)."""
    kh, kw = at.kernel
    # Nested stacks, not one concatenation: XLA compiles them to a single loop on the CPU.
    taps = [jnp.stack([_tap(at, x, (i, j)) for j in range(kw)]) for i in range(kh)]
    return jnp.stack(taps).reshape(-1, *at.grid, x.shape[3])


def _tap(at: _Windows, x: Float[Array, "C H W B"], tap: Size) -> Float[Array, "C h w B"]:
    """The pixel under one tap of the kernel in every window, zero outside the image."""
    axes = zip(tap, at.image, at.grid, at.stride, at.padding, strict=True)
    (rows, above_below), (columns, left_right) = (_reach(*axis) for axis in axes)
    return jnp.pad(x[:, rows, columns], ((0, 0), above_below, left_right, (0, 0)))


def _reach(tap: int, image: int, grid: int, stride: int, padding: int) -> tuple[slice, Size]:
    """Along one axis the pixels that a tap meets, and in how many windows before and after them it meets none."""
    first = min(grid, max(0, -((tap - padding) // stride)))
    last = max(first - 1, min(grid - 1, (image - 1 + padding - tap) // stride))
    start = max(0, first * stride + tap - padding)
    return slice(start, start + max(0, (last - first) * stride + 1), stride), (first, grid - 1 - last)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _overlap_add(at: _Windows, windows: Float[Array, "khkwC h w B"]) -> Float[Array, "C H W B"]:
    """Lay the windows down on the image and sum (col2im): the adjoint of `_patches`."""
    taps = windows.reshape(*at.kernel, -1, *windows.shape[1:])
    (height, width), (down, right) = at.image, at.stride
    # The pixels of one residue modulo the stride are sums of taps moved by whole cells, so that
    # every loop runs over contiguous batches; the residues are interleaved last.
    lines = (_interleave([_residue(at, taps, (a, b)) for b in range(right)], 2, width) for a in range(down))
    return _interleave(list(lines), 1, height)


def _residue(at: _Windows, taps: Float[Array, "kh kw C h w B"], residue: Size) -> Float[Array, "C rows columns B"]:
    """The image's pixels at `stride * cell + residue`."""
    _, _, channels, h, w, batch = taps.shape
    rows, columns = (-(-n // s) for n, s in zip(at.image, at.stride, strict=True))
    vertical, horizontal = (
        [(i, (i - p - r) // s) for i in range(k) if (i - p - r) % s == 0]
        for k, s, p, r in zip(at.kernel, at.stride, at.padding, residue, strict=True)
    )
    zero, none = jnp.zeros((), taps.dtype), (0, 0, 0)
    total = jnp.zeros((channels, rows, columns, batch), taps.dtype)
    for (i, down), (j, right) in itertools.product(vertical, horizontal):
        total += lax.pad(taps[i, j], zero, (none, (down, rows - h - down, 0), (right, columns - w - right, 0), none))
    return total


def _interleave(parts: Sequence[Array], axis: int, size: int) -> Array:
    """Alternate along an axis; of all that is there the first `size`."""
    # Cut before, not after: XLA's loop over a cut image of odd size is ten times as slow on the CPU.
    whole, rest = divmod(size, len(parts))
    merged = jnp.stack([lax.slice_in_dim(part, 0, whole, axis=axis) for part in parts], axis + 1)
    merged = merged.reshape(*merged.shape[:axis], -1, *merged.shape[axis + 2 :])
    ends = [lax.slice_in_dim(part, whole, whole + 1, axis=axis) for part in parts[:rest]]
    return jnp.concatenate([merged, *ends], axis)


_patches.defvjp(lambda at, x: (_patches(at, x), None), lambda at, _, g: (_overlap_add(at, g),))
_overlap_add.defvjp(lambda at, windows: (_overlap_add(at, windows), None), lambda at, _, g: (_patches(at, g),))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _product(turned: bool, matrix: Float[Array, "M N"], x: Float[Array, "K *P"]) -> Float[Array, "J *P"]:
    """`matrix`, turned round or not, times x: all three products of it as the CPU's fast kernels want them.

    These take no transposed left operand, and XLA would put one there. The gradient of the weights has the matrix's
    own rows on the left, which are windows, so more than columns.
    """
    flat = (transposed(matrix) if turned else matrix) @ x.reshape(x.shape[0], -1)
    return flat.reshape(-1, *x.shape[1:])


def _product_grads(turned: bool, saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    matrix, x = saved
    flat = g.reshape(g.shape[0], -1), x.reshape(x.shape[0], -1)
    rows, columns = flat[::-1] if turned else flat
    weights = lax.dot_general(rows, columns, (((1,), (1,)), ((), ())))
    back = (matrix if turned else transposed(matrix)) @ flat[0]
    return weights, back.reshape(x.shape)


_product.defvjp(lambda turned, matrix, x: (_product(turned, matrix, x), (matrix, x)), _product_grads)


def _dense_cpu(_: None, x: Array, kernel: Array) -> Array:
    return _product(True, kernel, x)


def _conv_cpu(at: _Windows, x: Array, kernel: Array) -> Array:
    return _product(True, kernel.reshape(-1, kernel.shape[3]), _patches(at, x))


def _conv_transpose_cpu(at: _Windows, x: Array, kernel: Array) -> Array:
    return _overlap_add(at, _product(False, kernel.swapaxes(2, 3).reshape(-1, kernel.shape[2]), x))


def _dense_default(_: None, x: Array, kernel: Array) -> Array:
    return jnp.tensordot(kernel, x, (0, 0))


_LAYOUT = ("CHWN", "HWIO", "CHWN")


def _conv_lax(at: _Windows, x: Array, kernel: Array) -> Array:
    pads = [(p, p) for p in at.padding]
    return lax.conv_general_dilated(x, kernel, at.stride, pads, dimension_numbers=_LAYOUT)


def _conv_transpose_lax(at: _Windows, x: Array, kernel: Array) -> Array:
    geometry = zip(at.image, at.grid, at.kernel, at.stride, at.padding, strict=True)
    pads = [(k - 1 - p, image - (n - 1) * s - 1 + p) for image, n, k, s, p in geometry]
    flipped = kernel[::-1, ::-1]
    return lax.conv_general_dilated(x, flipped, (1, 1), pads, lhs_dilation=at.stride, dimension_numbers=_LAYOUT)


def _by_platform(cpu: Callable, default: Callable) -> Callable:
    """`(at, x, kernel) -> array`, and its gradients, in the form that suits the platform."""

    @partial(jax.custom_vjp, nondiff_argnums=(0,))
    def apply(at, x, kernel):
        return lax.platform_dependent(x, kernel, cpu=partial(cpu, at), default=partial(default, at))

    def forward(at, x, kernel):
        return apply(at, x, kernel), (x, kernel)

    def backward(at, saved, g):
        def gradients(form: Callable) -> Callable:
            return lambda x, kernel, g: jax.vjp(partial(form, at), x, kernel)[1](g)

        return lax.platform_dependent(*saved, g, cpu=gradients(cpu), default=gradients(default))

    apply.defvjp(forward, backward)
    return apply


_conv = _by_platform(_conv_cpu, _conv_lax)
_conv_transpose = _by_platform(_conv_transpose_cpu, _conv_transpose_lax)
_dense = _by_platform(_dense_cpu, _dense_default)
