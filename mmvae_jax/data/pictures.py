"""Picture files as arrays."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

from mmvae_jax.errors import UserError, one_line


def read_picture(path: Path, size: tuple[int, int] | None = None) -> UInt8[np.ndarray, "H W 3"]:
    """A picture in RGB.

    Args:
      path: its file, of any format that Pillow reads.
      size: width and height that it must have, in pixels; it is not decoded otherwise.

    Raises:
      UserError: it cannot be decoded, has another size, or more pixels than Pillow's limit.
    """
    try:
        with Image.open(path) as image:
            found = image.size
            if found == size or (size is None and math.prod(found) <= (Image.MAX_IMAGE_PIXELS or math.inf)):
                return np.asarray(image.convert("RGB"))
    except Exception as error:  # Pillow's readers raise whatever a damaged file leads them to
        raise UserError(f"{path} cannot be decoded ({one_line(error)}): replace it by a picture") from error
    expected = f"at most {Image.MAX_IMAGE_PIXELS} in all" if size is None else f"{size[0]}x{size[1]}"
    raise UserError(f"{path} has {found[0]}x{found[1]} pixels, expected {expected}: replace it")


def random_crops(
    count: int, photos: Sequence[Float[np.ndarray, "_ _ 3"]], size: int, rng: np.random.Generator
) -> Float[np.ndarray, "N S S 3"]:
    """Square crops of `size` pixels, each of a random photograph at a random place."""
    crops = np.empty((count, size, size, 3), np.float32)
    chosen = rng.integers(0, len(photos), count)
    for number, photo in enumerate(photos):
        windows = sliding_window_view(photo, (size, size), axis=(0, 1))
        places = [rng.integers(0, extent, np.sum(chosen == number)) for extent in windows.shape[:2]]
        crops[chosen == number] = np.moveaxis(windows[places[0], places[1]], 1, -1)
    return crops
