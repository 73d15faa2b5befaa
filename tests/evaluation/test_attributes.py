"""Attributes of generations that are known by hand, told by readers that never err; and readers that are trained."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmvae_jax import subsets
from mmvae_jax.data.attributes import PRESENCE, Attributes
from mmvae_jax.data.batching import Batch, Dataset, fixed_split
from mmvae_jax.evaluation import ClassifierSettings, Context, EvaluationSettings, measure
from mmvae_jax.evaluation.attributes import (
    ExactReader,
    attribute_matches,
    attribute_scores,
    joint_attribute_matches,
    labelled_by_attributes,
    presence,
    trained_readers,
)
from mmvae_jax.evaluation.classifier_networks import AttributeHeads
from mmvae_jax.evaluation.classifiers import Classifier, classify, trained_classifiers
from mmvae_jax.modality import Modality
from mmvae_jax.model import Model
from mmvae_jax.networks.mlp import MLPEncoder

COLOURS, SHAPES = ("red", "green", "blue"), ("square", "heart")
WORDS = (*COLOURS, *SHAPES)
MASKS = subsets.powerset(2)


def read(words):
    """A colour, then a shape; anything else at its place is not read."""
    colour, shape = words[:, 0], words[:, 1] - len(COLOURS)
    return jnp.stack([jnp.where(colour < len(COLOURS), colour, -1), jnp.maximum(shape, -1)], 1)


ATTRIBUTES = Attributes({"colour": COLOURS, "shape": SHAPES}, {"words": read})


class Says(nn.Module):
    """Puts out the one thing where the first latent is positive, the other one elsewhere."""

    one: tuple[int, int]
    other: tuple[int, int]
    classes: int = 0

    def __call__(self, z):
        said = jnp.where(z[..., :1] > 0, jnp.array(self.one), jnp.array(self.other))
        return 10 * jax.nn.one_hot(said, self.classes) if self.classes else said.astype(jnp.float32)


class ReadsNumbers(nn.Module):
    """The classes are the numbers themselves."""

    def __call__(self, x):
        return jax.nn.one_hot(x, len(COLOURS))


READERS = {
    "numbers": Classifier(ReadsNumbers(), {}, np.ones((1, 2), bool)),
    "words": Classifier(ExactReader(read, len(COLOURS)), {}, np.ones((1, 2), bool)),
}


def model(numbers, words):
    """Generates numbers and words, each one of two by the sign of a latent."""
    return Model(
        (
            Modality("numbers", (2,), MLPEncoder(()), Says(*numbers)),
            Modality("words", (2,), MLPEncoder((), len(WORDS)), Says(*words, len(WORDS)), "categorical"),
        ),
        latent_dim=1,
    )


def tuples(n):
    rng = np.random.default_rng(0)
    classes = np.stack([rng.integers(3, size=n), rng.integers(2, size=n)], 1)
    return {"numbers": classes.astype(np.float32), "words": (classes + [0, 3]).astype(np.int32)}, classes


def dataset(n=200):
    train, test = (fixed_split(x, classes[:, 1]) for x, classes in (tuples(n), tuples(40)))
    return Dataset("told", ("numbers", "words"), train, test, 2, attributes=ATTRIBUTES)


def test_what_is_generated_is_held_against_its_tuple_attribute_by_attribute():
    x, classes = tuples(300)
    batch = Batch(jax.tree.map(jnp.asarray, x), jnp.ones((300, 2), bool), jnp.zeros(300, jnp.int32))
    # Always a green square, and always "green green", of which the shape cannot be read.
    chosen = model(((1, 0), (1, 0)), ((1, 1), (1, 1)))
    params = chosen.init(jax.random.key(0))
    found = attribute_matches(chosen, params, jax.random.key(1), batch, MASKS, ATTRIBUTES, READERS)
    assert found.keys() == {"numbers->words", "words->numbers"}
    np.testing.assert_array_equal(found["words->numbers"], classes == [1, 0])
    np.testing.assert_array_equal(found["numbers->words"], classes == [1, -1])
    assert found["words->numbers"].all(1).mean() == pytest.approx(1 / 6, abs=0.1)


@pytest.mark.parametrize(
    ("numbers", "words", "agreeing"),
    [
        (((1, 0), (2, 1)), ((1, 3), (2, 4)), 1.0),
        # The colours agree always, the shapes where the latent is positive.
        (((1, 0), (1, 1)), ((1, 3), (1, 3)), 0.5),
        # What cannot be read agrees with nothing.
        (((1, 0), (1, 0)), ((1, 1), (1, 1)), 0.0),
        (((1, 0), (1, 0)), ((4, 3), (1, 3)), 0.5),
    ],
)
def test_joint_samples_agree_where_all_attributes_do(numbers, words, agreeing):
    chosen = model(numbers, words)
    args = chosen, chosen.init(jax.random.key(0)), jax.random.key(3), 1000, ATTRIBUTES
    found = joint_attribute_matches(*args, READERS)
    assert found.shape == (1000,) and abs(found.mean() - agreeing) <= 4.5 * np.sqrt(agreeing * (1 - agreeing) / 1000)


def test_two_modalities_that_cannot_be_read_do_not_agree():
    chosen = model(((1, 0), (1, 0)), ((1, 1), (1, 3)))
    readers = {
        **READERS,
        "numbers": Classifier(ExactReader(lambda x: x.astype(jnp.int32) - 1, 3), {}, np.ones((1, 2), bool)),
    }
    args = chosen, chosen.init(jax.random.key(0)), jax.random.key(3), 50, ATTRIBUTES
    assert not joint_attribute_matches(*args, readers).any()


class Outputs(nn.Module):
    """Puts out what it is given."""

    def __call__(self, x, train=False):
        return x


def test_a_classifier_of_several_attributes_tells_each_by_the_largest_of_its_own_outputs():
    x = np.random.default_rng(0).normal(size=(50, 10)).astype(np.float32)
    together = classify(AttributeHeads(Outputs(), (2, 5, 3)), {}, x)
    np.testing.assert_array_equal(together, np.stack([x[:, :2].argmax(1), x[:, 2:7].argmax(1), x[:, 7:].argmax(1)], 1))
    # Also of an attribute all of whose logits are low.
    assert set(np.unique(classify(AttributeHeads(Outputs(), (2, 5, 3)), {}, x - 100)[:, 0])) == {0, 1}


def test_tuples_are_labelled_by_all_attributes():
    told = labelled_by_attributes(dataset(), ATTRIBUTES)
    plan = told.train.plan(told.train.arrays, jax.random.key(0))
    x, label = told.train.gather(told.train.arrays, plan)
    assert told.modalities == ("numbers",)
    np.testing.assert_array_equal(label, x["numbers"])


def test_probabilities_are_told_as_they_are_and_the_likelier_value_is_the_class():
    x = jnp.array([[0.0, 0.3], [0.9, 1.0]])
    reader = ExactReader(lambda x: x, 2)
    np.testing.assert_allclose(presence(reader.apply({}, x)), 2 * x - 1, atol=1e-6)
    np.testing.assert_array_equal(classify(reader, {}, x), [[0, 0], [1, 1]])
    assert not Attributes({"colour": COLOURS}, {}).binary
    binary = Attributes(dict.fromkeys("ab", PRESENCE), {"x": lambda x: x})
    assert binary.binary and binary.of({"x": jnp.array([[0.0, 1.0]])}).tolist() == [[0, 1]]


def test_scores_of_generations_are_those_that_matches_are_made_of():
    """Numbers are logits of "there" here: the one thing is generated where the latent is positive."""
    x, _ = tuples(60)
    batch = Batch(jax.tree.map(jnp.asarray, x), jnp.ones((60, 2), bool), jnp.zeros(60, jnp.int32))
    chosen = model(((1, 0), (0, 1)), ((1, 3), (1, 4)))
    params = chosen.init(jax.random.key(0))
    readers = READERS | {"numbers": Classifier(ExactReader(lambda x: x, 2), {}, np.ones((1, 2), bool))}
    found = attribute_scores(chosen, params, jax.random.key(1), batch, MASKS, readers)
    assert found.keys() == {"numbers->words", "words->numbers"}
    np.testing.assert_array_equal(found["words->numbers"][:, 0], -found["words->numbers"][:, 1])
    assert set(np.unique(found["words->numbers"])) == {-1, 1}
    matching = attribute_matches(chosen, params, jax.random.key(1), batch, MASKS, ATTRIBUTES, readers)
    truth = ATTRIBUTES.of(batch.x)
    np.testing.assert_array_equal(matching["words->numbers"], (found["words->numbers"] > 0) == truth)


@pytest.mark.slow
def test_metrics_of_trained_readers_have_standard_errors_and_are_kept_apart_from_classifiers_of_classes(tmp_path):
    whole, said = dataset(), []
    settings = ClassifierSettings(steps=200, batch_size=32, dropout=0.0)
    trained_classifiers(whole, tmp_path, settings, said.append)
    files = set(tmp_path.iterdir())
    readers = trained_readers(whole, ATTRIBUTES, tmp_path, settings, said.append)
    # One network for both attributes, of three values and of two.
    assert len(set(tmp_path.iterdir()) - files) == 1 and [line.split(":")[0] for line in said[1:]] == ["attributes"]
    assert readers["numbers"].right.shape == (40, 2) and readers["numbers"].accuracy == 1
    again = trained_readers(whole, ATTRIBUTES, tmp_path, settings, said.append)
    assert len(said) == 2 and again["numbers"].accuracy == 1
    chosen = model(((1, 0), (1, 0)), ((2, 4), (2, 4)))
    evaluation = EvaluationSettings(classifier=settings, joint_samples=30)
    context = Context(
        chosen, chosen.init(jax.random.key(0)), whole, jax.random.key(1), evaluation, tmp_path, said.append
    )
    names = [f"attributes/{name}" for name in ("all", "each", "joint", "reader")]
    metrics = measure(context, names)
    _, classes = tuples(40)
    expected = {
        "attributes/all/words->numbers": (classes == [1, 0]).all(1),
        "attributes/all/numbers->words": (classes == [2, 1]).all(1),
        "attributes/each/words->numbers/colour": classes[:, 0] == 1,
        "attributes/each/words->numbers/shape": classes[:, 1] == 0,
        "attributes/each/numbers->words/colour": classes[:, 0] == 2,
        "attributes/each/numbers->words/shape": classes[:, 1] == 1,
        "attributes/joint": np.zeros(30),
        "attributes/reader/numbers/colour": np.ones(40),
        "attributes/reader/numbers/shape": np.ones(40),
    }
    by_size = {"attributes/all/by_size/1"}
    assert metrics.keys() == {prefix + name for name in (*expected, *by_size) for prefix in ("", "standard_error/")}
    for name, values in expected.items():
        assert metrics[name] == pytest.approx(values.mean())
        assert metrics[f"standard_error/{name}"] == pytest.approx(np.std(values, ddof=1) / np.sqrt(len(values)))
