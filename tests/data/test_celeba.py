"""CelebA's official files are read as they are, and what is wrong with them is told in one line."""

import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmvae_jax.data import celeba
from mmvae_jax.data.celeba import ATTRIBUTES, IMAGES, LANDMARKS, PARTITION, read_celeba
from mmvae_jax.errors import UserError

HALVES = {"000001.jpg": "0", "000002.jpg": "0", "000003.jpg": "1", "000007.jpg": "2", "000009.jpg": "0"}
NAMES = ("Bald", "Smiling", "Young")
# Rows in another order than the halves, and of a face that these do not list.
ROWS = {
    "000009.jpg": (1, 1, 1),
    "000001.jpg": (-1, 1, -1),
    "000002.jpg": (-1, -1, 1),
    "000003.jpg": (1, 1, -1),
    "000005.jpg": (1, 1, -1),
    "000007.jpg": (1, -1, -1),
}


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "celeba"
    (root / IMAGES).mkdir(parents=True)
    for number, file in enumerate(HALVES):
        Image.new("RGB", (178, 218), (40 * number, 0, 0)).save(root / IMAGES / file, quality=100)
    table = [f"{file}  {'  '.join(map(str, row))}" for file, row in ROWS.items()]
    (root / ATTRIBUTES).write_text("\n".join([str(len(ROWS)), " ".join(NAMES) + " ", *table]) + "\n")
    (root / PARTITION).write_text("".join(f"{file} {half}\n" for file, half in HALVES.items()))
    return root


@pytest.fixture
def replaced():
    """Another text of a file, for a while."""

    @contextmanager
    def replace(path, change):
        text = path.read_text()
        assert change(text) != text
        path.write_text(change(text))
        yield
        path.write_text(text)

    return replace


def read(folder, **settings):
    return read_celeba(str(folder), size=8, cache=folder.parent / "cache", **settings)


def test_faces_and_their_attributes_of_both_halves(folder):
    train, test = read(folder)
    assert train.names == test.names == NAMES
    np.testing.assert_allclose(train.images[:, 4, 4, 0], [0, 40, 160], atol=2)
    np.testing.assert_allclose(test.images[:, 4, 4, 0], [120], atol=2)
    assert train.present.tolist() == [[False, True, False], [False, False, True], [True, True, True]]
    assert test.present.tolist() == [[True, False, False]]
    assert read(folder.parent)[1].present.tolist() == test.present.tolist()


def test_landmarks_are_in_widths_of_what_is_cut_out(folder, replaced):
    assert read(folder)[0].landmarks is None
    points = "15 35  163 183  89 109  15 183  163 35"
    columns = " ".join(
        f"{part}_{axis}" for part in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth") for axis in "xy"
    )
    (folder / LANDMARKS).write_text(f"5\n{columns}\n" + "".join(f"{file} {points}\n" for file in HALVES))
    train, test = read(folder)
    assert train.landmarks is not None and test.landmarks is not None and train.landmarks.shape == (3, 5, 2)
    np.testing.assert_allclose(test.landmarks, [[(0, 0), (1, 1), (0.5, 0.5), (0, 1), (1, 0)]])
    with replaced(folder / LANDMARKS, lambda text: text.replace("000009.jpg 15", "000009.jpg left")):
        fails(folder, "two numbers for each of five landmarks")
    with replaced(folder / LANDMARKS, lambda text: text.replace("000009.jpg 15", "000009.jpg nan")):
        fails(folder, "expected two numbers for each of five landmarks")
    with replaced(folder / LANDMARKS, lambda text: text.replace("000009.jpg", "000010.jpg")):
        fails(folder, r"list_landmarks_align_celeba\.txt has no row of 000009\.jpg")


