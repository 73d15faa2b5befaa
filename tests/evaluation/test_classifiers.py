"""Classifiers learn what is learnable, and their cache never serves the wrong or a damaged file."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmvae_jax.data.batching import Dataset, fixed_split
from mmvae_jax.evaluation.classifiers import ClassifierSettings, trained_classifiers

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
    return fixed_split(x, jnp.asarray(label))


@pytest.fixture(scope="module")
def dataset():
    train, test = split(0, 400), split(1, 150)
    return Dataset("toy", train.modalities, train, test, CLASSES, {"fingerprint": "one"})


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


def test_other_data_or_settings_have_their_own_file(dataset, tmp_path):
    one = dataclasses.replace(dataset, modalities=("vector",))
    other = dataclasses.replace(one, provenance={"fingerprint": "two"})
    for data, settings in ((one, SETTINGS), (other, SETTINGS), (one, dataclasses.replace(SETTINGS, dropout=0.1))):
        trained_classifiers(data, tmp_path, settings, lambda line: None)
    assert len(files(tmp_path, "vector")) == 3


@pytest.mark.parametrize("damage", ["truncated", "flipped", "foreign"])
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
    else:
        np.savez(path, something=np.zeros(3))
    lines = []
    again = trained_classifiers(one, tmp_path, SETTINGS, lines.append)
    assert any(str(path) in line and "training it again" in line for line in lines)
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
