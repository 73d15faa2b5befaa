"""Correlation of pictures and captions by canonical correlation analysis: the coherence of Shi et al. (2019) on CUB.

`corr(x, y) = phi(x)' phi(y) / (|phi(x)| |phi(y)|)`, `phi(k) = W_k' k - mean(W_k' k)` (SVAE paper 2021, section 4), of
features x of a picture and the mean y of a caption's weighted word vectors. W and the means are of training pairs.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, Num

from mmvae_jax import subsets
from mmvae_jax.data.batching import Batch
from mmvae_jax.data.captions import Captioned
from mmvae_jax.evaluation.chunks import MAX_EXAMPLES, chunks, decoded_at_once
from mmvae_jax.evaluation.classifiers import MAX_CLASSIFIED, Classifier
from mmvae_jax.evaluation.picture_features import Extractor, sown_features
from mmvae_jax.modality import Modality
from mmvae_jax.model import Model, Params
from mmvae_jax.priors import Density
from mmvae_jax.sharding import on_all_devices, split_over_devices

# Of the mean variance, added to every direction's; and the canonical directions that are kept.
RIDGE, DIRECTIONS = 0.01, 10

Pair = tuple[Float[np.ndarray, "N P"], Float[np.ndarray, "N Q"]]


class Canonical(NamedTuple):
    """Canonical directions of pairs of vectors.

    Attributes:
      means: of either side.
      directions: of either side, [P, K] and [Q, K], the most correlated first.
    """

    means: tuple[Float[np.ndarray, "P"], Float[np.ndarray, "Q"]]
    directions: tuple[Float[np.ndarray, "P K"], Float[np.ndarray, "Q K"]]

    def correlation(self, pair: Pair) -> Float[np.ndarray, "N"]:
        """The cosine of every pair's projections, -1 to 1; 0 where one is the mean."""
        x, y = (
            (side - mean) @ direction for side, mean, direction in zip(pair, self.means, self.directions, strict=True)
        )
        norms = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
        return np.sum(x * y, 1) / np.maximum(norms, np.finfo(norms.dtype).tiny)


def canonical(pair: Pair, directions: int = DIRECTIONS, ridge: float = RIDGE) -> Canonical:
    """Canonical correlation analysis with a ridge: the singular vectors of the whitened covariance of both sides.

    Args:
      pair: N pairs of vectors.
      directions: K, at most; there are no more than dimensions in which either side varies.
      ridge: added to all variances of a side, in units of their mean.
    """
    means = (pair[0].mean(0), pair[1].mean(0))
    x, y = (np.asarray(side, np.float64) - mean for side, mean in zip(pair, means, strict=True))
    whiten_x, whiten_y = (_whitening(side, ridge) for side in (x, y))
    left, _, right = np.linalg.svd(whiten_x.T @ x.T @ y @ whiten_y / len(x), full_matrices=False)
    return Canonical(means, (whiten_x @ left[:, :directions], whiten_y @ right[:directions].T))


def _whitening(centred: Float[np.ndarray, "N P"], ridge: float) -> Float[np.ndarray, "P R"]:
    """Into coordinates of variance 1, up to the ridge; R are those that vary at all."""
    values, vectors = np.linalg.eigh(centred.T @ centred / len(centred))
    varies = values > 1e-9 * values.max(initial=0)
    return vectors[:, varies] / np.sqrt(values[varies] + ridge * values.mean())


class AveragedWords(nn.Module):
    """Sows as `features` the mean vector of a caption's words, of those that have one, up to the first padding.

    Attributes:
      shape: of the table of vectors, its parameter.
    """

    shape: tuple[int, int]

    @nn.compact
    def __call__(self, x: Int[Array, "B L"]) -> None:
        """Sow them."""
        vectors = self.param("vectors", nn.initializers.zeros, self.shape)
        x = jnp.where(jnp.cumprod(x != 0, 1), x, 0)  # padding is the first word
        counted = jnp.any(vectors != 0, 1)[x].sum(1, keepdims=True)
        self.sow("intermediates", "features", vectors[x].sum(1) / jnp.maximum(1, counted))


class Itself(nn.Module):
    """Sows vectors that are features already."""

    def __call__(self, x: Float[Array, "B F"]) -> None:
        """Sow them."""
        self.sow("intermediates", "features", x)


class Correlator(NamedTuple):
    """What tells how well pictures and captions go together.

    Attributes:
      sides: the modality of pictures and that of captions.
      extractors: what sows the features of either.
      canonical: fitted to real training pairs.
    """

    sides: tuple[Modality, Modality]
    extractors: tuple[Extractor, Extractor]
    canonical: Canonical

    @property
    def names(self) -> tuple[str, str]:
        """The modalities' names."""
        return self.sides[0].name, self.sides[1].name

    def of(self, x: Mapping[str, Num[Array, "N ..."]]) -> Float[np.ndarray, "N"]:
        """The correlation of pairs, real or generated, by the modalities' names."""
        return self.canonical.correlation(_features(self.sides, self.extractors, x))


