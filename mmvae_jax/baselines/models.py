"""Models of one modality, alone (a VAE) or given another (a conditional VAE)."""

from dataclasses import dataclass
from functools import partial

import distrax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Num

from mmvae_jax import gaussian, likelihoods
from mmvae_jax.baselines.descent import descend
from mmvae_jax.errors import UserError
from mmvae_jax.gaussian import Gaussian
from mmvae_jax.inputs import checked
from mmvae_jax.modality import Modality
from mmvae_jax.model import Model, Params
from mmvae_jax.networks.foreign import as_linen
from mmvae_jax.networks.inference import InferenceNetwork
from mmvae_jax.sharding import of_rows

Data = Num[Array, "B ..."] | Num[np.ndarray, "B ..."]


def unimodal_vae(modality: Modality, latent_dim: int) -> Model:
    """The VAE of one modality (Kingma & Welling 2014): `q(z|x)` is the encoder's output, without a prior expert."""
    return Model((modality,), latent_dim, "poe", prior_expert="none")


@dataclass(frozen=True)
class CVAE:
    """The conditional VAE `p(x|y) = int p(x|z, y) N(z; 0, I) dz` (Sohn et al. 2015), with `q(z|x, y)`.

    Its functions take data as `Model`'s do: they are checked, and uint8 pixels are scaled to [0, 1].

    Attributes:
      target: x; its decoder reads z and the features of y side by side, [N, D + F].
      condition: y; its encoder makes the features, one copy for q and one for p, and its decoder is not used.
      latent_dim: D.
      joint_width: hidden width of q.
    """

    target: Modality
    condition: Modality
    latent_dim: int
    joint_width: int = 512

    def init(self, key: Key[Array, ""]) -> Params:
        """Fresh parameters."""
        inference_key, condition_key, decoder_key = jax.random.split(key, 3)
        x, y = self.target.example, self.condition.example
        condition = as_linen(self.condition.encoder).init(condition_key, y).get("params", {})
        z = self._with_features({"condition": condition}, jnp.zeros((1, self.latent_dim)), y)
        return {
            "inference": self._inference.init(inference_key, x, y)["params"],
            "condition": condition,
            "decoder": as_linen(self.target.decoder).init(decoder_key, z)["params"],
        }

    def posterior(self, params: Params, x: Data, y: Data) -> Gaussian:
        """q(z|x, y), leaves [B, D]."""
        inputs = _encoder_input(self.target, x), _encoder_input(self.condition, y)
        return Gaussian.from_outputs(jnp.asarray(self._inference.apply({"params": params["inference"]}, *inputs)))

    def decode(self, params: Params, z: Float[Array, "K B D"], y: Data) -> distrax.Distribution:
        """p(x|z, y), one batch entry per element of x."""
        z = self._with_features(params, z, y)
        apply = partial(as_linen(self.target.decoder).apply, {"params": params["decoder"]})

        def output(*push: Array) -> Array:
            return of_rows(lambda *rows: jnp.asarray(apply(*rows)), z, *push)

        return self.target.distribution(output if self.target.row.autoregressive else output())

    def loss(self, params: Params, key: Key[Array, ""], x: Data, y: Data) -> Float[Array, ""]:
        """The negative bound `E_q[log p(x|z, y)] - KL(q(z|x, y) || N(0, I))` in nats, averaged over the batch."""
        posterior = self.posterior(params, x, y)
        log_likelihood = self._log_likelihood(params, posterior.sample(key, (1,)), x, y)[0]
        return jnp.mean(posterior.kl(gaussian.standard(self.latent_dim)) - log_likelihood)

    def log_likelihood(self, params: Params, key: Key[Array, ""], x: Data, y: Data, samples: int) -> Float[Array, "B"]:
        """log p(x|y) in nats by importance sampling, `log 1/K sum_k p(x|z_k, y) p(z_k) / q(z_k|x, y)`, K = samples."""
        posterior = self.posterior(params, x, y)
        z = posterior.sample(key, (samples,))
        log_ratio = gaussian.standard(self.latent_dim).log_prob(z) - posterior.log_prob(z)
        return jax.nn.logsumexp(self._log_likelihood(params, z, x, y) + log_ratio, axis=0) - jnp.log(samples)

    def generate(
        self, params: Params, key: Key[Array, ""], y: Data, samples: int = 1
    ) -> Num[Array, "samples B *shape"]:
        """The mean (mode, for class indices) of p(x|z, y) at draws z of the prior."""
        z = jax.random.normal(key, (samples, len(y), self.latent_dim))
        return likelihoods.point_estimate(self.decode(params, z, y))

    def fit(
        self,
        x: Data,
        y: Data,
        key: Key[Array, ""],
        steps: int,
        batch_size: int = 100,
        learning_rate: float = 1e-3,
    ) -> Params:
        """Parameters after so many steps of Adam on pairs.

        Raises:
          UserError: data that the modalities do not admit, or not as many x as y.
        """
        pairs = checked(self.target, x), checked(self.condition, y)
        if len(pairs[0]) != len(pairs[1]):
            raise UserError(
                f"{len(pairs[0])} of {self.target.name}, {len(pairs[1])} of {self.condition.name}: give pairs"
            )
        init_key, run_key = jax.random.split(key)
        return descend(self.loss, self.init(init_key), pairs, run_key, steps, batch_size, learning_rate)

    @property
    def _inference(self) -> InferenceNetwork:
        trunks = as_linen(self.target.encoder), as_linen(self.condition.encoder)
        return InferenceNetwork(trunks, 2 * self.latent_dim, self.joint_width)

    def _with_features(self, params: Params, z: Float[Array, "*K B D"], y: Data) -> Array:
        inputs = _encoder_input(self.condition, y)
        features = jnp.asarray(as_linen(self.condition.encoder).apply({"params": params["condition"]}, inputs))
        return jnp.concatenate([z, jnp.broadcast_to(features, (*z.shape[:-1], features.shape[-1]))], -1)

    def _log_likelihood(self, params: Params, z: Float[Array, "K B D"], x: Data, y: Data) -> Float[Array, "K B"]:
        elements = self.target.observed(jnp.asarray(x))
        decoded, shape = self.decode(params, z, y), self.target.shape
        return likelihoods.log_prob(decoded, _in_units(self.target, x), len(shape), elements)


def _encoder_input(modality: Modality, x: Data) -> Num[Array, "B ..."]:
    return modality.encoder_input(_in_units(modality, x))


def _in_units(modality: Modality, x: Data) -> Num[Array, "B ..."]:
    return modality.in_units(checked(modality, x))
