"""Convolutions against XLA's own and PyTorch's formula, their gradients, and the form of each platform."""

import itertools
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax

from benchmarks.profile import matrix_products
from mmvae_jax.errors import UserError
from mmvae_jax.networks.operations import conv2d, conv_transpose2d, dense, xla_conv, xla_conv_transpose
from mmvae_jax.networks.windows import Windows
from tests.networks.reference import assert_close, draw, lax_conv2d, lax_conv_transpose2d

# image, channels in and out, kernel, stride, padding
CONVOLUTIONS = [
    ((28, 28), 3, 8, (3, 3), (2, 2), (1, 1)),
    ((14, 14), 4, 6, (3, 3), (2, 2), (1, 1)),
    ((7, 7), 4, 6, (3, 3), (2, 2), (1, 1)),
    ((8, 8), 4, 6, (4, 4), (2, 2), (1, 1)),
    ((4, 4), 4, 6, (4, 4), (1, 1), (0, 0)),
    ((6, 5), 4, 6, (3, 3), (1, 1), (1, 1)),
    ((6, 5), 4, 6, (1, 1), (1, 1), (0, 0)),
    ((9, 9), 4, 6, (1, 1), (2, 2), (0, 0)),
    ((16, 16), 3, 4, (3, 3), (2, 2), (2, 2)),
    ((5, 12), 2, 3, (2, 4), (1, 2), (0, 1)),
    ((11, 6), 2, 3, (4, 2), (3, 1), (2, 0)),
    ((1, 32), 5, 4, (1, 4), (1, 2), (0, 1)),
    ((10, 13), 2, 3, (2, 3), (3, 5), (0, 4)),
    ((1, 1), 2, 3, (3, 3), (1, 1), (1, 1)),
    ((5, 5), 2, 3, (3, 3), (2, 2), (3, 3)),
]
# map, channels in and out, kernel, stride, padding, output padding
TRANSPOSED = [
    ((4, 4), 6, 4, (3, 3), (2, 2), (1, 1), (0, 0)),
    ((7, 7), 6, 4, (3, 3), (2, 2), (1, 1), (1, 1)),
    ((4, 4), 6, 4, (4, 4), (2, 2), (1, 1), (0, 0)),
    ((1, 1), 6, 4, (4, 4), (1, 1), (0, 0), (0, 0)),
    ((5, 6), 6, 4, (3, 3), (1, 1), (1, 1), (0, 0)),
    ((5, 6), 6, 4, (1, 1), (2, 2), (0, 0), (1, 1)),
    ((3, 6), 2, 3, (2, 4), (1, 2), (0, 1), (0, 1)),
    ((4, 5), 2, 3, (4, 2), (3, 1), (2, 0), (2, 0)),
    ((1, 8), 5, 4, (1, 4), (1, 2), (0, 1), (0, 0)),
    ((3, 4), 2, 3, (2, 3), (3, 5), (0, 4), (1, 3)),
    ((5, 5), 2, 3, (3, 3), (2, 2), (3, 3), (0, 0)),
]
PRECISIONS = [("float64", 1e-12), ("float32", 1e-5)]


def torch_conv_transpose2d(x, kernel, stride, padding, output_padding):
    """torch.nn.ConvTranspose2d's formula, one pixel and tap at a time."""
    (_, h, w, batch), (kh, kw, _, outputs) = x.shape, kernel.shape
    # Every tap lands in the uncropped canvas, of which `padding` is then cut off.
    height = (h - 1) * stride[0] + kh + output_padding[0]
    width = (w - 1) * stride[1] + kw + output_padding[1]
    canvas = np.zeros((outputs, height, width, batch))
    for y, x_, i, j in itertools.product(range(h), range(w), range(kh), range(kw)):
        canvas[:, y * stride[0] + i, x_ * stride[1] + j] += kernel[i, j].T @ x[:, y, x_]
    return canvas[:, padding[0] : height - padding[0], padding[1] : width - padding[1]]


