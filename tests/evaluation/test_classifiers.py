"""Classifiers learn what is learnable, and their cache never serves the wrong or a damaged file."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmvae_jax.data.batching import Dataset, fixed_split
from mmvae_jax.evaluation.classifiers import ClassifierSettings, classify, trained_classifiers

SETTINGS = ClassifierSettings(steps=80, batch_size=32)
CLASSES = 3


def split(seed, n):
    """Images with a bright bar, words, vectors and the label itself; each tells the class."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, CLASSES, n)
    image = rng.integers(0, 120, (n, 12, 12, 1))
    image[np.arange(n)[:, None], (2 + 4 * label)[:, None], 2:10] += 120
    word = rng.integers(3, 9, (n, 6))
    word[np.arange(n), rng.integers(0, 5, n)] = label
    word[:, 5] = -1
    x = {
        "image": image.astype(np.uint8),
        "word": word.astype(np.int32),
        "vector": (np.eye(CLASSES)[label] + 0.2 * rng.normal(size=(n, CLASSES))).astype(np.float32),
        "label": label.astype(np.int32),
    }
    return fixed_split(jax.tree.map(jnp.asarray, x), jnp.asarray(label))


@pytest.fixture(scope="module")
def dataset():
    train, test = split(0, 400), split(1, 150)
    return Dataset("toy", train.modalities, train, test, CLASSES)


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    return folder, trained_classifiers(dataset, folder, SETTINGS, lambda line: None)


def files(folder, modality):
    return sorted(folder.glob(f"classifier-toy-{modality}-*.npz"))


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a.params), jax.tree.leaves(b.params), strict=True))


@pytest.mark.parametrize("modality", ["image", "word", "vector", "label"])
def test_each_kind_of_modality_is_learned(trained, modality):
    assert trained[1][modality].accuracy > 0.95


def test_the_second_time_nothing_is_trained(dataset, trained):
    folder, first = trained
    lines = []
    second = trained_classifiers(dataset, folder, SETTINGS, lines.append)
    assert lines == []
    assert all(same(first[name], second[name]) for name in first)
    assert [second[name].accuracy for name in first] == [first[name].accuracy for name in first]


def with_labels(dataset, change):
    """The data set with other classes, its images and words the same arrays."""
    x, label = dataset.train.arrays
    return dataclasses.replace(dataset, train=fixed_split(x, change(label)))


def test_other_labels_data_or_settings_train_other_classifiers(dataset, tmp_path):
    one = dataclasses.replace(dataset, modalities=("vector",))
    permuted = with_labels(one, lambda label: (label + 1) % CLASSES)
    first = trained_classifiers(one, tmp_path, SETTINGS, lambda line: None)["vector"]
    second = trained_classifiers(permuted, tmp_path, SETTINGS, lambda line: None)["vector"]
    assert first.accuracy > 0.95
    # The test split kept its labels, which the other classifier takes for wrong.
    assert second.accuracy < 0.05
    dropped = dataclasses.replace(SETTINGS, dropout=0.1)
    trained_classifiers(one, tmp_path, dropped, lambda line: None)
    assert len(files(tmp_path, "vector")) == 3


def test_what_a_split_makes_of_its_arrays_is_part_of_its_identity(dataset):
    split = dataset.train

    def gather(arrays, rows):
        x, label = split.gather(arrays, rows)
        return x, (label + 1) % CLASSES

    assert dataclasses.replace(split, gather=gather).identity != split.identity
    assert dataclasses.replace(split, presence=jnp.zeros((split.size, 4), bool)).identity == split.identity


@pytest.mark.parametrize(
    ("dtype", "pixels", "unit"), [(np.uint8, (), 1.0), (np.uint8, ("counts",), 255.0), (np.int32, (), 1.0)]
)
def test_counts_are_classified_as_they_are_generated(tmp_path, dtype, pixels, unit):
    """A model of counts generates real numbers, whatever integers they were; of pixels, what is between 0 and 1."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 300)
    counts = rng.poisson(np.where(label[:, None], 9.0, 2.0), (300, 4)).astype(dtype)
    split = fixed_split({"counts": jnp.asarray(counts)}, jnp.asarray(label))
    dataset = Dataset("toy", ("counts",), split, split, 2)
    found = trained_classifiers(dataset, tmp_path, SETTINGS, lambda line: None, pixels=pixels, symbols=())["counts"]
    shown = classify(found.module, found.params, jnp.asarray(counts, jnp.float32) / unit)
    assert np.mean(np.asarray(shown) == label) == found.accuracy > 0.7


def test_nothing_is_learned_of_what_is_not_there(tmp_path):
    """Single missing elements cost themselves; whole ones, whose label could be learned of nothing, teach nothing."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 400)
    x = rng.normal(np.where(label[:, None], 2.0, -2.0), 1, (400, 6)).astype(np.float32)
    train = np.where(rng.random(x.shape) < 0.1, np.nan, x)
    missing = rng.random(400) < 0.4
    train[missing] = np.nan
    wrong = np.where(missing, 1, label)
    splits = (fixed_split({"x": jnp.asarray(a)}, jnp.asarray(b)) for a, b in ((train, wrong), (x, label)))
    found = trained_classifiers(Dataset("toy", ("x",), *splits, 2), tmp_path, SETTINGS, lambda line: None)["x"]
    assert found.accuracy > 0.9
    logits = found.module.apply({"params": found.params}, jnp.zeros((1, 6)))
    assert abs(float(logits[0, 0] - logits[0, 1])) < 1


@pytest.mark.parametrize("damage", ["truncated", "flipped", "foreign", "not finite"])
def test_a_damaged_file_is_trained_again_and_said_so(dataset, tmp_path, damage):
    one = dataclasses.replace(dataset, modalities=("vector",))
    first = trained_classifiers(one, tmp_path, SETTINGS, lambda line: None)
    (path,) = files(tmp_path, "vector")
    content = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        middle = content.index(b"Dense_0") + 300
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :])
    elif damage == "foreign":
        np.savez(path, something=np.zeros(3))
    else:
        with np.load(path) as arrays:
            np.savez(path, **{name: np.full_like(arrays[name], np.nan) for name in arrays.files})
    lines = []
    again = trained_classifiers(one, tmp_path, SETTINGS, lines.append)
    assert any(str(path) in line and "making it again" in line for line in lines)
    assert same(first["vector"], again["vector"])
    assert path.read_bytes() != b"" and np.load(path).files


def test_a_cache_that_cannot_be_written_is_told_and_costs_nothing_else(dataset, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    one = dataclasses.replace(dataset, modalities=("vector",))
    lines = []
    found = trained_classifiers(one, blocked, SETTINGS, lines.append)
    assert found["vector"].accuracy > 0.95
    assert any("cannot be written" in line for line in lines)
