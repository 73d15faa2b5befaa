"""Likelihoods p(x_m|z): distrax distributions from what a decoder puts out, in nats.

`LIKELIHOODS` maps a name to a row: a function (decoder output, scale) -> distribution with one batch entry per element
of x, and what values x may take.

A decoder of several numbers an element, `Likelihood.outputs`, puts them on one more axis, the last.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import distrax
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import betaln, gammaln
from jaxtyping import Array, Bool, Float, Int, Num

# One scale, or one for every entry of the last axis of x.
Scale = float | Float[np.ndarray, "C"]
DistributionFn = Callable[[Any, Any], distrax.Distribution]
# Of a decoder of one symbol after another: logits [*K, B, L, C], given what is pushed to be taken on the way.
LogitsFn = Callable[..., Array]

# Learned scales are at least this share of the modality's own: densities of data without noise stay finite.
MIN_LEARNED_SCALE = 1e-3
# Of counts: means are at most e^20, beyond what float32 counts one by one; inverse dispersions lie between e^-15 and
# e^15, beyond which float32 tells no negative binomial from its limit.
MAX_LOG_MEAN, MAX_LOG_DISPERSION = 20.0, 15.0


@dataclass(frozen=True)
class Likelihood:
    """A row of `LIKELIHOODS`.

    Attributes:
      distribution: (decoder output, scale) -> distribution.
      low: the smallest value of x.
      high: the largest one.
      classes: x holds class indices, a negative one is padding, and the decoder puts out one more axis, of classes.
      counts: x holds whole numbers of at least 0.
      outputs: numbers that the decoder puts out for one element of x; several are on one more axis.
      scaled: the scale is the width of the distribution, or the unit of a learned one.
      autoregressive: x is a string, and the decoder, (z, push) -> logits, tells a symbol from those before it;
        `distribution` takes the function push -> logits in place of the output.
    """

    distribution: DistributionFn
    low: float = -math.inf
    high: float = math.inf
    classes: bool = False
    counts: bool = False
    outputs: int = 1
    scaled: bool = False
    autoregressive: bool = False


def bernoulli(logits: Float[Array, "*shape"], scale: float) -> distrax.Distribution:
    """Binary pixels, or grey ones in [0, 1], from logits; the scale plays no part."""
    return distrax.Bernoulli(logits=logits)


def normal(mean: Float[Array, "*shape"], scale: Scale) -> distrax.Distribution:
    """Real values with standard deviation `scale`."""
    return distrax.Normal(mean, scale)


def laplace(mean: Float[Array, "*shape"], scale: Scale) -> distrax.Distribution:
    """Real values with scale `scale` (PolyMNIST: 0.75 on pixels in [0, 1], no output nonlinearity)."""
    return distrax.Laplace(mean, scale)


def normal_learned_scale(outputs: Float[Array, "*shape 2"], scale: Scale) -> distrax.Distribution:
    """Real values whose standard deviation the decoder tells as well: the mean, and v of `learned_scale`."""
    return distrax.Normal(outputs[..., 0], learned_scale(outputs[..., 1], scale))


def laplace_learned_scale(outputs: Float[Array, "*shape 2"], scale: Scale) -> distrax.Distribution:
    """Real values whose Laplace scale the decoder tells as well: the median, and v of `learned_scale`."""
    return distrax.Laplace(outputs[..., 0], learned_scale(outputs[..., 1], scale))


def learned_scale(v: Float[Array, "*shape"], scale: Scale) -> Float[Array, "*shape"]:
    """`scale (0.001 + log(1 + e^v))`, bounded below (Lakshminarayanan et al. 2017, footnote 2)."""
    return jnp.asarray(scale * (MIN_LEARNED_SCALE + jax.nn.softplus(v)))


class Poisson(distrax.Distribution):
    """Counts: `log p(x) = x log(rate) - rate - log(x!)`. Draws are whole numbers as floats, as models take counts."""

    def __init__(self, log_rate: Float[Array, "*B"]):
        """From the logarithm of the rate, which is the mean and the variance."""
        self._log_rate = jnp.minimum(log_rate, MAX_LOG_MEAN)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Of one count."""
        return ()

    def log_prob(self, value: Num[Array, "*X"]) -> Float[Array, "*K"]:
        """log p(x) in nats."""
        return value * self._log_rate - self.mean() - gammaln(value + 1)

    def mean(self) -> Float[Array, "*B"]:
        """The rate."""
        return jnp.exp(self._log_rate)

    def _sample_n(self, key: Array, n: int) -> Float[Array, "n *B"]:
        return _poisson_draws(key, jnp.broadcast_to(self.mean(), (n, *self._log_rate.shape)))


