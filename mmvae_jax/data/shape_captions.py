"""Coloured shapes and captions that name what they show, in five levels of difficulty; drawn here, at any size.

After the description of CdSprites+ (Sejnova et al. 2024), not after its code or its pictures. A picture shows one
shape (heart, square, ellipse) of a size (small, large), a colour (red, yellow, green, blue, pink), at a position (a
quarter of the picture), on a background (light, dark). Level 1 names the shape ("square"), 2 the size as well ("large
square"), 3 the colour ("large red square"), 4 the position ("large red square at top left") and 5 the background
("large red square at top left on dark"). What is named is independent, every value equally likely; what is not named
is the same in all pictures: large, red, in the middle, on dark. In every picture place, size and angle vary a little,
which no caption tells: at level 1 nothing but these and the shape.
"""

from collections.abc import Mapping
from functools import partial

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Int32, UInt8
from PIL import Image, ImageDraw

from mmvae_jax.data.attributes import Attributes
from mmvae_jax.data.batching import Dataset, Split, fingerprint, fixed_split
from mmvae_jax.errors import UserError

# Every attribute's phrases, in the order in which captions have them.
VALUES = {
    "size": ("small", "large"),
    "colour": ("red", "yellow", "green", "blue", "pink"),
    "shape": ("heart", "square", "ellipse"),
    "position": ("at top left", "at top right", "at bottom left", "at bottom right"),
    "background": ("on light", "on dark"),
}
# What a level adds to those before it.
_ADDED = {1: "shape", 2: "size", 3: "colour", 4: "position", 5: "background"}
LEVELS = tuple(_ADDED)
COLOURS = {
    "red": (220, 40, 40),
    "yellow": (245, 205, 35),
    "green": (45, 160, 70),
    "blue": (40, 90, 215),
    "pink": (245, 130, 190),
}
BACKGROUNDS = {"on light": (230, 230, 225), "on dark": (40, 40, 48)}
# Square roots of the area, in widths of the picture.
SIDES = {"small": 0.17, "large": 0.28}
# Of a shape's centre of mass, across and down, in widths of the picture.
PLACES = {
    "at top left": (0.28, 0.28),
    "at top right": (0.72, 0.28),
    "at bottom left": (0.28, 0.72),
    "at bottom right": (0.72, 0.72),
}
_UNNAMED = {
    "size": SIDES["large"],
    "colour": COLOURS["red"],
    "position": (0.5, 0.5),
    "background": BACKGROUNDS["on dark"],
}
# By how much they vary: places in widths of the picture, sides as a fraction, angles in degrees.
_PLACE, _SIDE, _ANGLE = 0.03, 0.08, 12.0
# A small shape is then less than three pixels wide.
MIN_SIZE = 16
# Subpixels of a pixel, along each axis.
_FINE = 4


def named(level: int) -> tuple[str, ...]:
    """The attributes that a level's captions name, in their order."""
    added = {name for at, name in _ADDED.items() if at <= level}
    return tuple(name for name in VALUES if name in added)


def vocabulary(level: int) -> tuple[str, ...]:
    """The words of a level's captions by class index; the first one is empty, for padding."""
    return ("", *dict.fromkeys(word for name in named(level) for phrase in VALUES[name] for word in phrase.split()))


def caption_length(level: int) -> int:
    """Words of a level's captions, padded to an even number."""
    words = sum(table.shape[1] for table in _tables(level))
    return words + words % 2


def _tables(level: int) -> list[Int32[np.ndarray, "V W"]]:
    """The words of every phrase of every attribute that a level names."""
    words = vocabulary(level)
    return [
        np.array([[words.index(word) for word in phrase.split()] for phrase in VALUES[name]], np.int32)
        for name in named(level)
    ]


def write_captions(classes: Int[np.ndarray, "N A"], level: int) -> Int32[np.ndarray, "N L"]:
    """The captions of tuples of these attributes, columns as `named`."""
    phrases = [table[column] for table, column in zip(_tables(level), classes.T, strict=True)]
    words = np.concatenate(phrases, 1)
    return np.pad(words, ((0, 0), (0, caption_length(level) - words.shape[1])))


def read_captions(captions: Int[Array, "N L"], level: int) -> Int[Array, "N A"]:
    """The attributes that captions name, columns as `named`; -1 where one does not stand at its place, word by word."""
    start, found = 0, []
    for table in _tables(level):
        stop = start + table.shape[1]
        same = jnp.all(captions[:, None, start:stop] == table, -1)
        found.append(jnp.where(same.any(1), same.argmax(1), -1))
        start = stop
    return jnp.stack(found, 1)


