"""Diagonal Laplace posteriors and priors, as MMVAE uses them (Shi et al. 2019): they are mixed, never multiplied."""

from typing import NamedTuple

import distrax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key


class Laplace(NamedTuple):
    """A batch of diagonal Laplace densities over the last axis, with the methods of `gaussian.Gaussian`."""

    mean: Float[Array, "*B D"]
    log_scale: Float[Array, "*B D"]

    @property
    def distribution(self) -> distrax.Independent:
        """The same density as a distrax distribution with event shape [D]."""
        return distrax.Independent(distrax.Laplace(self.mean, jnp.exp(self.log_scale)), 1)

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Float[Array, "*B D"]:
        """Reparameterised draws; `shape` is the leading sample shape."""
        return jnp.asarray(self.distribution.sample(seed=key, sample_shape=shape))

    def log_prob(self, z: Float[Array, "*Z D"]) -> Float[Array, "*B"]:
        """Log-density in nats, summed over D."""
        return jnp.asarray(self.distribution.log_prob(z))

    def kl(self, other: "Laplace") -> Float[Array, "*B"]:
        """KL(self || other) in nats, summed over D; batch axes broadcast."""
        return jnp.asarray(self.distribution.kl_divergence(other.distribution))

    def tempered(self, power: Float[Array, "*B"]) -> "Laplace":
        """The Laplace density proportional to p^power."""
        return Laplace(self.mean, self.log_scale - jnp.log(power)[..., None])

    def products(
        self,
        rows: Bool[Array, "S N"],
        available: Bool[Array, "B N"],
        prior: "Laplace",
        prior_power: Float[Array, "S B"],
    ) -> "Laplace":
        """Of N experts, leaves [N, B, D], the only one of every row; the prior where it is not available."""
        known = jnp.any(rows[:, None, :] & available, -1)[..., None]
        chosen = jax.tree.map(lambda leaf: leaf[jnp.argmax(rows, -1)], self)
        return jax.tree.map(lambda leaf, default: jnp.where(known, leaf, default), chosen, prior)

    @classmethod
    def with_scale(cls, scale: Float[Array, "D"]) -> "Laplace":
        """The zero-mean Laplace density with scales `scale`."""
        return cls(jnp.zeros_like(scale), jnp.log(scale))

    @classmethod
    def from_outputs(cls, outputs: Float[Array, "*B outputs"]) -> "Laplace":
        """Mean, and a scale that is a softmax over D times D, so that scales average one (the authors' code)."""
        mean, raw = jnp.split(outputs, 2, axis=-1)
        dim = raw.shape[-1]
        return cls(mean, jax.nn.log_softmax(raw) + jnp.log(dim))
