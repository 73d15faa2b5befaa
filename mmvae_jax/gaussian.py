"""Closed-form algebra of diagonal Gaussians: density, product, quotient and Kullback-Leibler divergence.

Everything is kept as (mean, log-variance). Precisions `exp(-log_var)` are added, never regularised: no epsilon enters
anywhere, and none is squared, so that values are exact to rounding for |log_var| < 80 in float32, and gradients finite.
Gradients are exact as well where the log-variances of one latent dimension lie within 78 of each other; beyond, a
divergence of e^45 nats and more gives a gradient that is large, not one that is infinite.
"""

import math
from typing import NamedTuple

import distrax
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Key


class Gaussian(NamedTuple):
    """A batch of diagonal Gaussians over the last axis. An infinite log-variance means "knows nothing"."""

    mean: Float[Array, "*B D"]
    log_var: Float[Array, "*B D"]

    @property
    def distribution(self) -> distrax.Independent:
        """The same density as a distrax distribution with event shape [D] (its entropy and so on)."""
        return distrax.Independent(distrax.LogStddevNormal(self.mean, 0.5 * self.log_var), 1)

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Float[Array, "*B D"]:
        """Reparameterised draws; `shape` is the leading sample shape."""
        noise = jax.random.normal(key, (*shape, *self.mean.shape), self.mean.dtype)
        return self.mean + jnp.exp(0.5 * self.log_var) * noise

    def log_prob(self, z: Float[Array, "*Z D"]) -> Float[Array, "*B"]:
        """Log-density in nats, summed over D."""
        distance = jnp.square(z - self.mean) * jnp.exp(-self.log_var)
        return -0.5 * jnp.sum(distance + self.log_var + math.log(2 * math.pi), -1)

    def kl(self, other: "Gaussian") -> Float[Array, "*B"]:
        """KL(self || other) in nats, summed over D; batch axes broadcast.

        Examples:
          >>> shifted = Gaussian(mean=jnp.array([1.0, 0.0]), log_var=jnp.zeros(2))
          >>> print(shifted.kl(standard(2)))
          0.5
        """
        difference = self.log_var - other.log_var
        distance = jnp.square(self.mean - other.mean) * jnp.exp(-other.log_var)
        return 0.5 * jnp.sum(jnp.expm1(difference) - difference + distance, -1)

    def tempered(self, power: Float[Array, "*B"]) -> "Gaussian":
        """The Gaussian proportional to p^power."""
        return Gaussian(self.mean, self.log_var - jnp.log(power)[..., None])

    def products(
        self,
        rows: Bool[Array, "S N"],
        available: Bool[Array, "B N"],
        prior: "Gaussian",
        prior_power: Float[Array, "S B"],
    ) -> "Gaussian":
        """Of N experts, leaves [N, B, D], one `product` a row of a mask matrix: leaves [S, B, D]."""
        known = only_where(self, available.T)
        return jax.vmap(product, (None, 0, None, 0))(known, rows, prior, prior_power)

    @classmethod
    def with_scale(cls, scale: Float[Array, "D"]) -> "Gaussian":
        """The zero-mean Gaussian with standard deviations `scale`."""
        return cls(jnp.zeros_like(scale), 2 * jnp.log(scale))

    @classmethod
    def from_outputs(cls, outputs: Float[Array, "*B outputs"]) -> "Gaussian":
        """Split the last axis of an encoder's output into mean and log-variance."""
        return cls(*jnp.split(outputs, 2, axis=-1))

    @classmethod
    def quotient_expert(cls, outputs: Float[Array, "*B outputs"], m: int) -> "Gaussian":
        """One of m experts whose quotient with the prior N(0, I) exists: `var = m/(m-1) sigmoid(v)`.

        It keeps the precision of the quotient, `(m-1)/m sum_m e^-v_m` for all, positive (MVAE supplement, section 3).
        """
        mean, v = jnp.split(outputs, 2, axis=-1)
        # Beyond v = 10 float32 would round the precision away: v stays there, with its gradient.
        v -= jax.lax.stop_gradient(jnp.maximum(v - 10, 0))
        bound = jnp.log(m / (m - 1)) if m > 1 else 0.0
        return cls(mean, bound + jax.nn.log_sigmoid(v))


def standard(dim: int) -> Gaussian:
    """The prior N(0, I) over `dim` latent dimensions."""
    return Gaussian(jnp.zeros(dim), jnp.zeros(dim))


def only_where(experts: Gaussian, known: Bool[Array, "*B"]) -> Gaussian:
    """Experts with those outside `known` made to know nothing (zero precision), values and gradients included."""
    known = known[..., None]
    return Gaussian(jnp.where(known, experts.mean, 0), jnp.where(known, experts.log_var, jnp.inf))


