"""A multimodal VAE: modalities, inference networks, one fusion, decoders. Pure functions of explicit parameters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple, Self, cast, get_args

import distrax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float, Key, Num, PyTree

from mmvae_jax import likelihoods, priors, subsets
from mmvae_jax.data.batching import Batch
from mmvae_jax.errors import UserError, check_choice, told
from mmvae_jax.fusion import FUSIONS, Fusion, Network, PriorExpert, get_fusion
from mmvae_jax.gaussian import Gaussian
from mmvae_jax.inputs import Presence, as_batch, check_key, check_params
from mmvae_jax.mixture import Mixture
from mmvae_jax.modality import Modality
from mmvae_jax.networks.foreign import as_linen
from mmvae_jax.networks.inference import Bridge, InferenceNetwork
from mmvae_jax.posteriors import POSTERIORS, Family, Posterior
from mmvae_jax.priors import PRIORS, Density, Prior
from mmvae_jax.sharding import of_rows
from mmvae_jax.zoo import model_row

Params = PyTree[Array]


class Codes(NamedTuple):
    """What all inference networks say of a batch.

    Attributes:
      shared: leaves [N, B, D], one entry a network (the first M are the modalities' own where each has one).
      private: q(s_m|x_m), leaves [B, D_m], for the modalities that have a private latent; the prior where absent.
    """

    shared: Posterior
    private: dict[str, Posterior]


class Latents(NamedTuple):
    """Points of the latent spaces, to be decoded.

    Attributes:
      z: shared, [*K, B, D].
      private: s_m of the modalities that have a private latent, [*K, B, D_m].
    """

    z: Float[Array, "*K B D"]
    private: dict[str, Float[Array, "*K B _"]]


@dataclass(frozen=True)
class Model:
    """The description of a model; hashable, so it may be a static argument of `jax.jit`.

    Attributes:
      modalities: in the order of the presence mask's columns.
      latent_dim: D, of the shared latent z.
      fusion: how posteriors become one, a key of `fusion.FUSIONS`.
      subsets: rows in place of the fusion's own: a list like m0+m1,m2 or random:k for k random subsets a step.
      prior_expert: where p(z) joins a product, in place of the fusion's own: none, full (the product of all M experts
        only), all, or quotient; see `fusion.Fusion`.
      empty_subset: add the prior as one more component.
      posterior: of every single expert, a key of `posteriors.POSTERIORS`; only Gaussians multiply.
      prior: the generative prior p(z), a key of `priors.PRIORS`.
      auxiliary_prior: learn a second prior scale for private latents (MMVAE+, Palumbo et al. 2023).
      joint_width: hidden width of joint inference networks.

    Examples:
      >>> from mmvae_jax.networks.mlp import MLPDecoder, MLPEncoder
      >>> blood = Modality("blood", (6,), MLPEncoder((16,)), MLPDecoder((6,), (16,)))
      >>> gait = Modality("gait", (3,), MLPEncoder((16,)), MLPDecoder((3,), (16,)))
      >>> model = Model((blood, gait), latent_dim=2, fusion="mopoe")
      >>> params = model.init(jax.random.key(0))  # or what `fit` returns
      >>> patients = {"blood": np.zeros((5, 6)), "gait": np.zeros((5, 3))}
      >>> model.infer(params, patients, subset=["blood"]).mean().shape
      (5, 2)
      >>> drawn = model.generate(params, jax.random.key(1), given={"blood": patients["blood"]}, to="gait", samples=20)
      >>> drawn["gait"].shape
      (20, 5, 3)
    """

    modalities: tuple[Modality, ...]
    latent_dim: int
    fusion: str = "mopoe"
    subsets: str = ""
    prior_expert: PriorExpert | None = None
    empty_subset: bool = False
    posterior: str = "gaussian"
    prior: str = "standard"
    auxiliary_prior: bool = False
    joint_width: int = 512

    def __post_init__(self) -> None:
        for name in ("latent_dim", "joint_width"):
            value = getattr(self, name)
            if not isinstance(value, (int, np.integer)) or value < 1:
                raise UserError(f"{name.replace('_', '-')}={value}: give a whole number above 0")
        check_choice(self.fusion, FUSIONS, "fusion")
        check_choice(self.posterior, POSTERIORS, "posterior")
        check_choice(self.prior, PRIORS, "prior")
        if self.prior_expert is not None:
            check_choice(self.prior_expert, get_args(PriorExpert), "prior-expert")
        if len(set(self.names)) < len(self.names):
            raise UserError(f"modalities {', '.join(self.names)}: give every one a name of its own")
        if self.modalities:
            self._check_fusion()

    @classmethod
    def of(cls, name: str, modalities: Sequence[Modality], latent_dim: int, **options: Any) -> Self:
        """A model of the papers; `Training.of(name)` has the objective that belongs to it.

        Args:
          name: a key of `zoo.MODELS`.
          modalities: in the order of the presence mask's columns.
          latent_dim: D.
          options: further fields; these win over what the model sets.

        Raises:
          UserError: for an unknown model or options that do not go together.
        """
        return cls(tuple(modalities), latent_dim, **{**model_row(name).architecture, **options})

    @property
    def names(self) -> tuple[str, ...]:
        """The modalities' names."""
        return tuple(modality.name for modality in self.modalities)

    @cached_property
    def resolved_fusion(self) -> Fusion:
        """The fusion with its options applied."""
        return get_fusion(self.fusion, self.names, self.subsets, self.prior_expert, self.empty_subset)

    @cached_property
    def networks(self) -> tuple[Network, ...]:
        """The inference networks that the fusion combines."""
        return self.resolved_fusion.networks(self.names)

    @cached_property
    def classes(self) -> dict[str, int]:
        """How many classes the decoders of class indices know."""
        outputs = {m.name: as_linen(m.decoder).init_with_output for m in self.modalities if m.discrete}
        z = {m.name: jnp.zeros((1, self.latent_dim + m.private_dim)) for m in self.modalities}
        key = jax.random.key(0)
        found = {}
        for name, output in outputs.items():
            with told(f"{name}: its decoder does not take latents of shape {z[name].shape}"):
                found[name] = jax.eval_shape(output, key, z[name])[0].shape[-1]
        return found

    def init(self, key: Key[Array, ""]) -> Params:
        """Fresh parameters.

        Raises:
          UserError: where a network does not take what it is given, a decoder's output does not fit its likelihood and
            shape, or an encoder knows fewer classes than it.
        """
        check_key(key)
        inference_key, decoder_key = jax.random.split(key)
        blank = {m.name: m.example for m in self.modalities}
        inference = {}
        for i, network in enumerate(self.networks):
            members = [self.names[j] for j in network.inputs]
            codes = [jnp.zeros((1, self.latent_dim))] * len(members)
            arguments = codes if network.bridge else [blank[name] for name in members]
            shapes = " and ".join(str(each.shape) for each in arguments)
            with told(f"{network.name}: its encoder does not take arrays of shape {shapes}"):
                inference[network.name] = _init(self._module(network), jax.random.fold_in(inference_key, i), *arguments)
        decoders = {}
        for i, m in enumerate(self.modalities):
            z = jnp.zeros((1, self.latent_dim + m.private_dim))
            with told(f"{m.name}: its decoder does not take latents of shape {z.shape}"):
                decoders[m.name] = _init(as_linen(m.decoder), jax.random.fold_in(decoder_key, i), z)
        params: dict[str, Any] = {"inference": inference, "decoders": decoders}
        prior = PRIORS[self.prior].init(jax.random.fold_in(key, 2), self.latent_dim)
        if jax.tree.leaves(prior):
            params["prior"] = prior
        if self.auxiliary_prior:
            params["auxiliary_prior"] = {m.name: jnp.zeros(m.private_dim) for m in self.modalities}
        z = jax.ShapeDtypeStruct((1, self.latent_dim), jnp.float32)
        private = {m.name: jax.ShapeDtypeStruct((1, m.private_dim), jnp.float32) for m in self.modalities}
        for m in self.modalities:
            output = jax.eval_shape(partial(self.output, modality=m), params, z=z, private=private)
            m.check_output(output.shape[1:])
        return params

    @property
    def family(self) -> Family:
        """The family of the single posteriors."""
        return POSTERIORS[self.posterior]

    def generative_prior(self, params: Params) -> Prior:
        """p(z): what latents are drawn from and posteriors held against."""
        return PRIORS[self.prior].prior(params.get("prior"), self.latent_dim, self.family)

    def expert_prior(self, params: Params) -> Posterior:
        """The expert p(z) that joins products, leaves [D]; also what is inferred from nothing."""
        return PRIORS[self.prior].expert(params.get("prior"), self.latent_dim, self.family)

    def private_prior(self, modality: Modality) -> Posterior:
        """The standard prior of a private latent, leaves [d]; also what is inferred of it where x_m is absent."""
        return priors.standard(modality.private_dim, self.family)

    def auxiliary(self, params: Params, name: str) -> Posterior:
        """The learned auxiliary prior of a modality's private latent (MMVAE+)."""
        raw = params["auxiliary_prior"][name]
        return priors.learned_scale(raw, len(raw), self.family)

    def encode(self, params: Params, batch: Batch) -> Codes:
        """Run all inference networks on a batch, absent modalities blanked."""
        observed = self._observed(batch)
        inputs = [m.encoder_input(observed[m.name]) for m in self.modalities]
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

    def joint(
        self, params: Params, codes: Codes, present: Bool[Array, "B M"], key: Key[Array, ""] | None = None
    ) -> Mixture:
        """q(z|X) given everything observed: what training integrates over."""
        return self.resolved_fusion.joint(codes.shared, present, self.expert_prior(params), key)

    def given(
        self,
        params: Params,
        codes: Codes,
        present: Bool[Array, "B M"],
        subset: Bool[Array, "M"] | Bool[np.ndarray, "M"],
    ) -> Mixture:
        """q(z|X_A) given the observed modalities of a subset."""
        return self.resolved_fusion.given(codes.shared, present, subset, self.expert_prior(params))

    def infer(self, params: Params, batch: Batch | Mapping[str, Any], subset: Sequence[str] | None = None) -> Mixture:
        """The posterior q(z|X_A) of a batch.

        Args:
          params: from `init` or `fit`.
          batch: a Batch, or a dict from modality name to data; modalities left out are missing.
          subset: names of the modalities to infer from; default all that are observed.

        Raises:
          UserError: for an unknown modality, one that is asked for and not in the data, data of the wrong shape, or
            what are no parameters.
        """
        check_params(params)
        mask = subsets.select(self.names if subset is None else subset, self.names)
        if subset is not None and not isinstance(batch, Batch):
            left_out = [name for name, asked in zip(self.names, mask, strict=True) if asked and name not in batch]
            if left_out:
                raise UserError(f"subset has {left_out[0]}, which is not in the data: they have {', '.join(batch)}")
        batch = self.batch(batch)
        return self.given(params, self.encode(params, batch), batch.present, mask)

    def decode(
        self,
        params: Params,
        z: Float[Array, "*N D"],
        private: Mapping[str, Float[Array, "*N _"]] | None = None,
        names: Sequence[str] | str | None = None,
    ) -> dict[str, distrax.Distribution]:
        """p(x_m|z, s_m) of every modality asked for (default all), one batch entry per element of x."""
        wanted = subsets.select(self.names if names is None else names, self.names)
        modalities = [m for m, chosen in zip(self.modalities, wanted, strict=True) if chosen]
        outputs = {m: Partial(self.output, params, m, z, private) for m in modalities}
        return {m.name: m.distribution(f if m.row.autoregressive else f()) for m, f in outputs.items()}

    def log_likelihoods(
        self,
        params: Params,
        z: Float[Array, "*K B D"],
        batch: Batch,
        private: Mapping[str, Float[Array, "*K B _"]] | None = None,
        names: Sequence[str] | None = None,
    ) -> Float[Array, "*K B _"]:
        """log p(x_m|z, s_m) in nats, unweighted, zero where x_m is absent, of all modalities or those asked for."""
        observed = self._observed(batch)
        decoded = self.decode(params, z, private, names)

        def term(m: Modality, present: Bool[Array, "B"]) -> Float[Array, "*K B"]:
            elements = m.observed(batch.x[m.name])
            nats = likelihoods.log_prob(decoded[m.name], observed[m.name], len(m.shape), elements)
            return jnp.where(present, nats, 0.0)

        return jnp.stack([term(m, batch.present[:, i]) for i, m in enumerate(self.modalities) if m.name in decoded], -1)

    def draw(
        self,
        params: Params,
        codes: Codes,
        present: Bool[Array, "B M"],
        subset: Bool[Array, "M"] | Bool[np.ndarray, "M"],
        key: Key[Array, ""],
    ) -> Latents:
        """One draw given the observed modalities of a subset, for every element of a batch.

        z ~ q(z|X_A), and s_m ~ q(s_m|x_m) for what is given, from its prior for all others (Sutter et al. 2021,
        Eq. 34).
        """
        z_key, prior_key, posterior_key = jax.random.split(key, 3)
        z = self.given(params, codes, present, subset).sample(z_key)
        private = self._private_prior_draws(prior_key, z.shape[:1])
        for i, name in enumerate(self.names):
            if name in private:
                own = codes.private[name].sample(jax.random.fold_in(posterior_key, i))
                private[name] = jnp.where(subset[i], own, private[name])
        return Latents(z, private)

    def draw_prior(self, params: Params, key: Key[Array, ""], samples: int, sampler: Density | None = None) -> Latents:
        """Draws given nothing, leaves [samples, D]: z from p(z) or, in its place, `sampler`, and s_m from its prior."""
        z_key, private_key = jax.random.split(key)
        source = self.generative_prior(params) if sampler is None else sampler
        return Latents(source.sample(z_key, (samples,)), self._private_prior_draws(private_key, (samples,)))

    def point_estimates(
        self, params: Params, latents: Latents, names: Sequence[str] | str | None = None
    ) -> dict[str, Array]:
        """The mean (mode, for class indices) of p(x_m|z, s_m) of every modality asked for, [*K, B, *shape]."""
        decoded = self.decode(params, latents.z, latents.private, names)
        return {name: likelihoods.point_estimate(p) for name, p in decoded.items()}

    def generate(
        self,
        params: Params,
        key: Key[Array, ""],
        given: Batch | Mapping[str, Any] | None = None,
        to: Sequence[str] | str | None = None,
        samples: int = 1,
        draws: bool = False,
        sampler: Density | None = None,
    ) -> dict[str, Array]:
        """Draw latents from the posterior of what is given (from the prior if nothing is) and decode them.

        Private latents of given modalities come from q(s_m|x_m), all others from their prior.

        Args:
          params: from `init` or `fit`.
          key: PRNG key.
          given: observed modalities, as in `infer`; None for unconditional generation.
          to: the modalities to generate; default all.
          samples: draws for every element of the batch (or in all, unconditionally).
          draws: samples of p(x_m|z) in place of its mean (mode, for class indices).
          sampler: unconditionally, what z is drawn from in place of the prior.

        Returns:
          [samples, B, *shape] of every modality, or [samples, *shape] unconditionally.

        Raises:
          UserError: for an unknown modality, no sample, what is no key, or what `infer` would not take.
        """
        check_params(params)
        check_key(key)
        if samples < 1:
            raise UserError(f"samples={samples}: give at least 1")
        key, noise_key = jax.random.split(key)
        if given is None:
            latents = self.draw_prior(params, key, samples, sampler)
        else:
            batch = self.batch(given)
            codes, everything = self.encode(params, batch), np.ones(len(self.names), bool)
            draw = partial(self.draw, params, codes, batch.present, everything)
            latents = jax.vmap(draw)(jax.random.split(key, samples))
        if not draws:
            return self.point_estimates(params, latents, to)
        decoded = self.decode(params, latents.z, latents.private, to)
        keys = jax.random.split(noise_key, len(decoded))
        return {name: jnp.asarray(p.sample(seed=k)) for (name, p), k in zip(decoded.items(), keys, strict=True)}

    def reconstruct(
        self,
        params: Params,
        key: Key[Array, ""],
        data: Batch | Mapping[str, Any],
        samples: int = 1,
        draws: bool = False,
    ) -> dict[str, Array]:
        """What the model makes of the modalities that it is given, [samples, B, *shape]; see `generate`."""
        batch = self.batch(data)
        observed = np.asarray(batch.present)
        names = [name for i, name in enumerate(self.names) if observed[:, i].any()]
        return self.generate(params, key, batch, names, samples, draws)

    def impute(
        self,
        params: Params,
        key: Key[Array, ""],
        data: Batch | Mapping[str, Any],
        presence: Presence | None = None,
        samples: int = 1,
        draws: bool = False,
    ) -> dict[str, Array]:
        """All modalities, [samples, B, *shape] in model units: as observed where they were, generated where not.

        Of modalities with `nan_missing` that goes element by element.

        Args:
          params: from `init` or `fit`.
          key: PRNG key.
          data: as in `infer`; modalities left out are missing.
          presence: which modalities of which sample were observed; default all that are in the data.
          samples: imputations of every sample.
          draws: samples of p(x_m|z) in place of its mean (mode, for class indices).
        """
        batch = self.batch(data, presence)
        generated = self.generate(params, key, batch, samples=samples, draws=draws)
        observed = self._observed(batch)
        masks = {
            m.name: m.observed_where_present(batch.x[m.name], batch.present[:, i])
            for i, m in enumerate(self.modalities)
        }
        return {name: jnp.where(mask, observed[name], generated[name]) for name, mask in masks.items()}

    def batch(self, data: Batch | Mapping[str, Any], presence: Presence | None = None) -> Batch:
        """A dict from modality name to array as a Batch, checked; see `inputs.as_batch`."""
        return as_batch(self.modalities, self.classes, data, presence)

    def _private_prior_draws(self, key: Key[Array, ""], shape: tuple[int, ...]) -> dict[str, Float[Array, "*N _"]]:
        owners = [m for m in self.modalities if m.private_dim]
        keys = jax.random.split(key, max(len(owners), 1))
        return {m.name: self.private_prior(m).sample(k, shape) for m, k in zip(owners, keys, strict=False)}

    def _observed(self, batch: Batch) -> dict[str, Num[Array, "B ..."]]:
        return {m.name: m.blanked(batch.x[m.name], batch.present[:, i]) for i, m in enumerate(self.modalities)}

    def _module(self, network: Network) -> nn.Module:
        if network.bridge:
            return Bridge(2 * self.latent_dim)
        members = [self.modalities[i] for i in network.inputs]
        private_dim = members[0].private_dim if network.name == members[0].name else 0
        trunks = tuple(as_linen(m.encoder) for m in members)
        return InferenceNetwork(trunks, 2 * (self.latent_dim + private_dim), self.joint_width)

    def _posterior(self, outputs: Float[Array, "B outputs"]) -> Posterior:
        if self.resolved_fusion.prior_expert == "quotient":
            return Gaussian.quotient_expert(outputs, len(self.modalities))
        return self.family.from_outputs(outputs)

    def _private(self, modality: Modality, outputs: Float[Array, "B outputs"], present: Bool[Array, "B"]) -> Posterior:
        posterior, prior = self.family.from_outputs(outputs), self.private_prior(modality)
        return jax.tree.map(lambda leaf, default: jnp.where(present[:, None], leaf, default), posterior, prior)

    def output(
        self,
        params: Params,
        modality: Modality,
        z: Float[Array, "*N D"],
        private: Mapping[str, Array] | None = None,
        push: Float[Array, "*N L C"] | None = None,
    ) -> Array:
        """What a modality's decoder puts out; one of a symbol after another where symbols are pushed to be taken."""
        if modality.private_dim:
            if private is None:
                raise ValueError(f"{modality.name} has a private latent: decode needs its values")
            z = jnp.concatenate([z, private[modality.name]], -1)
        apply = partial(as_linen(modality.decoder).apply, {"params": params["decoders"][modality.name]})
        inputs = (z,) if push is None else (z, push)
        return of_rows(lambda *rows: cast("Array", apply(*rows)).astype(jnp.float32), *inputs)

    def _check_fusion(self) -> None:
        """That the fusion takes this many modalities, the posterior and the prior, and has rows for its networks."""
        fusion, needed = self.resolved_fusion, (len(self.networks),)
        rows = fusion.rows(len(self.names), jax.random.key(0))
        if rows.dtype != bool or rows.ndim != 2 or rows.shape[1:] != needed or not len(rows):
            raise UserError(
                f"fusion {self.fusion}: its rows are of shape {rows.shape} and type {rows.dtype}: give booleans, a row "
                f"for every product and a column for each of {needed[0]} networks"
            )
        multiplies = fusion.whole_subset or len(self.networks) > len(self.names)
        if multiplies and not self.family.multiplies:
            raise UserError(
                f"posterior={self.posterior} with fusion {self.fusion}: its densities have no closed-form product; use "
                "moe, without subsets, or posterior=gaussian"
            )
        if fusion.prior_expert != "none" and not self.family.multiplies:
            raise UserError(
                f"prior-expert={fusion.prior_expert} with posterior {self.posterior}: its densities have no "
                "closed-form product; use prior-expert=none or posterior=gaussian"
            )
        if fusion.prior_expert == "quotient" and self.prior != "standard":
            raise UserError(
                f"prior={self.prior} with a quotient by the prior: it need not exist; use prior=standard or fusion poe"
            )


@partial(jax.jit, static_argnums=0)
def _init(module: nn.Module, key: Key[Array, ""], *arguments: Array) -> Params:
    """A module's fresh parameters; compiled once for all modalities with the same network."""
    return module.init(key, *arguments).get("params", {})
