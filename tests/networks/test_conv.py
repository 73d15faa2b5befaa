"""Convolutions against XLA's own and PyTorch's formula; the networks against the released ones."""

import itertools
import math
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax

from benchmarks.profile import _products
from mmvae_jax.errors import UserError
from mmvae_jax.networks import convolution
from mmvae_jax.networks.conv import ConvDecoder, ConvEncoder, images, planes
from mmvae_jax.networks.convolution import conv2d, conv_transpose2d, dense, pair

GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "polymnist_mopoe.npz"
LAYOUT = ("CHWN", "HWIO", "CHWN")

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
        at = convolution._Windows((out.shape[1], out.shape[2]), grid, size, stride, padding)
        assert_close(convolution._conv_transpose_lax(at, x, kernel), out, 1e-12)
        (image,) = draw(6, out.shape)
        adjoint = kernel.swapaxes(2, 3)
        assert_close(convolution._conv_lax(at, image, adjoint), conv2d(image, adjoint, stride, padding), 1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_dense_and_its_gradients_equal_the_sum_over_inputs(dtype, tolerance):
    with jax.enable_x64(True):
        args = draw(11, (5, 2, 3), (5, 7), dtype=dtype)
        assert_same_with_gradients(dense, lambda x, kernel: jnp.einsum("io,ihb->ohb", kernel, x), args, tolerance)


@pytest.mark.parametrize("channels", [1, 3, 6])
def test_planes_and_images_are_one_transpose(channels):
    image, weights = draw(12, (2, 4, 5, channels), (channels, 4, 5, 2), dtype="float32")
    np.testing.assert_array_equal(planes(image), image.transpose(3, 1, 2, 0))
    np.testing.assert_array_equal(images(weights), weights.transpose(3, 1, 2, 0))
    gradients = [
        jax.grad(lambda x: jnp.vdot(planes(x), weights))(image),
        jax.grad(lambda x: jnp.vdot(images(x), image))(weights),
    ]
    np.testing.assert_array_equal(gradients[0], weights.transpose(3, 1, 2, 0))
    np.testing.assert_array_equal(gradients[1], image.transpose(3, 1, 2, 0))


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
    done = sum(math.prod(a) * math.prod(b) // b[axis] for a, b, ((_, (axis,)), _) in _products(program))
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


def test_modules_compute_in_their_dtype_and_keep_float32_parameters():
    x = jnp.ones((2, 28, 28, 3))
    encoder = ConvEncoder((4, 4, 8), hidden=16, dtype=jnp.bfloat16)
    decoder = ConvDecoder(widths=(8, 4, 4), dtype=jnp.bfloat16)
    for module, inputs in ((encoder, x), (decoder, jnp.ones((2, 16)))):
        out, params = jax.eval_shape(module.init_with_output, jax.random.key(0), inputs)
        assert out.dtype == jnp.bfloat16
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}


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
    with pytest.raises(UserError, match="fewer layers"):
        init(ConvDecoder((4, 4, 1), kernel=4, padding=0), jnp.ones((1, 2)))


@pytest.mark.parametrize(
    ("shape", "kernel", "stride", "padding", "layers"),
    [
        ((28, 28, 3), 3, 2, 1, 3),
        ((28, 28, 1), 4, 2, 1, 2),
        ((32, 32, 3), 3, 2, 1, 3),
        ((64, 64, 3), 4, 2, 1, 4),
        ((64, 64, 3), 3, 2, 1, 5),
        ((30, 17, 2), (3, 5), (2, 3), (1, 0), 2),
    ],
)
def test_decoder_retraces_the_encoders_sizes(shape, kernel, stride, padding, layers):
    """Each transposed convolution is the adjoint of the encoder's convolution at its level."""
    widths = tuple(2 * n for n in range(2, 2 + layers))
    encoder = ConvEncoder(widths, kernel, stride, padding, hidden=None)
    decoder = ConvDecoder(shape, widths[::-1], kernel, stride, padding, hidden=6)
    image, z = draw(9, (2, *shape), (2, 5), dtype="float32")
    capture = partial(encoder.init_with_output, capture_intermediates=True)
    states: Any = jax.eval_shape(capture, jax.random.key(0), image)[1]["intermediates"]
    maps = [states[f"Conv_{n}"]["__call__"][0].shape for n in range(layers)]

    blank = jax.eval_shape(partial(init, decoder), z)
    leaves = draw(10, *(leaf.shape for leaf in jax.tree.leaves(blank)), dtype="float32")
    params: Any = jax.tree.unflatten(jax.tree.structure(blank), leaves)
    x = z
    for n in range(2):
        dense = params[f"Dense_{n}"]
        x = jax.nn.relu(x @ dense["kernel"] + dense["bias"])
    channels, *grid, _ = maps[-1]
    x = x.reshape(-1, *grid, channels).transpose(3, 1, 2, 0)
    for n, size in enumerate([*maps[-2::-1], (shape[2], *shape[:2], 2)]):
        layer = params[f"ConvTranspose_{n}"]
        down = partial(
            lax_conv2d,
            kernel=layer["kernel"].swapaxes(2, 3),
            stride=pair(stride),
            padding=pair(padding),
        )
        x = jax.vjp(down, jnp.zeros(size))[1](jax.nn.relu(x))[0] + layer["bias"][:, None, None, None]
    assert_close(run(decoder, params, z), x.transpose(3, 1, 2, 0), 1e-5)


def test_initial_weights_are_pytorchs():
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)), fan_in from the second axis of PyTorch's weight."""
    encoder = init(ConvEncoder(), jnp.zeros((1, 28, 28, 3)))
    decoder = init(ConvDecoder(), jnp.zeros((1, 512)))
    fans = {
        "Conv_1": (encoder, 32 * 9),
        "Dense_0": (encoder, 2048),
        "ConvTranspose_0": (decoder, 64 * 9),
        "ConvTranspose_1": (decoder, 32 * 9),
    }
    for name, (params, fan_in) in fans.items():
        bound = 1 / math.sqrt(fan_in)
        kernel, bias = params[name]["kernel"], params[name]["bias"]
        assert 0.99 * bound < jnp.abs(kernel).max() <= bound, name
        assert 0.7 * bound < jnp.abs(bias).max() <= bound, name
        np.testing.assert_allclose(jnp.std(kernel), bound / math.sqrt(3), rtol=0.01)


