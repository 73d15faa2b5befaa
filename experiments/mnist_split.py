"""MNIST-Split (SVAE paper 2021, section 5): the two halves, or three parts, of a digit as modalities; semi-supervised.

    python -m experiments.mnist_split --model=svae
    python -m experiments.mnist_split --model=vaevae_star --supervision=0.01
    python -m experiments.mnist_split --model=svae --parts=3 --supervision=0.1
    python -m experiments.mnist_split --model=svae --preset=paper --data=<folder with mnist/>
    python -m experiments.mnist_split --model=svae --preset=paper_3 --data=<folder with mnist/>

The paper chooses the best epoch on a validation set; here the last one is measured.
Expected (Table 1, full MNIST, all pairs): the right digit from both halves 0.95 for the PoE family, 0.54 for MMVAE.
"""

import sys
from dataclasses import dataclass, replace

import flax.linen as nn

from mmvae_jax.data.batching import Dataset
from mmvae_jax.data.mnist_split import PART_SHAPES, mnist_split
from mmvae_jax.evaluation import EvaluationSettings
from mmvae_jax.evaluation.classifiers import ClassifierSettings
from mmvae_jax.evaluation.published import Published
from mmvae_jax.modality import Modality
from mmvae_jax.model import Model
from mmvae_jax.networks.conv import ConvDecoder, ConvEncoder
from mmvae_jax.networks.mlp import MLPEncoder
from mmvae_jax.runs import Config, Experiment, main
from mmvae_jax.training import Training


@dataclass(frozen=True)
class MNISTSplit:
    """MNIST-Split's data and networks.

    Attributes:
      parts: 2 (top and bottom half) or 3 (horizontal thirds).
      supervision: fraction of the training digits that keep all parts; every other keeps one.
      widths: channels of the encoder's convolutions.
      hidden: width of the encoder's dense layer.
      decoder_widths: channels before each transposed convolution of the decoder.
      decoder_hidden: width of the decoder's widest dense layer.
      private_dim: dimension of each part's own latent; 0 for none.
    """

    parts: int = 2
    supervision: float = 1.0
    widths: tuple[int, ...] = (16, 32, 64)
    hidden: int = 256
    decoder_widths: tuple[int, ...] = (64, 32, 16)
    decoder_hidden: int = 256
    private_dim: int = 0


def modalities(config: Config[MNISTSplit], dataset: Dataset) -> tuple[Modality, ...]:
    """The networks of Tables F.2 and F.7, where these make sense.

    Encoder: convolutions 4x4, stride 2, to a map of 1x3x256, then a dense layer. The tables' input of 3x32x32 is
    SVHN's; their 786 units stand beside a map of 768 values. Decoder: dense L, 512, then 112, 56, 28 channels. The
    tables' two upconvolutions, copied from SVHN's as well, end in no image; here the channels stand on the encoder's
    maps read backwards and a last transposed convolution makes the part.
    """
    own = config.own
    shape = PART_SHAPES[own.parts]
    encoder = ConvEncoder(own.widths, kernel=4, hidden=own.hidden)
    dense = MLPEncoder((config.architecture.latent_dim, own.decoder_hidden))
    decoder = nn.Sequential((dense, ConvDecoder(shape, own.decoder_widths, kernel=4)))
    return tuple(
        Modality(name, shape, encoder, decoder, "bernoulli", private_dim=own.private_dim, pixels=True)
        for name in dataset.modalities
    )


_PAPER = Config(
    MNISTSplit(widths=(64, 128, 256), hidden=786, decoder_widths=(112, 56, 28), decoder_hidden=512),
    epochs=200,
    architecture=Model((), latent_dim=64),
    training=Training(steps=0, batch_size=128, learning_rate=2e-4),
    evaluation=EvaluationSettings(classifier=ClassifierSettings(steps=3000)),
)
# Synergy from both halves, the top one, the bottom one.
_TABLE_1 = {
    "mmvae": (0.539, 0.221, 0.283),
    "svae": (0.948, 0.872, 0.816),
    "vaevae": (0.956, 0.887, 0.830),
    "vaevae_star": (0.958, 0.863, 0.778),
}

EXPERIMENT = Experiment(
    name="mnist_split",
    presets={
        "quick": Config(
            MNISTSplit(),
            epochs=60,
            architecture=Model((), latent_dim=64),
            training=Training(steps=0, batch_size=64, learning_rate=1e-3, warmup_steps=200, anneal_steps=1000),
        ),
        "paper": _PAPER,
        "paper_3": replace(_PAPER, own=replace(_PAPER.own, parts=3), epochs=50),
    },
    load=lambda config: mnist_split(config.data, config.own.parts, config.own.supervision, config.seed),
    modalities=modalities,
    published=tuple(
        Published(
            model,
            "SVAE paper",
            dict(zip(("synergy/top+bottom", "synergy/top", "synergy/bottom"), values, strict=True)),
            "all of MNIST, all pairs, 200 epochs",
            {"own.supervision": 1.0, "own.parts": 2},
        )
        for model, values in _TABLE_1.items()
    ),
    reads_data=True,
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