def product(
    experts: Gaussian,
    powers: Float[Array, "N"] | Bool[Array, "N"] | None = None,
    prior: Gaussian | None = None,
    prior_power: Float[Array, "*B"] | float = 0.0,
) -> Gaussian:
    r"""Weighted product of experts, `p(z)^a prod_n q_n(z)^{w_n}`, renormalised.

    Natural parameters add up: `T = a T_0 + sum_n w_n T_n`, `mu = (a T_0 mu_0 + sum_n w_n T_n mu_n) / T` (Wu & Goodman
    2018, supplement section 2). One formula holds all the closed forms of this library: the product of experts
    (a = 0), MVAE's product with the universal prior expert (a = 1), its quotient form without that expert (a = 1 - N),
    and the geometric mean that is mmJSD's dynamic prior (a = w_n = 1/(N+1)).

    Args:
      experts: Gaussians with leading axis N, leaves [N, *B, D].
      powers: w_n, a mask or real weights [N]; default all one. `vmap` over rows of masks gives every subset's product.
      prior: p(z), leaves [D]; default N(0, I).
      prior_power: a, scalar or [*B].

    Returns:
      Gaussian with leaves [*B, D]; where nothing has any precision it is the prior, where T < 0 it is NaN.

    Examples:
      Precisions add up, and means are weighted by them:

      >>> experts = Gaussian(mean=jnp.array([[1.0], [3.0]]), log_var=jnp.log(jnp.array([[1.0], [1.0]])))
      >>> together = product(experts)
      >>> print(together.mean, jnp.exp(together.log_var))
      [2.] [0.5]
      >>> with_prior = product(experts, prior_power=2.0)
      >>> print(with_prior.mean, jnp.exp(with_prior.log_var))
      [1.] [0.25]
    """
    prior = standard(experts.mean.shape[-1]) if prior is None else prior
    powers = jnp.ones(experts.mean.shape[0]) if powers is None else powers
    powers = powers.astype(experts.mean.dtype)
    power = jnp.asarray(prior_power, experts.mean.dtype)[..., None]
    unit = _unit(experts.log_var, prior.log_var)
    precisions, prior_precision = jnp.exp(unit - experts.log_var), jnp.exp(unit - prior.log_var)
    precision = _weighted_sum(powers, precisions) + power * prior_precision
    weighted = _weighted_sum(powers, precisions * experts.mean) + power * prior_precision * prior.mean
    empty = precision == 0
    known = _normalised(weighted, jnp.where(empty, prior_precision, precision))
    return Gaussian(jnp.where(empty, prior.mean, known.mean), known.log_var + unit)


def _unit(log_vars: Float[Array, "N *B D"], prior: Float[Array, "D"]) -> Float[Array, "*B D"]:
    """The log-variance in whose unit precisions are added, the same for all rows: that of the expert who knows least.

    There precisions are 1 and more, and so are the sums that gradients are divided by; up to e^78, the prior's among
    them, so that e^-160 of it is a number still.
    """
    low = jnp.minimum(log_vars.min(0), prior)
    high = jnp.where(jnp.isinf(log_vars), low, log_vars).max(0)
    return jax.lax.stop_gradient(jnp.minimum(high, low + 78))


@jax.custom_vjp
def _normalised(weighted: Float[Array, "*B D"], precision: Float[Array, "*B D"]) -> Gaussian:
    """Mean and log-variance of natural parameters, with gradients that square no precision and end below infinity."""
    log_var = -jnp.log(precision)
    return Gaussian(weighted * jnp.exp(log_var), log_var)


def _normalised_forward(weighted: Array, precision: Array) -> tuple[Gaussian, tuple[Array, Array]]:
    result = _normalised(weighted, precision)
    return result, (result.mean, precision)


def _normalised_backward(saved: tuple[Array, Array], gradient: Gaussian) -> tuple[Array, Array]:
    mean, precision = saved
    # Of dozens of rows that reach it the sum is still finite.
    limit = float(jnp.finfo(precision.dtype).max) / 32
    by_weighted = gradient.mean / precision
    by_precision = -(gradient.log_var + gradient.mean * mean) / precision
    return jnp.clip(by_weighted, -limit, limit), jnp.clip(by_precision, -limit, limit)


_normalised.defvjp(_normalised_forward, _normalised_backward)


def _weighted_sum(weights: Float[Array, "N"], values: Float[Array, "N *B D"]) -> Float[Array, "*B D"]:
    """As a product of matrices under `vmap`: of more axes XLA would transpose the cotangents, all subsets of them."""
    return (weights @ values.reshape(len(weights), -1)).reshape(values.shape[1:])


def quotient(p: Gaussian, q: Gaussian) -> Gaussian:
    """The Gaussian proportional to p/q: `T = T_p - T_q`, `mu = (T_p mu_p - T_q mu_q) / T` (MVAE supplement, section 3).

    Raises:
      ValueError: where `T_p <= T_q` the quotient is not a density; named with its first index. Under `jit` the result
        is NaN there instead.

    Examples:
      It undoes a product:

      >>> a, b = Gaussian(jnp.array([1.0]), jnp.array([0.0])), Gaussian(jnp.array([3.0]), jnp.array([0.0]))
      >>> both = product(Gaussian(*map(jnp.stack, zip(a, b))))
      >>> print(*quotient(both, b))
      [1.] [0.]
    """
    p = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, jnp.broadcast_shapes(p.mean.shape, q.mean.shape)), p)
    unit = jax.lax.stop_gradient(jnp.minimum(p.log_var, q.log_var))
    precision_p, precision_q = jnp.exp(unit - p.log_var), jnp.exp(unit - q.log_var)
    precision = precision_p - precision_q
    if not isinstance(precision, Tracer) and bool(jnp.any(precision <= 0)):
        where = tuple(int(i) for i in jnp.argwhere(precision <= 0)[0])
        raise ValueError(
            f"Gaussian quotient undefined at index {where}: precision {float((precision * jnp.exp(-unit))[where]):.3g} "
            "<= 0; the numerator's variance must be smaller than the denominator's"
        )
    divided = _normalised(precision_p * p.mean - precision_q * q.mean, jnp.where(precision > 0, precision, jnp.nan))
    return divided._replace(log_var=divided.log_var + unit)
