"""The arithmetic limit: operations of the plain formulation over the matrix-product speed of this machine."""

from functools import partial

import jax
import jax.numpy as jnp

from benchmarks.measure import Call, Work, sample
from mmvae_jax.modality import Modality
from mmvae_jax.model import Model
from mmvae_jax.networks.conv import ConvDecoder, ConvEncoder
from mmvae_jax.networks.windows import conv_size

_CALLS = 6


def matmul_flops_per_second(size: int = 2048, dtype: str = "float32", precision: str | None = None) -> float:
    """The fastest of a few square matrix products on the default device, in operations a second."""
    a, b = (jax.random.normal(jax.random.key(i), (size, size), dtype) for i in range(2))
    product = jax.jit(partial(jnp.matmul, precision=precision))

    def call() -> None:
        product(a, b).block_until_ready()

    return 2 * size**3 / _fastest(call)


def memory_bytes_per_second(mib: int = 256) -> float:
    """How fast an array larger than any cache is doubled in place, bytes read and bytes written."""
    double, values = jax.jit(lambda x: 2 * x, donate_argnums=0), jnp.zeros(mib * 2**18)

    def call() -> None:
        nonlocal values
        values = double(values).block_until_ready()

    return 2 * values.nbytes / _fastest(call)


def _fastest(call: Call) -> float:
    return sample(Work(call), _CALLS, budget=float("inf")).summary()["min"]


def encoder_flops(modality: Modality, outputs: int) -> tuple[float, float]:
    """Operations of one forward pass of an encoder and its heads, all and those of the first layer.

    Args:
      modality: with a `ConvEncoder`.
      outputs: width of the heads.
    """
    net = modality.encoder
    assert isinstance(net, ConvEncoder)
    (*image, channels), layers = modality.shape, []
    for width in net.widths:
        image = conv_size((image[0], image[1]), net.kernel, net.stride, net.padding)
        layers.append(2 * image[0] * image[1] * _area(net.kernel) * channels * width)
        channels = width
    features = image[0] * image[1] * channels
    if net.hidden is not None:
        layers.append(2 * features * net.hidden)
        features = net.hidden
    return sum(layers) + 2 * features * outputs, layers[0]


def decoder_flops(modality: Modality, latent_dim: int) -> float:
    """Operations of one forward pass of a `ConvDecoder`."""
    net = modality.decoder
    assert isinstance(net, ConvDecoder)
    sizes = [(net.shape[0], net.shape[1])]
    for _ in net.widths:
        sizes.append(conv_size(sizes[-1], net.kernel, net.stride, net.padding))
    grids, widths = sizes[:0:-1], (*net.widths, net.shape[2])
    features, total = latent_dim, 0
    if net.hidden is not None:
        total += 2 * features * net.hidden
        features = net.hidden
    total += 2 * features * grids[0][0] * grids[0][1] * widths[0]
    for (rows, columns), inputs, outputs in zip(grids, widths, widths[1:], strict=False):
        total += 2 * rows * columns * _area(net.kernel) * inputs * outputs
    return total


def encode_flops(model: Model) -> float:
    """Operations of encoding one tuple."""
    return sum(encoder_flops(m, 2 * model.latent_dim)[0] for m in model.modalities)


def decode_flops(model: Model) -> float:
    """Operations of decoding one latent to every modality."""
    return sum(decoder_flops(m, model.latent_dim) for m in model.modalities)


def step_flops(model: Model, batch_size: int) -> float:
    """Operations of one training step: forward, and backward by weights and by inputs (not by the data)."""
    first = sum(encoder_flops(m, 2 * model.latent_dim)[1] for m in model.modalities)
    return batch_size * (3 * (encode_flops(model) + decode_flops(model)) - first)


def _area(kernel: int | tuple[int, int]) -> int:
    return kernel**2 if isinstance(kernel, int) else kernel[0] * kernel[1]
