"""A linear-Gaussian multimodal model: the exact log-likelihoods and posteriors that every estimate is tested against.

`x_m = W_m z + V_m s_m + b_m + noise * e`, with z, s_m and e standard normal. The columns of `[W_m V_m]` are orthogonal
(while there are no more of them than x_m has dimensions), so that the posterior of every subset is a *diagonal*
Gaussian which is linear in the data: encoders with one dense layer can be exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.stats import multivariate_normal

from mmvae_jax.data.batching import Batch
from mmvae_jax.modality import Modality
from mmvae_jax.model import Model


class Identity(nn.Module):
    """The features are the data: the library's head makes of them a linear posterior."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return x


class FullGaussian(NamedTuple):
    """A Gaussian with one full covariance for all of a batch."""

    mean: Float[np.ndarray, "B D"]
    covariance: Float[np.ndarray, "D D"]


@dataclass(frozen=True)
class LinearGaussian:
    """The model and its exact answers.

    Attributes:
      dims: of every modality; they are called m0, m1, ...
      latent_dim: D.
      noise: standard deviation of every x given z.
      private_dim: of each modality's own latent s_m.
      seed: of the weights and biases.
    """

    dims: tuple[int, ...]
    latent_dim: int
    noise: float = 0.7
    private_dim: int = 0
    seed: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"m{i}" for i in range(len(self.dims)))

    @cached_property
    def loadings(self) -> tuple[Float[np.ndarray, "d D+P"], ...]:
        """`[W_m V_m]` of every modality, with orthogonal columns of length 0.5 to 1.5 where they fit."""
        rng = np.random.default_rng(self.seed)
        columns = self.latent_dim + self.private_dim
        loadings = []
        for d in self.dims:
            directions = rng.normal(size=(d, columns))
            if columns <= d:
                directions = np.linalg.qr(directions)[0]
            loadings.append(directions * rng.uniform(0.5, 1.5, columns))
        return tuple(loadings)

    @cached_property
    def biases(self) -> tuple[Float[np.ndarray, "d"], ...]:
        rng = np.random.default_rng(self.seed + 1)
        return tuple(rng.normal(size=d) for d in self.dims)

    def sample(self, key: Array, n: int) -> Batch:
        """n tuples from the model."""
        seed = np.asarray(jax.random.key_data(key)).ravel()
        rng = np.random.default_rng(seed.tolist())
        z = rng.normal(size=(n, self.latent_dim))
        x = {}
        for name, d, loading, bias in zip(self.names, self.dims, self.loadings, self.biases, strict=True):
            latents = np.concatenate([z, rng.normal(size=(n, self.private_dim))], 1)
            noise = self.noise * rng.normal(size=(n, d))
            x[name] = jnp.asarray(latents @ loading.T + bias + noise, jnp.float32)
        return Batch(x, jnp.ones((n, len(self.dims)), bool), jnp.zeros(n, jnp.int32))

    def exact_log_prob(self, x: dict[str, Array], subset: Sequence[str]) -> Float[np.ndarray, "B"]:
        """log p(x_A) in nats; zero for the empty subset."""
        if not subset:
            return np.zeros(len(next(iter(x.values()))))
        mean, loading, covariance, values = self._stacked(x, subset)
        marginal: Any = loading @ loading.T + covariance
        return np.atleast_1d(multivariate_normal(mean, marginal).logpdf(values))

    def exact_conditional(
        self, x: dict[str, Array], target: Sequence[str], given: Sequence[str]
    ) -> Float[np.ndarray, "B"]:
        """log p(x_T|x_A) in nats."""
        return self.exact_log_prob(x, [*given, *target]) - self.exact_log_prob(x, given)

    def exact_posterior(self, x: dict[str, Array], subset: Sequence[str]) -> FullGaussian:
        """p(z|x_A); the prior for the empty subset."""
        size = len(next(iter(x.values())))
        if not subset:
            return FullGaussian(np.zeros((size, self.latent_dim)), np.eye(self.latent_dim))
        mean, loading, covariance, values = self._stacked(x, subset)
        inverse = np.linalg.inv(covariance)
        posterior = np.linalg.inv(np.eye(self.latent_dim) + loading.T @ inverse @ loading)
        return FullGaussian((values - mean) @ inverse @ loading @ posterior, posterior)

    def model(self, fusion: str = "poe_quotient", **options: Any) -> Model:
        """The library's model of it: linear decoders, linear encoders, Normal likelihoods."""
        modalities = tuple(
            Modality(
                name,
                (d,),
                encoder=Identity(),
                decoder=nn.Dense(d),
                likelihood="normal",
                scale=self.noise,
                private_dim=self.private_dim,
            )
            for name, d in zip(self.names, self.dims, strict=True)
        )
        return Model(modalities, self.latent_dim, fusion=fusion, **options)

    def params(
        self,
        model: Model,
        experts: Literal["posterior", "likelihood"] = "posterior",
        shift: float = 0.0,
        log_scale: float = 0.0,
        key: Array | None = None,
    ) -> dict[str, Any]:
        """Parameters with the true decoders and exact, or perturbed, unimodal experts.

        With `experts="posterior"` network m puts out p(z|x_m): exact unimodal posteriors, and under `poe_quotient` the
        exact posterior of every subset. With `experts="likelihood"` it puts out p(x_m|z), normalised in z: under
        `poe`, whose product has the prior as an expert, the exact posterior of every subset. Joint networks, where
        the fusion has any, keep their random initial values.

        Args:
          model: from `model`, any fusion.
          experts: as above.
          shift: added to every expert's mean.
          log_scale: added to every expert's log standard deviation.
          key: of the initial values of other networks.
        """
        params = model.init(jax.random.key(0) if key is None else key)
        for i, name in enumerate(self.names):
            loading, bias = self.loadings[i], self.biases[i]
            params["decoders"][name] = {"kernel": _float(loading.T), "bias": _float(bias)}
            params["inference"][name]["head"] = self._head(model, i, experts, shift, log_scale)
        return params

    def _head(
        self, model: Model, i: int, experts: str, shift: float, log_scale: float
    ) -> dict[str, Float[Array, "..."]]:
        loading, d = self.loadings[i], self.latent_dim
        evidence = np.sum(np.square(loading), 0) / self.noise**2
        precision = np.where(np.arange(len(evidence)) < d, float(experts == "posterior"), 1.0) + evidence
        variance = np.exp(2 * log_scale) / precision
        means = loading / self.noise**2 / precision
        centre = -self.biases[i] @ means + shift
        raw = np.log(variance)
        if model.resolved_fusion.prior_expert == "quotient" and len(self.dims) > 1:
            fraction = variance[:d] * (len(self.dims) - 1) / len(self.dims)
            raw[:d] = np.log(fraction) - np.log1p(-fraction)
        kernel = [means[:, :d], np.zeros_like(means[:, :d]), means[:, d:], np.zeros_like(means[:, d:])]
        offsets = [centre[:d], raw[:d], centre[d:], raw[d:]]
        return {"kernel": _float(np.concatenate(kernel, 1)), "bias": _float(np.concatenate(offsets))}

    def _stacked(self, x: dict[str, Array], subset: Sequence[str]):
        """Mean, shared loading, covariance given z, and data of a subset's modalities side by side."""
        members = [self.names.index(name) for name in subset]
        mean = np.concatenate([self.biases[i] for i in members])
        loading = np.concatenate([self.loadings[i][:, : self.latent_dim] for i in members])
        covariance = np.zeros((len(mean), len(mean)))
        start = 0
        for i in members:
            end = start + self.dims[i]
            private = self.loadings[i][:, self.latent_dim :]
            covariance[start:end, start:end] = private @ private.T + self.noise**2 * np.eye(self.dims[i])
            start = end
        values = np.concatenate([np.asarray(x[self.names[i]], np.float64) for i in members], 1)
        return mean, loading, covariance, values


def _float(values: np.ndarray) -> Float[Array, "..."]:
    return jnp.asarray(values, jnp.float32)
