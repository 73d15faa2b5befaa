"""Faces drawn here, a stand-in for CelebA that needs no download: they show the 18 attributes of MVAE's supplement.

They are no photographs: results on them do not compare with results on CelebA. Which attributes a face has depends on
the others as one would expect: one colour of hair at most, none for the bald, mustaches and bushy eyebrows for men,
heavy makeup for women mostly, more open mouths among the smiling. Face and jaw, tone of skin, place, angle, clothes and
background vary freely.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw

from mmvae_jax.data.celeba import Faces
from mmvae_jax.errors import UserError

Colour = tuple[int, int, int]

# Those of Wu & Goodman (2018), in CelebA's order.
ATTRIBUTES = (
    "Bald",
    "Bangs",
    "Black_Hair",
    "Blond_Hair",
    "Brown_Hair",
    "Bushy_Eyebrows",
    "Eyeglasses",
    "Gray_Hair",
    "Heavy_Makeup",
    "Male",
    "Mouth_Slightly_Open",
    "Mustache",
    "Pale_Skin",
    "Receding_Hairline",
    "Smiling",
    "Straight_Hair",
    "Wavy_Hair",
    "Wearing_Hat",
)
HAIR = {
    "Black_Hair": (28, 24, 26),
    "Blond_Hair": (233, 200, 110),
    "Brown_Hair": (112, 68, 38),
    "Gray_Hair": (172, 172, 176),
}
_RED_HAIR = (178, 62, 28)
# Black, blond, brown, gray, none of them.
_WOMEN_S_HAIR, _MEN_S_HAIR = (0.24, 0.26, 0.26, 0.06, 0.18), (0.32, 0.10, 0.25, 0.15, 0.18)
_SKINS = ((238, 196, 164), (120, 76, 50))  # between these
_PALE = (253, 240, 234)
_LIPS, _PAINTED = (165, 20, 40), (205, 16, 50)
_HATS = ((40, 80, 170), (40, 130, 80), (150, 40, 120), (60, 60, 70), (215, 120, 30))
# The right eye's middle and the mouth's height.
_EYE, _MOUTH = (0.42, -0.06), 0.6
# A face is then some eight pixels wide.
MIN_SIZE = 16
_FINE = 4


def drawn_faces(train: int = 4000, test: int = 1000, size: int = 64, seed: int = 0) -> tuple[Faces, Faces]:
    """Drawn faces of both splits.

    Args:
      train: number of training faces.
      test: number of test faces, drawn apart from them.
      size: height and width in pixels, at least 16.
      seed: draws all of them; those of the other split do not change with the number of faces.

    Raises:
      UserError: pictures too small for a face, no faces, or a negative seed.
    """
    lowest = (("size", size, MIN_SIZE), ("train-faces", train, 1), ("test-faces", test, 1), ("data-seed", seed, 0))
    for name, value, low in lowest:
        if value < low:
            raise UserError(f"{name}={value}: give at least {low}")
    first, second = (_faces(count, size, np.random.default_rng([seed, i])) for i, count in enumerate((train, test)))
    return first, second


def _faces(count: int, size: int, rng: np.random.Generator) -> Faces:
    present = draw_attributes(count, rng)
    faces = [draw_face(dict(zip(ATTRIBUTES, row.tolist(), strict=True)), size, rng) for row in present]
    images, landmarks = map(np.stack, zip(*faces, strict=True))
    return Faces(images, present, ATTRIBUTES, landmarks)


def draw_attributes(count: int, rng: np.random.Generator) -> Bool[np.ndarray, "N 18"]:
    """Which attributes faces have, columns as `ATTRIBUTES`."""

    def chance(probability: Float[np.ndarray, "N"] | float) -> Bool[np.ndarray, "N"]:
        return rng.random(count) < probability

    male = chance(0.45)
    hat = chance(0.12)
    bald = male & ~hat & chance(0.16)
    uniform = rng.random(count)
    colours = [np.searchsorted(np.cumsum(each)[:4], uniform) for each in (_WOMEN_S_HAIR, _MEN_S_HAIR)]
    colour = np.where(bald, 4, np.where(male, colours[1], colours[0]))
    style = np.where(bald | hat & male, 2, np.searchsorted([0.35, 0.7], rng.random(count)))
    receding = ~bald & ~hat & chance(np.where(male, 0.25, 0.05))
    bangs = ~bald & ~hat & ~receding & chance(np.where(male, 0.15, 0.35))
    smiling = chance(0.48)
    found = {
        "Male": male,
        "Wearing_Hat": hat,
        "Bald": bald,
        **{name: colour == i for i, name in enumerate(HAIR)},
        "Straight_Hair": style == 0,
        "Wavy_Hair": style == 1,
        "Receding_Hairline": receding,
        "Bangs": bangs,
        "Smiling": smiling,
        "Mouth_Slightly_Open": chance(np.where(smiling, 0.7, 0.3)),
        "Mustache": male & chance(0.25),
        "Bushy_Eyebrows": chance(np.where(male, 0.3, 0.06)),
        "Heavy_Makeup": chance(np.where(male, 0.02, 0.6)),
        "Eyeglasses": chance(0.13),
        "Pale_Skin": chance(0.12),
    }
    return np.stack([found[name] for name in ATTRIBUTES], 1)


def draw_face(
    shows: dict[str, bool], size: int, rng: np.random.Generator
) -> tuple[UInt8[np.ndarray, "S S 3"], Float[np.ndarray, "5 2"]]:
    """A face with these attributes, all else by chance, its edges smooth; and its landmarks, as of `Faces`."""
    backdrop, clothes = (_shade(tuple(rng.integers(60, 230, 3).tolist()), rng, 0.1) for _ in range(2))
    pen = _Pen(Image.new("RGB", (_FINE * size, _FINE * size), backdrop), rng)
    look = _Look.of(shows, rng)
    if shows["Straight_Hair"] or shows["Wavy_Hair"] or not (shows["Male"] or shows["Bald"]):
        _hair_behind(pen, shows, look)
    neck = 0.62 if shows["Male"] else 0.42
    pen.area([(-2.4, 3), (-1.9, 1.5), (-neck, 1.25), (neck, 1.25), (1.9, 1.5), (2.4, 3)], clothes)
    pen.area([(-neck, 0.4), (neck, 0.4), (neck, 1.25), (0, 1.5), (-neck, 1.25)], _darker(look.skin, 0.85))
    for side in (-1, 1):
        pen.oval((side * 1.0, 0.05), (0.13, 0.2), _darker(look.skin, 0.92))
    pen.area(_head(shows["Male"], look.jaw), look.skin)
    _features(pen, shows, look)
    if shows["Wearing_Hat"]:
        _sides(pen, look)
        _hat(pen, rng)
    elif shows["Bald"]:
        pen.oval((-0.3, -0.75), (0.22, 0.1), _lighter(look.skin, 0.6))
    else:
        _hair_above(pen, shows, look)
    if shows["Eyeglasses"]:
        _glasses(pen)
    half, _ = _mouth_shape(shows)
    landmarks = pen.at([(-_EYE[0], _EYE[1]), _EYE, (0, 0.26), (-half, _MOUTH), (half, _MOUTH)])
    return np.asarray(pen.image.reduce(_FINE)), np.array(landmarks) / pen.image.width


class _Look(NamedTuple):
    """What faces of the same attributes differ in."""

    skin: Colour
    hair: Colour
    eyes: Colour
    jaw: float

    @classmethod
    def of(cls, shows: dict[str, bool], rng: np.random.Generator) -> "_Look":
        tone = rng.uniform(0, 1)
        low, high = np.array(_SKINS[0]), np.array(_SKINS[1])
        skin = _PALE if shows["Pale_Skin"] else tuple((low + tone * (high - low)).astype(int).tolist())
        hair = next((colour for name, colour in HAIR.items() if shows[name]), _RED_HAIR)
        hair = (70, 50, 40) if shows["Bald"] else hair
        eyes = ((60, 110, 160), (70, 50, 30), (60, 110, 70))[rng.integers(3)]
        return cls(skin, _shade(hair, rng, 0.06), eyes, rng.uniform(0.9, 1.1))


class _Pen:
    """Draws in units of half a face's width and height about its centre, x to the right and y down."""

    def __init__(self, image: Image.Image, rng: np.random.Generator):
        self.image, self._draw = image, ImageDraw.Draw(image)
        self._radii = np.array([rng.uniform(0.2, 0.235), rng.uniform(0.27, 0.3)]) * image.width
        self._centre = np.array([rng.uniform(0.46, 0.54), rng.uniform(0.51, 0.55)]) * image.width
        angle = np.radians(rng.uniform(-6, 6))
        self._turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])

    def at(self, points) -> list[tuple[float, float]]:
        """Where points are in the image."""
        return [tuple(point) for point in (np.asarray(points) * self._radii @ self._turn + self._centre).tolist()]

    def area(self, points, colour: Colour) -> None:
        """A filled outline."""
        self._draw.polygon(self.at(points), fill=colour)

    def line(self, points, colour: Colour, width: float) -> None:
        """A line through points, its width in halves of the face's."""
        self._draw.line(self.at(points), fill=colour, width=max(1, round(width * self._radii[0])), joint="curve")

    def oval(self, centre: tuple[float, float], radii: tuple[float, float], colour: Colour) -> None:
        """A filled ellipse."""
        self.area(_arc(centre, radii, 0, 2 * np.pi), colour)


