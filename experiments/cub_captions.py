"""CUB captions (Shi et al. 2019; SVAE paper 2021, section 5): photographs of birds and sentences about them.

    python -m experiments.cub_captions --model=svae
    python -m experiments.cub_captions --model=svae --preset=paper --data=<folder with cub/> --image-features=<file.npy>
    python -m experiments.cub_captions --model=vaevae --preset=paper --data=<folder with cub/> --supervision=0.1

Without --data drawn shapes and their captions take the birds' place: they are called stand-ins wherever their numbers
appear, which do not compare with the papers'. Of photographs the model has 64x64 pixels, or features of them: those of
a file, --image-features, or 2048 of Inception-v3, --image-network=<file of its weights, as of --inception-weights>.
Figures show the test photograph whose features are nearest to those that are generated then.
`correlation/conditional/image->caption` is the canonical correlation of pictures and the captions generated from them,
`correlation/joint` that of unconditional samples and `correlation/data` that of real pairs, beside which they
stand. Expected (Figure 8, curves without numbers): VAEVAE best with all pairs, SVAE's and VAEVAE's conditional ones at
least MMVAE's but where hardly any pair is complete, MVAE last. The papers' features are 2048 outputs of a ResNet-101,
their word vectors FastText's; where neither is given, the numbers do not compare with theirs either. The SVAE paper
chooses the best epoch on a validation set; here the last one is measured.
"""

import sys
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import flax.linen as nn
import jax
import tyro

from mmvae_jax.data.batching import Dataset, take
from mmvae_jax.data.cub import Reading, cub_captions
from mmvae_jax.evaluation import EvaluationSettings
from mmvae_jax.evaluation.classifiers import ClassifierSettings
from mmvae_jax.evaluation.inception import inception_features
from mmvae_jax.modality import Modality
from mmvae_jax.model import Model
from mmvae_jax.networks.conv import ConvDecoder, ConvEncoder
from mmvae_jax.networks.mlp import MLPDecoder, MLPEncoder
from mmvae_jax.networks.sentences import SentenceDecoder, SentenceEncoder
from mmvae_jax.runs import Config, Experiment, main
from mmvae_jax.training import Training


@dataclass(frozen=True)
class CUBCaptions:
    """CUB's data and networks.

    Attributes:
      reading: how pictures and captions are read.
      supervision: fraction of the training images that keep both modalities; every other keeps one.
      widths: channels of the picture encoder's convolutions (the decoder mirrors them).
      hidden: units of the dense layer beside them.
      feature_widths: units of the encoder's layers where pictures are features (the decoder mirrors them).
      word_widths: channels of the caption encoder's convolutions (the decoder mirrors them).
      embedding: numbers of a word, a multiple of 2 to the number of those convolutions.
      caption_weight: of log p(caption|z) in the objective.
      private_dim: dimension of each modality's own latent; 0 for none.
    """

    reading: Annotated[Reading, tyro.conf.OmitArgPrefixes] = Reading()
    supervision: float = 1.0
    widths: tuple[int, ...] = (16, 32, 64)
    hidden: int = 128
    feature_widths: tuple[int, ...] = (1024, 512, 256)
    word_widths: tuple[int, ...] = (8, 16, 32, 64)
    embedding: int = 32
    caption_weight: float = 10.0
    private_dim: int = 0


def modalities(config: Config[CUBCaptions], dataset: Dataset) -> tuple[Modality, ...]:
    """Pictures by convolutions 4x4, stride 2, or features by Table F.6; captions by Table F.5."""
    own, captioned = config.own, dataset.captioned
    assert captioned is not None
    shapes = {name: x.shape[1:] for name, x in take(dataset.test, jax.random.key(0), 1).x.items()}
    shape, (length,), words = shapes[captioned.pictures], shapes[captioned.captions], captioned.vocabulary
    if captioned.look_up is None:
        encoder = ConvEncoder(own.widths, kernel=4, hidden=own.hidden)
        decoder = ConvDecoder((own.reading.size, own.reading.size, 3), own.widths[::-1], kernel=4, hidden=own.hidden)
        likelihood = "bernoulli"
    else:
        encoder = MLPEncoder(own.feature_widths, activation=nn.elu)
        decoder = MLPDecoder(shape, own.feature_widths[::-1], nn.elu)
        likelihood = "laplace"
    pictures = Modality(
        captioned.pictures,
        shape,
        encoder,
        decoder,
        likelihood,
        private_dim=own.private_dim,
        pixels=captioned.look_up is None,
        look_up=captioned.look_up,
    )
    captions = Modality(
        captioned.captions,
        (length,),
        SentenceEncoder(len(words), own.embedding, own.word_widths),
        SentenceDecoder(length, len(words), own.embedding, own.word_widths[::-1]),
        "categorical",
        weight=own.caption_weight,
        private_dim=own.private_dim,
        symbols=words,
    )
    return pictures, captions


def load(config: Config[CUBCaptions]) -> Dataset:
    """The data set of a configuration."""
    own = config.own
    featurize = partial(inception_features, cache=config.cache)
    return cub_captions(config.data, own.reading, own.supervision, config.seed, config.cache, featurize=featurize)


_PAPER = Config(
    CUBCaptions(
        Reading(pairings=10),
        widths=(32, 64, 128, 256),
        hidden=256,
        word_widths=(32, 64, 128, 256, 512),
        embedding=128,
        caption_weight=64.0,  # 2,048 features to 32 words, as Shi et al. weigh them
    ),
    epochs=200,
    architecture=Model((), latent_dim=64),
    training=Training(steps=0, batch_size=64, learning_rate=1e-4),
    evaluation=EvaluationSettings(joint_samples=1000, classifier=ClassifierSettings(steps=3000)),
)

EXPERIMENT = Experiment(
    name="cub_captions",
    presets={
        "quick": Config(
            CUBCaptions(),
            epochs=20,
            architecture=Model((), latent_dim=32),
            training=Training(steps=0, batch_size=64, learning_rate=1e-3),
            evaluation=EvaluationSettings(joint_samples=1000, classifier=ClassifierSettings(steps=300)),
        ),
        "paper": _PAPER,
    },
    load=load,
    modalities=modalities,
    reads_data=True,
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
