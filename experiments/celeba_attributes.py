"""Faces and 18 attributes (Wu & Goodman 2018, supplement), as one modality or as one each; modalities are dropped.

    python -m experiments.celeba_attributes --model=mvae
    python -m experiments.celeba_attributes --model=mvae --split-attributes --random-subsets=1
    python -m experiments.celeba_attributes --model=mvae --split-attributes --drop=0.9
    python -m experiments.celeba_attributes --model=mvae --preset=paper --data=<folder with celeba/>
    python -m experiments.celeba_attributes --model=mvae --preset=paper_19 --data=<folder with celeba/>

`--split-attributes` makes it the paper's MVAE19, with nineteen modalities and k random subsets in a step. Figure 5 is
over the probability that a modality is kept: 1 - `--drop`. Without --data drawn faces take CelebA's place: a run's
report calls them a stand-in for CelebA, and their numbers do not compare with the paper's. Of a photograph the middle
148x148 pixels are kept and scaled; the paper does not say that it crops.
Expected (Table 1, all of CelebA): log p(x) of the picture near -6237 nats, of everything 4 below it.
"""

import sys
from dataclasses import dataclass, replace

from mmvae_jax.data.attributes import PRESENCE
from mmvae_jax.data.batching import Dataset
from mmvae_jax.data.drawn_faces import ATTRIBUTES
from mmvae_jax.data.faces import faces_and_attributes, load_faces
from mmvae_jax.evaluation import EvaluationSettings
from mmvae_jax.evaluation.classifiers import ClassifierSettings
from mmvae_jax.evaluation.published import Published
from mmvae_jax.modality import Modality
from mmvae_jax.model import Model
from mmvae_jax.networks.conv import ConvDecoder, ConvEncoder
from mmvae_jax.networks.mlp import MLPDecoder, MLPEncoder
from mmvae_jax.objectives import Options
from mmvae_jax.runs import Config, Experiment, main
from mmvae_jax.training import Training

from .mnist_label import SUPPLEMENT, supplement_metrics


@dataclass(frozen=True)
class CelebAAttributes:
    """Data and networks of faces and attributes.

    Attributes:
      split_attributes: every attribute is a modality of its own.
      drop: probability with which each modality of a training face is dropped, but never all of a face.
      size: height and width of the pictures in pixels.
      skip_corrupt: leave photographs out that cannot be decoded.
      train_faces: number of training faces that are drawn, without --data.
      test_faces: number of test faces that are drawn.
      data_seed: draws them; runs of other seeds are of the same faces.
      widths: channels of the picture's convolutions (the decoder mirrors them).
      hidden: units of the dense layer beside them, and of both layers of the attributes' networks.
      attribute_weight: of the attributes' log-likelihood in the objective.
      private_dim: dimension of each modality's own latent; 0 for none.
    """

    split_attributes: bool = False
    drop: float = 0.0
    size: int = 64
    skip_corrupt: bool = False
    train_faces: int = 6000
    test_faces: int = 1250
    data_seed: int = 0
    widths: tuple[int, ...] = (16, 32, 64)
    hidden: int = 128
    attribute_weight: float = 1.0
    private_dim: int = 0


def load(config: Config[CelebAAttributes]) -> Dataset:
    """The data set of a configuration."""
    own = config.own
    drawn = own.train_faces, own.test_faces, own.data_seed
    faces = load_faces(config.data, own.size, *drawn, config.cache, own.skip_corrupt)
    return faces_and_attributes(faces, own.split_attributes, own.drop, config.seed)


def modalities(config: Config[CelebAAttributes], dataset: Dataset) -> tuple[Modality, ...]:
    """A DCGAN for pictures, two hidden layers for attributes, all of them or each (supplement, section 1).

    The supplement gives no sizes of the former: here convolutions 4x4, stride 2, and a dense layer, with ReLUs, and
    without the batch normalisation of DCGAN, under which a sample's posterior would depend on its batch.
    """
    own, widths = config.own, (config.own.hidden,) * 2
    shape = (own.size, own.size, 3)
    encoder = ConvEncoder(own.widths, kernel=4, hidden=own.hidden)
    decoder = ConvDecoder(shape, own.widths[::-1], kernel=4, hidden=own.hidden)
    image = Modality(
        dataset.modalities[0], shape, encoder, decoder, "bernoulli", private_dim=own.private_dim, pixels=True
    )
    count = len(ATTRIBUTES)
    # Two classes are a Bernoulli variable whose samples are told apart as labels are.
    networks, likelihood, symbols = (
        ((MLPEncoder(widths, 2), MLPDecoder((2,), widths)), "categorical", PRESENCE)
        if own.split_attributes
        else ((MLPEncoder(widths), MLPDecoder((count,), widths)), "bernoulli", ATTRIBUTES)
    )
    return image, *(
        Modality(
            name,
            () if own.split_attributes else (count,),
            *networks,
            likelihood,
            weight=own.attribute_weight,
            private_dim=own.private_dim,
            symbols=symbols,
        )
        for name in dataset.modalities[1:]
    )


_PAPER = Config(
    CelebAAttributes(train_faces=60_000, test_faces=10_000, widths=(32, 64, 128, 256), hidden=512),
    epochs=100,
    anneal_epochs=20,
    architecture=Model((), latent_dim=100),
    training=Training(steps=0, batch_size=100, learning_rate=1e-4),
    evaluation=EvaluationSettings(
        log_likelihood_samples=1000, log_likelihood_examples=2000, classifier=ClassifierSettings(steps=10_000)
    ),
)
_TWO = supplement_metrics("image", "attributes")
_NINETEEN = supplement_metrics("image", "+".join(ATTRIBUTES))
_TABLES = (
    ("jmvae", "MVAE supplement", _TWO, (-6234.542, -6238.280, -6235.330, 80.808, 81.312)),
    ("mvae", "MVAE supplement", _TWO, (-6237.104, -6241.621, -6235.368, 73.871, 74.968)),
    ("mvae", "MVAE supplement, MVAE19", _NINETEEN, (-6236.113, -6239.957, -6233.330, 71.546, 71.953)),
)

EXPERIMENT = Experiment(
    name="celeba_attributes",
    presets={
        "quick": Config(
            CelebAAttributes(attribute_weight=10.0),
            epochs=20,
            anneal_epochs=4,
            architecture=Model((), latent_dim=64),
            training=Training(steps=0, batch_size=100, learning_rate=1e-3),
            evaluation=EvaluationSettings(log_likelihood_examples=64, classifier=ClassifierSettings(steps=1500)),
        ),
        "paper": _PAPER,
        "paper_19": replace(
            _PAPER,
            own=replace(_PAPER.own, split_attributes=True),
            training=replace(_PAPER.training, options=Options(random_subsets=1)),
        ),
    },
    load=load,
    modalities=modalities,
    published=tuple(
        Published(
            model,
            source,
            dict(zip(names, values, strict=True)),
            "all of CelebA, 100 epochs",
            {
                "own.size": 64,
                "own.split_attributes": names is _NINETEEN,
                "own.drop": 0.0,
                **({"training.options.random_subsets": 1} if names is _NINETEEN else SUPPLEMENT[model]),
            },
        )
        for model, source, names, values in _TABLES
    ),
    reads_data=True,
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
