"""A multimodal VAE: modalities, inference networks, one fusion, decoders. Pure functions of explicit parameters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import distrax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Num, PyTree

from mmvae_jax import likelihoods, subsets
from mmvae_jax.data.batching import Batch
from mmvae_jax.errors import UserError
from mmvae_jax.fusion import Fusion, Network, PriorExpert, get_fusion
from mmvae_jax.gaussian import Gaussian
from mmvae_jax.laplace import Laplace
from mmvae_jax.likelihoods import LIKELIHOODS, DistributionFn
from mmvae_jax.mixture import Mixture, Posterior
from mmvae_jax.networks.inference import Bridge, InferenceNetwork

Params = PyTree[Array]
POSTERIORS: dict[str, type[Gaussian] | type[Laplace]] = {"gaussian": Gaussian, "laplace": Laplace}


@dataclass(frozen=True)
class Modality:
    """One data type: its networks and its likelihood.

    Attributes:
      name: as it appears in subsets like `m0+m3`.
      shape: of one x, for example (28, 28, 3); () for a label.
      encoder: Linen module, x [B, *shape] -> features [B, F]; the library adds the heads.
      decoder: Linen module, z [N, D] -> likelihood parameters [N, *shape], or [N, *shape, C] for class indices.
      likelihood: a key of `LIKELIHOODS`, or a function (decoder output, scale) -> distrax distribution.
      scale: of a normal or Laplace likelihood.
      weight: w_m of log p(x_m|z) in the objectives (not in evaluations).
      private_dim: dimension of the modality's own latent s_m (Sutter et al. 2021, Eq. 34); 0 for none.
    """

    name: str
    shape: tuple[int, ...]
    encoder: nn.Module
    decoder: nn.Module
    likelihood: str | DistributionFn = "normal"
    scale: float = 1.0
    weight: float = 1.0
    private_dim: int = 0

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise UserError(f"{self.name}: scale={self.scale}: give a number above 0")
        if self.private_dim < 0:
            raise UserError(f"{self.name}: private-dim={self.private_dim}: give 0 or a whole number above it")

    @property
    def discrete(self) -> bool:
        """Whether x holds class indices."""
        return self.likelihood == "categorical"

    @property
    def example(self) -> Array:
        """One blank x with a batch axis."""
        return jnp.zeros((1, *self.shape), jnp.int32 if self.discrete else jnp.float32)

    def distribution(self, output: Float[Array, "..."]) -> distrax.Distribution:
        """p(x_m|z) of the decoder's output, one batch entry per element of x."""
        family = LIKELIHOODS.get(self.likelihood) if isinstance(self.likelihood, str) else self.likelihood
        if family is None:
            raise UserError(f"unknown likelihood {self.likelihood!r}: choose one of {', '.join(LIKELIHOODS)}")
        return family(output, self.scale)


class Codes(NamedTuple):
    """What all inference networks say of a batch.

    Attributes:
      shared: leaves [N, B, D], one entry a network (the first M are the modalities' own where each has one).
      private: q(s_m|x_m), leaves [B, D_m], for the modalities that have a private latent; the prior where absent.
    """

    shared: Posterior
    private: dict[str, Posterior]


