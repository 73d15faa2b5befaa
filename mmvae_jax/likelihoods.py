"""Likelihoods p(x_m|z): distrax distributions from what a decoder puts out, in nats.

`LIKELIHOODS` maps a name to a row: a function (decoder output, scale) -> distribution with one batch entry per element
of x, and what values x may take.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import distrax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

DistributionFn = Callable[[Array, float], distrax.Distribution]


@dataclass(frozen=True)
class Likelihood:
    """A row of `LIKELIHOODS`.

    Attributes:
      distribution: (decoder output, scale) -> distribution.
      low: the smallest value of x.
      high: the largest one.
      classes: x holds class indices, a negative one is padding, and the decoder puts out one more axis, of classes.
      scaled: the scale is the width of the distribution.
    """

    distribution: DistributionFn
    low: float = -math.inf
    high: float = math.inf
    classes: bool = False
    scaled: bool = False


def bernoulli(logits: Float[Array, "*shape"], scale: float) -> distrax.Distribution:
    """Binary pixels, or grey ones in [0, 1], from logits; the scale plays no part."""
    return distrax.Bernoulli(logits=logits)


def normal(mean: Float[Array, "*shape"], scale: float) -> distrax.Distribution:
    """Real values with standard deviation `scale`."""
    return distrax.Normal(mean, scale)


def laplace(mean: Float[Array, "*shape"], scale: float) -> distrax.Distribution:
    """Real values with scale `scale` (PolyMNIST: 0.75 on pixels in [0, 1], no output nonlinearity)."""
    return distrax.Laplace(mean, scale)


def categorical(logits: Float[Array, "*shape C"], scale: float) -> distrax.Distribution:
    """Class indices: a label, or text with one category at every position; the scale plays no part."""
    return distrax.Categorical(logits=logits)


LIKELIHOODS: dict[str, Likelihood] = {
    "bernoulli": Likelihood(bernoulli, 0.0, 1.0),
    "normal": Likelihood(normal, scaled=True),
    "laplace": Likelihood(laplace, scaled=True),
    "categorical": Likelihood(categorical, classes=True),
}


def log_prob(distribution: distrax.Distribution, x: Num[Array, "B *shape"], event_ndims: int) -> Float[Array, "*K B"]:
    """log p(x|z) summed over the modality's shape.

    Args:
      distribution: batch shape [*K, B, *shape]; x broadcasts over the K samples.
      x: the data; a negative class index is padding and contributes nothing.
      event_ndims: the number of axes in the modality's shape.
    """
    if jnp.issubdtype(x.dtype, jnp.integer) and jnp.issubdtype(distribution.dtype, jnp.integer):
        elementwise = jnp.where(x >= 0, distribution.log_prob(jnp.maximum(x, 0)), 0.0)
    else:
        elementwise = distribution.log_prob(x)
    return jnp.sum(elementwise, axis=tuple(range(-event_ndims, 0)))


def point_estimate(distribution: distrax.Distribution) -> Array:
    """What to show of p(x|z): the mode of class indices, the mean of everything else."""
    if jnp.issubdtype(distribution.dtype, jnp.integer) and not isinstance(distribution, distrax.Bernoulli):
        return jnp.asarray(distribution.mode())
    return jnp.asarray(distribution.mean())
