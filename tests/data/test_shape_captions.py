"""Shapes and captions: what is drawn can be measured in the pixels and is what the captions say, word by word."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.measure import label, regionprops

from mmvae_jax.data.batching import take
from mmvae_jax.data.shape_captions import (
    BACKGROUNDS,
    COLOURS,
    LEVELS,
    VALUES,
    caption_length,
    named,
    read_captions,
    shape_captions,
    vocabulary,
    write_captions,
)

SIZE, COUNT = 128, 120


@pytest.fixture(scope="module")
def drawn():
    """Large pictures of all levels, with their attributes by name."""
    found = {}
    for level in LEVELS:
        dataset = shape_captions(level, SIZE, COUNT, 1, seed=3)
        batch = take(dataset.train, jax.random.key(0), COUNT)
        classes = np.asarray(dataset.attributes.of(batch.x))
        values = {name: [VALUES[name][c] for c in column] for name, column in zip(named(level), classes.T, strict=True)}
        found[level] = np.asarray(batch.x["image"]), values, batch
    return found


def foreground(picture):
    difference = np.abs(picture.astype(int) - picture[0, 0]).sum(-1)
    return difference > difference.max() / 2


def region(picture):
    (found,) = regionprops(label(foreground(picture)))
    return found


@pytest.mark.parametrize("level", LEVELS)
def test_colours_and_backgrounds_are_those_that_are_named(drawn, level):
    pictures, values, _ = drawn[level]
    for i, picture in enumerate(pictures):
        background = values["background"][i] if "background" in values else "on dark"
        assert tuple(picture[0, 0]) == BACKGROUNDS[background]
        inside = picture[tuple(np.round(region(picture).centroid).astype(int))]
        assert tuple(inside) == COLOURS[values["colour"][i] if "colour" in values else "red"]


@pytest.mark.parametrize("level", LEVELS)
def test_places_are_the_quarters_that_are_named_and_else_the_middle(drawn, level):
    pictures, values, _ = drawn[level]
    for i, picture in enumerate(pictures):
        row, column = np.array(region(picture).centroid) / SIZE
        if "position" in values:
            across = "left" if column < 0.5 else "right"
            assert values["position"][i] == f"at {'top' if row < 0.5 else 'bottom'} {across}"
        else:
            assert abs(row - 0.5) < 0.035 and abs(column - 0.5) < 0.035


@pytest.mark.parametrize("level", LEVELS)
def test_sizes_are_areas_whatever_the_shape_and_nothing_is_cut_off(drawn, level):
    pictures, values, _ = drawn[level]
    for i, picture in enumerate(pictures):
        found = region(picture)
        large = found.area / SIZE**2 > 0.22**2
        assert large == (values.get("size", ["large"] * COUNT)[i] == "large")
        assert min(found.bbox) > 0 and max(found.bbox) < SIZE


@pytest.mark.parametrize("level", LEVELS)
def test_shapes_differ_in_their_outlines(drawn, level):
    """A square is as long as wide; a heart is not convex."""
    pictures, values, _ = drawn[level]
    for shape, picture in zip(values["shape"], pictures, strict=True):
        found = region(picture)
        square = found.axis_major_length / found.axis_minor_length < 1.15
        assert shape == ("square" if square else "heart" if found.solidity < 0.94 else "ellipse")


@pytest.mark.parametrize("level", LEVELS)
def test_edges_are_smooth_and_no_two_pictures_are_alike(drawn, level):
    pictures, _, batch = drawn[level]
    pictures, _, batch = drawn[level]
    assert len({picture.tobytes() for picture in pictures}) == COUNT
    between = [len(np.unique(picture.reshape(-1, 3), axis=0)) for picture in pictures]
    assert min(between) > 4
    assert pictures.dtype == np.uint8 and batch.x["caption"].dtype == jnp.int32


@pytest.mark.parametrize(
    ("level", "attributes", "caption"),
    [
        (1, ("square",), ["square", ""]),
        (2, ("large", "square"), ["large", "square"]),
        (3, ("small", "pink", "heart"), ["small", "pink", "heart", ""]),
        (4, ("large", "blue", "ellipse", "at top left"), ["large", "blue", "ellipse", "at", "top", "left"]),
        (
            5,
            ("small", "yellow", "square", "at bottom right", "on dark"),
            ["small", "yellow", "square", "at", "bottom", "right", "on", "dark"],
        ),
    ],
)
def test_captions_are_written_and_read_word_by_word(level, attributes, caption):
    classes = np.array([[VALUES[name].index(value) for name, value in zip(named(level), attributes, strict=True)]])
    words = write_captions(classes, level)
    assert [vocabulary(level)[word] for word in words[0]] == caption and len(caption) == caption_length(level)
    np.testing.assert_array_equal(read_captions(jnp.asarray(words), level), classes)


@pytest.mark.parametrize(
    ("caption", "read"),
    [
        ("large red square at top left on dark", "large red square top-left dark"),
        ("red large square at top left on dark", "- - square top-left dark"),
        ("large red square top at left on dark", "large red square - dark"),
        ("large red red at top top on light", "large red - - light"),
        ("large red square at bottom left left dark", "large red square bottom-left -"),
    ],
)
def test_what_is_not_well_formed_is_not_read(caption, read):
    words = jnp.array([[vocabulary(5).index(word) for word in caption.split()]])
    classes = np.asarray(read_captions(words, 5))[0]
    phrases = [VALUES[name][c] if c >= 0 else "-" for name, c in zip(named(5), classes, strict=True)]
    assert " ".join(p.removeprefix("at ").removeprefix("on ").replace(" ", "-") for p in phrases) == read


def everything(dataset, split="train"):
    batch = take(getattr(dataset, split), jax.random.key(0), getattr(dataset, split).size)
    tuples = zip(*map(np.asarray, batch.x.values()), strict=True)
    return {(image.tobytes(), caption.tobytes()) for image, caption in tuples}


def test_a_seed_gives_the_same_tuples_and_another_one_others():
    first, again, other = (shape_captions(1, 32, 200, 50, seed) for seed in (0, 0, 1))
    assert first.provenance == again.provenance != other.provenance
    assert everything(first) == everything(again)
    assert not everything(first) & everything(other)


@pytest.mark.parametrize("level", [1, 5])
def test_no_tuple_is_in_both_splits(level):
    dataset = shape_captions(level, 32, 400, 200)
    assert (dataset.train.size, dataset.test.size) == (400, 200)
    assert len(everything(dataset)) == 400 and len(everything(dataset, "test")) == 200
    assert not everything(dataset) & everything(dataset, "test")


def test_classes_are_shapes_and_every_value_is_equally_likely():
    dataset = shape_captions(5, 16, 3000, 1)
    batch = take(dataset.train, jax.random.key(0), 3000)
    classes = np.asarray(dataset.attributes.of(batch.x))
    np.testing.assert_array_equal(batch.label, classes[:, named(5).index("shape")])
    for name, column in zip(named(5), classes.T, strict=True):
        counts, expected = np.bincount(column), 3000 / len(VALUES[name])
        assert len(counts) == len(VALUES[name]) and np.abs(counts - expected).max() < 4.5 * np.sqrt(expected)


def test_mistakes(error_of):
    assert error_of(shape_captions, 6) == "level=6: give a level from 1 to 5"
    assert error_of(shape_captions, 1, 4) == "size=4: give at least 16"
    assert error_of(shape_captions, 1, 16, 0) == "train-tuples=0: give at least 1"
    assert error_of(shape_captions, 1, 16, 1, 0) == "test-tuples=0: give at least 1"
    assert error_of(shape_captions, 1, 16, 1, 1, -1) == "data-seed=-1: give at least 0"
