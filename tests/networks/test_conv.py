"""The convolutional encoder and decoder: their sizes, their dtype, and the released ones' outputs."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmvae_jax.errors import UserError
from mmvae_jax.networks.conv import ConvDecoder, ConvDecoder1D, ConvEncoder, ConvEncoder1D
from mmvae_jax.networks.windows import pair
from tests.networks.reference import assert_close, draw, init, lax_conv2d, run
from tests.released import golden


def test_modules_compute_in_their_dtype_and_keep_float32_parameters():
    x = jnp.ones((2, 28, 28, 3))
    encoder = ConvEncoder((4, 4, 8), hidden=16, dtype=jnp.bfloat16)
    decoder = ConvDecoder(widths=(8, 4, 4), dtype=jnp.bfloat16)
    for module, inputs in ((encoder, x), (decoder, jnp.ones((2, 16)))):
        out, params = jax.eval_shape(module.init_with_output, jax.random.key(0), inputs)
        assert out.dtype == jnp.bfloat16
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}


def test_too_many_layers_are_a_users_mistake():
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


@pytest.mark.parametrize("channels", [(), (2,)])
def test_signals_are_convolved_along_their_time(channels):
    """XLA's convolutions in one dimension, and their adjoints in the decoder."""
    x, z = draw(3, (2, 30, *channels), (2, 3), dtype="float32")
    encoder, decoder = ConvEncoder1D((3, 4), 5, 2, 1, hidden=None), ConvDecoder1D((30, *channels), (4, 3), 5, 2, 1)
    params, back = init(encoder, x)["ConvEncoder_0"], init(decoder, z)["ConvDecoder_0"]

    def conv(x, kernel):
        return jax.lax.conv_general_dilated(x, kernel[:, 0], (2,), [(1, 1)], dimension_numbers=("NWC", "WIO", "NWC"))

    y, sizes = x.reshape(2, 30, -1), []
    for n in range(2):
        sizes.append(y.shape)
        y = jax.nn.relu(conv(y, params[f"Conv_{n}"]["kernel"]) + params[f"Conv_{n}"]["bias"])
    assert_close(run(encoder, {"ConvEncoder_0": params}, x), y.reshape(2, -1), 1e-5)
    made = (z @ back["Dense_0"]["kernel"] + back["Dense_0"]["bias"]).reshape(y.shape)
    for n, size in enumerate(sizes[::-1]):
        layer = back[f"ConvTranspose_{n}"]
        down = partial(conv, kernel=layer["kernel"].swapaxes(2, 3))
        made = jax.vjp(down, jnp.zeros(size))[1](jax.nn.relu(made))[0] + layer["bias"]
    assert_close(run(decoder, {"ConvDecoder_0": back}, z), made.reshape(x.shape), 1e-5)


def test_decoders_put_several_numbers_of_an_element_side_by_side():
    z = jnp.ones((2, 3))
    for decoder, flat, shape in (
        (ConvDecoder((8, 8, 3, 2), (4,)), ConvDecoder((8, 8, 6), (4,)), (2, 8, 8, 3, 2)),
        (ConvDecoder1D((8, 3, 2), (4,)), ConvDecoder1D((8, 6), (4,)), (2, 8, 3, 2)),
    ):
        params = init(decoder, z)
        np.testing.assert_array_equal(run(decoder, params, z), run(flat, params, z).reshape(shape))


def layer(numbers, name, axes):
    weight, bias = numbers[f"torch/{name}.weight"], numbers[f"torch/{name}.bias"]
    return {"kernel": weight.transpose(axes).astype("float64"), "bias": bias.astype("float64")}


def test_encoder_equals_the_released_one():
    numbers = golden()
    torch = partial(layer, numbers)
    params = {f"Conv_{n}": torch(f"encoder/shared_encoder.{2 * n}", (2, 3, 1, 0)) for n in range(3)}
    dense = torch("encoder/shared_encoder.7", (1, 0))
    nhwc = dense["kernel"].reshape(128, 4, 4, -1).transpose(1, 2, 0, 3)
    params["Dense_0"] = {"kernel": nhwc.reshape(2048, -1), "bias": dense["bias"]}
    with jax.enable_x64(True):
        pictures = jnp.asarray(numbers["x_nchw"].transpose(0, 2, 3, 1))
        features = run(ConvEncoder(hidden=8), params, pictures)
        for head, expected in (("class_mu", "encoder_mean"), ("class_logvar", "encoder_log_var")):
            weights = torch(f"encoder/{head}", (1, 0))
            actual = features @ weights["kernel"] + weights["bias"]
            np.testing.assert_allclose(actual, numbers[expected], rtol=0, atol=1e-12)


def test_decoder_equals_the_released_one():
    numbers = golden()
    torch = partial(layer, numbers)
    names = ("decoder.3", "decoder.5", "decoder.7")
    params = {f"ConvTranspose_{n}": torch(f"decoder/{name}", (2, 3, 0, 1)) for n, name in enumerate(names)}
    dense = torch("decoder/decoder.0", (1, 0))
    params["Dense_0"] = {
        "kernel": dense["kernel"].reshape(-1, 128, 4, 4).transpose(0, 2, 3, 1).reshape(-1, 2048),
        "bias": dense["bias"].reshape(128, 4, 4).transpose(1, 2, 0).reshape(2048),
    }
    with jax.enable_x64(True):
        pictures = run(ConvDecoder(), params, jnp.asarray(numbers["z"]))
        expected = numbers["decoder_mean_nchw"].transpose(0, 2, 3, 1)
        np.testing.assert_allclose(pictures, expected, rtol=0, atol=1e-12)
