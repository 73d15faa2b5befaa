"""BLEU is sacrebleu's own, and so is that of every replicate; the metric is of what a model tells greedily."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sacrebleu.metrics.bleu import BLEU

from mmvae_jax.data.batching import Dataset, fixed_split
from mmvae_jax.evaluation import Context
from mmvae_jax.evaluation.bleu import bleu_replicates
from mmvae_jax.evaluation.measuring import measure
from mmvae_jax.modality import Modality
from mmvae_jax.model import Model
from mmvae_jax.networks.mlp import MLPEncoder

TRUTH = [
    "the cat sat on the mat .",
    "there is a cat, on the mat",
    "twenty-one and two",
    "no",
    "one two three four five",
]
TOLD = ["the cat sat on a mat .", "there is a cat on the mat .", "twenty-one and three", "", "one two three four five"]


def corpus(told, truth):
    return BLEU().corpus_score(told, [truth]).score


def test_it_is_that_of_sacrebleu_in_its_default_setting():
    assert bleu_replicates(TOLD, TRUTH, 0)[0] == pytest.approx(corpus(TOLD, TRUTH), rel=1e-12)
    assert 0 < bleu_replicates(TOLD, TRUTH, 0)[0] < 100
    np.testing.assert_allclose(bleu_replicates(TRUTH[:2], TRUTH[:2], 0), 100)
    # No n-gram of four is right: smoothed, not zero.
    assert bleu_replicates(TOLD[2:4], TRUTH[2:4], 0)[0] == pytest.approx(corpus(TOLD[2:4], TRUTH[2:4]), rel=1e-12)
    scorer = BLEU()
    scorer.corpus_score(TOLD, [TRUTH])
    assert str(scorer.get_signature()).startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|")


def test_replicates_are_of_sentences_drawn_with_replacement():
    rows = np.random.default_rng(7).integers(5, size=(6, 5))
    expected = [corpus([TOLD[i] for i in each], [TRUTH[i] for i in each]) for each in rows]
    np.testing.assert_allclose(bleu_replicates(TOLD, TRUTH, 7, replicates=6)[1:], expected, rtol=1e-12)


def test_the_standard_error_is_how_far_corpora_differ():
    """Of sentences wrong with probability 0.2: BLEU of many corpora, and what one of them tells of its error."""

    def made(seed):
        right = np.random.default_rng(seed).random(100) > 0.2
        return ["a b c d e" if each else "a b x d e" for each in right]

    truth = ["a b c d e"] * 100
    spread = np.std([bleu_replicates(made(seed), truth, 0, 1)[0] for seed in range(40)], ddof=1)
    error = np.std(bleu_replicates(made(100), truth, 0)[1:], ddof=1)
    assert error == pytest.approx(spread, rel=0.3)


class Says(nn.Module):
    """Tells the same symbols whatever z is."""

    symbols: tuple[int, ...]
    categories: int

    @nn.compact
    def __call__(self, z, push=None):
        logits = 9 * jax.nn.one_hot(jnp.array(self.symbols), self.categories)
        return jnp.broadcast_to(logits, (len(z), *logits.shape))


def test_the_metric_is_of_every_target_given_every_subset_and_accuracy_of_whole_sentences(tmp_path):
    pieces = ("⁇", "▁a", "▁b", "c", "▁bc", "▁", "")
    truth = np.array([[1, 2, 1, 2, 6, -1], [1, 2, 1, 4, 6, -1], [2, 1, 2, 1, 6, -1], [1, 1, 1, 4, 6, -1]], np.int32)
    texts = ["a b a b", "a b a bc", "b a b a", "a a a bc"]
    split = fixed_split({"en": truth, "vi": truth}, np.zeros(4, np.int32))
    dataset = Dataset("toy", ("en", "vi"), split, split, 1, sentences={"en": pieces, "vi": pieces})
    modalities = tuple(
        Modality(name, (6,), MLPEncoder((), 7), Says(said, 7), "autoregressive", symbols=pieces)
        for name, said in (("en", (1, 5, 2, 1, 2, 6)), ("vi", (1, 2, 1, 2, 3, 6)))
    )
    model = Model(modalities, latent_dim=2, fusion="poe")
    context = Context(
        model, model.init(jax.random.key(0)), dataset, jax.random.key(1), cache_dir=tmp_path, report=print
    )
    metrics = measure(context, ["bleu", "accuracy"])
    for given in ("en", "vi", "en+vi"):
        assert metrics[f"bleu/{given}->en"] == pytest.approx(corpus(["a  b a b"] * 4, texts))
        assert metrics[f"bleu/{given}->vi"] == pytest.approx(corpus(["a b a bc"] * 4, texts))
        assert metrics[f"standard_error/bleu/{given}->en"] > 0
    # Two spaces are one to BLEU's tokeniser, but another sentence; the same one may be told in other pieces.
    accuracy = {name: value for name, value in metrics.items() if name.startswith("accuracy")}
    assert accuracy == {"accuracy/vi->en": 0, "accuracy/en->vi": 0.25}
