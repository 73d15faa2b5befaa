"""PolyMNIST (Sutter et al. 2021, section 4.3): five images of the same digit on five backgrounds.

    python -m experiments.polymnist --fusion=mopoe
    python -m experiments.polymnist --fusion=mopoe --preset=paper --data=tfds

Expected: quality grows with the number of inputs for PoE and MoPoE and is flat for MoE; PoE is poor from one input.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp

from mmvae_jax.data.batching import Dataset
from mmvae_jax.data.polymnist import polymnist
from mmvae_jax.evaluation import EvaluationSettings
from mmvae_jax.evaluation.classifiers import ClassifierSettings
from mmvae_jax.evaluation.published import Published, by_inputs
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


_MOPOE = "300 epochs, batch 256, Adam 1e-3 (5e-4 as released), beta 2.5, latent 512; coherence read off its figure"
_MVTCAE = "300 epochs, batch 256, Adam 1e-3, beta 2.5, latent 512, five seeds; read off its figures"
_PLUS = "K 1, latent 32 + 32, beta 2.5, 150 epochs, batch 32, AMSGrad; mean over all that is given"
_TOOLKIT = "its own code and settings after the papers'"


def _numbers(coherence: Sequence[float] = (), probe: Sequence[float] = (), **single: float) -> dict[str, float]:
    """Conditional coherence for 1, 2, ... inputs, the linear probe's accuracy likewise, and what is one number."""
    names = {"joint": "coherence/joint", "conditional": "coherence/conditional", "fid": "FID/conditional"}
    of_inputs = by_inputs("coherence/conditional", *coherence) | by_inputs("probe", *probe)
    return of_inputs | {names[name]: value for name, value in single.items()}


# What others report, by the model that it is here: the MoPoE and MVTCAE papers' MMVAE is `moe`.
PUBLISHED = (
    Published("mopoe", "MoPoE paper", _numbers((0.66, 0.77, 0.81, 0.83), joint=0.121), _MOPOE),
    Published("mopoe", "MVTCAE paper", _numbers((0.63, 0.75, 0.79, 0.81), (0.82, 0.905, 0.93, 0.94, 0.95)), _MVTCAE),
    Published("mopoe", "MultiVae", _numbers((0.67, 0.79, 0.84, 0.85)), _TOOLKIT),
    Published("mopoe", "multi-view-AE", _numbers((0.68, 0.79, 0.83, 0.84)), _TOOLKIT),
    Published("mvtcae", "MVTCAE paper", _numbers((0.59, 0.77, 0.83, 0.86), (0.94, 0.99, 0.995, 0.997, 0.998)), _MVTCAE),
    Published("mvtcae", "MultiVae", _numbers((0.64, 0.82, 0.88, 0.91)), _TOOLKIT),
    Published("mvtcae", "multi-view-AE", _numbers((0.64, 0.81, 0.87, 0.90)), _TOOLKIT),
    Published("mmjsd", "MVTCAE paper", _numbers((0.69, 0.57, 0.64, 0.67), (0.895, 0.975, 0.993, 0.998, 1.0)), _MVTCAE),
    Published("mmjsd", "multi-view-AE", _numbers((0.75, 0.74, 0.78, 0.80)), _TOOLKIT),
    Published("moe", "MoPoE paper", _numbers(joint=0.200), _MOPOE),
    Published("moe", "MVTCAE paper", _numbers((0.71,) * 4, (0.82,) * 5), _MVTCAE),
    Published("moe", "multi-view-AE", _numbers((0.71,) * 4), _TOOLKIT),
    Published("mvae", "MoPoE paper", _numbers(joint=0.036), _MOPOE),
    Published("mvae", "MVTCAE paper", _numbers((0.29, 0.42, 0.48, 0.52), (0.695, 0.835, 0.905, 0.935, 0.95)), _MVTCAE),
    Published("mmvae_plus", "MMVAE+ paper", _numbers(conditional=0.869, fid=92.8), _PLUS),
    Published("mmvae_plus", "MultiVae", _numbers(conditional=0.886, fid=93.0), _PLUS),
    Published("mmvae_plus", "multi-view-AE", _numbers(conditional=0.866), _TOOLKIT),
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
    published=PUBLISHED,
    reads_data=True,
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
