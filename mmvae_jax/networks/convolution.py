"""Convolutions in PyTorch's conventions on planes `[C, H, W, B]`, in the form that suits the platform.

`conv2d` and `conv_transpose2d` are one geometry of windows read in two directions, so each is the
other's adjoint. The CPU runs both as a matrix product beside `_cuts` (cut the windows out) or
`_overlap_add` (lay them down and sum), which stores `kh kw / stride^2` copies of the image; other
platforms run `lax.conv_general_dilated`, whose gradients take several times as long on the CPU,
and tens of times inside its `lax.scan`. On small maps much of the windows is padding (of a 3x3
kernel on 7x7 pixels at stride 2 the rows outside are a sixth): the product is then made band by
band of rows that meet the image alike, and the padding is never multiplied.

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


# The share of padding in the rows of all windows from which on a split product costs less than its multiplications.
_OUTSIDE = 0.1


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


def _bands(at: _Windows) -> list[tuple[slice, slice]]:
    """Rows of windows that meet the image with the same rows of the kernel: (windows, taps).

    One band of everything where less than `_OUTSIDE` of all windows' rows is padding.
    """
    met = [_inside(y * at.stride[0] - at.padding[0], 1, at.kernel[0], at.image[0]) for y in range(at.grid[0])]
    return _runs(met, at.kernel[0])


def _groups(at: _Windows) -> list[tuple[slice, slice]]:
    """Rows of the kernel that meet the image in the same rows of windows: (taps, windows)."""
    met = [_inside(i - at.padding[0], at.stride[0], at.grid[0], at.image[0]) for i in range(at.kernel[0])]
    return _runs(met, at.grid[0])


def _inside(first: int, step: int, count: int, size: int) -> Size:
    """Of `first`, `first + step`, ... the range that lies in [0, size); never empty, for the sake of its shape."""
    start = min(count - 1, max(0, -(first // step)))
    return start, max(start + 1, min(count, (size - 1 - first) // step + 1))


def _runs(met: Sequence[Size], count: int) -> list[tuple[slice, slice]]:
    """Neighbours that meet the same range of `count`, and the range."""
    if sum(stop - start for start, stop in met) > (1 - _OUTSIDE) * count * len(met):
        return [(slice(0, len(met)), slice(0, count))]
    runs, first = [], 0
    for span, same in itertools.groupby(met):
        stop = first + len(list(same))
        runs.append((slice(first, stop), slice(*span)))
        first = stop
    return runs


def _cuts(at: _Windows, x: Float[Array, "C H W B"]) -> list[Float[Array, "tapsC h w B"]]:
    """The windows cut out of the image (im2col), band by band."""

    def cut(windows: slice, taps: slice) -> Array:
        # Nested stacks, not one concatenation: XLA compiles them to a single loop on the CPU.
        rows = [jnp.stack([_tap(at, x, (i, j), windows) for j in range(at.kernel[1])]) for i in _range(taps)]
        return jnp.stack(rows).reshape(-1, len(_range(windows)), at.grid[1], x.shape[3])

    return [cut(*band) for band in _bands(at)]


def _range(part: slice) -> range:
    return range(part.start, part.stop)


def _tap(at: _Windows, x: Float[Array, "C H W B"], tap: Size, windows: slice) -> Float[Array, "C h w B"]:
    """The pixel under one tap of the kernel in some rows of windows, zero outside the image."""
    axes = zip(tap, at.image, (windows, slice(0, at.grid[1])), at.stride, at.padding, strict=True)
    (rows, above_below), (columns, left_right) = (_reach(*axis) for axis in axes)
    return jnp.pad(x[:, rows, columns], ((0, 0), above_below, left_right, (0, 0)))


def _reach(tap: int, image: int, windows: slice, stride: int, padding: int) -> tuple[slice, Size]:
    """Along one axis the pixels that a tap meets, and in how many windows before and after them it meets none."""
    first = min(windows.stop, max(windows.start, -((tap - padding) // stride)))
    last = max(first - 1, min(windows.stop - 1, (image - 1 + padding - tap) // stride))
    start = max(0, first * stride + tap - padding)
    span = max(0, (last - first) * stride + 1)
    return slice(start, start + span, stride), (first - windows.start, windows.stop - 1 - last)


class _Tap(NamedTuple):
    """What one tap lays on the image: `values` from the window at row `first` on."""

    values: Float[Array, "C h w B"]
    first: int


def _overlap_add(at: _Windows, taps: dict[Size, _Tap]) -> Float[Array, "C H W B"]:
    """Lay the windows down on the image and sum (col2im)."""
    (height, width), (down, right) = at.image, at.stride
    # The pixels of one residue modulo the stride are sums of taps moved by whole cells, so that
    # every loop runs over contiguous batches; the residues are interleaved last.
    lines = (_interleave([_residue(at, taps, (a, b)) for b in range(right)], 2, width) for a in range(down))
    return _interleave(list(lines), 1, height)


def _residue(at: _Windows, taps: dict[Size, _Tap], residue: Size) -> Float[Array, "C rows columns B"]:
    """The image's pixels at `stride * cell + residue`."""
    some = taps[0, 0].values
    rows, columns = (-(-n // s) for n, s in zip(at.image, at.stride, strict=True))
    total = jnp.zeros((some.shape[0], rows, columns, some.shape[3]), some.dtype)
    for tap, (values, first) in taps.items():
        cells = [divmod(i - p - r, s) for i, p, r, s in zip(tap, at.padding, residue, at.stride, strict=True)]
        if any(rest for _, rest in cells):
            continue
        (down, _), (right, _) = cells
        down, (_, h, w, _) = down + first, values.shape
        none, moved = (0, 0, 0), ((down, rows - h - down, 0), (right, columns - w - right, 0))
        total += lax.pad(values, jnp.zeros((), values.dtype), (none, *moved, none))
    return total


def _interleave(parts: Sequence[Array], axis: int, size: int) -> Array:
    """Alternate along an axis; of all that is there the first `size`."""
    # Cut before, not after: XLA's loop over a cut image of odd size is ten times as slow on the CPU.
    whole, rest = divmod(size, len(parts))
    merged = jnp.stack([lax.slice_in_dim(part, 0, whole, axis=axis) for part in parts], axis + 1)
    merged = merged.reshape(*merged.shape[:axis], -1, *merged.shape[axis + 2 :])
    ends = [lax.slice_in_dim(part, whole, whole + 1, axis=axis) for part in parts[:rest]]
    return jnp.concatenate([merged, *ends], axis)


def _flat(x: Float[Array, "K *P"]) -> Float[Array, "K P"]:
    return x.reshape(x.shape[0], -1)


# The CPU's fast kernels take no transposed left operand, and XLA would put one into the gradient of each of the three
# products of a layer if it made them itself: every gradient is therefore written down.


@jax.custom_vjp
def _product(x: Float[Array, "K *P"], matrix: Float[Array, "K J"]) -> Float[Array, "J *P"]:
    """`sum_k matrix[k, j] x[k]`; the matrix turned round first."""
    return (transposed(matrix) @ _flat(x)).reshape(-1, *x.shape[1:])


def _matrix_grad(x: Float[Array, "K *P"], g: Float[Array, "J *P"]) -> Float[Array, "K J"]:
    """Where x are windows they are the more rows, so they are on the left."""
    return lax.dot_general(_flat(x), _flat(g), (((1,), (1,)), ((), ())))


def _product_grads(saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, matrix = saved
    return (matrix @ _flat(g)).reshape(x.shape), _matrix_grad(x, g)


_product.defvjp(lambda x, matrix: (_product(x, matrix), (x, matrix)), _product_grads)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _correlate(at: _Windows, image: Float[Array, "C H W B"], kernel: Float[Array, "kh kw C N"]) -> Array:
    """Windows times kernel, [N, h, w, B]."""
    return _times_windows(at, _cuts(at, image), kernel)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _spread(at: _Windows, maps: Float[Array, "N h w B"], kernel: Float[Array, "kh kw C N"]) -> Array:
    """The image [C, H, W, B] on which the kernel is laid down, window by window: the adjoint of `_correlate`."""
    taps = {}
    for rows, windows in _groups(at):
        part, x = kernel[rows], maps[:, windows]
        laid = (part.reshape(-1, len(maps)) @ _flat(x)).reshape(*part.shape[:3], *x.shape[1:])
        for i, j in itertools.product(_range(rows), range(at.kernel[1])):
            taps[i, j] = _Tap(laid[i - rows.start, j], windows.start)
    return _overlap_add(at, taps)


def _times_windows(at: _Windows, cuts: Sequence[Array], kernel: Array) -> Float[Array, "N h w B"]:
    bands = zip(_bands(at), cuts, strict=True)
    return jnp.concatenate([_product(cut, kernel[taps].reshape(-1, kernel.shape[3])) for (_, taps), cut in bands], 1)


def _weights(at: _Windows, cuts: Sequence[Array], maps: Float[Array, "N h w B"]) -> Float[Array, "kh kw C N"]:
    """The gradient of the kernel: windows times maps."""
    parts = []
    for (windows, taps), cut in zip(_bands(at), cuts, strict=True):
        part = _matrix_grad(cut, maps[:, windows]).reshape(len(_range(taps)), at.kernel[1], -1, len(maps))
        parts.append(jnp.pad(part, ((taps.start, at.kernel[0] - taps.stop), (0, 0), (0, 0), (0, 0))))
    return sum(parts[1:], parts[0])


def _correlate_grads(at: _Windows, saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    image, kernel = saved
    return _spread(at, g, kernel), _weights(at, _cuts(at, image), g)


def _spread_grads(at: _Windows, saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    (maps, kernel), cuts = saved, _cuts(at, g)
    return _times_windows(at, cuts, kernel), _weights(at, cuts, maps)


_correlate.defvjp(lambda at, image, kernel: (_correlate(at, image, kernel), (image, kernel)), _correlate_grads)
_spread.defvjp(lambda at, maps, kernel: (_spread(at, maps, kernel), (maps, kernel)), _spread_grads)


def _dense_cpu(_: None, x: Array, kernel: Array) -> Array:
    return _product(x, kernel)


def _conv_transpose_cpu(at: _Windows, x: Array, kernel: Array) -> Array:
    return _spread(at, x, kernel.swapaxes(2, 3))


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


_conv = _by_platform(_correlate, _conv_lax)
_conv_transpose = _by_platform(_conv_transpose_cpu, _conv_transpose_lax)
_dense = _by_platform(_dense_cpu, _dense_default)
