"""What the tests of objectives write their losses with: plain NumPy in float64, and estimates over many keys."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mmvae_jax.data.batching import Batch
from mmvae_jax.gaussian import Gaussian
from mmvae_jax.laplace import Laplace
from mmvae_jax.mixture import Mixture
from mmvae_jax.model import Model, Params
from mmvae_jax.objectives import OBJECTIVES, Options
from tests.oracle import LinearGaussian


def noise(dim: int) -> np.ndarray:
    """The noise of every draw under the fixture `fixed_noise`."""
    return np.linspace(-0.5, 0.7, dim)


def fix_noise(monkeypatch: pytest.MonkeyPatch, noise_of: Callable[[int], np.ndarray]) -> None:
    """Draw without a random number: noise as a function of the latent dimension, broadcast over everything else."""

    def draw(mean: jax.Array, scale: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return jnp.broadcast_to(mean + scale * noise_of(mean.shape[-1]).astype(mean.dtype), (*shape, *mean.shape))

    def gaussian_sample(self: Gaussian, key: jax.Array, shape: tuple[int, ...] = ()) -> jax.Array:
        return draw(self.mean, jnp.exp(0.5 * self.log_var), shape)

    def laplace_sample(self: Laplace, key: jax.Array, shape: tuple[int, ...] = ()) -> jax.Array:
        return draw(self.mean, jnp.exp(self.log_scale), shape)

    monkeypatch.setattr(Gaussian, "sample", gaussian_sample)
    monkeypatch.setattr(Laplace, "sample", laplace_sample)


class Normal(NamedTuple):
    """A diagonal Gaussian of every batch element."""

    mean: np.ndarray
    var: np.ndarray

    def draw(self) -> np.ndarray:
        return self.mean + np.sqrt(self.var) * noise(self.mean.shape[-1])

    def kl(self, other: "Normal") -> np.ndarray:
        ratio = self.var / other.var
        return 0.5 * (ratio - 1 - np.log(ratio) + np.square(self.mean - other.mean) / other.var).sum(-1)

    def log_prob(self, z: np.ndarray) -> np.ndarray:
        return stats.norm.logpdf(z, self.mean, np.sqrt(self.var)).sum(-1)


def added(terms: Iterable[np.ndarray]) -> np.ndarray:
    """The sum of arrays."""
    return np.sum(list(terms), axis=0)


def product(*factors: Normal) -> Normal:
    precision = added(1 / f.var for f in factors)
    return Normal(added(f.mean / f.var for f in factors) / precision, 1 / precision)


class ByHand:
    """Posteriors of a linear-Gaussian model's networks, and its decoders, as NumPy.

    Attributes:
      q: of every inference network, by its name.
      prior: p(z).
      style: q(s_m|x_m) of every modality with a private latent, the prior where absent.
      present: [B, M].
    """

    def __init__(self, oracle: LinearGaussian, model: Model, params: Params, batch: Batch):
        codes: Any = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), jax.jit(model.encode)(params, batch))
        self.oracle = oracle
        self.q = {
            network.name: Normal(codes.shared.mean[i], np.exp(codes.shared.log_var[i]))
            for i, network in enumerate(model.networks)
        }
        self.style = {name: Normal(s.mean, np.exp(s.log_var)) for name, s in codes.private.items()}
        self.x = {name: np.asarray(x, np.float64) for name, x in batch.x.items()}
        self.present = np.asarray(batch.present)
        shape = next(iter(self.q.values())).mean.shape
        self.prior = Normal(np.zeros(shape), np.ones(shape))

    def _mean(self, m: int | np.integer, z: np.ndarray, s: np.ndarray | None) -> np.ndarray:
        latents = z if s is None else np.concatenate([z, np.broadcast_to(s, (*z.shape[:-1], s.shape[-1]))], -1)
        return latents @ self.oracle.loadings[m].T + self.oracle.biases[m]

    def log_p(self, m: int | np.integer, z: np.ndarray) -> np.ndarray:
        """log p(x_m|z, s_m), s_m drawn from its posterior; zero where x_m is absent."""
        name = self.oracle.names[m]
        s = self.style[name].draw() if self.style else None
        value = stats.norm.logpdf(self.x[name], self._mean(m, z, s), self.oracle.noise).sum(-1)
        return np.where(self.present[:, m], value, 0.0)

    def expected_log_p(self, m: int | np.integer, q: Normal) -> np.ndarray:
        """Its exact expectation under q(z) and q(s_m|x_m); zero where x_m is absent."""
        name = self.oracle.names[m]
        s = self.style.get(name)
        at_mean = stats.norm.logpdf(self.x[name], self._mean(m, q.mean, s and s.mean), self.oracle.noise).sum(-1)
        var = (
            q.var
            if s is None
            else np.concatenate([q.var, np.broadcast_to(s.var, (*q.var.shape[:-1], s.var.shape[-1]))], -1)
        )
        spread = var @ np.square(self.oracle.loadings[m]).sum(0) / self.oracle.noise**2
        return np.where(self.present[:, m], at_mean - 0.5 * spread, 0.0)

    def style_kl(self, m: int | np.integer) -> np.ndarray:
        """KL(q(s_m|x_m) || p(s_m)); zero where x_m is absent."""
        if not self.style:
            return np.zeros(len(self.present))
        s = self.style[self.oracle.names[m]]
        return s.kl(Normal(np.zeros_like(s.mean), np.ones_like(s.var)))


def components(mixture: Mixture) -> tuple[np.ndarray, list[Normal]]:
    """Weights [S, B] and components of a mixture of Gaussians."""
    weights, mean, log_var = (np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(mixture))
    return np.exp(weights), [Normal(m, np.exp(v)) for m, v in zip(mean, log_var, strict=True)]


def estimates(
    objective: str,
    model: Model,
    params: Params,
    batch: Batch,
    n: int,
    options: Options | None = None,
    beta: float = 1.0,
    seed: int = 0,
) -> np.ndarray:
    """The bound, minus the loss, under n keys."""

    def bound(key: jax.Array) -> jax.Array:
        return -OBJECTIVES[objective].loss(model, params, key, batch, beta, options or Options())[0]

    keys = jax.random.split(jax.random.key(seed), n)
    return np.asarray(jax.jit(jax.vmap(bound))(keys), np.float64)


def z_score(samples: np.ndarray, exact: float | np.ndarray = 0.0) -> np.ndarray:
    """By how many standard errors the samples' mean exceeds the exact value."""
    return (samples.mean(0) - exact) / (samples.std(0) / np.sqrt(len(samples)))


def subset_names(names: Sequence[str], mask: np.ndarray) -> tuple[str, ...]:
    """The names that a mask selects."""
    return tuple(name for name, member in zip(names, mask, strict=True) if member)
