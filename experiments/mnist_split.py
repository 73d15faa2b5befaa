"""MNIST-Split (SVAE paper, section 4): the two halves, or three parts, of a digit as modalities; semi-supervised.

    python -m experiments.mnist_split --model=svae
    python -m experiments.mnist_split --model=vaevae_star --supervision=0.01

Expected (Table 1, fully supervised, full MNIST): accuracy from both halves 0.95 for the PoE family, 0.54 for MMVAE.
"""

import sys
from dataclasses import dataclass

import flax.linen as nn
import jax
from mmvae_jax.evaluation.synergy import reassembly_accuracy

from experiments.config import Config
from experiments.runner import Experiment, main
from mmvae_jax.data.batching import Dataset
from mmvae_jax.data.mnist_split import mnist_split
from mmvae_jax.evaluation import EvaluationSettings
from mmvae_jax.model import Modality, Model
from mmvae_jax.networks.conv import ConvDecoder, ConvEncoder
from mmvae_jax.networks.mlp import MLPEncoder
from mmvae_jax.training import Training


@dataclass(frozen=True)
class MNISTSplit:
    """MNIST-Split's data and networks.

    Attributes:
      parts: 2 (top and bottom half) or 3 (horizontal thirds).
      supervision: fraction of the training digits that keep all parts; every other keeps one.
      widths: channels of the encoder's convolutions (Table F.2: 64 128 256).
      private_dim: dimension of each modality's own latent; 0 for none.
    """

    parts: int = 2
    supervision: float = 1.0
    widths: tuple[int, ...] = (16, 32, 64)
    private_dim: int = 0


def modalities(config: Config[MNISTSplit], dataset: Dataset) -> tuple[Modality, ...]:
    """Table F.2: convolutions 4x4, stride 2, and a dense layer of 786; the decoder mirrors them.

    The table's decoder, dense L, 512 and 112, then transposed convolutions of 56 and 28 channels, stops short of an
    image; here its 112 channels stand on the encoder's smallest map, and one more transposed convolution ends it.
    """
    own, latent_dim = config.own, config.architecture.latent_dim
    paper = own.widths == (64, 128, 256)
    found = []
    for name in dataset.modalities:
        shape = dataset.test.arrays[0][name].shape[1:]
        encoder = ConvEncoder(own.widths, kernel=4, hidden=786 if paper else 256)
        decoder_widths = (112, 56, 28) if paper else (48, 32, 16)
        images = ConvDecoder(shape, decoder_widths, kernel=4)
        decoder = nn.Sequential((MLPEncoder((latent_dim, 512 if paper else 256)), images))
        found.append(Modality(name, shape, encoder, decoder, "bernoulli", private_dim=own.private_dim))
    return tuple(found)


def metrics(config: Config[MNISTSplit], model: Model, params: dict, dataset: Dataset, key: jax.Array) -> dict:
    """Synergy and cross-coherence: accuracy of a ResNet oracle on the re-assembled digit."""
    return reassembly_accuracy(model, params, dataset, key, config.data, config.cache)


EXPERIMENT = Experiment(
    name="mnist_split",
    presets={
        "quick": Config(
            MNISTSplit(),
            epochs=60,
            architecture=Model((), latent_dim=64),
            training=Training(steps=0, batch_size=64, learning_rate=1e-3),
        ),
        "paper": Config(
            MNISTSplit(widths=(64, 128, 256)),
            epochs=200,
            architecture=Model((), latent_dim=64),
            training=Training(steps=0, batch_size=128, learning_rate=2e-4),
            evaluation=EvaluationSettings(),
        ),
    },
    load=lambda config: mnist_split(config.data, config.own.parts, config.own.supervision, config.seed),
    modalities=modalities,
    metrics=metrics,
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
