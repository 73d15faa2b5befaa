"""FashionMNIST from its official idx files, or a stand-in of MNIST digits filled with textures."""

import numpy as np
from scipy.ndimage import grey_dilation

from mmvae_jax.data.mnist import Digits, embedded_digits, load_digits, package_folder
from mmvae_jax.data.pictures import random_crops, read_picture

_TEXTURES = ("brick.png", "grass.png", "gravel.png")
_STAND_IN_SEED = 20181
# Of the stand-in's silhouettes, in pixels, and of their textures.
_THICKNESS = 3
_DARKEST = 0.3


def load_fashion(data: str) -> tuple[str, Digits]:
    """FashionMNIST of `--data=embedded|tfds|<folder>`, and what the images are called.

    Args:
      data: "embedded" (the stand-in), or as of `mnist.load_digits`, with the subfolder fashion_mnist/.

    Returns:
      "fashion" and the images, or "fashion_stand_in" and what stands in for them.

    Raises:
      UserError: no such data, or its files are damaged.
    """
    if data == "embedded":
        return "fashion_stand_in", stand_in(embedded_digits())
    return "fashion", load_digits(data, "fashion_mnist")


def stand_in(digits: Digits) -> Digits:
    """Grey silhouettes of ten classes that need no download: thickened MNIST digits, filled with photographed textures.

    They are no clothes: results on them do not compare with results on FashionMNIST. Every digit is rendered once, with
    a random crop of brick, grass or gravel. Drawn by a fixed seed: the same on every machine.

    Args:
      digits: what to draw. Training and test pictures share none.
    """
    rng = np.random.default_rng(_STAND_IN_SEED)
    photos = [read_picture(package_folder("skimage") / "data" / name).astype(np.float32) / 255 for name in _TEXTURES]

    def rendered(images: np.ndarray) -> np.ndarray:
        silhouettes = grey_dilation(images, (1, _THICKNESS, _THICKNESS))
        texture = random_crops(len(images), photos, images.shape[1], rng).mean(-1)
        return np.round(silhouettes * (_DARKEST + (1 - _DARKEST) * texture)).astype(np.uint8)

    return digits._replace(
        train_images=rendered(digits.train_images),
        test_images=rendered(digits.test_images),
        source=f"stand-in for FashionMNIST: {digits.source}, thickened and filled with textures",
    )
