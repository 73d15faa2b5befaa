"""The released PyTorch code's numbers (see `golden/README.md`) and the layers of its PolyMNIST networks."""

import math
from pathlib import Path

import numpy as np

Shapes = dict[str, tuple[int, ...]]


def encoder_weights(latent_dim: int = 8, private_dim: int = 0) -> Shapes:
    """Shapes of the encoder's weights in PyTorch's layout."""
    hidden = latent_dim + private_dim
    weights: Shapes = {
        "shared_encoder.0": (32, 3, 3, 3),
        "shared_encoder.2": (64, 32, 3, 3),
        "shared_encoder.4": (128, 64, 3, 3),
        "shared_encoder.7": (hidden, 2048),
        "class_mu": (latent_dim, hidden),
        "class_logvar": (latent_dim, hidden),
    }
    if private_dim:
        weights |= {"style_mu": (private_dim, hidden), "style_logvar": (private_dim, hidden)}
    return weights


def decoder_weights(inputs: int = 8) -> Shapes:
    """Shapes of the decoder's weights in PyTorch's layout; all but the first layer are transposed convolutions."""
    return {
        "decoder.0": (2048, inputs),
        "decoder.3": (128, 64, 3, 3),
        "decoder.5": (64, 32, 3, 3),
        "decoder.7": (32, 3, 3, 3),
    }


def with_biases(weights: Shapes) -> Shapes:
    """Every layer's weight and then its bias."""
    shapes: Shapes = {}
    for name, weight in weights.items():
        transposed = name.startswith("decoder") and len(weight) == 4
        shapes |= {f"{name}.weight": weight, f"{name}.bias": (weight[1 if transposed else 0],)}
    return shapes


def golden() -> dict[str, np.ndarray]:
    """The arrays of `golden/polymnist_mopoe.npz` and the state dicts `torch/encoder/...` and `torch/decoder/...`."""
    with np.load(Path(__file__).parent / "golden" / "polymnist_mopoe.npz") as file:
        arrays = dict(file)
    twister = np.random.RandomState(0)
    for part, weights in (("encoder", encoder_weights()), ("decoder", decoder_weights())):
        for layer, weight in weights.items():
            bound = 1 / math.sqrt(math.prod(weight[1:]))
            for name, shape in with_biases({layer: weight}).items():
                arrays[f"torch/{part}/{name}"] = _torch_uniform(twister, bound, shape)
    return arrays


def _torch_uniform(twister: np.random.RandomState, bound: float, shape: tuple[int, ...]) -> np.ndarray:
    """`torch.empty(shape).uniform_(-bound, bound)`, bit for bit: 24 bits of each number, one fused multiply-add."""
    low, high = np.float32(-bound), np.float32(bound)
    fractions = (twister.randint(0, 2**32, shape, np.uint32) & 0xFFFFFF) / 2**24
    return (fractions * float(high - low) + float(low)).astype(np.float32)
