"""MNIST and labels (Wu & Goodman 2018, supplement): an image and its digit as two modalities, weakly supervised.

    python -m experiments.mnist_label --model=mvae
    python -m experiments.mnist_label --model=mvae --supervision=0.05
    python -m experiments.mnist_label --model=jmvae --alpha=0.01
    python -m experiments.mnist_label --model=mvae --preset=paper --data=<folder with mnist/>

Expected (Table 1, full MNIST): log p(x) of the image near -91 nats, of both modalities 0.2 below it.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mmvae_jax.data.batching import Dataset
from mmvae_jax.data.labelled_images import Binarisation, labelled_images
from mmvae_jax.data.mnist import load_digits
from mmvae_jax.evaluation import EvaluationSettings
from mmvae_jax.evaluation.classifiers import ClassifierSettings
from mmvae_jax.evaluation.published import Published
from mmvae_jax.modality import Modality
from mmvae_jax.model import Model
from mmvae_jax.networks.mlp import MLPDecoder, MLPEncoder
from mmvae_jax.runs import Config, Experiment, main
from mmvae_jax.training import Training

_CLASSES = 10


@dataclass(frozen=True)
class LabelledDigits:
    """Data and networks of labelled digits.

    Attributes:
      binarisation: none leaves grey levels; fixed draws every pixel once, white with the probability of its grey level;
        stochastic draws training pixels anew in every epoch.
      supervision: fraction of the training tuples that keep image and label; every other keeps one of them.
      validation: fraction of the training images that is set aside, a sixth in the paper.
      hidden: units of each of the two layers of all networks.
      label_weight: of log p(label|z) in the objective.
      private_dim: dimension of each modality's own latent; 0 for none.
    """

    binarisation: Binarisation = "none"
    supervision: float = 1.0
    validation: float = 0.0
    hidden: int = 512
    label_weight: float = 1.0
    private_dim: int = 0


def load(config: Config[LabelledDigits]) -> Dataset:
    """The data set of a configuration."""
    own, digits = config.own, load_digits(config.data)
    name = "mnist" if own.binarisation == "none" else "binary_mnist"
    return labelled_images(digits, name, own.binarisation, own.supervision, own.validation, config.seed)


def modalities(config: Config[LabelledDigits], dataset: Dataset) -> tuple[Modality, ...]:
    """Multilayer perceptrons with two hidden layers of 512 units (supplement, section 1)."""
    own, (image, label) = config.own, dataset.modalities
    widths, shape = (config.own.hidden,) * 2, (28, 28, 1)
    return (
        Modality(
            image,
            shape,
            MLPEncoder(widths),
            MLPDecoder(shape, widths),
            "bernoulli",
            private_dim=own.private_dim,
            pixels=True,
        ),
        Modality(
            label,
            (),
            MLPEncoder(widths, _CLASSES),
            MLPDecoder((_CLASSES,), widths),
            "categorical",
            weight=own.label_weight,
            private_dim=own.private_dim,
            symbols=tuple(map(str, range(_CLASSES))),
        ),
    )


def presets(binarisation: Binarisation) -> dict[str, Config[LabelledDigits]]:
    """The presets of one kind of binarisation."""
    return {
        "quick": Config(
            LabelledDigits(binarisation),
            epochs=100,
            anneal_epochs=40,
            architecture=Model((), latent_dim=64),
            training=Training(steps=0, batch_size=100, learning_rate=1e-3),
        ),
        "paper": Config(
            LabelledDigits(binarisation, validation=1 / 6),
            epochs=500,
            anneal_epochs=200,
            architecture=Model((), latent_dim=64),
            training=Training(steps=0, batch_size=100, learning_rate=1e-3),
            evaluation=EvaluationSettings(
                log_likelihood_samples=1000, log_likelihood_examples=2000, classifier=ClassifierSettings(steps=3000)
            ),
        ),
    }


# What the supplement trained its models with beside what the presets say; runs of others are not held against it.
SUPPLEMENT: dict[str, dict[str, float]] = {"mvae": {}, "jmvae": {"training.options.alpha": 0.01}}


def supplement_metrics(image: str, rest: str) -> tuple[str, ...]:
    """What the supplement's Tables 1 and 2 report of x_1 and x_2.

    log p(x_1), log p(x_1, x_2), log p(x_1|x_2), then the variance of the log weights of the first two.
    """
    both = f"{image}+{rest}"
    names = (f"marginal_by_all/{image}", f"joint/{both}", f"conditional/{rest}->{image}")
    names = (*names, f"marginal_by_all_variance/{image}", f"variance/{both}")
    return tuple(f"log_likelihood/{name}" for name in names)


def supplement_tables(image: str, label: str, numbers: Mapping[str, Sequence[float]]) -> tuple[Published, ...]:
    """The supplement's Tables 1 and 2 of an image and its label: each model's numbers, as in `supplement_metrics`."""
    return tuple(
        Published(
            model,
            "MVAE supplement",
            dict(zip(supplement_metrics(image, label), values, strict=True)),
            "all training data and pairs",
            {"own.supervision": 1.0, **SUPPLEMENT[model]},
        )
        for model, values in numbers.items()
    )


_TABLES = {
    "jmvae": (-90.962, -91.031, -88.436, 24.962, 26.767),
    "mvae": (-90.616, -90.851, -88.558, 25.741, 26.057),
}

EXPERIMENT = Experiment(
    name="mnist_label",
    presets=presets("none"),
    load=load,
    modalities=modalities,
    published=supplement_tables("mnist", "label", _TABLES),
    reads_data=True,
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
