"""MultiMNIST: digits on their places, the string of them, and canvases that are new in every epoch or withheld."""

import jax
import numpy as np
import pytest

from mmvae_jax.data.batching import batch_at, take
from mmvae_jax.data.mnist import official_digits
from mmvae_jax.data.multimnist import PLACES, SYMBOLS, multimnist


@pytest.fixture
def dataset(idx_folder):
    return multimnist(str(idx_folder))


def told(string):
    return "".join(SYMBOLS[symbol] for symbol in string if symbol >= 0)


def test_a_canvas_shows_its_string(dataset, idx_folder):
    digits = official_digits(idx_folder)
    split = dataset.train
    plan = split.plan(split.arrays, jax.random.key(0))
    batch = batch_at(split, split.arrays, plan, 0, 40)
    assert batch.x["image"].shape == (40, 50, 50, 1) and batch.x["string"].shape == (40, 5)
    for i in range(40):
        count, chosen = int(plan["count"][i]), np.asarray(plan["digits"][i])
        assert told(np.asarray(batch.x["string"][i])) == "".join(map(str, digits.train_labels[chosen[:count]])) + "."
        assert np.asarray(batch.x["string"][i]).tolist()[count + 1 :] == [-1] * (4 - count)
        canvas = np.zeros((50, 50), np.uint8)
        for digit, (row, column) in list(zip(chosen, PLACES, strict=True))[:count]:
            window = canvas[row : row + 28, column : column + 28]
            np.maximum(window, digits.train_images[digit], out=window)
        np.testing.assert_array_equal(batch.x["image"][i, ..., 0], canvas)
        assert int(batch.label[i]) == count


def test_counts_and_digits_are_equally_likely():
    dataset = multimnist()
    assert (dataset.train.size, dataset.test.size, dataset.num_classes) == (4000, 1000, 5)
    batch = take(dataset.train, jax.random.key(1), 4000)
    counts = np.bincount(np.asarray(batch.label))
    assert len(counts) == 5 and np.abs(counts - 800).max() < 4.5 * np.sqrt(800)
    symbols = np.asarray(batch.x["string"])
    first = np.bincount(symbols[:, 0][symbols[:, 0] < 10])
    assert len(first) == 10 and np.abs(first - 320).max() < 4.5 * np.sqrt(320)


def test_training_canvases_are_new_in_every_epoch_and_test_canvases_never(dataset):
    def canvases(split, seed):
        return {image.tobytes() for image in np.asarray(take(split, jax.random.key(seed), split.size).x["image"])}

    # Apart from the blank one, and a few of the 40 digits that stand alone.
    assert len(canvases(dataset.train, 0) & canvases(dataset.train, 1)) < 10
    assert canvases(dataset.test, 0) == canvases(dataset.test, 1)


def test_what_supervision_withholds_never_comes_back(idx_folder):
    split = multimnist(str(idx_folder), supervision=0.1, seed=2).train
    epochs = [take(split, jax.random.key(seed), 40) for seed in (0, 1)]
    assert np.asarray(epochs[0].present).sum(0).tolist() == [22, 22]
    seen = [
        sorted((told(s), tuple(p)) for s, p in zip(np.asarray(e.x["string"]), np.asarray(e.present), strict=True))
        for e in epochs
    ]
    assert seen[0] == seen[1]


def test_real_files(real_data):
    dataset = multimnist(real_data)
    assert (dataset.train.size, dataset.test.size) == (60_000, 10_000)


def test_mistakes(idx_folder, error_of):
    assert "supervision level 2.0" in error_of(multimnist, "embedded", 2.0)
    assert "no mnist in" in error_of(multimnist, str(idx_folder.parent.parent))
    path = idx_folder / "t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    assert f"{path} is truncated" in error_of(multimnist, str(idx_folder))
