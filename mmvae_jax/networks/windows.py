"""Where a kernel is laid on an image: windows cut out of it (im2col), and laid down on it and summed (col2im).

On small maps much of the windows is padding (of a 3x3 kernel on 7x7 pixels at stride 2 the rows outside are a sixth):
they are then cut band by band of rows that meet the image alike, so that nobody multiplies the padding.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from mmvae_jax.errors import UserError

Pair = int | tuple[int, int]
Size = tuple[int, int]


class Windows(NamedTuple):
    """Where a kernel is laid on an image: `grid` windows, `stride` apart, from `-padding` on."""

    image: Size
    grid: Size
    kernel: Size
    stride: Size
    padding: Size


class Tap(NamedTuple):
    """What one tap lays on the image: `values` from the window at row `first` on."""

    values: Float[Array, "C h w B"]
    first: int


# The share of padding in the rows of all windows from which on a split product costs less than its multiplications.
_OUTSIDE = 0.1


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


def window_bands(at: Windows) -> list[tuple[slice, slice]]:
    """Rows of windows that meet the image with the same rows of the kernel: (windows, taps).

    One band of everything where less than `_OUTSIDE` of all windows' rows is padding.
    """
    met = [_inside(y * at.stride[0] - at.padding[0], 1, at.kernel[0], at.image[0]) for y in range(at.grid[0])]
    return _runs(met, at.kernel[0])


def tap_groups(at: Windows) -> list[tuple[slice, slice]]:
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


def cut_windows(at: Windows, x: Float[Array, "C H W B"]) -> list[Float[Array, "_ _ w B"]]:
    """The windows cut out of the image (im2col), band by band."""

    def cut(windows: slice, taps: slice) -> Array:
        # Nested stacks, not one concatenation: XLA compiles them to a single loop on the CPU.
        rows = [jnp.stack([_tap(at, x, (i, j), windows) for j in range(at.kernel[1])]) for i in numbers(taps)]
        return jnp.stack(rows).reshape(-1, len(numbers(windows)), at.grid[1], x.shape[3])

    return [cut(*band) for band in window_bands(at)]


def numbers(part: slice) -> range:
    """The indices of a slice that has both ends."""
    return range(part.start, part.stop)


def _tap(at: Windows, x: Float[Array, "C H W B"], tap: Size, windows: slice) -> Float[Array, "C h w B"]:
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


def overlap_add(at: Windows, taps: dict[Size, Tap]) -> Float[Array, "C H W B"]:
    """Lay the windows down on the image and sum (col2im)."""
    (height, width), (down, right) = at.image, at.stride
    # The pixels of one residue modulo the stride are sums of taps moved by whole cells, so that
    # every loop runs over contiguous batches; the residues are interleaved last.
    lines = (_interleave([_residue(at, taps, (a, b)) for b in range(right)], 2, width) for a in range(down))
    return _interleave(list(lines), 1, height)


def _residue(at: Windows, taps: dict[Size, Tap], residue: Size) -> Float[Array, "C rows columns B"]:
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
