"""What the tests of networks compare with: XLA's convolutions and their gradients on planes, random arrays."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

LAYOUT = ("CHWN", "HWIO", "CHWN")


def draw(seed, *shapes, dtype="float64"):
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.standard_normal(shape), dtype) for shape in shapes]


def assert_close(actual, expected, tolerance):
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * float(jnp.abs(b).max()))


def init(module, *args) -> Any:
    return module.init(jax.random.key(0), *args)["params"]


def run(module, params, *args) -> Any:
    return module.apply({"params": params}, *args)


def lax_conv2d(x, kernel, stride, padding):
    pads = [(p, p) for p in padding]
    return lax.conv_general_dilated(x, kernel, stride, pads, dimension_numbers=LAYOUT)


def lax_conv_transpose2d(x, kernel, stride, padding, output_padding):
    """The gradient of XLA's convolution in its images, which is what PyTorch defines it to be."""
    size = [
        (n - 1) * s - 2 * p + k + e
        for n, k, s, p, e in zip(x.shape[1:3], kernel.shape[:2], stride, padding, output_padding, strict=True)
    ]
    image = jnp.zeros((kernel.shape[3], *size, x.shape[3]), x.dtype)
    conv = partial(lax_conv2d, kernel=kernel.swapaxes(2, 3), stride=stride, padding=padding)
    return jax.vjp(conv, image)[1](x)[0]
