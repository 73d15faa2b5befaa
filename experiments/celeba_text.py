"""Faces and text (Sutter et al. 2021, section 4.3): a picture and the names of the attributes that it shows.

    python -m experiments.celeba_text --model=mopoe
    python -m experiments.celeba_text --model=mopoe --data=<folder with celeba/>
    python -m experiments.celeba_text --model=mopoe --preset=paper --data=<folder with celeba/>

Without --data drawn faces with the 18 attributes of Wu & Goodman (2018) take the place of CelebA and its 40: a run's
report calls them a stand-in for CelebA, and their numbers do not compare with the paper's.
Expected (Table 5, all of CelebA): mean average precision 0.40 of the attributes told from the latent of the picture,
0.43 of those that pictures show which are generated from text.
"""

import math
import sys
from dataclasses import dataclass

from mmvae_jax.data.attribute_text import ALPHABET
from mmvae_jax.data.batching import Dataset
from mmvae_jax.data.faces import faces_and_text, load_faces
from mmvae_jax.evaluation import EvaluationSettings
from mmvae_jax.evaluation.classifiers import ClassifierSettings
from mmvae_jax.evaluation.published import Published
from mmvae_jax.modality import Modality
from mmvae_jax.model import Model
from mmvae_jax.networks.resnet import ResNetDecoder, ResNetEncoder
from mmvae_jax.runs import Config, Experiment, main
from mmvae_jax.training import Training


@dataclass(frozen=True)
class CelebAText:
    """Data and networks of faces and text.

    Attributes:
      size: height and width of the pictures in pixels.
      text_length: letters of a text; 0: of the longest one, rounded up to a multiple of 64.
      skip_corrupt: leave photographs out that cannot be decoded.
      train_faces: number of training faces that are drawn, without --data.
      test_faces: number of test faces that are drawn.
      data_seed: draws them; runs of other seeds are of the same faces.
      widths: channels of the picture's encoder, multiples of 4, each a halving of the map; the decoder mirrors them.
      text_widths: of the text's, likewise, each a quartering.
      scale: of the pictures' Laplace likelihood, for pixels in [0, 1].
      text_weight: of log p(text|z) in the objective; 0: the ratio of the modalities' sizes, as in the paper.
      private_dim: dimension of each modality's own latent; 0 for none.
    """

    size: int = 64
    text_length: int = 0
    skip_corrupt: bool = False
    train_faces: int = 6000
    test_faces: int = 1250
    data_seed: int = 0
    widths: tuple[int, ...] = (16, 32, 64, 128)
    text_widths: tuple[int, ...] = (32, 64, 128)
    scale: float = 0.75
    text_weight: float = 0.0
    private_dim: int = 32


def load(config: Config[CelebAText]) -> Dataset:
    """The data set of a configuration."""
    own = config.own
    drawn = own.train_faces, own.test_faces, own.data_seed
    return faces_and_text(load_faces(config.data, own.size, *drawn, config.cache, own.skip_corrupt), own.text_length)


def modalities(config: Config[CelebAText], dataset: Dataset) -> tuple[Modality, ...]:
    """Residual networks for both, likelihoods weighted by dimension, the picture's by 1 (Appendices B and E.2)."""
    own, letters = config.own, len(ALPHABET)
    picture, written = dataset.modalities
    shape, text = (own.size, own.size, 3), dataset.train.arrays[0][written].shape[1:]
    return (
        Modality(
            picture,
            shape,
            ResNetEncoder(own.widths),
            ResNetDecoder(shape, own.widths[::-1]),
            "laplace",
            own.scale,
            private_dim=own.private_dim,
            pixels=True,
        ),
        Modality(
            written,
            text,
            ResNetEncoder(own.text_widths, letters),
            ResNetDecoder(text, own.text_widths[::-1], letters),
            "categorical",
            weight=own.text_weight or math.prod(shape) / math.prod(text),
            private_dim=own.private_dim,
            symbols=tuple(ALPHABET),
        ),
    )


# Given image, text and both: of the latents; then of generated text and images.
_TABLE_5 = {
    "mvae": (0.30, 0.31, 0.32, 0.26, 0.33),
    "moe": (0.35, 0.38, 0.35, 0.14, 0.41),
    "mopoe": (0.40, 0.39, 0.39, 0.15, 0.43),
}
_COLUMNS = ("latent/image", "latent/text", "latent/image+text", "generated/image->text", "generated/text->image")

EXPERIMENT = Experiment(
    name="celeba_text",
    presets={
        "quick": Config(
            CelebAText(size=32, widths=(16, 32, 64)),
            epochs=20,
            architecture=Model((), latent_dim=32),
            training=Training(steps=0, batch_size=64, learning_rate=1e-3, beta=2.5),
            evaluation=EvaluationSettings(classifier=ClassifierSettings(steps=1500)),
        ),
        # The paper gives neither the networks' sizes nor the batch.
        "paper": Config(
            CelebAText(
                train_faces=60_000,
                test_faces=10_000,
                widths=(64, 128, 256, 512),
                text_widths=(128, 256, 512),
            ),
            epochs=200,
            architecture=Model((), latent_dim=32),
            training=Training(steps=0, batch_size=256, learning_rate=5e-4, beta=2.5),
            evaluation=EvaluationSettings(classifier=ClassifierSettings(steps=10_000)),
        ),
    },
    load=load,
    modalities=modalities,
    published=tuple(
        Published(
            model,
            "MoPoE paper",
            {f"average_precision/{column}": value for column, value in zip(_COLUMNS, values, strict=True)},
            "all of CelebA, 40 attributes, 200 epochs; Table 5",
        )
        for model, values in _TABLE_5.items()
    ),
    reads_data=True,
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