def _outline(shape: str) -> Float[np.ndarray, "P 2"]:
    """Points around a shape of area 1 about its centre of mass, x to the right and y down."""
    t = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    points = {
        "heart": np.stack(
            [16 * np.sin(t) ** 3, 5 * np.cos(2 * t) - 13 * np.cos(t) + 2 * np.cos(3 * t) + np.cos(4 * t)], 1
        ),
        "square": np.array([[0.0, 0.0], [1, 0], [1, 1], [0, 1]]),
        "ellipse": np.stack([8 * np.cos(t), 5 * np.sin(t)], 1),
    }[shape]
    following = np.roll(points, -1, 0)
    triangles = (points[:, 0] * following[:, 1] - following[:, 0] * points[:, 1]) / 2
    centre = triangles @ (points + following) / 3 / triangles.sum()
    return (points - centre) / np.sqrt(abs(triangles.sum()))


def _drawn(
    points: Float[np.ndarray, "P 2"], colour: tuple[int, int, int], background: tuple[int, int, int], size: int
) -> UInt8[np.ndarray, "S S 3"]:
    """A filled outline, points in widths of the picture; its edge is smooth."""
    mask = Image.new("L", (_FINE * size, _FINE * size))
    ImageDraw.Draw(mask).polygon([(float(x), float(y)) for x, y in _FINE * size * points], fill=255)
    front, behind = (Image.new("RGB", (size, size), tone) for tone in (colour, background))
    return np.asarray(Image.composite(front, behind, mask.reduce(_FINE)))


def draw_pictures(
    classes: Mapping[str, Int[np.ndarray, "N"]], size: int, rng: np.random.Generator
) -> UInt8[np.ndarray, "N S S 3"]:
    """Pictures of shapes that vary a little in place, size and angle.

    Args:
      classes: attribute -> of every picture its value, an index into `VALUES`; those that are left out are the same
        everywhere. The shape must be given.
      size: height and width in pixels.
      rng: draws the variation.
    """
    looks = {"size": SIDES, "colour": COLOURS, "position": PLACES, "background": BACKGROUNDS}
    outlines = [_outline(shape) for shape in VALUES["shape"]]
    count = len(classes["shape"])
    places = rng.uniform(-_PLACE, _PLACE, (count, 2))
    scales = rng.uniform(1 - _SIDE, 1 + _SIDE, count)
    angles = np.radians(rng.uniform(-_ANGLE, _ANGLE, count))
    pictures = np.empty((count, size, size, 3), np.uint8)
    for i in range(count):
        look = {name: each[VALUES[name][classes[name][i]]] for name, each in looks.items() if name in classes}
        look = _UNNAMED | look
        cos, sin = np.cos(angles[i]), np.sin(angles[i])
        turned = outlines[classes["shape"][i]] @ np.array([[cos, sin], [-sin, cos]])
        points = np.array(look["position"]) + places[i] + look["size"] * scales[i] * turned
        pictures[i] = _drawn(points, look["colour"], look["background"], size)
    return pictures


def shape_captions(
    level: int = 3,
    size: int = 64,
    train_tuples: int = 4000,
    test_tuples: int = 1000,
    seed: int = 0,
    modalities: tuple[str, str] = ("image", "caption"),
) -> Dataset:
    """Shapes and captions as two modalities, of classes by the shape, scored by every attribute that is named.

    Args:
      level: 1 to 5, how many attributes vary and are named.
      size: height and width of the pictures in pixels, at least 16.
      train_tuples: number of training tuples.
      test_tuples: number of test tuples, drawn apart from them.
      seed: draws all of them; those of the other split do not change with the number of tuples.
      modalities: names of the pictures and the captions.

    Raises:
      UserError: another level, pictures too small for a shape, no tuples, or a negative seed.
    """
    if level not in LEVELS:
        raise UserError(f"level={level}: give a level from {LEVELS[0]} to {LEVELS[-1]}")
    lowest = (("size", size, MIN_SIZE), ("train-tuples", train_tuples, 1), ("test-tuples", test_tuples, 1))
    for name, value, low in (*lowest, ("data-seed", seed, 0)):
        if value < low:
            raise UserError(f"{name}={value}: give at least {low}")
    train, test = (
        _tuples(level, size, count, np.random.default_rng([seed, split]), modalities)
        for split, count in enumerate((train_tuples, test_tuples))
    )
    provenance = {
        "pictures": f"drawn here, {size}x{size}, level {level}: {', '.join(named(level))}",
        "tuples": f"{train.size} train, {test.size} test",
        "classes": "shapes",
        "fingerprint": fingerprint(*(np.asarray(x) for split in (train, test) for x in split.arrays[0].values())),
    }
    attributes = Attributes(
        {name: VALUES[name] for name in named(level)}, {modalities[1]: partial(read_captions, level=level)}
    )
    classes, name = len(VALUES["shape"]), f"shape_captions_{level}"
    return Dataset(name, modalities, train, test, classes, provenance, attributes=attributes)


def _tuples(level: int, size: int, count: int, rng: np.random.Generator, modalities: tuple[str, str]) -> Split:
    classes = {name: rng.integers(len(VALUES[name]), size=count) for name in named(level)}
    captions = write_captions(np.stack(list(classes.values()), 1), level)
    pictures = draw_pictures(classes, size, rng)
    return fixed_split(dict(zip(modalities, (pictures, captions), strict=True)), classes["shape"])
