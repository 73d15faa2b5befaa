"""The CPU's form of the convolutions: windows beside a matrix product, with all gradients written down.

The CPU's fast kernels take no transposed left operand, and XLA would put one into the gradient of each of the three
products of a layer if it made them itself.
"""

import itertools
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from mmvae_jax.networks.windows import Tap, Windows, cut_windows, numbers, overlap_add, tap_groups, window_bands


def transposed(x: Float[Array, "M N"]) -> Float[Array, "N M"]:
    """The transpose as a copy; else XLA hands a product the operand as it was, which is slow on the CPU."""
    return lax.optimization_barrier(x.T)


def _flat(x: Float[Array, "K *P"]) -> Float[Array, "K P"]:
    return x.reshape(x.shape[0], -1)


@jax.custom_vjp
def product(x: Float[Array, "K *P"], matrix: Float[Array, "K J"]) -> Float[Array, "J *P"]:
    """`sum_k matrix[k, j] x[k]`; the matrix turned round first."""
    return (transposed(matrix) @ _flat(x)).reshape(-1, *x.shape[1:])


def _matrix_grad(x: Float[Array, "K *P"], g: Float[Array, "J *P"]) -> Float[Array, "K J"]:
    """Where x are windows they are the more rows, so they are on the left."""
    return lax.dot_general(_flat(x), _flat(g), (((1,), (1,)), ((), ())))


def _product_grads(saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, matrix = saved
    return (matrix @ _flat(g)).reshape(x.shape), _matrix_grad(x, g)


product.defvjp(lambda x, matrix: (product(x, matrix), (x, matrix)), _product_grads)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def correlate(at: Windows, image: Float[Array, "C H W B"], kernel: Float[Array, "kh kw C N"]) -> Array:
    """Windows times kernel, [N, h, w, B]."""
    return _times_windows(at, cut_windows(at, image), kernel)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def spread(at: Windows, maps: Float[Array, "N h w B"], kernel: Float[Array, "kh kw C N"]) -> Array:
    """The image [C, H, W, B] on which the kernel is laid down, window by window: the adjoint of `correlate`."""
    taps = {}
    for rows, windows in tap_groups(at):
        part, x = kernel[rows], maps[:, windows]
        laid = (part.reshape(-1, len(maps)) @ _flat(x)).reshape(*part.shape[:3], *x.shape[1:])
        for i, j in itertools.product(numbers(rows), range(at.kernel[1])):
            taps[i, j] = Tap(laid[i - rows.start, j], windows.start)
    return overlap_add(at, taps)


def _times_windows(at: Windows, cuts: Sequence[Array], kernel: Array) -> Float[Array, "N h w B"]:
    bands = zip(window_bands(at), cuts, strict=True)
    return jnp.concatenate([product(cut, kernel[taps].reshape(-1, kernel.shape[3])) for (_, taps), cut in bands], 1)


def _weights(at: Windows, cuts: Sequence[Array], maps: Float[Array, "N h w B"]) -> Float[Array, "kh kw C N"]:
    """The gradient of the kernel: windows times maps."""
    parts = []
    for (windows, taps), cut in zip(window_bands(at), cuts, strict=True):
        part = _matrix_grad(cut, maps[:, windows]).reshape(len(numbers(taps)), at.kernel[1], -1, len(maps))
        parts.append(jnp.pad(part, ((taps.start, at.kernel[0] - taps.stop), (0, 0), (0, 0), (0, 0))))
    return sum(parts[1:], parts[0])


def _correlate_grads(at: Windows, saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    image, kernel = saved
    return spread(at, g, kernel), _weights(at, cut_windows(at, image), g)


def _spread_grads(at: Windows, saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    (maps, kernel), cuts = saved, cut_windows(at, g)
    return _times_windows(at, cuts, kernel), _weights(at, cuts, maps)


correlate.defvjp(lambda at, image, kernel: (correlate(at, image, kernel), (image, kernel)), _correlate_grads)
spread.defvjp(lambda at, maps, kernel: (spread(at, maps, kernel), (maps, kernel)), _spread_grads)
