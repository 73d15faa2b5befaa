"""Picture files as arrays."""

import math
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
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
