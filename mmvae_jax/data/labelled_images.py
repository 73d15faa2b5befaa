"""Grey images and their labels as two modalities: MNIST, its binarised version, FashionMNIST (Wu & Goodman 2018)."""

from dataclasses import replace
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, UInt8

from mmvae_jax.data.batching import Arrays, Dataset, Plan, Split, fingerprint, fixed_split
from mmvae_jax.data.mnist import Digits
from mmvae_jax.data.presence import supervision_presence
from mmvae_jax.errors import UserError, check_choice

Binarisation = Literal["none", "fixed", "stochastic"]
_BINARISATION_SEED = 2008


def labelled_images(
    digits: Digits,
    name: str,
    binarisation: Binarisation = "none",
    supervision: float = 1.0,
    validation: float = 0.0,
    seed: int = 0,
) -> Dataset:
    """Images [28, 28, 1] and labels [] as the modalities `name` and `label`.

    Args:
      digits: the images, uint8, and their labels, 0 to 9.
      name: of the images' modality; a stand-in is called so here.
      binarisation: none leaves grey levels. Otherwise a pixel is white with the probability of its grey level: fixed
        draws it once, by a seed of its own (Salakhutdinov & Murray 2008), stochastic anew in every epoch (Burda et al.
        2016). Test images are drawn once in either case.
      supervision: fraction of the training tuples that keep both; of all others half keep the image, half the label.
      validation: fraction of the training images, the last of them, that are set aside and never looked at.
      seed: draws which tuples keep what.

    Raises:
      UserError: an unknown binarisation, or a fraction out of its range.
    """
    check_choice(binarisation, get_args(Binarisation), "binarisation")
    if not 0 <= validation < 1:
        raise UserError(f"validation={validation}: give a fraction from 0 to below 1")
    size = len(digits.train_labels) - round(validation * len(digits.train_labels))
    images, labels = digits.train_images[:size], digits.train_labels[:size]
    test_images = digits.test_images
    if binarisation != "none":
        train_key, test_key = jax.random.split(jax.random.key(_BINARISATION_SEED))
        test_images = _drawn_once(test_key, test_images)
        images = _drawn_once(train_key, images) if binarisation == "fixed" else images
    presence = supervision_presence(jax.random.key(seed), size, 2, supervision)
    train = fixed_split({name: images[..., None], "label": labels}, labels, presence)
    train = _drawn_anew(train, name) if binarisation == "stochastic" else train
    test = fixed_split({name: test_images[..., None], "label": digits.test_labels}, digits.test_labels)
    provenance = {
        "images": digits.source,
        "binarisation": binarisation,
        "tuples": f"{train.size} train, {test.size} test; {supervision:.4g} of train complete",
        "fingerprint": fingerprint(images, labels, test_images, digits.test_labels),
    }
    return Dataset(f"{name}_label", (name, "label"), train, test, 10, provenance)


def binarised(key: Key[Array, ""], images: UInt8[Array, "*n"]) -> UInt8[Array, "*n"]:
    """Pixels 0 or 255, white with the probability of their grey level."""
    grey: Float[Array, "*n"] = images.astype(jnp.float32) / 255
    return jnp.where(jax.random.uniform(key, images.shape) < grey, 255, 0).astype(jnp.uint8)


def _drawn_once(key: Key[Array, ""], images: UInt8[np.ndarray, "N 28 28"]) -> UInt8[np.ndarray, "N 28 28"]:
    return np.asarray(binarised(key, jnp.asarray(images)))


def _drawn_anew(split: Split, name: str) -> Split:
    """The plan carries a seed a row, by which the row's image is drawn where it is gathered."""

    def plan(arrays: Arrays, key: Key[Array, ""]) -> Plan:
        rows = split.plan(arrays, key)
        return rows | {"draw": jax.random.bits(jax.random.fold_in(key, 1), rows["index"].shape)}

    def gather(arrays: Arrays, rows: Plan) -> tuple[dict[str, Array], Int[Array, "B"]]:
        x, label = split.gather(arrays, rows)
        images = jax.vmap(lambda draw, image: binarised(jax.random.key(draw), image))(rows["draw"], x[name])
        return x | {name: images}, label

    return replace(split, plan=plan, gather=gather)
