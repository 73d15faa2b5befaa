"""PolyMNIST: five 28x28x3 modalities, label-matched MNIST digits inverted into background crops.

Recipe (Sutter et al. 2021, Appendix D; the authors' release): in modality m, a random 28x28 crop of
background m whose colours are inverted where the binarised digit is on. Here the tuples are
composed on the device, inside the train step: every epoch pairs the digits anew and draws new
crops, and memory holds one copy of the digits and of the pictures.
"""

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int, Key, UInt8

from mmvae_jax.data.batching import Dataset, Plan, Split, fingerprint, fixed_plan
from mmvae_jax.data.mnist import (
    Digits,
    existing_folder,
    has_idx_files,
    load_digits,
    package_folder,
)
from mmvae_jax.data.pictures import read_picture
from mmvae_jax.data.polymnist_release import is_release, release
from mmvae_jax.data.streaming import Streaming
from mmvae_jax.errors import UserError

MODALITIES = ("m0", "m1", "m2", "m3", "m4")
SIZE = 28
_TEST_SEED = 2021
_EMBEDDED = (
    ("skimage", "data/hubble_deep_field.jpg"),
    ("sklearn", "datasets/images/flower.jpg"),
    ("skimage", "data/rocket.jpg"),
    ("skimage", "data/retina.jpg"),
    ("skimage", "data/coffee.png"),
)
_RELEASE_FOLDERS = ("polymnist", "PolyMNIST/MMNIST", "PolyMNIST", "MMNIST")


class Backgrounds(NamedTuple):
    """Background pictures by name, in the order of the modalities, and where they came from."""

    pictures: dict[str, UInt8[np.ndarray, "_ _ 3"]]
    source: str


class Ingredients(NamedTuple):
    """What the tuples of a split are composed of.

    Attributes:
      digits: grey images, 0 background to 255 ink.
      labels: their classes.
      backgrounds: one picture a modality; sizes may differ.
    """

    digits: UInt8[Array, "N 28 28"]
    labels: Int[Array, "N"]
    backgrounds: tuple[UInt8[Array, "_ _ 3"], ...]


def background_signal(image: UInt8[np.ndarray, "H W 3"]) -> float:
    """How visible an inverted digit is in expectation: mean over the channels of |1 - 2 c|.

    c is the mean colour in 0..1. Inverting gives 1 - c, so the digit's mean contrast is |c - (1 -
    c)|: a mid-grey background hides the digit.
    """
    return float(np.abs(1 - 2 * image.reshape(-1, 3).mean(axis=0) / 255).mean())


def embedded_backgrounds() -> Backgrounds:
    """Five photographs of installed packages: hubble deep field, flower, rocket, retina, coffee.

    Raises:
      UserError: scikit-image or scikit-learn is not installed.
    """
    paths = [package_folder(package) / path for package, path in _EMBEDDED]
    pictures = {path.stem: _picture(path) for path in paths}
    return Backgrounds(pictures, "photographs of scikit-image and scikit-learn")


