"""MultiMNIST (Wu & Goodman 2018, supplement): a canvas of up to four digits and the string of them, weakly supervised.

    python -m experiments.multimnist --model=mvae
    python -m experiments.multimnist --model=mvae --supervision=0.1
    python -m experiments.multimnist --model=mvae --preset=paper --data=<folder with mnist/>

The string is told symbol by symbol by a recurrent network: its likelihood is exact, and what is generated is decoded
greedily. `accuracy/image->string` is the fraction of digits that are right at their place, `.../1` to `.../4` that of
every single place. Coherence and probe are of the number of digits.
Expected (Table 5): 0.53 of the digits right, 0.43 with 5 % pairs.
"""

import sys
from dataclasses import dataclass

from mmvae_jax.data.batching import Dataset
from mmvae_jax.data.multimnist import CANVAS, STRING_LENGTH, SYMBOLS, multimnist
from mmvae_jax.evaluation import EvaluationSettings
from mmvae_jax.evaluation.classifiers import ClassifierSettings
from mmvae_jax.evaluation.published import Published, by_supervision
from mmvae_jax.modality import Modality
from mmvae_jax.model import Model
from mmvae_jax.networks.conv import ConvDecoder, ConvEncoder
from mmvae_jax.networks.recurrent import RecurrentDecoder, RecurrentEncoder
from mmvae_jax.runs import Config, Experiment, main
from mmvae_jax.runs.baselines import LEVELS
from mmvae_jax.training import Training

from .mnist_label import SUPPLEMENT, supplement_tables

_SHAPE = (CANVAS, CANVAS, 1)


@dataclass(frozen=True)
class MultiMNIST:
    """MultiMNIST's data and networks.

    Attributes:
      supervision: fraction of the training tuples that keep image and string; every other keeps one of them.
      widths: channels of the image encoder's convolutions (the decoder mirrors them).
      hidden: units of the dense layer beside them.
      units: of every GRU.
      string_weight: of log p(string|z) in the objective.
      private_dim: dimension of each modality's own latent; 0 for none.
    """

    supervision: float = 1.0
    widths: tuple[int, ...] = (16, 32, 64)
    hidden: int = 128
    units: int = 64
    string_weight: float = 1.0
    private_dim: int = 0


def modalities(config: Config[MultiMNIST], dataset: Dataset) -> tuple[Modality, ...]:
    """A small DCGAN for images, a bidirectional GRU of 200 units and a decoder of two GRUs (supplement, section 1).

    The supplement gives no more sizes: here convolutions 4x4, stride 2, of 64, 128 and 256 channels, a dense layer of
    512, ReLUs, without the batch normalisation of DCGAN, and 200 units in the decoder's GRUs as well.
    """
    own, symbols = config.own, len(SYMBOLS)
    return (
        Modality(
            "image",
            _SHAPE,
            ConvEncoder(own.widths, kernel=4, hidden=own.hidden),
            ConvDecoder(_SHAPE, own.widths[::-1], kernel=4, hidden=own.hidden),
            "bernoulli",
            private_dim=own.private_dim,
            pixels=True,
        ),
        Modality(
            "string",
            (STRING_LENGTH,),
            RecurrentEncoder(symbols, own.units),
            RecurrentDecoder(STRING_LENGTH, symbols, own.units),
            "autoregressive",
            weight=own.string_weight,
            private_dim=own.private_dim,
            symbols=tuple(SYMBOLS),
        ),
    )


_TABLES_1_2 = {
    "jmvae": (-153.026, -153.320, -145.761, 35.822, 38.298),
    "mvae": (-152.826, -153.478, -147.009, 16.437, 16.672),
}
# Digits told right, by the fraction of pairs, `LEVELS`.
_TABLE_5 = {
    "jmvae": (0.0603, 0.0603, 0.0888, 0.1531, 0.1699, 0.1772, 0.4765, 0.4962, 0.4955),
    "mvae": (0.09363, 0.1189, 0.1098, 0.2287, 0.3805, 0.4289, 0.4999, 0.5121, 0.5288),
}


def _table_5(model: str) -> tuple[Published, ...]:
    values = dict(zip(LEVELS, _TABLE_5[model], strict=True))
    metric, settings = "accuracy/image->string", "100 epochs, all of MNIST"
    return by_supervision(model, "MVAE supplement", metric, values, settings, SUPPLEMENT[model])


EXPERIMENT = Experiment(
    name="multimnist",
    presets={
        "quick": Config(
            MultiMNIST(),
            epochs=40,
            anneal_epochs=16,
            architecture=Model((), latent_dim=100),
            training=Training(steps=0, batch_size=100, learning_rate=1e-3),
        ),
        "paper": Config(
            MultiMNIST(widths=(64, 128, 256), hidden=512, units=200),
            epochs=500,
            anneal_epochs=200,
            architecture=Model((), latent_dim=100),
            training=Training(steps=0, batch_size=100, learning_rate=1e-3),
            evaluation=EvaluationSettings(
                log_likelihood_samples=1000, log_likelihood_examples=2000, classifier=ClassifierSettings(steps=3000)
            ),
        ),
    },
    load=lambda config: multimnist(config.data, config.own.supervision, config.seed),
    modalities=modalities,
    published=(*supplement_tables("image", "string", _TABLES_1_2), *_table_5("jmvae"), *_table_5("mvae")),
    reads_data=True,
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