def poisson(log_rate: Float[Array, "*shape"], scale: float) -> distrax.Distribution:
    """Counts whose variance is their mean, from its logarithm; the scale plays no part."""
    return Poisson(log_rate)


class NegativeBinomial(distrax.Distribution):
    """Counts of mean m and variance `m + m^2 / t`, t the inverse dispersion; Poisson's for large t.

    `log p(x) = t log(t / (t + m)) + x log(m / (t + m)) + log Gamma(x + t) - log Gamma(t) - log(x!)`
    (Lopez et al. 2018, scVI). Draws are whole numbers as floats, as models take counts.
    """

    def __init__(self, log_mean: Float[Array, "*B"], log_inverse_dispersion: Float[Array, "*B"]):
        """From the logarithms of m and t."""
        self._log_mean = jnp.minimum(log_mean, MAX_LOG_MEAN)
        self._log_t = jnp.clip(log_inverse_dispersion, -MAX_LOG_DISPERSION, MAX_LOG_DISPERSION)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Of one count."""
        return ()

    def log_prob(self, value: Num[Array, "*X"]) -> Float[Array, "*K"]:
        """log p(x) in nats."""
        t, log_odds = jnp.exp(self._log_t), self._log_mean - self._log_t
        # The Gamma functions by the Beta function, for the difference of two large ones is nothing but rounding.
        ways = -betaln(value + 1, t) - jnp.log(value + t)
        return ways - t * jax.nn.softplus(log_odds) - value * jax.nn.softplus(-log_odds)

    def mean(self) -> Float[Array, "*B"]:
        """m."""
        return jnp.exp(self._log_mean)

    def _sample_n(self, key: Array, n: int) -> Float[Array, "n *B"]:
        """Poisson counts whose rates are from a Gamma distribution of shape t and mean m."""
        rate_key, count_key = jax.random.split(key)
        rates = jax.random.loggamma(rate_key, jnp.exp(self._log_t), (n, *self._log_t.shape))
        return _poisson_draws(count_key, jnp.exp(rates + self._log_mean - self._log_t))


def _poisson_draws(key: Array, rate: Float[Array, "*B"]) -> Float[Array, "*B"]:
    return jax.random.poisson(key, rate).astype(rate.dtype)


def negative_binomial(outputs: Float[Array, "*shape 2"], scale: float) -> distrax.Distribution:
    """Counts whose variance is above their mean, from the logarithms of the mean and of the inverse dispersion."""
    return NegativeBinomial(outputs[..., 0], outputs[..., 1])


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
    "normal_learned_scale": Likelihood(normal_learned_scale, outputs=2, scaled=True),
    "laplace_learned_scale": Likelihood(laplace_learned_scale, outputs=2, scaled=True),
    "poisson": Likelihood(poisson, 0.0, counts=True),
    "negative_binomial": Likelihood(negative_binomial, 0.0, counts=True, outputs=2),
    "categorical": Likelihood(categorical, classes=True),
    "autoregressive": Likelihood(autoregressive, classes=True, autoregressive=True),
}


def log_prob(
    distribution: distrax.Distribution,
    x: Num[Array, "B *shape"],
    event_ndims: int,
    observed: Bool[Array, "B *shape"] | None = None,
) -> Float[Array, "*K B"]:
    """log p(x|z) summed over the modality's shape.

    Args:
      distribution: batch shape [*K, B, *shape]; x broadcasts over the K samples.
      x: the data; a negative class index is padding and contributes nothing.
      event_ndims: the number of axes in the modality's shape.
      observed: the elements that count; default all. The others must hold numbers that have a density.
    """
    if jnp.issubdtype(x.dtype, jnp.integer) and jnp.issubdtype(distribution.dtype, jnp.integer):
        elementwise = jnp.where(x >= 0, distribution.log_prob(jnp.maximum(x, 0)), 0.0)
    else:
        elementwise = distribution.log_prob(x)
    return jnp.sum(elementwise, axis=tuple(range(-event_ndims, 0)), where=observed)


def point_estimate(distribution: distrax.Distribution) -> Array:
    """What to show of p(x|z): the mode of class indices, the mean of everything else."""
    if jnp.issubdtype(distribution.dtype, jnp.integer) and not isinstance(distribution, distrax.Bernoulli):
        return jnp.asarray(distribution.mode())
    return jnp.asarray(distribution.mean())