@pytest.fixture
def golden():
    if not GOLDEN.exists():
        pytest.skip(f"the numbers to agree with are not at {GOLDEN}")
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


def layer(golden, name, axes):
    weight, bias = golden[f"torch/{name}.weight"], golden[f"torch/{name}.bias"]
    return {"kernel": weight.transpose(axes).astype("float64"), "bias": bias.astype("float64")}


def test_encoder_equals_the_released_one(golden):
    torch = partial(layer, golden)
    params = {f"Conv_{n}": torch(f"encoder/shared_encoder.{2 * n}", (2, 3, 1, 0)) for n in range(3)}
    dense = torch("encoder/shared_encoder.7", (1, 0))
    nhwc = dense["kernel"].reshape(128, 4, 4, -1).transpose(1, 2, 0, 3)
    params["Dense_0"] = {"kernel": nhwc.reshape(2048, -1), "bias": dense["bias"]}
    with jax.enable_x64(True):
        pictures = jnp.asarray(golden["x_nchw"].transpose(0, 2, 3, 1))
        features = run(ConvEncoder(hidden=8), params, pictures)
        for head, expected in (("class_mu", "encoder_mean"), ("class_logvar", "encoder_log_var")):
            weights = torch(f"encoder/{head}", (1, 0))
            actual = features @ weights["kernel"] + weights["bias"]
            np.testing.assert_allclose(actual, golden[expected], rtol=0, atol=1e-12)


def test_decoder_equals_the_released_one(golden):
    torch = partial(layer, golden)
    names = ("decoder.3", "decoder.5", "decoder.7")
    params = {f"ConvTranspose_{n}": torch(f"decoder/{name}", (2, 3, 0, 1)) for n, name in enumerate(names)}
    dense = torch("decoder/decoder.0", (1, 0))
    params["Dense_0"] = {
        "kernel": dense["kernel"].reshape(-1, 128, 4, 4).transpose(0, 2, 3, 1).reshape(-1, 2048),
        "bias": dense["bias"].reshape(128, 4, 4).transpose(1, 2, 0).reshape(2048),
    }
    with jax.enable_x64(True):
        pictures = run(ConvDecoder(), params, jnp.asarray(golden["z"]))
        expected = golden["decoder_mean_nchw"].transpose(0, 2, 3, 1)
        np.testing.assert_allclose(pictures, expected, rtol=0, atol=1e-12)
