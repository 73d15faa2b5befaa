"""Small models and data of every likelihood, for tests that walk the registries."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from mmvae_jax.likelihoods import LIKELIHOODS
from mmvae_jax.modality import Modality
from mmvae_jax.model import Model
from mmvae_jax.networks.mlp import MLPDecoder, MLPEncoder
from mmvae_jax.networks.recurrent import RecurrentDecoder
from mmvae_jax.objectives import OBJECTIVES, Options
from mmvae_jax.zoo import MODELS

CLASSES = 4
# Between them every likelihood; elements of counts and of measurements are missing.
KINDS = {
    "image-vector-label": ("bernoulli", "normal", "label"),
    "grid-string": ("laplace", "string"),
    "counts": ("poisson", "negative_binomial"),
    "measurements": ("normal_learned_scale", "laplace_learned_scale"),
}
_SHAPES: dict[str, tuple[int, ...]] = {
    "normal": (3,),
    "laplace": (2, 2),
    "bernoulli": (2, 3),
    "label": (),
    "text": (4,),
    "string": (3,),
    "poisson": (3,),
    "negative_binomial": (2,),
    "normal_learned_scale": (3,),
    "laplace_learned_scale": (2, 2),
}
_CATEGORIES = {"label": CLASSES, "text": 5, "string": 6}
_WITH_NAN = (*KINDS["counts"], *KINDS["measurements"])


def modality(kind: str, private_dim: int = 0, weight: float = 1.0) -> Modality:
    """A modality named after its kind; its networks are linear, because every layer costs time to compile."""
    categories = _CATEGORIES.get(kind, 0)
    shape = _SHAPES[kind]
    likelihood = "categorical" if categories else kind
    per_element = categories or LIKELIHOODS[likelihood].outputs
    output = shape if per_element == 1 else (*shape, per_element)
    encoder, decoder = MLPEncoder((), categories), MLPDecoder(output, ())
    if kind == "string":
        likelihood, decoder = "autoregressive", RecurrentDecoder(3, categories, 2, 1)
    pixels = kind == "bernoulli"
    scale = (0.5, 0.3, 1.0) if kind == "normal_learned_scale" else 0.5
    nan_missing = kind in _WITH_NAN
    return Modality(
        kind, shape, encoder, decoder, likelihood, scale, weight, private_dim, pixels, nan_missing=nan_missing
    )


def model(row: str, kinds: Sequence[str]) -> Model:
    """A row of MODELS over some kinds of modalities."""
    private_dim = 2 if OBJECTIVES[MODELS[row].objective].needs_private else 0
    modalities = tuple(modality(kind, private_dim) for kind in kinds)
    return Model.of(row, modalities, latent_dim=3, joint_width=8)


def options(objective: str, **values: Any) -> Options:
    """Those of the options that an objective reads."""
    return Options(**{name: value for name, value in values.items() if name in OBJECTIVES[objective].options})


def data(kinds: Sequence[str], n: int, seed: int = 0) -> dict[str, Array]:
    """Tuples that share a class, which every modality shows plainly."""
    rng = np.random.default_rng(seed)
    label = rng.integers(CLASSES, size=n)
    return {kind: jnp.asarray(_DRAW[kind](label, rng)) for kind in kinds}


def _real(label: np.ndarray, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    centres = np.random.default_rng(1).normal(size=(CLASSES, *shape))
    return (centres[label] + 0.3 * rng.normal(size=(len(label), *shape))).astype(np.float32)


def _pixels(label: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """uint8, black or white."""
    return np.where(_real(label, rng, _SHAPES["bernoulli"]) > 0, 255, 0).astype(np.uint8)


def _string(label: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The class, the symbol that ends a string (now and then at once), padding."""
    string = np.stack([label, np.full_like(label, 5), np.full_like(label, -1)], 1)
    string[rng.random(len(label)) < 0.3] = [5, -1, -1]
    return string.astype(np.int32)


def _counts(label: np.ndarray, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    rates = np.random.default_rng(1).gamma(1.0, 5.0, size=(CLASSES, *shape))
    return rng.poisson(rates[label]).astype(np.float32)


def _with_nan(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Every fifth element missing, and all of the first tuple."""
    missing = rng.random(x.shape) < 0.2
    missing[0] = True
    return np.where(missing, np.float32(np.nan), x)


_DRAW: dict[str, Any] = {
    "normal": lambda label, rng: _real(label, rng, _SHAPES["normal"]),
    "laplace": lambda label, rng: _real(label, rng, _SHAPES["laplace"]),
    "bernoulli": _pixels,
    "label": lambda label, rng: np.int32(label),
    "string": _string,
    **{
        kind: lambda label, rng, kind=kind: _with_nan(_counts(label, rng, _SHAPES[kind]), rng)
        for kind in KINDS["counts"]
    },
    **{
        kind: lambda label, rng, kind=kind: _with_nan(_real(label, rng, _SHAPES[kind]), rng)
        for kind in KINDS["measurements"]
    },
}
