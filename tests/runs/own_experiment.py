"""An experiment as a user writes one, in one file anywhere: two noisy views of one of three points."""

import sys
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from mmvae_jax import Modality, Model, Training
from mmvae_jax.data.batching import Dataset, Split, fixed_split
from mmvae_jax.evaluation import EvaluationSettings
from mmvae_jax.evaluation.classifiers import ClassifierSettings
from mmvae_jax.networks.mlp import MLPDecoder, MLPEncoder
from mmvae_jax.runs import Config, Experiment, main


@dataclass(frozen=True)
class Views:
    """The views.

    Attributes:
      noise: deviation of every entry.
    """

    noise: float = 0.1


def load(config: Config[Views]) -> Dataset:
    """The points' coordinates, twice, with noise."""

    def split(seed: int, size: int) -> Split:
        rng = np.random.default_rng(seed)
        label = rng.integers(0, 3, size)
        views = np.eye(3)[label] + config.own.noise * rng.normal(size=(2, size, 3))
        return fixed_split(dict(zip("ab", jnp.asarray(views, jnp.float32), strict=True)), jnp.asarray(label))

    return Dataset("views", ("a", "b"), split(0, 100), split(1, 40), num_classes=3)


def modalities(config: Config[Views], dataset: Dataset) -> tuple[Modality, ...]:
    """One hidden layer each."""
    return tuple(Modality(name, (3,), MLPEncoder((8,)), MLPDecoder((3,), (8,))) for name in dataset.modalities)


EXPERIMENT = Experiment(
    name="views",
    presets={
        "quick": Config(
            Views(),
            architecture=Model((), latent_dim=2),
            training=Training(steps=4, batch_size=20),
            evaluation=EvaluationSettings(
                log_likelihood_samples=2, joint_samples=20, classifier=ClassifierSettings(steps=4)
            ),
        )
    },
    load=load,
    modalities=modalities,
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