def backgrounds_from(folder: Path | str) -> Backgrounds:
    """The pictures 1 to 5 (.jpg, .jpeg or .png) of a folder, in that order.

    Raises:
      UserError: the folder or a picture is missing, cannot be decoded or is smaller than 28x28.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"backgrounds folder {folder} does not exist: it needs the pictures 1.jpg to 5.jpg")
    pictures = {}
    for number in range(1, len(MODALITIES) + 1):
        paths = [folder / f"{number}{ending}" for ending in (".jpg", ".jpeg", ".png")]
        path = next((path for path in paths if path.is_file()), None)
        if path is None:
            raise UserError(f"no picture {number}.jpg or {number}.png in {folder}: it needs the pictures 1 to 5")
        pictures[path.name] = _picture(path)
    return Backgrounds(pictures, f"pictures in {folder}")


def _picture(path: Path) -> UInt8[np.ndarray, "H W 3"]:
    picture = read_picture(path)
    if min(picture.shape[:2]) < SIZE:
        raise UserError(
            f"background {path} has {picture.shape[1]}x{picture.shape[0]} pixels: at least 28x28 are needed"
        )
    return picture


def draw_tuples(ingredients: Ingredients, key: Key[Array, ""]) -> Plan:
    """One epoch: digits paired at random within their class, modality by modality, with new crops.

    Every digit comes exactly once in every modality. `index`, a row's place before shuffling, tells
    the rows apart for presence masks: a place keeps its class, but its digits change from epoch to
    epoch.

    Returns:
      `index` [N], `digit` [N, 5] and `corner` [N, 5, 2], the crops' top left pixel (row, column).
    """
    pair_key, crop_key, order_key = jax.random.split(key, 3)
    size, count = len(ingredients.labels), len(ingredients.backgrounds)
    noise = jax.random.uniform(pair_key, (count, size))
    digit = jax.vmap(lambda u: jnp.lexsort((u, ingredients.labels)))(noise).T
    corners = jnp.array([np.array(picture.shape[:2]) - SIZE + 1 for picture in ingredients.backgrounds])
    corner = jax.random.randint(crop_key, (size, count, 2), 0, corners)
    order = jax.random.permutation(order_key, size)
    return {"index": order, "digit": digit[order], "corner": corner}


def compose(ingredients: Ingredients, rows: Plan) -> tuple[dict[str, UInt8[Array, "B 28 28 3"]], Int[Array, "B"]]:
    """The tuples of some rows of a plan: crops, colours inverted where the digit exceeds 127."""
    x = {}
    for m, (name, picture) in enumerate(zip(MODALITIES, ingredients.backgrounds, strict=True)):
        ink = ingredients.digits[rows["digit"][:, m], :, :, None] > 127
        crop = _crops(picture, rows["corner"][:, m])
        x[name] = jnp.where(ink, 255 - crop, crop)
    return x, ingredients.labels[rows["digit"][:, 0]]


def _crops(picture: UInt8[Array, "H W 3"], corner: Int[Array, "B 2"]) -> UInt8[Array, "B 28 28 3"]:
    return lax.platform_dependent(picture, corner, tpu=crops_by_products, default=crops_by_slices)


def crops_by_slices(picture: UInt8[Array, "H W 3"], corner: Int[Array, "B 2"]) -> UInt8[Array, "B 28 28 3"]:
    """28x28 pixels from each corner on (row, column)."""
    return jax.vmap(lambda at: lax.dynamic_slice(picture, (at[0], at[1], 0), (SIZE, SIZE, 3)))(corner)


def crops_by_products(picture: UInt8[Array, "H W 3"], corner: Int[Array, "B 2"]) -> UInt8[Array, "B 28 28 3"]:
    """`crops_by_slices` for TPUs, which would cut one crop after the other: a matrix product chooses the columns."""
    rows, columns = corner[:, :1] + jnp.arange(SIZE), corner[:, 1:] + jnp.arange(SIZE)
    # A sum of one term, and bfloat16 holds whole numbers up to 256.
    chosen = jax.nn.one_hot(columns, picture.shape[1], dtype=jnp.bfloat16)
    return jnp.einsum("bhwc,bkw->bhkc", picture[rows].astype(jnp.bfloat16), chosen).astype(jnp.uint8)


def _split(
    images: UInt8[np.ndarray, "N 28 28"],
    labels: Int[np.ndarray, "N"],
    backgrounds: tuple[UInt8[Array, "_ _ 3"], ...],
) -> Split:
    ingredients = Ingredients(jnp.asarray(images), jnp.asarray(labels), backgrounds)
    return Split(ingredients, len(labels), draw_tuples, compose, MODALITIES)


def compose_dataset(digits: Digits, backgrounds: Backgrounds) -> Dataset:
    """PolyMNIST from digits and backgrounds: training tuples anew every epoch, test tuples fixed.

    Args:
      digits: what to draw.
      backgrounds: five pictures by name and their source, as of `embedded_backgrounds`.
    """
    pictures = backgrounds.pictures
    on_device = tuple(map(jnp.asarray, pictures.values()))
    train = _split(digits.train_images, digits.train_labels, on_device)
    test = _split(digits.test_images, digits.test_labels, on_device)
    test = fixed_plan(test, jax.random.key(_TEST_SEED))
    signals = ", ".join(f"{name} {background_signal(picture):.2f}" for name, picture in pictures.items())
    provenance = {
        "digits": digits.source,
        "tuples": f"{train.size} train (paired and cropped anew every epoch), {test.size} test",
        "backgrounds": f"{backgrounds.source}: {', '.join(pictures)}",
        "background_signal": signals,
        "fingerprint": fingerprint(*digits[:4], *pictures.values()),
    }
    return Dataset("polymnist", MODALITIES, train, test, 10, provenance)


def polymnist(data: str = "embedded", backgrounds: str | None = None, streaming: Streaming = "auto") -> Dataset:
    """PolyMNIST of `--data=embedded|tfds|<folder>`.

    Args:
      data: "embedded" (5,000 digits), "tfds" (all of MNIST, downloaded), or a folder: a data root
        with the release in `polymnist/` (or `PolyMNIST/MMNIST/`), else with `mnist/` and maybe
        `polymnist_backgrounds/`; or the folder of MNIST's idx files; or that of the release.
      backgrounds: folder of the pictures 1 to 5; None: the data root's, else the embedded ones.
      streaming: whether the training tuples of a release are streamed, see `streaming.must_stream`; no other can be.

    Raises:
      UserError: nothing usable there, or its files are damaged.
    """
    if data in ("embedded", "tfds"):
        return compose_dataset(load_digits(data), _backgrounds(backgrounds))
    root = existing_folder(data)
    folder = _release_folder(root)
    if folder is not None and backgrounds is not None:
        raise UserError(f"--backgrounds={backgrounds} cannot change the ready-made tuples in {folder}: drop it")
    if folder is not None:
        return release(folder, MODALITIES, streaming)
    if has_idx_files(root) or (root / "mnist").is_dir():
        beside = root / "polymnist_backgrounds"
        own = str(beside) if backgrounds is None and (root / "mnist").is_dir() and beside.is_dir() else backgrounds
        return compose_dataset(load_digits(data), _backgrounds(own))
    raise UserError(
        f"no PolyMNIST in {root}: it needs train/m0..m4/*.png and test/m0..m4/*.png, MNIST's four "
        "idx files, or a subfolder polymnist/ or mnist/ with them"
    )


def _backgrounds(folder: str | None) -> Backgrounds:
    return embedded_backgrounds() if folder is None else backgrounds_from(folder)


def _release_folder(root: Path) -> Path | None:
    named = [root / name for name in _RELEASE_FOLDERS if (root / name).is_dir()]
    complete = [folder for folder in (root, *named) if is_release(folder)]
    return next(iter(complete + named), None)
