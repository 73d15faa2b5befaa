"""What the posterior of every subset generates of a few test tuples, as sprites and texts that a page can show."""

import base64
import io
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Num, UInt8
from PIL import Image, ImageDraw

from mmvae_jax import subsets
from mmvae_jax.evaluation.accuracy import at_means
from mmvae_jax.evaluation.context import Context
from mmvae_jax.modality import Modality
from mmvae_jax.plotting.figures import shown_tuples
from mmvae_jax.plotting.strips import drawn_as, pictures, texts
from mmvae_jax.plotting.style import COLOURS

# Of a tile's longer side, in pixels; larger pictures are made smaller.
MAX_SIDE = 64
# Of all sprites together, in bytes: a third more as text within a page.
MAX_BYTES = 2_400_000
# How sprites are encoded: the first way that keeps them within their share of it, else the last.
_ENCODINGS: tuple[dict[str, Any], ...] = ({"lossless": True}, *({"quality": quality} for quality in (90, 75, 50, 25)))
_CURVE_HEIGHT = 44
# Curves are drawn larger and made smaller, so that their lines are smooth.
_OVERSAMPLED = 4


def powerset_shown(context: Context) -> dict[str, Any]:
    """What every subset's posterior generates of the tuples that figures show, decoded at its mean.

    Of a mixture it is the mean of one component for each tuple, and private latents are at the mean of their prior, as
    for the metrics of what is told.

    Args:
      context: the model and its data, on the one host that draws.

    Returns:
      Plain values: `names` of the modalities, `subsets` written like `m0+m3`, `tuples`, their number, and for every
      modality under `modalities` either a `sprite`, as a data URI, with the `width` and `height` of its tiles, one row
      a subset and one column a tuple, or `texts`, one list a subset. Of both the first row is the tuples' own.
    """
    model, batch = context.model, shown_tuples(context)
    masks = shown_subsets(context.masks)
    key = jax.random.fold_in(context.key, 5)
    made = jax.jit(at_means, static_argnums=(0, 1))(
        model, model.names, context.params, key, batch, jnp.asarray(masks, bool)
    )
    drawn = [m for m in model.modalities if drawn_as(m) != "texts"]
    show = partial(_shown, limit=MAX_BYTES // max(1, len(drawn)))
    rows = {m.name: jnp.concatenate([m.in_units(batch.x[m.name])[None], made[m.name]]) for m in model.modalities}
    return {
        "names": list(model.names),
        "subsets": [subsets.label(mask, model.names) for mask in masks],
        "tuples": len(batch.label),
        "modalities": [show(m, np.asarray(rows[m.name])) for m in model.modalities],
    }


def shown_subsets(measured: Bool[np.ndarray, "S M"]) -> Bool[np.ndarray, "R M"]:
    """Subsets that metrics are of, and those of all modalities but one, by size: a few dozen of any number."""
    m = measured.shape[1]
    rows = {tuple(np.flatnonzero(mask).tolist()) for mask in [*measured, *~subsets.singletons(m)]} - {()}
    return subsets.from_indices(sorted(rows, key=lambda members: (len(members), members)), m)


def _shown(modality: Modality, rows: Num[np.ndarray, "R N *shape"], limit: int) -> dict[str, Any]:
    values, (count, columns) = rows.reshape(-1, *modality.shape), rows.shape[:2]
    match drawn_as(modality):
        case "texts":
            written = texts(modality, values)
            return {"texts": [written[i * columns : (i + 1) * columns] for i in range(count)]}
        case "pictures":
            tiles = np.stack([_small(image) for image in np.rint(255 * pictures(modality, values)).astype(np.uint8)])
        case "curves":
            tiles = _curves(values)
    _, height, width, _ = tiles.shape
    sheet = tiles.reshape(count, columns, height, width, 3).swapaxes(1, 2).reshape(count * height, columns * width, 3)
    data = base64.b64encode(_encoded(sheet, limit)).decode()
    return {"sprite": f"data:image/webp;base64,{data}", "width": width, "height": height}


def _small(image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "h w 3"]:
    height, width = image.shape[:2]
    scale = MAX_SIDE / max(height, width)
    if scale >= 1:
        return image
    size = max(1, round(scale * width)), max(1, round(scale * height))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def _curves(vectors: Num[np.ndarray, "N L"]) -> UInt8[np.ndarray, "N h w 3"]:
    """Every vector as a curve over its index, all on one scale; dots where it has few entries."""
    low, high = float(np.nanmin(vectors)), float(np.nanmax(vectors))
    width, height = MAX_SIDE * _OVERSAMPLED, _CURVE_HEIGHT * _OVERSAMPLED
    x = width * (0.06 + 0.88 * (np.arange(vectors.shape[1]) + 0.5) / vectors.shape[1])
    y = height * (0.92 - 0.84 * (vectors.astype(float) - low) / (high - low or 1.0))
    tiles = []
    for each in y:
        image = Image.new("RGB", (width, height), "white")
        pen, points = ImageDraw.Draw(image), [(a, b) for a, b in zip(x, each, strict=True) if np.isfinite(b)]
        pen.line(points, COLOURS[0], width=_OVERSAMPLED)
        for a, b in points if len(points) <= 16 else ():
            r = 1.5 * _OVERSAMPLED
            pen.ellipse((a - r, b - r, a + r, b + r), COLOURS[0])
        tiles.append(np.asarray(image.resize((MAX_SIDE, _CURVE_HEIGHT), Image.Resampling.BOX)))
    return np.stack(tiles)


def _encoded(sheet: UInt8[np.ndarray, "H W 3"], limit: int) -> bytes:
    """As WebP, without loss if it fits."""
    content = b""
    for encoding in _ENCODINGS:
        file = io.BytesIO()
        Image.fromarray(sheet).save(file, "WEBP", **encoding)
        content = file.getvalue()
        if len(content) <= limit:
            break
    return content
