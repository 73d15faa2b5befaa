"""Six views of a face as six modalities: colours, edges, what is hidden and what is written over it (MVAE 2018).

    python -m experiments.celeba_vision --model=mopoe
    python -m experiments.celeba_vision --model=mvae --preset=paper --data=../shared/data

Without --data the faces are drawn, a stand-in whose numbers do not compare with CelebA's. `task/error/colourisation` is
the squared error of a coloured picture made of a grey one, `task/guess/colourisation` that of the grey picture itself,
which a model must beat; edges, masks and what lies under the obscured half or the watermark likewise. The pictures are
`figures/task_*.png` (Wu & Goodman 2018, Figures 7 to 10, without numbers). CelebA's official list of landmarks,
list_landmarks_align_celeba.txt, makes the modality `mask`; without it there are five modalities.
"""

import sys
from dataclasses import dataclass

from mmvae_jax.data.batching import Dataset
from mmvae_jax.data.face_views import face_views, with_views
from mmvae_jax.data.faces import load_faces
from mmvae_jax.evaluation import EvaluationSettings
from mmvae_jax.modality import Modality
from mmvae_jax.model import Model
from mmvae_jax.networks.conv import ConvDecoder, ConvEncoder
from mmvae_jax.runs import Config, Experiment, main
from mmvae_jax.training import Training


@dataclass(frozen=True)
class CelebAVision:
    """The views' data and networks.

    Attributes:
      size: height and width of the pictures in pixels.
      skip_corrupt: leave photographs out that cannot be decoded.
      train_faces: number of training faces, where they are drawn.
      test_faces: number of test faces, where they are drawn.
      data_seed: draws them; runs of other seeds are of the same data.
      widths: channels of every encoder's convolutions (the decoders mirror them).
      hidden: units of a dense layer beside them; 0 for none, which keeps more of a picture.
    """

    size: int = 64
    skip_corrupt: bool = False
    train_faces: int = 4000
    test_faces: int = 1000
    data_seed: int = 0
    widths: tuple[int, ...] = (16, 32, 64, 64)
    hidden: int = 128


def modalities(config: Config[CelebAVision], dataset: Dataset) -> tuple[Modality, ...]:
    """One encoder and one decoder a view: convolutions 4x4, stride 2, maybe a dense layer; Bernoulli pixels."""
    own = config.own
    hidden = own.hidden or None
    channels = {"grey": 1, "edges": 1, "mask": 1}
    shapes = {name: (own.size, own.size, channels.get(name, 3)) for name in dataset.modalities}
    return tuple(
        Modality(
            name,
            shape,
            ConvEncoder(own.widths, kernel=4, hidden=hidden),
            ConvDecoder(shape, own.widths[::-1], kernel=4, hidden=hidden),
            "bernoulli",
            pixels=True,
        )
        for name, shape in shapes.items()
    )


def load(config: Config[CelebAVision]) -> Dataset:
    """The data set of a configuration.

    Raises:
      UserError: no such data, its files are damaged, or sizes make no sense.
    """
    own = config.own
    drawn = own.train_faces, own.test_faces, own.data_seed
    return face_views(load_faces(config.data, own.size, *drawn, config.cache, own.skip_corrupt, with_views))


EXPERIMENT = Experiment(
    name="celeba_vision",
    presets={
        "quick": Config(
            CelebAVision(size=32, widths=(16, 32, 64), hidden=0),
            epochs=20,
            anneal_epochs=4,
            architecture=Model((), latent_dim=128),
            # Of faces as small as these a Bernoulli likelihood at beta 1 keeps less than a grey picture shows.
            training=Training(steps=0, batch_size=50, learning_rate=1e-3, beta=0.1),
            evaluation=EvaluationSettings(log_likelihood_samples=10, log_likelihood_examples=100),
        ),
        # The settings of the paper's other experiment on CelebA; it gives none of this one.
        "paper": Config(
            CelebAVision(widths=(32, 64, 128, 256), hidden=512),
            epochs=100,
            anneal_epochs=20,
            architecture=Model((), latent_dim=100),
            training=Training(steps=0, batch_size=100, learning_rate=1e-4),
            evaluation=EvaluationSettings(log_likelihood_samples=100, log_likelihood_examples=500),
        ),
    },
    load=load,
    modalities=modalities,
    reads_data=True,
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