def _arc(centre, radii, start: float, stop: float, points: int = 40) -> Float[np.ndarray, "P 2"]:
    t = np.linspace(start, stop, points)
    return np.stack([centre[0] + radii[0] * np.cos(t), centre[1] + radii[1] * np.sin(t)], 1)


def _head(male: bool, jaw: float) -> Float[np.ndarray, "P 2"]:
    """A square jaw for men, a narrow chin for women."""
    points = _arc((0, 0), (1, 1), 0, 2 * np.pi, 80)
    x, y = points.T
    below = np.maximum(y, 0)
    if male:
        square = np.sign(x) * np.abs(x) ** 0.6
        return np.stack([np.where(y > 0, square * (1 - 0.16 * below**2 / jaw), x), y], 1)
    return np.stack([x * (1 - 0.25 * below * jaw), y], 1)


def _waves(points: Float[np.ndarray, "P 2"], size: float, count: int) -> Float[np.ndarray, "P 2"]:
    """A line pushed out and in, so many times along it."""
    t = np.linspace(0, 2 * np.pi * count, len(points))
    return points * (1 + size * np.sin(t))[:, None]


def _hair_behind(pen: _Pen, shows: dict[str, bool], look: _Look) -> None:
    """Long hair for women, to the jaw for men; without a style of its own it is put up at the neck."""
    length = (0.75 if shows["Male"] else 1.9) if shows["Straight_Hair"] or shows["Wavy_Hair"] else 0.35
    shade = _darker(look.hair, 0.8)
    down = np.linspace(-0.3, length, 40)
    for side in (-1, 1):
        edge = side * (1.22 + 0.06 * down)
        edge = edge + side * 0.13 * np.sin(9 * down) if shows["Wavy_Hair"] else edge
        inner = np.zeros(len(down))
        pen.area(np.concatenate([np.stack([edge, down], 1), np.stack([inner, down], 1)[::-1]]), shade)
        if shows["Straight_Hair"] or shows["Wavy_Hair"]:
            for inset in (0.12, 0.24):
                wave = 0.09 * np.sin(9 * down + 1) if shows["Wavy_Hair"] else 0
                strand = np.stack([edge - side * inset + side * wave, down], 1)
                pen.line(strand, _darker(look.hair, 0.55) if inset < 0.2 else look.hair, 0.05)