def test_what_is_wrong_with_the_files_is_told(folder, replaced):
    attributes, partition = folder / ATTRIBUTES, folder / PARTITION
    with replaced(attributes, lambda text: text.replace("000007.jpg", "000008.jpg")):
        fails(folder, r"list_attr_celeba\.txt has no row of 000007\.jpg")
    with replaced(attributes, lambda text: text.replace("000002.jpg  -1  -1  1", "000002.jpg  -1  0  1")):
        fails(folder, "Smiling of 000002.jpg is '0', expected 1 or -1")
    with replaced(attributes, lambda text: text.replace("000002.jpg  -1  -1  1", "000002.jpg  -1  -1")):
        fails(folder, "line 5 has 2 values for 3 columns")
    with replaced(attributes, lambda text: "\n" + text.replace("000002.jpg  -1  -1  1", "000002.jpg  -1  -1")):
        fails(folder, "line 6 has 2 values for 3 columns")
    with replaced(attributes, lambda text: text[:1]):
        fails(folder, "has 1 lines")
    with replaced(partition, lambda text: text.replace("000003.jpg 1", "000003.jpg 5")):
        fails(folder, "line 3 is '000003.jpg 5': expected a file name and 0, 1 or 2")
    with replaced(partition, lambda text: text.replace("000007.jpg 2", "000007.jpg 1")):
        fails(folder, "lists no face of half 2")
    with replaced(partition, lambda text: text + "000009.jpg 0\n000005.jpg 2\n"):
        fails(folder, r"000005\.jpg cannot be read \(No such file")
    partition.write_bytes(b"\xff\xfe")
    fails(folder, "is not UTF-8 text")


def test_files_that_are_not_there(folder, tmp_path):
    os.rename(folder / PARTITION, tmp_path / "elsewhere")
    fails(folder, r"no list_eval_partition\.txt in .*celeba: CelebA is img_align_celeba")
    fails(tmp_path / "cache", "no such folder")
    (tmp_path / "empty").mkdir()
    fails(tmp_path / "empty", "no CelebA in")


def test_a_corrupt_photograph_is_named_or_left_out(folder):
    (folder / IMAGES / "000002.jpg").write_bytes(b"no picture")
    fails(folder, r"000002\.jpg cannot be decoded")
    train, _ = read(folder, skip_corrupt=True, report=lambda line: None)
    assert train.present.tolist() == [[False, True, False], [True, True, True]]
    np.testing.assert_allclose(train.images[:, 4, 4, 0], [0, 160], atol=2)


def fails(folder, match):
    with pytest.raises(UserError, match=match):
        read(folder)


@pytest.fixture
def site(folder, tmp_path, monkeypatch, served):
    """A download site of the official files, called by their identifiers: the photographs as a zip archive."""
    (folder / LANDMARKS).write_text(f"5\n{'x y ' * 5}\n" + "".join(f"{file} {'40 90 ' * 5}\n" for file in HALVES))
    site = tmp_path / "site"
    site.mkdir()
    for name, identifier in celeba._IDS.items():
        if name == IMAGES:
            archive = shutil.make_archive(str(tmp_path / "images"), "zip", folder, IMAGES)
            shutil.move(archive, site / identifier)
        else:
            shutil.copy(folder / name, site / identifier)
    monkeypatch.setattr(celeba, "_URL", served(site))
    return site


def test_tfds_downloads_the_official_files(folder, site, tmp_path):
    halves = zip(read(folder), read_celeba("tfds", size=8, cache=tmp_path / "cache"), strict=True)
    for own, downloaded in halves:
        np.testing.assert_array_equal(downloaded.images, own.images)
        np.testing.assert_array_equal(downloaded.present, own.present)
        np.testing.assert_array_equal(downloaded.landmarks, own.landmarks)
    shutil.rmtree(site)
    assert len(read_celeba("tfds", size=8, cache=tmp_path / "cache")[0].images) == 3


def test_a_page_in_words_where_the_photographs_should_be(site, error_of):
    (site / celeba._IDS[IMAGES]).write_text("<html>Too many users have viewed or downloaded this file</html>")
    assert "cannot be unpacked (File is not a zip file)" in error_of(read_celeba, "tfds")


def test_real_faces(real_data, tmp_path):
    if not (Path(real_data) / "celeba").is_dir():
        pytest.skip(f"no celeba/ in {real_data}")
    train, test = read_celeba(real_data, size=16, cache=tmp_path)
    assert len(train.names) == 40 and train.present.shape[1] == 40
    assert len(train.images) == len(train.present) and len(test.images) == len(test.present)
    # In all of CelebA 48 % smile and 2 % are bald.
    frequency = dict(zip(train.names, train.present.mean(0), strict=True))
    assert 0.4 < frequency["Smiling"] < 0.56 and 0.01 < frequency["Bald"] < 0.05
