"""MNIST-SVHN-Text: triples of one class, paired as often as promised; words at every place."""

from collections import Counter

import jax
import numpy as np
import pytest

from mmvae_jax.data.batching import batch_at, take
from mmvae_jax.data.mnist import load_digits
from mmvae_jax.data.mnist_svhn_text import (
    NAMES,
    mnist_svhn_text,
    strings_to_text,
    text_to_strings,
)
from mmvae_jax.data.svhn import load_svhn


@pytest.fixture(scope="module")
def embedded():
    return mnist_svhn_text()


def epoch(split, seed):
    return jax.tree.map(np.asarray, split.plan(split.arrays, jax.random.key(seed)))


def test_a_triple_shows_one_digit_three_times(embedded):
    split, digits, numbers = embedded.train, load_digits("embedded"), load_svhn("embedded")
    plan = split.plan(split.arrays, jax.random.key(0))
    batch = jax.jit(lambda arrays, plan: batch_at(split, arrays, plan, 1000, 500))(split.arrays, plan)
    rows = jax.tree.map(lambda values: np.asarray(values)[1000:1500], plan)
    np.testing.assert_array_equal(batch.x["mnist"][..., 0], digits.train_images[rows["mnist"]])
    np.testing.assert_array_equal(batch.x["svhn_stand_in"], numbers.train_images[rows["svhn"]])
    np.testing.assert_array_equal(digits.train_labels[rows["mnist"]], batch.label)
    np.testing.assert_array_equal(numbers.train_labels[rows["svhn"]], batch.label)
    words = [string.strip() for string in text_to_strings(batch.x["text"])]
    assert words == [NAMES[label] for label in batch.label]


def test_the_stand_in_is_called_so_and_svhn_is_not(embedded, idx_folder, svhn_folder):
    assert embedded.name == "mnist_svhn_stand_in_text"
    assert embedded.modalities == ("mnist", "svhn_stand_in", "text")
    assert embedded.provenance["house numbers"].startswith("stand-in for SVHN")
    official = mnist_svhn_text(str(idx_folder.parent))
    assert (official.name, official.modalities) == ("mnist_svhn_text", ("mnist", "svhn", "text"))


def test_items_of_the_smaller_pool_come_once_a_pairing(embedded):
    plan = epoch(embedded.train, 1)
    assert len(plan["index"]) == embedded.train.size == 20 * 4000
    assert (np.bincount(plan["mnist"], minlength=4000) == 20).all()
    uses = np.bincount(plan["svhn"], minlength=12_000)
    assert uses.max() <= 20
    assert (uses > 0).mean() > 0.99


def test_unequal_pools_pair_the_smaller_count_of_each_class(idx_folder, svhn_folder):
    dataset = mnist_svhn_text(str(idx_folder.parent), pairings=7)
    digits, numbers = load_digits(str(idx_folder)), load_svhn(str(svhn_folder))
    counts = [np.bincount(v, minlength=10) for v in (digits.train_labels, numbers.train_labels)]
    plan = epoch(dataset.train, 0)
    label = digits.train_labels[plan["mnist"]]
    np.testing.assert_array_equal(np.bincount(label, minlength=10), 7 * np.minimum(*counts))
    np.testing.assert_array_equal(label, numbers.train_labels[plan["svhn"]])


def test_words_stand_at_every_place_equally_often(embedded):
    batch = take(embedded.train, jax.random.key(2), 80_000)
    strings, label = text_to_strings(batch.x["text"]), np.asarray(batch.label)
    assert {len(string) for string in strings} == {8}
    place = np.array([len(string) - len(string.lstrip()) for string in strings])
    for digit, name in enumerate(NAMES):
        counts = np.bincount(place[label == digit])
        assert len(counts) == 9 - len(name)
        expected = counts.sum() / len(counts)
        assert np.abs(counts - expected).max() < 4.5 * np.sqrt(expected)


def test_strings_and_text_are_inverse():
    strings = ["  zero  ", "threes z"]
    assert text_to_strings(strings_to_text(strings)) == strings


def test_epochs_differ_and_repeat_with_the_key(embedded):
    first, again, other = (epoch(embedded.train, seed) for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    pairs = [set(zip(plan["mnist"], plan["svhn"], strict=True)) for plan in (first, other)]
    assert len(pairs[0] & pairs[1]) < 0.1 * len(pairs[0])


def test_test_triples_are_fixed(embedded):
    triples = [
        {tuple(plan[name][i] for name in ("mnist", "svhn", "place")) for i in range(1000)}
        for plan in (epoch(embedded.test, 0), epoch(embedded.test, 1))
    ]
    assert triples[0] == triples[1]
    assert len({mnist for mnist, _, _ in triples[0]}) == 1000


def test_incomplete_supervision_keeps_the_pairs_of_every_tuple(idx_folder, svhn_folder):
    data = str(idx_folder.parent)
    dataset = mnist_svhn_text(data, text=False, pairings=5, supervision=0.1, seed=6)
    assert dataset.modalities == ("mnist", "svhn")
    batches = [take(dataset.train, jax.random.key(seed), 200) for seed in (0, 1)]
    assert set(batches[0].x) == {"mnist", "svhn"}
    assert batches[0].present.all(axis=1).sum() == 20
    assert batches[0].present.sum(axis=0).tolist() == [110, 110]
    tuples = [
        Counter(
            (m.tobytes(), s.tobytes(), tuple(p))
            for m, s, p in zip(*map(np.asarray, (batch.x["mnist"], batch.x["svhn"], batch.present)), strict=True)
        )
        for batch in batches
    ]
    assert tuples[0] == tuples[1]
    assert (batches[0].label != batches[1].label).any()


def test_mistakes(idx_folder, error_of):
    assert "0 pairings" in error_of(mnist_svhn_text, "embedded", True, 0)
    assert "no SVHN in" in error_of(mnist_svhn_text, str(idx_folder.parent))


def test_real_files(real_data):
    dataset = mnist_svhn_text(real_data)
    assert dataset.train.size == 20 * 9083
    label = take(dataset.test, jax.random.key(0), dataset.test.size).label
    assert np.bincount(label).tolist() == [141, 432, 312, 215, 169, 177, 157, 162, 118, 117]