def _hair_above(pen: _Pen, shows: dict[str, bool], look: _Look) -> None:
    """The cap of hair down to the hairline, and its sides."""
    _sides(pen, look)
    top = _arc((0, -0.1), (1.12, 1.1), np.pi, 2 * np.pi, 120)
    if shows["Wavy_Hair"]:
        top = _waves(top, 0.07, 9)
    if shows["Straight_Hair"]:
        top[1:-1] *= 1 + 0.04 * (np.arange(len(top) - 2) // 3 % 2)[:, None]
    x = np.linspace(1.0, -1.0, 41)
    if shows["Bangs"]:
        line = -0.30 + 0.05 * (np.arange(len(x)) // 2 % 2) - 0.1 * np.abs(x)
    elif shows["Receding_Hairline"]:
        # Back to the head's edge on both sides of a tip.
        line = np.maximum(-0.92 + 0.3 * np.exp(-((x / 0.16) ** 2)), 0.04 - np.sqrt(1 - x**2))
    else:
        line = -0.58 - 0.12 * np.cos(2.2 * x) + 0.35 * x**2
    pen.area(np.concatenate([top, np.stack([x, line], 1)]), look.hair)
    if shows["Straight_Hair"] or shows["Wavy_Hair"]:
        for start in np.linspace(-0.8, 0.8, 7):
            down = np.linspace(-1.12 + 0.25 * start**2, -0.72 if not shows["Receding_Hairline"] else -0.98, 12)
            wave = 0.07 * np.sin(22 * down) if shows["Wavy_Hair"] else 0 * down
            pen.line(np.stack([start + wave, down], 1), _darker(look.hair, 0.65), 0.045)


def _sides(pen: _Pen, look: _Look) -> None:
    for side in (-1, 1):
        pen.area([(side * 1.12, -0.5), (side * 1.1, 0.1), (side * 0.93, 0.2), (side * 0.84, -0.4)], look.hair)


def _hat(pen: _Pen, rng: np.random.Generator) -> None:
    colour = _shade(_HATS[rng.integers(len(_HATS))], rng, 0.15)
    crown = _arc((0, -0.5), (1.1, 0.95), np.pi, 2 * np.pi)
    pen.area(crown, colour)
    pen.area([(-1.12, -0.75), (1.12, -0.75), (1.12, -0.5), (-1.12, -0.5)], _darker(colour, 0.6))
    pen.area(_arc((0, -0.47), (1.6, 0.11), 0, 2 * np.pi), _darker(colour, 0.8))


def _features(pen: _Pen, shows: dict[str, bool], look: _Look) -> None:
    """Eyes, brows, nose, mouth, and what is painted or grows there."""
    brows = _darker(look.hair, 0.6)
    for side in (-1, 1):
        if shows["Heavy_Makeup"]:
            pen.oval((side * 0.62, 0.32), (0.2, 0.12), _mixed(look.skin, (235, 70, 100), 0.5))
            pen.oval((side * 0.42, -0.13), (0.27, 0.13), (110, 60, 150))
        pen.oval((side * _EYE[0], _EYE[1]), (0.19, 0.08), (250, 250, 250))
        pen.oval((side * _EYE[0], _EYE[1]), (0.085, 0.08), look.eyes)
        pen.line([(side * 0.22, -0.07), (side * 0.42, -0.15), (side * 0.62, -0.07)], (30, 24, 24), 0.05)
        brow = [(side * 0.2, -0.27), (side * 0.45, -0.35), (side * 0.68, -0.27)]
        pen.line(brow, brows, 0.22 if shows["Bushy_Eyebrows"] else 0.06)
    pen.line([(0.02, -0.05), (0.1, 0.24), (-0.06, 0.26)], _darker(look.skin, 0.72), 0.06)
    if shows["Mustache"]:
        pen.area([(0, 0.31), (0.42, 0.47), (0.4, 0.54), (0, 0.43), (-0.4, 0.54), (-0.42, 0.47)], brows)
    _mouth(pen, shows, look)


def _mouth_shape(shows: dict[str, bool]) -> tuple[float, float]:
    """Half its width, and by how much its middle is below its corners."""
    return (0.5, 0.2) if shows["Smiling"] else (0.3, -0.05)


def _mouth(pen: _Pen, shows: dict[str, bool], look: _Look) -> None:
    lips = _PAINTED if shows["Heavy_Makeup"] else _mixed(look.skin, _LIPS, 0.45)
    half, bend = _mouth_shape(shows)
    x = np.linspace(-half, half, 21)
    curve = _MOUTH + bend * (0.5 - (x / half) ** 2)
    if shows["Mouth_Slightly_Open"]:
        gape = 0.17 * (1 - (x / half) ** 2)
        middle = 0.02 if shows["Smiling"] else 0.0
        upper, lower = curve - (0.25 - middle) * gape, curve + gape
        mouth = np.concatenate([np.stack([x, upper], 1), np.stack([x, lower], 1)[::-1]])
        pen.area(mouth, (60, 8, 16))
        pen.area(np.concatenate([np.stack([x, upper], 1), np.stack([x, upper + 0.4 * gape], 1)[::-1]]), (255, 255, 255))
        pen.line(np.concatenate([mouth, mouth[:1]]), lips, 0.1)
    else:
        pen.line(np.stack([x, curve], 1), lips, 0.15)
        pen.line(np.stack([x, curve], 1), _darker(lips, 0.5), 0.03)


def _glasses(pen: _Pen) -> None:
    frame = (15, 15, 20)
    for side in (-1, 1):
        ring = _arc((side * 0.43, -0.05), (0.31, 0.21), 0, 2 * np.pi)
        pen.line(np.concatenate([ring, ring[1:3]]), frame, 0.08)
        pen.line([(side * 0.74, -0.07), (side * 1.0, -0.1)], frame, 0.08)
    pen.line([(-0.12, -0.07), (0.12, -0.07)], frame, 0.08)


def _mixed(first: Colour, second: Colour, share: float) -> Colour:
    red, green, blue = (round(a + share * (b - a)) for a, b in zip(first, second, strict=True))
    return red, green, blue


def _darker(colour: Colour, factor: float) -> Colour:
    return _mixed((0, 0, 0), colour, factor)


def _lighter(colour: Colour, share: float) -> Colour:
    return _mixed(colour, (255, 255, 255), share)


def _shade(colour: Colour, rng: np.random.Generator, by: float) -> Colour:
    """A little darker or lighter."""
    change = rng.uniform(-by, by)
    return _lighter(colour, change) if change > 0 else _darker(colour, 1 + change)
