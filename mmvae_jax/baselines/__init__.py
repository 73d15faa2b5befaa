"""What the papers compare with: a unimodal VAE, a conditional VAE, and classifiers under weak supervision."""

from mmvae_jax.baselines.classification import BASELINES, BaselineSettings, Data, accuracy
from mmvae_jax.baselines.models import CVAE, unimodal_vae

__all__ = ["BASELINES", "CVAE", "BaselineSettings", "Data", "accuracy", "unimodal_vae"]
