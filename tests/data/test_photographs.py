"""Photographs are cut and resized as told, decoded once, and never taken from a cache of other files or a damaged one."""

import json

import numpy as np
import pytest
from PIL import Image

from mmvae_jax.data import photographs
from mmvae_jax.data.photographs import central_square, read_photographs
from mmvae_jax.errors import UserError


@pytest.fixture
def paths(tmp_path):
    rng = np.random.default_rng(0)
    made = [tmp_path / f"{i}.png" for i in range(5)]
    for path in made:
        Image.fromarray(rng.integers(0, 256, (9, 7, 3), np.uint8)).save(path)
    return made


def read(paths, cache, size=5, crop: int | None = 5, skip_corrupt=False, prepare=None):
    lines = []
    return read_photographs(paths, size, cache, crop, skip_corrupt, lines.append, prepare), lines


def with_inverse(picture):
    return np.concatenate([picture, 255 - picture], -1)


def test_the_middle_is_cut_out():
    picture = np.arange(6 * 9 * 3, dtype=np.uint8).reshape(6, 9, 3)
    np.testing.assert_array_equal(central_square(picture, 4), picture[1:5, 2:6])
    np.testing.assert_array_equal(central_square(picture, None), picture[:, 1:7])
    np.testing.assert_array_equal(central_square(picture, 100), picture[:, 1:7])


def test_squares_of_the_size_asked_for_are_the_pictures_pixels(paths, tmp_path):
    found, _ = read(paths, tmp_path / "cache")
    expected = [np.asarray(Image.open(path))[2:7, 1:6] for path in paths]
    np.testing.assert_array_equal(found.images, expected)
    assert found.kept.all()


def test_others_are_resized(tmp_path):
    Image.new("RGB", (178, 218), (10, 200, 30)).save(tmp_path / "plain.jpg")
    found, _ = read([tmp_path / "plain.jpg"], tmp_path, size=64, crop=148)
    assert found.images.shape == (1, 64, 64, 3)
    assert np.abs(found.images.astype(int) - [10, 200, 30]).max() <= 3


def test_a_tilde_is_the_home_folder(paths, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(paths[0].parent)
    read(paths, "~/kept")
    assert len(list((tmp_path / "kept").iterdir())) == 2 and not (paths[0].parent / "~").exists()


def test_decoded_once(paths, tmp_path, monkeypatch):
    first, _ = read(paths, tmp_path / "cache")
    monkeypatch.setattr(photographs, "read_picture", None)
    again, _ = read(paths, tmp_path / "cache")
    np.testing.assert_array_equal(again.images, first.images)


def test_other_files_crops_and_sizes_are_decoded_again(paths, tmp_path):
    first, _ = read(paths, tmp_path / "cache")
    Image.new("RGB", (7, 9), (1, 2, 3)).save(paths[2])
    changed, _ = read(paths, tmp_path / "cache")
    assert (changed.images[2] == [1, 2, 3]).all() and not (first.images[2] == [1, 2, 3]).all()
    assert read(paths, tmp_path / "cache", size=3)[0].images.shape == (5, 3, 3, 3)
    assert not np.array_equal(read(paths, tmp_path / "cache", crop=None)[0].images, changed.images)


def test_what_is_made_of_them_is_kept_beside_them(paths, tmp_path):
    plain, _ = read(paths, tmp_path / "cache")
    for _ in range(2):
        found, _ = read(paths, tmp_path / "cache", prepare=with_inverse)
        np.testing.assert_array_equal(found.images, np.concatenate([plain.images, 255 - plain.images], -1))


@pytest.mark.parametrize("damage", ["flipped", "cut", "no description", "other description"])
def test_a_damaged_cache_is_made_again(paths, tmp_path, damage):
    first, _ = read(paths, tmp_path / "cache")
    expected = np.array(first.images)
    (pixels,), (about,) = (list((tmp_path / "cache").glob(f"*.{ending}")) for ending in ("bin", "json"))
    if damage == "flipped":
        content = bytearray(pixels.read_bytes())
        content[100] ^= 1
        pixels.write_bytes(content)
    elif damage == "cut":
        pixels.write_bytes(pixels.read_bytes()[:-1])
    elif damage == "no description":
        about.unlink()
    else:
        about.write_text(json.dumps({"left_out": [77]}))
    again, lines = read(paths, tmp_path / "cache")
    np.testing.assert_array_equal(again.images, expected)
    assert len(lines) == (damage != "no description") and all("damaged" in line for line in lines)


def test_a_corrupt_picture_is_named_and_nothing_is_cached(paths, tmp_path):
    whole = paths[3].read_bytes()
    paths[3].write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"3\.png cannot be decoded .*--skip-corrupt"):
        read(paths, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_corrupt_ones_are_left_out_on_request(paths, tmp_path):
    expected = np.array(read(paths, tmp_path / "cache")[0].images)
    paths[3].write_bytes(b"no picture")
    for _ in range(2):
        found, lines = read(paths, tmp_path / "cache", skip_corrupt=True)
        assert found.kept.tolist() == [True, True, True, False, True]
        np.testing.assert_array_equal(found.images, expected[[0, 1, 2, 4]])
        assert len(lines) == 1 and "left out 1 of 5" in lines[0] and "3.png" in lines[0]
    with pytest.raises(UserError, match=r"3\.png cannot be decoded"):
        read(paths, tmp_path / "cache")
    with pytest.raises(UserError, match="none of 1 photographs"):
        read(paths[3:4], tmp_path / "cache", skip_corrupt=True)


@pytest.mark.parametrize("passing", [OSError(24, "Too many open files"), MemoryError("no room")])
def test_what_may_pass_leaves_no_picture_out(passing, paths, tmp_path, monkeypatch):
    """The cache would go on without it when it can be read again."""
    with monkeypatch.context() as patched, pytest.raises(UserError, match="cannot be decoded"):
        patched.setattr(Image, "open", raiser(passing))
        read_photographs(paths, 8, tmp_path, skip_corrupt=True)
    assert read_photographs(paths, 8, tmp_path, skip_corrupt=True).kept.all()


def raiser(error):
    def fail(*_, **__):
        raise error

    return fail


def test_what_makes_no_sense_is_refused(paths, tmp_path):
    with pytest.raises(UserError, match="no photograph"):
        read([], tmp_path)
    with pytest.raises(UserError, match="size=0"):
        read(paths, tmp_path, size=0)
    with pytest.raises(UserError, match="crop=-1"):
        read(paths, tmp_path, crop=-1)
    with pytest.raises(UserError, match=r"absent\.jpg cannot be read"):
        read([tmp_path / "absent.jpg"], tmp_path)


def test_a_cache_that_cannot_be_written_is_one_line(paths, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        read(paths, tmp_path / "file")
