"""PolyMNIST (Sutter et al. 2021, section 4.3): five images of the same digit on five backgrounds.

    python -m experiments.polymnist --fusion=mopoe
    python -m experiments.polymnist --fusion=mopoe --preset=paper --data=tfds

Expected: quality grows with the number of inputs for PoE and MoPoE and is flat for MoE; PoE is poor from one input.
"""

import sys
from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp

from mmvae_jax.data.batching import Dataset
from mmvae_jax.data.polymnist import polymnist
from mmvae_jax.evaluation import EvaluationSettings
from mmvae_jax.evaluation.classifiers import ClassifierSettings
from mmvae_jax.modality import Modality
from mmvae_jax.model import Model
from mmvae_jax.networks.conv import ConvDecoder, ConvEncoder
from mmvae_jax.runs import Config, Experiment, main
from mmvae_jax.training import Training


@dataclass(frozen=True)
class PolyMNIST:
    """PolyMNIST's data and networks.

    Attributes:
      backgrounds: folder with five pictures 1.jpg ... 5.jpg in place of the data folder's or the embedded ones.
      widths: channels of the encoder's convolutions (the decoder mirrors them).
      hidden: width of the encoder's dense layer; 0 for the latent dimension, as in the released code.
      scale: of the Laplace likelihood, for pixels in [0, 1].
      private_dim: dimension of each modality's own latent; 0 for none.
      compute_dtype: of the networks; parameters and densities stay float32.
    """

    backgrounds: str | None = None
    widths: tuple[int, ...] = (16, 32, 64)
    hidden: int = 128
    scale: float = 0.1
    private_dim: int = 0
    compute_dtype: Literal["float32", "bfloat16"] = "float32"


def modalities(config: Config[PolyMNIST], dataset: Dataset) -> tuple[Modality, ...]:
    """The released code's networks, in the preset's size."""
    own = config.own
    dtype = jnp.dtype(own.compute_dtype)
    encoder = ConvEncoder(own.widths, hidden=own.hidden or config.architecture.latent_dim, dtype=dtype)
    decoder = ConvDecoder((28, 28, 3), own.widths[::-1], dtype=dtype)
    return tuple(
        Modality(name, (28, 28, 3), encoder, decoder, "laplace", own.scale, private_dim=own.private_dim, pixels=True)
        for name in dataset.modalities
    )


EXPERIMENT = Experiment(
    name="polymnist",
    presets={
        "quick": Config(
            PolyMNIST(),
            epochs=160,
            architecture=Model((), latent_dim=32),
            training=Training(steps=0, batch_size=64, learning_rate=4e-3, schedule="cosine", warmup_steps=200),
        ),
        "paper": Config(
            PolyMNIST(widths=(32, 64, 128), hidden=0, scale=0.75),
            epochs=300,
            architecture=Model((), latent_dim=512),
            training=Training(steps=0, batch_size=256, learning_rate=1e-3, beta=2.5),
            evaluation=EvaluationSettings(classifier=ClassifierSettings(steps=3000)),
        ),
    },
    load=lambda config: polymnist(config.data, config.own.backgrounds, config.streaming),
    modalities=modalities,
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
