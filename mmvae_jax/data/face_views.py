"""Six views of a photograph of a face, a modality each (Wu & Goodman 2018, computer vision transformations).

`colour`, the photograph; `grey`; `edges`, Canny's; `mask`, where eyes, nose and mouth are; `obscured`, without its
lower half; `watermarked`, with a text over it. Grey pictures and edges are scikit-image's, masks and the text are drawn
by Pillow.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from skimage.color import rgb2gray
from skimage.feature import canny

from mmvae_jax.data.batching import Dataset, Plan, Split, fingerprint, fixed_order
from mmvae_jax.data.celeba import Faces
from mmvae_jax.data.faces import LoadedFaces
from mmvae_jax.data.tasks import Task

WATERMARK = "mmvae"
# Of the watermark over what is below it; its height and the standard deviation of Canny's smoothing, in heights.
_OPACITY, _LETTERS, _SIGMA = 0.7, 0.3, 1.5 / 64
# Radii of eyes and nose, and the mouth's thickness, in widths of the picture.
_EYE, _NOSE, _MOUTH = 0.07, 0.06, 0.08
_FINE = 4


def with_views(picture: UInt8[np.ndarray, "S S 3"]) -> UInt8[np.ndarray, "S S 5"]:
    """A photograph, its grey picture and its edges."""
    grey = rgb2gray(picture)
    edges = canny(grey, sigma=_SIGMA * len(picture))
    return np.concatenate([picture, _bytes(grey)[..., None], _bytes(edges)[..., None]], -1)


def _bytes(values: Float[np.ndarray, "*S"] | Bool[np.ndarray, "*S"]) -> UInt8[np.ndarray, "*S"]:
    return np.round(255 * values.astype(np.float64)).astype(np.uint8)


def draw_mask(landmarks: Float[np.ndarray, "5 2"], size: int) -> UInt8[np.ndarray, "S S 1"]:
    """Discs at eyes and nose and a thick line from one corner of the mouth to the other, white on black."""
    image = Image.new("L", (_FINE * size, _FINE * size))
    draw, scale = ImageDraw.Draw(image), _FINE * size
    for (x, y), radius in zip(
        scale * landmarks, scale * np.array([_EYE, _EYE, _NOSE, _MOUTH / 2, _MOUTH / 2]), strict=True
    ):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    draw.line([tuple(point) for point in (scale * landmarks[3:]).tolist()], fill=255, width=round(_MOUTH * scale))
    return np.asarray(image.reduce(_FINE))[..., None]


def watermark(size: int) -> Float[np.ndarray, "S S 1"]:
    """How much of every pixel the text covers: white letters on a rising line through the middle."""
    image = Image.new("L", (_FINE * size, _FINE * size))
    font = ImageFont.load_default(_FINE * size * _LETTERS)
    ImageDraw.Draw(image).text((image.width / 2, image.height / 2), WATERMARK, 255, font, "mm")
    turned = image.rotate(20, Image.Resampling.BICUBIC).reduce(_FINE)
    return _OPACITY * np.asarray(turned, np.float32)[..., None] / 255


def visible(size: int) -> Bool[np.ndarray, "S S"]:
    """What is left of an obscured picture: its upper half."""
    return np.broadcast_to(np.arange(size)[:, None] < size // 2, (size, size))


def face_views(faces: LoadedFaces) -> Dataset:
    """The data set of the views, without classes; without `mask` where landmarks are not known.

    Args:
      faces: with images of `with_views`, [N, S, S, 5].
    """
    train, test = faces.train, faces.test
    size = train.images.shape[1]
    modalities = ("colour", "grey", "edges", "mask", "obscured", "watermarked")
    if train.landmarks is None or test.landmarks is None:
        modalities = tuple(each for each in modalities if each != "mask")
    first, second = (_split(faces, modalities) for faces in (train, test))
    provenance = {
        "faces": faces.source,
        "tuples": f"{first.size} train, {second.size} test; {size}x{size}",
        "modalities": ", ".join(modalities) + ("" if "mask" in modalities else "; no mask: no list of landmarks"),
        "fingerprint": fingerprint(
            *(np.asarray(each) for split in (first, second) for each in jax.tree.leaves(split.arrays))
        ),
    }
    of = " of stand-ins" if faces.stand_in else ""
    tasks = {f"{name}{of}": task for name, task in _tasks(first, modalities).items()}
    return Dataset(f"{faces.name}_views", modalities, first, second, 1, provenance, tasks=tasks)


class _Views(NamedTuple):
    """What the modalities are made of, where they are needed; a photograph is held once."""

    photographs: UInt8[Array, "N S S 5"]
    masks: UInt8[Array, "N S S 1"] | None
    watermark: Float[Array, "S S 1"]


def _split(faces: Faces, modalities: tuple[str, ...]) -> Split:
    count, size = faces.images.shape[:2]
    masks = None
    if "mask" in modalities and faces.landmarks is not None:
        masks = jnp.asarray(np.stack([draw_mask(each, size) for each in faces.landmarks]))
    views = _Views(jnp.asarray(faces.images), masks, jnp.asarray(watermark(size)))

    def gather(views: _Views, rows: Plan) -> tuple[dict[str, Array], Array]:
        found = _of_photographs(views.photographs[rows["index"]], views.watermark)
        if views.masks is not None:
            found["mask"] = views.masks[rows["index"]]
        return {name: found[name] for name in modalities}, jnp.zeros(len(rows["index"]), jnp.int32)

    return Split(views, count, fixed_order(count), gather, modalities)


def _of_photographs(photographs: UInt8[Array, "B S S 5"], covered: Float[Array, "S S 1"]) -> dict[str, Array]:
    colour = photographs[..., :3]
    under = visible(colour.shape[1])[..., None]
    return {
        "colour": colour,
        "grey": photographs[..., 3:4],
        "edges": photographs[..., 4:],
        "obscured": jnp.where(under, colour, 0).astype(jnp.uint8),
        "watermarked": jnp.round(colour * (1 - covered) + 255 * covered).astype(jnp.uint8),
    }


def _tasks(train: Split, modalities: tuple[str, ...]) -> Mapping[str, Task]:
    """Each with the guess that costs nothing: the given picture itself where it can be one, else the mean picture."""
    views: _Views = train.arrays
    size = views.photographs.shape[1]
    mean = _mean(views.photographs)
    shown, covered = visible(size), np.asarray(views.watermark)[..., 0]
    tasks = {
        "colourisation": Task("grey", "colour", lambda x: jnp.repeat(x, 3, -1)),
        "edge detection": Task("colour", "edges", lambda x: jnp.broadcast_to(mean[..., 4:], (*x.shape[:3], 1))),
        "inpainting": Task("obscured", "colour", lambda x: jnp.broadcast_to(mean[..., :3], x.shape), ~shown),
        "watermark removal": Task("watermarked", "colour", lambda x: x, covered > 0),
    }
    if views.masks is not None:
        average = _mean(views.masks)
        tasks["mask"] = Task("colour", "mask", lambda x: jnp.broadcast_to(average, (*x.shape[:3], 1)))
    return tasks


def _mean(pictures: UInt8[Array, "N S S C"]) -> Float[np.ndarray, "S S C"]:
    """Of all pictures, in 0..1; piece by piece, for floats take four times the room."""
    total = sum(np.asarray(pictures[i : i + 1024], np.float64).sum(0) for i in range(0, len(pictures), 1024))
    return np.asarray(total, np.float32) / (255 * len(pictures))
