"""Multimodal variational autoencoders in JAX: describe modalities, choose a fusion and an objective, fit, infer."""

from mmvae_jax.compilation import cache_compiled
from mmvae_jax.errors import UserError
from mmvae_jax.loop import fit
from mmvae_jax.modality import Modality
from mmvae_jax.model import Model
from mmvae_jax.objectives import Options
from mmvae_jax.saving import load, save
from mmvae_jax.training import Training
from mmvae_jax.validation import Validation

__version__ = "0.1.0"

__all__ = [
    "Modality",
    "Model",
    "Options",
    "Training",
    "UserError",
    "Validation",
    "cache_compiled",
    "fit",
    "load",
    "save",
]
