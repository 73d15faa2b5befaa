"""Shapes and captions: a drawn shape and the words that say what it is like, in five levels of difficulty.

    python -m experiments.shape_captions --model=mopoe --level=3
    python -m experiments.shape_captions --model=mmvae --level=5 --preset=paper

A benchmark of two modalities that scores itself, after the description of CdSprites+ (Sejnova et al. 2024); the
pictures are drawn here, and no numbers of that paper are held against them. A level's captions name the shape; its
size; its colour; its position; the background: each level one more. `attributes/all/caption->image` is the fraction of
generated pictures that show everything which the caption says, by classifiers trained on the real pictures,
`attributes/all/image->caption` that of captions which say everything right, read word by word;
`attributes/each/...` has them one by one, and `attributes/joint` is the fraction of unconditional samples whose picture
and caption agree in all. Coherence and probe are of the shape.
"""

import sys
from dataclasses import dataclass

from mmvae_jax.data.batching import Dataset
from mmvae_jax.data.shape_captions import caption_length, shape_captions, vocabulary
from mmvae_jax.evaluation import EvaluationSettings
from mmvae_jax.evaluation.classifiers import ClassifierSettings
from mmvae_jax.modality import Modality
from mmvae_jax.model import Model
from mmvae_jax.networks.conv import ConvDecoder, ConvEncoder
from mmvae_jax.networks.text import TextDecoder, TextEncoder
from mmvae_jax.runs import Config, Experiment, main
from mmvae_jax.training import Training


@dataclass(frozen=True)
class ShapeCaptions:
    """The shapes' data and networks.

    Attributes:
      level: of difficulty, 1 to 5: shape, size, colour, position, background are named, each level one more.
      size: height and width of the pictures in pixels.
      train_tuples: number of training tuples.
      test_tuples: number of test tuples.
      data_seed: draws all tuples; runs of other seeds are of the same data.
      widths: channels of the image encoder's convolutions (the decoder mirrors them).
      hidden: units of the dense layer beside them.
      caption_width: channels of the captions' convolutions.
      caption_weight: of log p(caption|z) in the objective.
      private_dim: dimension of each modality's own latent; 0 for none.
    """

    level: int = 3
    size: int = 64
    train_tuples: int = 4000
    test_tuples: int = 1000
    data_seed: int = 0
    widths: tuple[int, ...] = (16, 32, 64)
    hidden: int = 128
    caption_width: int = 64
    caption_weight: float = 10.0
    private_dim: int = 0


def modalities(config: Config[ShapeCaptions], dataset: Dataset) -> tuple[Modality, ...]:
    """Convolutions 4x4, stride 2, for pictures; MoPoE's text networks, over words in place of letters, for captions."""
    own = config.own
    shape, words, length = (own.size, own.size, 3), vocabulary(own.level), caption_length(own.level)
    return (
        Modality(
            "image",
            shape,
            ConvEncoder(own.widths, kernel=4, hidden=own.hidden),
            ConvDecoder(shape, own.widths[::-1], kernel=4, hidden=own.hidden),
            "bernoulli",
            private_dim=own.private_dim,
            pixels=True,
        ),
        Modality(
            "caption",
            (length,),
            TextEncoder(len(words), own.caption_width),
            TextDecoder(length, len(words), own.caption_width),
            "categorical",
            weight=own.caption_weight,
            private_dim=own.private_dim,
            symbols=words,
        ),
    )


def load(config: Config[ShapeCaptions]) -> Dataset:
    """The data set of a configuration.

    Raises:
      UserError: the level, the size or the numbers of tuples make no sense.
    """
    own = config.own
    return shape_captions(own.level, own.size, own.train_tuples, own.test_tuples, own.data_seed)


EXPERIMENT = Experiment(
    name="shape_captions",
    presets={
        "quick": Config(
            ShapeCaptions(),
            epochs=30,
            architecture=Model((), latent_dim=16),
            training=Training(steps=0, batch_size=64, learning_rate=1e-3),
            evaluation=EvaluationSettings(classifier=ClassifierSettings(steps=300)),
        ),
        # 75,000 and 7,500 tuples are CdSprites+'s; all else is a full-size setting of our own.
        "paper": Config(
            ShapeCaptions(
                train_tuples=75_000, test_tuples=7_500, widths=(32, 64, 128, 256), hidden=256, caption_width=128
            ),
            epochs=100,
            architecture=Model((), latent_dim=24),
            training=Training(steps=0, batch_size=64, learning_rate=5e-4),
            evaluation=EvaluationSettings(classifier=ClassifierSettings(steps=3000)),
        ),
    },
    load=load,
    modalities=modalities,
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