def assert_same_with_gradients(f, g, args, tolerance):
    def pull(f, *args):
        out, back = jax.vjp(f, *args)
        return out, back(jnp.cos(jnp.arange(out.size, dtype=out.dtype)).reshape(out.shape))

    actual, expected = jax.jit(lambda *args: (pull(f, *args), pull(g, *args)))(*args)
    assert_close(actual, expected, tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_conv2d_and_its_gradients_equal_xla(case, dtype, tolerance):
    image, inputs, outputs, size, stride, padding = case
    with jax.enable_x64(True):
        args = draw(0, (inputs, *image, 3), (*size, inputs, outputs), dtype=dtype)
        ours, xla = (partial(f, stride=stride, padding=padding) for f in (conv2d, lax_conv2d))
        assert_same_with_gradients(ours, xla, args, tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("case", TRANSPOSED, ids=str)
def test_conv_transpose2d_and_its_gradients_equal_xla(case, dtype, tolerance):
    grid, inputs, outputs, size, stride, padding, extra = case
    with jax.enable_x64(True):
        args = draw(1, (inputs, *grid, 3), (*size, inputs, outputs), dtype=dtype)
        geometry = {"stride": stride, "padding": padding, "output_padding": extra}
        ours, xla = (partial(f, **geometry) for f in (conv_transpose2d, lax_conv_transpose2d))
        assert_same_with_gradients(ours, xla, args, tolerance)


@pytest.mark.parametrize("case", TRANSPOSED, ids=str)
def test_conv_transpose2d_follows_pytorchs_formula(case):
    grid, inputs, outputs, size, *geometry = case
    with jax.enable_x64(True):
        x, kernel = draw(2, (inputs, *grid, 2), (*size, inputs, outputs))
        expected = torch_conv_transpose2d(np.asarray(x), np.asarray(kernel), *geometry)
        actual = conv_transpose2d(x, kernel, *geometry)
        assert actual.shape == expected.shape
        np.testing.assert_allclose(actual, expected, atol=1e-12)


@pytest.mark.parametrize("case", TRANSPOSED, ids=str)
def test_conv_transpose2d_is_the_adjoint_of_conv2d(case):
    grid, inputs, outputs, size, stride, padding, output_padding = case
    with jax.enable_x64(True):
        y, kernel = draw(3, (inputs, *grid, 2), (*size, outputs, inputs))
        back = conv_transpose2d(y, kernel.swapaxes(2, 3), stride, padding, output_padding)
        (x,) = draw(4, back.shape)
        forth = conv2d(x, kernel, stride, padding)
        np.testing.assert_allclose(jnp.vdot(forth, y), jnp.vdot(x, back), rtol=1e-10)


@pytest.mark.parametrize("case", TRANSPOSED, ids=str)
def test_the_form_of_other_platforms_equals_the_cpus(case):
    grid, inputs, outputs, size, stride, padding, extra = case
    with jax.enable_x64(True):
        x, kernel = draw(5, (inputs, *grid, 2), (*size, inputs, outputs))
        out = conv_transpose2d(x, kernel, stride, padding, extra)
        at = Windows((out.shape[1], out.shape[2]), grid, size, stride, padding)
        assert_close(xla_conv_transpose(at, x, kernel), out, 1e-12)
        (image,) = draw(6, out.shape)
        adjoint = kernel.swapaxes(2, 3)
        assert_close(xla_conv(at, image, adjoint), conv2d(image, adjoint, stride, padding), 1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_dense_and_its_gradients_equal_the_sum_over_inputs(dtype, tolerance):
    with jax.enable_x64(True):
        args = draw(11, (5, 2, 3), (5, 7), dtype=dtype)
        assert_same_with_gradients(dense, lambda x, kernel: jnp.einsum("io,ihb->ohb", kernel, x), args, tolerance)


def both(x, z, kernel, transposed):
    """A loss through both operations."""
    maps = conv2d(x, kernel, 2, 1), conv_transpose2d(z, transposed, 2, 1, 1)
    return sum(jnp.sum(jnp.sin(m)) for m in maps)


def both_args():
    return draw(7, (3, 8, 8, 2), (5, 4, 4, 2), (3, 3, 3, 4), (3, 3, 5, 2), dtype="float32")


def test_only_the_platforms_form_is_compiled():
    gradients = jax.jit(jax.grad(both, argnums=(0, 1, 2, 3)))
    cpu = gradients.lower(*both_args()).compile().as_text() or ""
    assert " dot(" in cpu
    assert "convolution(" not in cpu
    assert "conditional(" not in cpu
    for platform in ("cuda", "tpu"):
        module = export.export(gradients, platforms=[platform])(*both_args()).mlir_module()
        assert module.count("stablehlo.convolution") == 2 + 4
        assert "stablehlo.dot_general" not in module


@pytest.mark.parametrize(
    ("image", "padding", "share"),
    [(7, 1, 10 / 12), (14, 1, 1), (28, 1, 1), (9, 0, 1), (5, 2, 8 / 12)],
)
def test_rows_of_padding_are_not_multiplied_where_they_are_many(image, padding, share):
    """Of a 3x3 kernel at stride 2; the share of multiplications left, in all three products of both directions."""
    x, kernel = draw(13, (2, image, image, 4), (3, 3, 2, 5), dtype="float32")
    maps, up, extra = conv2d(x, kernel, 2, padding), kernel.swapaxes(2, 3), (image + 2 * padding - 3) % 2

    def all_products(x, kernel, maps, up):
        down, back = jax.vjp(lambda x, kernel: conv2d(x, kernel, 2, padding), x, kernel)
        laid, forth = jax.vjp(lambda maps, up: conv_transpose2d(maps, up, 2, padding, extra), maps, up)
        return back(down), forth(laid)

    program = jax.jit(all_products).lower(x, kernel, maps, up).compile().as_text() or ""
    done = sum(math.prod(a) * math.prod(b) // b[axis] for a, b, ((_, (axis,)), _) in matrix_products(program))
    assert done == round(share * 6 * maps.size * kernel[..., 0].size)


def test_gradients_under_vmap_and_scan_equal_the_loop():
    x, z, kernel, transposed = both_args()
    gradients = jax.grad(both, argnums=(0, 1, 2, 3))
    kernels = jnp.stack([kernel, -kernel, 2 * kernel])
    expected = [gradients(x, z, k, transposed) for k in kernels]
    expected = jax.tree.map(lambda *g: jnp.stack(g), *expected)
    mapped = jax.jit(jax.vmap(gradients, in_axes=(None, None, 0, None)))
    assert_close(mapped(x, z, kernels, transposed), expected, 1e-5)
    scanned = lax.scan(lambda _, k: (None, gradients(x, z, k, transposed)), None, kernels)[1]
    assert_close(scanned, expected, 1e-5)


def test_second_derivatives_equal_xla():
    with jax.enable_x64(True):
        x, kernel = draw(8, (2, 7, 7, 2), (3, 3, 2, 3))

        def curvature(convolve):
            loss = lambda k: jnp.sum(jnp.sin(convolve(x, k, (2, 2), (1, 1))))  # noqa: E731
            return jax.grad(lambda k: jnp.sum(jax.grad(loss)(k) ** 2))(kernel)

        assert_close(curvature(conv2d), curvature(lax_conv2d), 1e-12)


def test_bfloat16_is_kept_and_near_float32():
    args = both_args()
    half = [a.astype(jnp.bfloat16) for a in args]
    gradients = jax.grad(both, argnums=(0, 1, 2, 3))(*half)
    assert {g.dtype for g in gradients} == {jnp.dtype(jnp.bfloat16)}
    out = conv_transpose2d(half[1], half[3], 2, 1, 1)
    assert out.dtype == jnp.bfloat16
    exact = conv_transpose2d(half[1].astype("float32"), half[3].astype("float32"), 2, 1, 1)
    np.testing.assert_allclose(out.astype(jnp.float32), exact, atol=2**-7 * float(exact.max()))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"stride": 2, "output_padding": 2}, r"output_padding \(2, 2\)"),
        ({"stride": 2, "output_padding": -1}, r"output_padding \(-1, -1\)"),
        ({"stride": 1, "padding": 4}, "lower it"),
    ],
)
def test_impossible_transposed_geometry_is_a_users_mistake(kwargs, message):
    with pytest.raises(UserError, match=message):
        conv_transpose2d(jnp.ones((1, 2, 2, 1)), jnp.ones((3, 3, 1, 1)), **kwargs)


def test_too_large_a_kernel_is_a_users_mistake():
    with pytest.raises(UserError, match=r"\(5, 5\) is larger than an image of \(4, 2\)"):
        conv2d(jnp.ones((1, 4, 2, 1)), jnp.ones((5, 5, 1, 1)), 1, 0)
