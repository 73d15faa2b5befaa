"""CUB captions: photographs of birds, ten sentences about each, in the official layout; and a stand-in for them.

Wah et al. (2011), captions by Reed et al. (2016). A folder `cub/` has `CUB_200_2011/` as it is distributed (images.txt,
image_class_labels.txt, train_test_split.txt, images/) and `text/<class>/<image>.txt`, a caption a line. What images.txt
lists is what there is: some of the classes or images will do.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Int32, Key, UInt8
from sklearn.neighbors import NearestNeighbors

from mmvae_jax.data.batching import Arrays, Dataset, Plan, Split, fingerprint, fixed_split, shuffle_tuples
from mmvae_jax.data.captions import Captioned, LookUp, build_vocabulary, encode_captions
from mmvae_jax.data.cub_files import Birds, read_birds, read_features
from mmvae_jax.data.mnist import existing_folder
from mmvae_jax.data.photographs import read_photographs
from mmvae_jax.data.presence import supervision_presence
from mmvae_jax.data.shape_captions import shape_captions, vocabulary
from mmvae_jax.data.word_vectors import word_vectors
from mmvae_jax.errors import UserError

STAND_IN_LEVEL, STAND_IN_TUPLES = 5, (4000, 1000)
# Of photographs that features are made of, in pixels: what Inception-v3 reads.
EXTRACTED_SIZE = 299

# File of a network's weights and photographs -> features of these.
Extract = Callable[[str, UInt8[np.ndarray, "N S S 3"]], Float[np.ndarray, "N F"]]


class Described(NamedTuple):
    """Images with all their captions.

    Attributes:
      images: photographs, or features of them.
      captions: class indices of words, those of an image from the first row on.
      counts: captions of each image.
      labels: species.
    """

    images: UInt8[Array, "N H W 3"] | Float[Array, "N F"]
    captions: Int[Array, "N C L"]
    counts: Int[Array, "N"]
    labels: Int[Array, "N"]


@dataclass(frozen=True)
class Reading:
    """How pictures and captions are read.

    Attributes:
      size: height and width of the pictures in pixels: central squares, resized.
      caption_length: words that a caption is cut or padded to.
      min_count: how often a word must occur in training captions to be in the vocabulary.
      pairings: how often an image is paired with one of its captions in an epoch; with as many as it has captions, all
        come once.
      image_features: file (.npy, or .npz with one array) of features, a row for every line of images.txt, that take the
        place of the pictures; figures show the test photograph whose features are nearest.
      image_network: file of Inception-v3's weights, as of --inception-weights, whose features of the photographs take
        the place of the pictures likewise; they are made once and cached.
      word_vectors: file of vectors of words, as of GloVe or fastText (.vec); "": learned from the training captions.
      skip_corrupt: leave photographs out that cannot be decoded.
    """

    size: int = 64
    caption_length: int = 32
    min_count: int = 3
    pairings: int = 1
    image_features: str = ""
    image_network: str = ""
    word_vectors: str = ""
    skip_corrupt: bool = False

    def __post_init__(self) -> None:
        for name in ("size", "caption_length", "min_count", "pairings"):
            if getattr(self, name) < 1:
                raise UserError(f"{name.replace('_', '-')}={getattr(self, name)}: give at least 1")
        if self.image_features and self.image_network:
            raise UserError(f"image-features={self.image_features} and image-network={self.image_network}: give one")


def nearest(features: Float[np.ndarray, "N F"], photographs: UInt8[np.ndarray, "N H W 3"]) -> LookUp:
    """A function that gives of features [B, F] the photographs whose own are nearest, by Euclidean distance."""
    neighbours = NearestNeighbors(n_neighbors=1).fit(features)
    return lambda x: photographs[neighbours.kneighbors(np.asarray(x), return_distance=False)[:, 0]]


def draw_captions(described: Described, key: Key[Array, ""], pairings: int) -> Plan:
    """One epoch: every image `pairings` times, each time with another of its captions until all have come.

    Returns:
      `index`, `image` and `caption` (which one of the image's), each [pairings * N].
    """
    order_key, caption_key = jax.random.split(key)
    n, most = described.captions.shape[:2]
    draws = jax.random.uniform(caption_key, (n, most))
    order = jnp.argsort(jnp.where(jnp.arange(most) < described.counts[:, None], draws, jnp.inf), 1)
    turns = jnp.arange(pairings) % described.counts[:, None]
    chosen = jnp.take_along_axis(order, turns, 1).reshape(-1)
    rows = jnp.arange(n * pairings)
    return shuffle_tuples({"index": rows, "image": rows // pairings, "caption": chosen}, order_key)


def _training_split(described: Described, pairings: int, modalities: tuple[str, str], presence: Array) -> Split:
    def gather(described: Described, rows: Plan) -> tuple[dict[str, Array], Int[Array, "B"]]:
        captions = described.captions[rows["image"], rows["caption"]]
        x = dict(zip(modalities, (described.images[rows["image"]], captions), strict=True))
        return x, described.labels[rows["image"]]

    def plan(arrays: Arrays, key: Key[Array, ""]) -> Plan:
        return draw_captions(arrays, key, pairings)

    size = len(described.labels) * pairings
    return Split(described, size, plan, gather, modalities, jnp.repeat(presence, pairings, 0))


def cub_captions(
    data: str = "embedded",
    reading: Reading | None = None,
    supervision: float = 1.0,
    seed: int = 0,
    cache: Path | str = "cache",
    report: Callable[[str], None] = print,
    featurize: Extract | None = None,
) -> Dataset:
    """CUB captions of `--data=<folder>`, or the stand-in: drawn shapes and captions that name what they show.

    Training tuples are an image and one of its captions, drawn anew every epoch; test tuples an image and its first
    caption. Classes are species. The stand-in and its modalities are called so, for its numbers are none of CUB's.

    Args:
      data: "embedded" (the stand-in), a data root with cub/, or the folder of CUB_200_2011/ and text/.
      reading: how pictures and captions are read; of the stand-in's only the size counts.
      supervision: fraction of the training images that keep both modalities; every other keeps one.
      seed: draws which ones.
      cache: folder of decoded photographs.
      report: gets a line where something is left out.
      featurize: what makes features of photographs by `reading.image_network`.

    Raises:
      UserError: unusable data, or a fraction outside 0..1.
    """
    reading = reading or Reading()
    if data == "embedded":
        for name in ("image_features", "image_network", "word_vectors"):
            if file := getattr(reading, name):
                raise UserError(
                    f"{name.replace('_', '-')}={file}: the stand-in reads none; give --data=<folder with cub/>"
                )
        return stand_in(reading.size, supervision, seed)
    if data == "tfds":
        raise UserError("data=tfds: it has no captions of CUB; give a folder with CUB_200_2011/ and text/, or embedded")
    root = existing_folder(data)
    folder = root if (root / "CUB_200_2011").is_dir() else root / "cub"
    if not (folder / "CUB_200_2011").is_dir():
        raise UserError(f"no CUB in {root}: give the folder of CUB_200_2011/ and text/, or one with cub/")
    birds = read_birds(folder)
    photographs, kept = read_photographs(birds.paths, reading.size, cache, None, reading.skip_corrupt, report)
    images = photographs
    if reading.image_features:
        images = read_features(reading.image_features, len(kept))[kept]
    elif reading.image_network:
        if featurize is None:
            raise UserError(f"image-network={reading.image_network}: nothing was given that makes features by it")
        large, _ = read_photographs(birds.paths, EXTRACTED_SIZE, cache, None, reading.skip_corrupt, lambda line: None)
        images = featurize(reading.image_network, large)
    dataset = _dataset(birds.only(kept), images, photographs, reading, supervision, seed)
    return replace(dataset, provenance={"source": f"CUB files in {folder}", **dataset.provenance})


def _dataset(
    birds: Birds,
    images: UInt8[np.ndarray, "N H W 3"] | Float[np.ndarray, "N F"],
    photographs: UInt8[np.ndarray, "N H W 3"],
    reading: Reading,
    supervision: float,
    seed: int,
) -> Dataset:
    train, test = birds.training, ~birds.training
    source = reading.image_features or reading.image_network
    modalities = ("features" if source else "image", "caption")
    words = build_vocabulary([each for own in birds.only(train).captions for each in own], reading.min_count)
    captions, counts = _encoded(birds.captions, words, reading.caption_length)
    described = Described(*(jnp.asarray(each[train]) for each in (images, captions, counts, birds.labels)))
    presence = supervision_presence(jax.random.key(seed), int(train.sum()), 2, supervision)
    said = captions[train][np.arange(captions.shape[1]) < counts[train][:, None]]
    vectors = word_vectors(said, words, reading.word_vectors)
    look_up = nearest(images[test], photographs[test]) if source else None
    species = int(birds.labels.max()) + 1
    return Dataset(
        f"cub_{modalities[0]}_captions",
        modalities,
        _training_split(described, reading.pairings, modalities, presence),
        fixed_split(dict(zip(modalities, (images[test], captions[test, 0]), strict=True)), birds.labels[test]),
        species,
        {
            "images": f"{train.sum()} train, {test.sum()} test, {species} species; {supervision:.4g} of train complete",
            "pictures": source or f"{reading.size}x{reading.size}",
            "captions": f"{counts.sum()}, at most {reading.caption_length} words of {len(words)}",
            "word vectors": f"{reading.word_vectors or 'learned from captions'}, of {np.any(vectors, 1).sum()} words",
            "fingerprint": fingerprint(images, captions, counts, birds.labels, birds.training),
        },
        captioned=Captioned(*modalities, words, vectors, look_up),
    )


def _encoded(
    captions: Sequence[Sequence[Sequence[str]]], words: Sequence[str], length: int
) -> tuple[Int32[np.ndarray, "N C L"], Int32[np.ndarray, "N"]]:
    """Class indices of all captions of every image, and how many each image has."""
    counts = np.array([len(own) for own in captions], np.int32)
    encoded = np.zeros((len(captions), counts.max(), length), np.int32)
    encoded[np.arange(counts.max()) < counts[:, None]] = encode_captions(
        [caption for own in captions for caption in own], words, length
    )
    return encoded, counts


def stand_in(
    size: int = 64, supervision: float = 1.0, seed: int = 0, tuples: tuple[int, int] = STAND_IN_TUPLES
) -> Dataset:
    """Shapes and captions in the place of birds and theirs, both called stand-ins; scored by attributes as well.

    Args:
      size: height and width of the pictures in pixels.
      supervision: fraction of the training tuples that keep both modalities.
      seed: draws which ones; the tuples are the same under every seed.
      tuples: how many there are for training and for tests.

    Raises:
      UserError: as `shape_captions`, or a fraction outside 0..1.
    """
    modalities = ("image_stand_in", "caption_stand_in")
    dataset = shape_captions(STAND_IN_LEVEL, size, *tuples, modalities=modalities)
    presence = supervision_presence(jax.random.key(seed), tuples[0], 2, supervision)
    words = vocabulary(STAND_IN_LEVEL)
    captions = np.asarray(dataset.train.arrays[0][modalities[1]])
    complete = f"{supervision:.4g} of train complete"
    return replace(
        dataset,
        name="cub_captions_stand_in",
        train=replace(dataset.train, presence=presence),
        provenance={"source": f"stand-in for CUB: shapes and captions; {complete}", **dataset.provenance},
        captioned=Captioned(*modalities, words, word_vectors(captions, words)),
    )
