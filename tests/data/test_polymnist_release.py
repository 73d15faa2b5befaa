"""The reader of the official release: pairing by name and one-line errors."""

import jax
import numpy as np
import pytest
from PIL import Image

from mmvae_jax.data.batching import take
from mmvae_jax.data.polymnist import MODALITIES, polymnist


@pytest.fixture
def message(error_of, release_folder):
    """Reads the damaged release and gives the error."""
    return lambda: error_of(polymnist, str(release_folder))


def test_tuples_are_paired_by_name_whatever_the_order_of_creation(release_folder):
    dataset = polymnist(str(release_folder))
    assert (dataset.train.size, dataset.test.size) == (24, 12)
    batch = take(dataset.train, jax.random.key(0), 24)
    origin = np.stack([batch.x[name][:, 0, 0] for name in MODALITIES], axis=1)
    assert (origin[:, :, 0] == np.arange(5)).all()
    assert (origin[:, :, 1:] == origin[:, :1, 1:]).all()
    np.testing.assert_array_equal(batch.label, origin[:, 0, 2])


def test_tuples_are_stored_in_the_order_of_index_and_label(release_folder):
    x, label = polymnist(str(release_folder)).train.arrays
    index = np.asarray(x["m3"][:, 0, 0, 1], int)
    order = index * 10 + np.asarray(label)
    assert (np.diff(order) > 0).all()
    for i in (0, 11, 23):
        path = release_folder / "train" / "m3" / f"{index[i]}.{label[i]}.png"
        np.testing.assert_array_equal(x["m3"][i], np.asarray(Image.open(path)))


def test_unpaired_files_name_an_example(release_folder, message):
    lost = release_folder / "train" / "m2" / "4.7.png"
    lost = lost if lost.exists() else sorted(lost.parent.iterdir())[5]
    lost.unlink()
    text = message()
    assert "unpaired" in text and lost.name in text and "not in m2" in text
    (release_folder / "train" / "m0" / lost.name).unlink()
    assert f"{lost.name} is not in m0" in message()


def test_empty_and_missing_folders(release_folder, message):
    for path in (release_folder / "test" / "m1").iterdir():
        path.unlink()
    assert "no .png file in" in message()
    (release_folder / "test" / "m1").rmdir()
    assert "no folder" in message()


def test_foreign_names(release_folder, message):
    (release_folder / "train" / "m4" / "cover.png").write_bytes(b"")
    assert "cover.png is not named <index>.<label>.png" in message()


def test_damaged_and_resized_pictures(release_folder, message):
    path = sorted((release_folder / "train" / "m1").iterdir())[3]
    content = path.read_bytes()
    for damaged in (b"", b"no picture at all", content[: len(content) // 2]):
        path.write_bytes(damaged)
        text = message()
        assert str(path) in text and "cannot be decoded" in text
    Image.new("RGB", (32, 30)).save(path)
    assert "32x30" in message()


def test_grey_pictures_become_colour(release_folder):
    for m in range(5):
        Image.new("L", (28, 28), 9).save(release_folder / "test" / f"m{m}" / "99.1.png")
    x, label = polymnist(str(release_folder)).test.arrays
    assert label[-1] == 1
    np.testing.assert_array_equal(x["m0"][-1], np.full((28, 28, 3), 9))