@dataclass(frozen=True)
class Model:
    """The description of a model; hashable, so it may be a static argument of `jax.jit`.

    Attributes:
      modalities: in the order of the presence mask's columns.
      latent_dim: D, of the shared latent z.
      fusion: how posteriors become one: poe, moe, mopoe, poe_quotient, or one with networks of its own
        (subset_networks, joint_network, bridge, replacement_experts); see `fusion.FUSIONS`.
      subsets: rows in place of the fusion's own: a list like m0+m1,m2 or random:k for k random subsets a step.
      prior_expert: where p(z) joins a product, in place of the fusion's own: none, full (rows that cover everything
        observed), all, or quotient; see `fusion.Fusion`.
      empty_subset: add the prior as one more component.
      posterior: `gaussian` or `laplace` (the latter for fusions of single experts only).
      learn_prior: learn the prior's scale, a softmax over D times D (MMVAE, Shi et al. 2019).
      auxiliary_prior: learn a second prior scale for private latents (MMVAE+, Palumbo et al. 2023).
      joint_width: hidden width of joint inference networks.
    """

    modalities: tuple[Modality, ...]
    latent_dim: int
    fusion: str = "mopoe"
    subsets: str = ""
    prior_expert: PriorExpert | None = None
    empty_subset: bool = False
    posterior: str = "gaussian"
    learn_prior: bool = False
    auxiliary_prior: bool = False
    joint_width: int = 512

    def __post_init__(self) -> None:
        for name in ("latent_dim", "joint_width"):
            if getattr(self, name) < 1:
                raise UserError(f"{name.replace('_', '-')}={getattr(self, name)}: give a whole number above 0")

    @property
    def names(self) -> tuple[str, ...]:
        """The modalities' names."""
        return tuple(modality.name for modality in self.modalities)

    @cached_property
    def rule(self) -> Fusion:
        """The fusion with its options applied.

        Raises:
          UserError: for a wrong option, or Laplace posteriors where the fusion multiplies.
        """
        rule = get_fusion(self.fusion, self.names, self.subsets, self.prior_expert, self.empty_subset)
        if self.posterior == "laplace" and (rule.whole_subset or len(rule.networks(self.names)) > len(self.names)):
            raise UserError(
                f"posterior=laplace with fusion {self.fusion}: Laplace densities have no closed-form product; use moe, "
                "without subsets, or posterior=gaussian"
            )
        return rule

    @cached_property
    def networks(self) -> tuple[Network, ...]:
        """The inference networks that the fusion combines."""
        return self.rule.networks(self.names)

    def init(self, key: Array) -> Params:
        """Fresh parameters.

        Raises:
          UserError: where a decoder's output does not fit its likelihood and shape.
        """
        inference_key, decoder_key = jax.random.split(key)
        blank = {m.name: m.example for m in self.modalities}
        inference = {}
        for i, network in enumerate(self.networks):
            members = [self.names[j] for j in network.inputs]
            codes = [jnp.zeros((1, self.latent_dim))] * len(members)
            arguments = codes if network.bridge else [blank[name] for name in members]
            inference[network.name] = _init(self._module(network), jax.random.fold_in(inference_key, i), *arguments)
        decoders = {}
        for i, m in enumerate(self.modalities):
            z = jnp.zeros((1, self.latent_dim + m.private_dim))
            decoders[m.name] = _init(m.decoder, jax.random.fold_in(decoder_key, i), z)
        params: dict[str, Any] = {"inference": inference, "decoders": decoders}
        if self.learn_prior:
            params["prior"] = jnp.zeros(self.latent_dim)
        if self.auxiliary_prior:
            params["auxiliary_prior"] = {m.name: jnp.zeros(m.private_dim) for m in self.modalities}
        self._check_decoders(params)
        return params

    def prior(self, params: Params) -> Posterior:
        """p(z), leaves [D]: standard unless its scale is learned."""
        if self.learn_prior:
            return self._learned(params["prior"])
        return POSTERIORS[self.posterior].with_scale(jnp.ones(self.latent_dim))

    def auxiliary(self, params: Params, name: str) -> Posterior:
        """The learned auxiliary prior of a modality's private latent (MMVAE+)."""
        return self._learned(params["auxiliary_prior"][name])

    def encode(self, params: Params, batch: Batch) -> Codes:
        """Run all inference networks on a batch, absent modalities blanked."""
        inputs = list(self._observed(batch).values())
        outputs: dict[str, Any] = {}
        for network in self.networks:
            arguments = (
                [outputs[name][:, : self.latent_dim] for name in self.names]
                if network.bridge
                else [inputs[i] for i in network.inputs]
            )
            variables = {"params": params["inference"][network.name]}
            outputs[network.name] = self._module(network).apply(variables, *arguments)
        shared = [self._posterior(output[:, : 2 * self.latent_dim]) for output in outputs.values()]
        private = {
            m.name: self._private(m, outputs[m.name][:, 2 * self.latent_dim :], batch.present[:, i])
            for i, m in enumerate(self.modalities)
            if m.private_dim
        }
        return Codes(jax.tree.map(lambda *leaves: jnp.stack(leaves), *shared), private)

    def joint(self, params: Params, codes: Codes, present: Bool[Array, "B M"], key: Array | None = None) -> Mixture:
        """q(z|X) given everything observed: what training integrates over."""
        return self.rule.joint(codes.shared, present, self.prior(params), key)

    def given(
        self,
        params: Params,
        codes: Codes,
        present: Bool[Array, "B M"],
        subset: Bool[Array, "M"] | Bool[np.ndarray, "M"],
    ) -> Mixture:
        """q(z|X_A) given the observed modalities of a subset."""
        return self.rule.given(codes.shared, present, subset, self.prior(params))

    def infer(self, params: Params, batch: Batch | Mapping[str, Any], subset: Sequence[str] | None = None) -> Mixture:
        """The posterior q(z|X_A) of a batch.

        Args:
          params: from `init` or `fit`.
          batch: a Batch, or a dict from modality name to data; modalities left out are missing.
          subset: names of the modalities to infer from; default all that are observed.

        Raises:
          UserError: for an unknown modality or data of the wrong shape.
        """
        batch = self.batch(batch)
        mask = subsets.select(self.names if subset is None else subset, self.names)
        return self.given(params, self.encode(params, batch), batch.present, mask)

    def decode(
        self,
        params: Params,
        z: Float[Array, "*N D"],
        private: Mapping[str, Float[Array, "*N d"]] | None = None,
        names: Sequence[str] | None = None,
    ) -> dict[str, distrax.Distribution]:
        """p(x_m|z, s_m) of every modality asked for, one batch entry per element of x."""
        wanted = self.names if names is None else names
        modalities = [m for m in self.modalities if m.name in wanted]
        return {m.name: m.distribution(self._output(params, m, z, private)) for m in modalities}

    def log_likelihoods(
        self,
        params: Params,
        z: Float[Array, "*K B D"],
        batch: Batch,
        private: Mapping[str, Float[Array, "*K B d"]] | None = None,
    ) -> Float[Array, "*K B M"]:
        """log p(x_m|z, s_m) in nats, unweighted, zero where x_m is absent."""
        observed = self._observed(batch)
        decoded = self.decode(params, z, private)
        terms = [
            jnp.where(batch.present[:, i], likelihoods.log_prob(decoded[m.name], observed[m.name], len(m.shape)), 0.0)
            for i, m in enumerate(self.modalities)
        ]
        return jnp.stack(terms, -1)

    def generate(
        self,
        params: Params,
        key: Array,
        given: Batch | Mapping[str, Any] | None = None,
        to: Sequence[str] | None = None,
        samples: int = 1,
    ) -> dict[str, Array]:
        """Draw z from the posterior of what is given (from the prior if nothing is) and decode it.

        Args:
          params: from `init` or `fit`.
          key: PRNG key.
          given: observed modalities, as in `infer`; None for unconditional generation.
          to: the modalities to generate; default all.
          samples: draws for every element of the batch (or in all, unconditionally).

        Returns:
          The mean (mode, for class indices) of p(x_m|z), [samples, B, *shape], or [samples, *shape] from the prior.
          Private latents come from their prior, as cross-generation demands.
        """
        key, private_key = jax.random.split(key)
        if given is None:
            z = self.prior(params).sample(key, (samples,))
        else:
            z = self.infer(params, given).sample(key, (samples,))
        private = self.private_prior_draws(private_key, z.shape[:-1])
        return {name: likelihoods.point_estimate(p) for name, p in self.decode(params, z, private, to).items()}

    def private_prior_draws(self, key: Array, shape: tuple[int, ...]) -> dict[str, Float[Array, "*N d"]]:
        """Private latents s_m from their standard prior."""
        owners = [m for m in self.modalities if m.private_dim]
        keys = jax.random.split(key, max(len(owners), 1))
        return {m.name: self.private_prior(m).sample(k, shape) for m, k in zip(owners, keys, strict=False)}

    def private_prior(self, modality: Modality) -> Posterior:
        """The standard prior of a private latent, leaves [d]."""
        return POSTERIORS[self.posterior].with_scale(jnp.ones(modality.private_dim))

    def batch(self, data: Batch | Mapping[str, Any], present: Bool[Array, "B M"] | None = None) -> Batch:
        """A dict from modality name to array as a Batch; modalities left out are marked missing.

        Raises:
          UserError: for an unknown modality, a wrong shape or unequal lengths.
        """
        if isinstance(data, Batch):
            return data
        unknown = [name for name in data if name not in self.names]
        if unknown or not data:
            what = f"unknown modality {unknown[0]!r}" if unknown else "no modality given"
            raise UserError(f"{what}: the model has {', '.join(self.names)}")
        sizes = {name: len(x) for name, x in data.items()}
        if len(set(sizes.values())) > 1:
            raise UserError(f"modalities of different lengths {sizes}: give the same number of samples of each")
        size = next(iter(sizes.values()))
        x = {m.name: self._checked(m, data.get(m.name), size) for m in self.modalities}
        given = jnp.array([name in data for name in self.names])
        present = jnp.ones((size, len(given)), bool) if present is None else jnp.asarray(present)
        if present.shape != (size, len(given)):
            raise UserError(f"presence has shape {present.shape}: give one of shape {(size, len(given))}")
        present &= given
        return Batch(x, present, jnp.full(size, -1, jnp.int32))

    def _checked(self, modality: Modality, x: Any, size: int) -> Array:
        if x is None:
            return jnp.repeat(modality.example, size, axis=0)
        x = jnp.asarray(x)
        if x.shape[1:] != modality.shape:
            raise UserError(f"{modality.name}: data of shape {x.shape[1:]}, the modality is declared {modality.shape}")
        return x

    def _observed(self, batch: Batch) -> dict[str, Num[Array, "B ..."]]:
        """The data in model units (uint8 pixels scaled to [0, 1]), zero where absent, so that nothing can leak."""
        observed = {}
        for i, m in enumerate(self.modalities):
            x = batch.x[m.name]
            x = x.astype(jnp.float32) / 255 if x.dtype == jnp.uint8 and not m.discrete else x
            mask = batch.present[:, i].reshape(-1, *[1] * len(m.shape))
            observed[m.name] = jnp.where(mask, x, jnp.zeros_like(x))
        return observed

    def _module(self, network: Network) -> nn.Module:
        if network.bridge:
            return Bridge(2 * self.latent_dim)
        members = [self.modalities[i] for i in network.inputs]
        private_dim = members[0].private_dim if network.name == members[0].name else 0
        trunks = tuple(m.encoder for m in members)
        return InferenceNetwork(trunks, 2 * (self.latent_dim + private_dim), self.joint_width)

    def _posterior(self, outputs: Float[Array, "B 2D"]) -> Posterior:
        if self.rule.prior_expert != "quotient":
            return POSTERIORS[self.posterior].from_outputs(outputs)
        posterior = Gaussian.from_outputs(outputs)
        # var = M/(M-1) sigmoid(v) keeps the precision of the quotient, (M-1)/M sum_m e^-v_m for all, positive (MVAE
        # supplement, section 3). Beyond v = 10 float32 would round it away: v stays there, with its gradient.
        v = posterior.log_var - jax.lax.stop_gradient(jnp.maximum(posterior.log_var - 10, 0))
        m = len(self.modalities)
        bound = jnp.log(m / (m - 1)) if m > 1 else 0.0
        return Gaussian(posterior.mean, bound + jax.nn.log_sigmoid(v))

    def _private(self, modality: Modality, outputs: Float[Array, "B 2d"], present: Bool[Array, "B"]) -> Posterior:
        posterior = POSTERIORS[self.posterior].from_outputs(outputs)
        prior = self.private_prior(modality)
        return jax.tree.map(lambda leaf, default: jnp.where(present[:, None], leaf, default), posterior, prior)

    def _learned(self, raw: Float[Array, "D"]) -> Posterior:
        return POSTERIORS[self.posterior].with_scale(jax.nn.softmax(raw) * raw.shape[0])

    def _output(
        self, params: Params, modality: Modality, z: Float[Array, "*N D"], private: Mapping[str, Array] | None
    ) -> Array:
        if modality.private_dim:
            if private is None:
                raise ValueError(f"{modality.name} has a private latent: decode needs its values")
            z = jnp.concatenate([z, private[modality.name]], -1)
        flat: Any = modality.decoder.apply({"params": params["decoders"][modality.name]}, z.reshape(-1, z.shape[-1]))
        flat = flat.astype(jnp.float32)
        return flat.reshape(*z.shape[:-1], *flat.shape[1:])

    def _check_decoders(self, params: Params) -> None:
        z = jax.ShapeDtypeStruct((1, self.latent_dim), jnp.float32)
        private = {m.name: jax.ShapeDtypeStruct((1, m.private_dim), jnp.float32) for m in self.modalities}
        for m in self.modalities:
            output = jax.eval_shape(partial(self._output, modality=m), params, z=z, private=private).shape[1:]
            fits = output[:-1] == m.shape if m.discrete else output == m.shape
            if not fits:
                needed = f"{(*m.shape, 'categories')}" if m.discrete else f"{m.shape}"
                raise UserError(f"{m.name}: decoder output shape {output} does not fit {m.likelihood}: needs {needed}")


@partial(jax.jit, static_argnums=0)
def _init(module: nn.Module, key: Array, *arguments: Array) -> Params:
    """A module's fresh parameters; compiled once for all modalities with the same network."""
    return module.init(key, *arguments)["params"]
