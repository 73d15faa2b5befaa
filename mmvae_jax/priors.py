"""Generative priors p(z): what latents are drawn from, and what posteriors are held against.

`PRIORS` maps a name to a row. A prior is one thing, the expert p(z) that joins products of experts another (it must be
of the posteriors' family, a prior need not be): a row gives both. To add a prior, add a row.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from mmvae_jax.gaussian import Gaussian
from mmvae_jax.posteriors import Family, Posterior


@runtime_checkable
class Density(Protocol):
    """What can be drawn from and evaluated, leaves over [D]."""

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Float[Array, "*shape D"]:
        """Draws."""
        ...

    def log_prob(self, z: Float[Array, "*B D"]) -> Float[Array, "*B"]:
        """Log-density in nats, summed over D."""
        ...


@runtime_checkable
class Prior(Density, Protocol):
    """A density that posteriors are held against."""

    def kl_from(self, q: Posterior) -> Float[Array, "*B"]:
        """KL(q || p) in nats; of a row that is not `closed` it is never asked for."""
        ...


class OfFamily(NamedTuple):
    """A prior of the posteriors' own family: every KL has a closed form."""

    density: Posterior

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Float[Array, "*shape D"]:
        """Draws, reparameterised."""
        return self.density.sample(key, shape)

    def log_prob(self, z: Float[Array, "*B D"]) -> Float[Array, "*B"]:
        """Log-density in nats, summed over D."""
        return self.density.log_prob(z)

    def kl_from(self, q: Posterior) -> Float[Array, "*B"]:
        """KL(q || p) in nats."""
        return q.kl(self.density)


class GaussianMixture(NamedTuple):
    """A mixture of C diagonal Gaussians, such as one fitted to posterior draws after training."""

    log_weights: Float[Array, "C"]
    components: Gaussian

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Float[Array, "*shape D"]:
        """Exact draws: a component, then a draw of it."""
        pick_key, noise_key = jax.random.split(key)
        index = jax.random.categorical(pick_key, self.log_weights, shape=shape)
        return jax.tree.map(lambda leaf: leaf[index], self.components).sample(noise_key)

    def log_prob(self, z: Float[Array, "*B D"]) -> Float[Array, "*B"]:
        """Log-density in nats, summed over D."""
        return jax.nn.logsumexp(self.log_weights + self.components.log_prob(z[..., None, :]), axis=-1)


@dataclass(frozen=True)
class PriorRow:
    """A row of `PRIORS`.

    Attributes:
      summary: what it is, in a line.
      init: (key, D) -> its parameters; an empty tree if it has none.
      prior: (parameters, D, family of posteriors) -> p(z).
      expert: (parameters, D, family) -> the expert p(z) that joins products of experts, and what is inferred from
        nothing; default the standard one.
      closed: whether KL(q || p) has a closed form; without one, objectives need `--kl=sample` or no KL.
    """

    summary: str
    init: Callable[[Key[Array, ""], int], PyTree]
    prior: Callable[[PyTree, int, Family], Prior]
    expert: Callable[[PyTree, int, Family], Posterior] = lambda _, dim, family: standard(dim, family)
    closed: bool = True


def standard(dim: int, family: Family) -> Posterior:
    """The zero-mean density of unit scale, leaves [D]."""
    return family.with_scale(jnp.ones(dim))


def learned_scale(raw: Float[Array, "D"], _: int, family: Family) -> Posterior:
    """Zero-mean, with scales `D softmax(raw)`, which average one (MMVAE, Shi et al. 2019)."""
    return family.with_scale(jax.nn.softmax(raw) * raw.shape[0])


def _no_parameters(key: Key[Array, ""], dim: int) -> dict[str, Any]:
    return {}


PRIORS: dict[str, PriorRow] = {
    "standard": PriorRow(
        "zero mean and unit scale", _no_parameters, lambda _, dim, family: OfFamily(standard(dim, family))
    ),
    "learned_scale": PriorRow(
        "zero mean and learned scales that average one (Shi et al. 2019)",
        lambda _, dim: jnp.zeros(dim),
        lambda *arguments: OfFamily(learned_scale(*arguments)),
        learned_scale,
    ),
}
