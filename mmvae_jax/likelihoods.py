"""Likelihoods p(x_m|z): distrax distributions from what a decoder puts out, in nats.

`LIKELIHOODS` maps a name to a row: a function (decoder output, scale) -> distribution with one batch entry per element
of x, and what values x may take.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import distrax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num

DistributionFn = Callable[[Any, float], distrax.Distribution]
# Of a decoder of one symbol after another: logits [*K, B, L, C], given what is pushed to be taken on the way.
LogitsFn = Callable[..., Array]


@dataclass(frozen=True)
class Likelihood:
    """A row of `LIKELIHOODS`.

    Attributes:
      distribution: (decoder output, scale) -> distribution.
      low: the smallest value of x.
      high: the largest one.
      classes: x holds class indices, a negative one is padding, and the decoder puts out one more axis, of classes.
      scaled: the scale is the width of the distribution.
      autoregressive: x is a string, and the decoder, (z, push) -> logits, tells a symbol from those before it;
        `distribution` takes the function push -> logits in place of the output.
    """

    distribution: DistributionFn
    low: float = -math.inf
    high: float = math.inf
    classes: bool = False
    scaled: bool = False
    autoregressive: bool = False


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


class Autoregressive(distrax.Distribution):
    """Strings, exactly: `p(x|z) = prod_t p(x_t|x_1..x_{t-1}, z)`, up to the symbol that ends them, the last class.

    One batch entry for every place, whose log-probability is conditional on the symbols before it. Draws and the mode
    are padding (-1) after the end. The mode is that of greedy decoding: the most likely symbol at every place.
    """

    def __init__(self, logits: LogitsFn):
        """From push [*K, B, L, C] (default 0) -> logits, where the largest of logits + push is taken at every place."""
        self._logits = logits

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Of one place."""
        return ()

    @property
    def dtype(self) -> jnp.dtype:
        """Of symbols, without drawing any."""
        return jnp.dtype(jnp.result_type(int))

    def log_prob(self, value: Int[Array, "*B L"]) -> Float[Array, "*K L"]:
        """log p(x_t|x_1..x_{t-1}, z) at every place, in nats, by teacher forcing."""
        shape = jax.eval_shape(self._logits).shape
        chosen = jax.nn.one_hot(value, shape[-1], dtype=bool)
        logits = self._logits(jnp.broadcast_to(jnp.where(chosen, jnp.inf, 0.0), shape))
        return jnp.sum(jax.nn.log_softmax(logits), axis=-1, where=chosen)

    def mode(self) -> Int[Array, "*K L"]:
        """The string that greedy decoding finds."""
        return _ended(self._logits())

    def _sample_n(self, key: Array, n: int) -> Int[Array, "n *K L"]:
        shape = jax.eval_shape(self._logits).shape

        def draw(key: Array) -> Int[Array, "*K L"]:
            noise = jax.random.gumbel(key, shape)
            return _ended(self._logits(noise) + noise)

        return jax.lax.map(draw, jax.random.split(key, n))


def _ended(scores: Float[Array, "*K L C"]) -> Int[Array, "*K L"]:
    """The best symbols, and padding after the first one that ends a string."""
    symbols = jnp.argmax(scores, -1)
    end = symbols == scores.shape[-1] - 1
    return jnp.where(jnp.cumsum(end, -1) - end > 0, -1, symbols)


def autoregressive(logits: LogitsFn, scale: float) -> distrax.Distribution:
    """Strings of which a decoder tells one symbol after another; the scale plays no part."""
    return Autoregressive(logits)


LIKELIHOODS: dict[str, Likelihood] = {
    "bernoulli": Likelihood(bernoulli, 0.0, 1.0),
    "normal": Likelihood(normal, scaled=True),
    "laplace": Likelihood(laplace, scaled=True),
    "categorical": Likelihood(categorical, classes=True),
    "autoregressive": Likelihood(autoregressive, classes=True, autoregressive=True),
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