def fitted_correlator(
    model: Model, captioned: Captioned, pairs: Batch, classifiers: Mapping[str, Classifier]
) -> Correlator:
    """Canonical correlation of real pairs.

    Args:
      model: any model of both modalities.
      captioned: of the data set.
      pairs: training tuples.
      classifiers: whose last layer gives the features of pictures; vectors are features themselves.
    """
    modalities = {m.name: m for m in model.modalities}
    sides = (modalities[captioned.pictures], modalities[captioned.captions])
    words = AveragedWords(captioned.vectors.shape), {"vectors": jnp.asarray(captioned.vectors)}
    pictures = Itself(), {}
    if len(sides[0].shape) == 3:
        judge = classifiers[captioned.pictures]
        pictures = judge.module, judge.params
    extractors = (Extractor(*pictures), Extractor(*words))
    return Correlator(sides, extractors, canonical(_features(sides, extractors, pairs.x)))


def cross_correlations(
    correlator: Correlator, model: Model, params: Params, key: Key[Array, ""], batch: Batch
) -> dict[str, Float[np.ndarray, "B"]]:
    """Of what is given and what is generated from it, by `<given>-><generated>`: one z ~ q(z|x_given) a tuple.

    Args:
      correlator: from `fitted_correlator`.
      model: any model of both modalities.
      params: its parameters.
      key: PRNG key.
      batch: test tuples.
    """
    pieces: dict[str, list[np.ndarray]] = {name: [] for name in correlator.names}
    for chunk in chunks(batch, min(MAX_EXAMPLES, decoded_at_once(model, params))):
        chunk_key = jax.random.fold_in(key, chunk.index)
        for name, each in _crossed(model, correlator.names, params, chunk_key, chunk.batch).items():
            pieces[name].append(np.asarray(each)[: chunk.size])
    generated = {name: jnp.asarray(np.concatenate(each)) for name, each in pieces.items()}
    return {
        f"{given}->{target}": correlator.of({**batch.x, target: generated[target]})
        for given, target in (correlator.names, correlator.names[::-1])
    }


def joint_correlations(
    correlator: Correlator,
    model: Model,
    params: Params,
    key: Key[Array, ""],
    samples: int,
    sampler: Density | None = None,
) -> Float[np.ndarray, "N"]:
    """Of the picture and the caption of unconditional samples.

    Args:
      correlator: from `fitted_correlator`.
      model: any model of both modalities.
      params: its parameters.
      key: PRNG key.
      samples: N.
      sampler: what z is drawn from in place of the model's prior.
    """
    count = math.ceil(samples / decoded_at_once(model, params))
    size = math.ceil(samples / count)
    keys = [jax.random.fold_in(key, i) for i in range(count)]
    found = [correlator.of(_drawn(model, correlator.names, size, params, key, sampler)) for key in keys]
    return np.concatenate(found)[:samples]


def _features(
    sides: tuple[Modality, Modality], extractors: tuple[Extractor, Extractor], x: Mapping[str, Num[Array, "N ..."]]
) -> Pair:
    """Of both sides, some at once: the last piece wraps around to the first examples, so that all are of one size."""
    found = []
    for side, extractor in zip(sides, extractors, strict=True):
        values = x[side.name]
        size = min(len(values), MAX_CLASSIFIED)
        pieces = [np.arange(start, start + size) % len(values) for start in range(0, len(values), size)]
        sown = [sown_features(*extractor, side.in_units(values[rows])[None])[0] for rows in pieces]
        found.append(np.concatenate(sown)[: len(values)])
    return found[0], found[1]


@on_all_devices(static=(0, 1))
def _crossed(
    model: Model, names: tuple[str, str], params: Params, key: Key[Array, ""], batch: Batch
) -> dict[str, Array]:
    """Either modality from the other one."""
    codes, found = model.encode(params, batch), {}
    for i, (given, target) in enumerate((names, names[::-1])):
        mask = subsets.select((given,), model.names)
        latents = model.draw(params, codes, batch.present, mask, jax.random.fold_in(key, i))
        found |= model.point_estimates(params, latents, (target,))
    return found


@on_all_devices(static=(0, 1, 2))
def _drawn(
    model: Model, names: tuple[str, str], size: int, params: Params, key: Key[Array, ""], sampler: Density | None
) -> dict[str, Array]:
    """Both modalities from nothing."""
    latents = split_over_devices(model.draw_prior(params, key, size, sampler))
    return model.point_estimates(params, latents, names)
