"""Translation (Wu & Goodman 2018): English and Vietnamese sentences as two modalities, scored by BLEU both ways.

    python -m experiments.translation --model=mvae
    python -m experiments.translation --model=mvae --preset=paper --data=<folder with iwslt15_en_vi/>

The embedded data are numbers in words, "twenty-one" and "hai mươi mốt", which the data set, its modalities and the
report are named after: their BLEU says nothing of IWSLT'15's. Sentences are told subword by subword by a recurrent
network, from z alone: there is no attention. `bleu/en->vi` is the BLEU of Vietnamese told greedily given English, at
the posterior's mean (by sacrebleu, signature nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp), `bleu/vi->vi` that of
reconstructions; `accuracy/en->vi` is the fraction of sentences that are told exactly. `figures/` has
translations in full, as BLEU scores them, and samples, draws from the posterior, which are worse than its mean.
"""

import sys
from dataclasses import dataclass

import jax

from mmvae_jax.data.batching import Dataset, take
from mmvae_jax.data.sentence_pairs import Held, iwslt15, numbers_in_words
from mmvae_jax.data.translation import translation
from mmvae_jax.errors import UserError
from mmvae_jax.modality import Modality
from mmvae_jax.model import Model
from mmvae_jax.networks.recurrent import RecurrentDecoder, RecurrentEncoder
from mmvae_jax.runs import Config, Experiment, main
from mmvae_jax.training import Training


@dataclass(frozen=True)
class Translation:
    """The sentences and their networks.

    Attributes:
      highest: of the numbers in words.
      train_tuples: how many numbers to train on.
      test_tuples: how many other numbers to test on.
      data_seed: draws the numbers; runs of other seeds are of the same ones.
      held: IWSLT'15's file to test on, tst2012 (development) or tst2013.
      pieces: subwords of either language, at most.
      max_tokens: pairs with a sentence of more subwords are left out of training and test.
      supervision: fraction of the training pairs that stay pairs; of every other one language is kept.
      units: of every GRU.
      embedding: dimension of the vectors that stand for subwords.
      private_dim: dimension of each language's own latent; 0 for none.
    """

    highest: int = 999
    train_tuples: int = 700
    test_tuples: int = 300
    data_seed: int = 0
    held: Held = "tst2013"
    pieces: int = 1000
    max_tokens: int = 40
    supervision: float = 1.0
    units: int = 64
    embedding: int = 32
    private_dim: int = 0


def modalities(config: Config[Translation], dataset: Dataset) -> tuple[Modality, ...]:
    """A bidirectional GRU reads, two GRUs above each other tell, as the paper has them for MultiMNIST's strings."""
    own, shown = config.own, take(dataset.test, jax.random.key(0), 1).x
    return tuple(
        Modality(
            name,
            shown[name].shape[1:],
            RecurrentEncoder(len(symbols), own.units, own.embedding),
            RecurrentDecoder(shown[name].shape[1], len(symbols), own.units, embedding=own.embedding),
            "autoregressive",
            private_dim=own.private_dim,
            symbols=symbols,
        )
        for name, symbols in dataset.sentences.items()
    )


def load(config: Config[Translation]) -> Dataset:
    """The data set of a configuration.

    Raises:
      UserError: unusable files, or numbers that make no sense.
    """
    own = config.own
    if config.data == "tfds":
        raise UserError("data=tfds: IWSLT'15 is not downloaded: use embedded or a folder of its files")
    if config.data == "embedded":
        pairs = numbers_in_words(own.highest, own.train_tuples, own.test_tuples, own.data_seed)
    else:
        pairs = iwslt15(config.data, own.held)
    return translation(pairs, own.pieces, own.max_tokens, own.supervision, config.seed)


EXPERIMENT = Experiment(
    name="translation",
    presets={
        "quick": Config(
            Translation(),
            epochs=150,
            # To the end: with a steeper slope the posterior collapses before the decoders have learned to read z.
            anneal_epochs=150,
            architecture=Model((), latent_dim=32),
            training=Training(steps=0, batch_size=50, learning_rate=2e-3),
        ),
        # The supplement gives no setting for translation: dimension, units, batch and rate are those it has for
        # MultiMNIST, and the rest is our own.
        "paper": Config(
            Translation(pieces=8000, max_tokens=60, units=200, embedding=200),
            epochs=100,
            anneal_epochs=40,
            architecture=Model((), latent_dim=100),
            training=Training(steps=0, batch_size=100, learning_rate=1e-3),
        ),
    },
    load=load,
    modalities=modalities,
    reads_data=True,
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
