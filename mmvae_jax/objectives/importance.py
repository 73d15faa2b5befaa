"""Importance-weighted bounds for mixtures: IWAE and DReG, tight and loose (Shi et al. 2019), and MMVAE+."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Key

from mmvae_jax.data.batching import Batch
from mmvae_jax.mixture import Mixture
from mmvae_jax.model import Codes, Latents, Model, Params
from mmvae_jax.objectives.terms import Loss, Options, weights


def _draw(
    model: Model, params: Params, key: Key[Array, ""], codes: Codes, mixture: Mixture, k: int, cross_private: bool
) -> Latents:
    """Draws of everything; with `cross_private` only component m sees s_m's posterior, others an auxiliary prior."""
    z = mixture.components.sample(key, (k,))
    private = {}
    for i, m in enumerate(model.modalities):
        if m.private_dim:
            own_key, other_key = jax.random.split(jax.random.fold_in(key, i + 1))
            draws = codes.private[m.name].sample(own_key, z.shape[:2])
            if cross_private:
                other = model.auxiliary(params, m.name).sample(other_key, z.shape[:3])
                own = (jnp.arange(z.shape[1]) == i)[:, None, None]
                draws = jnp.where(own, draws, other)
            private[m.name] = draws
    return Latents(z, private)


def _log_private_ratio(
    model: Model, codes: Codes, latents: Latents, cross_private: bool
) -> Float[Array, "K S B"] | float:
    """`sum_m log p(s_m) - log q(s_m|x_m)`; with `cross_private` for component m's own s_m only."""
    ratio: Float[Array, "K S B"] | float = 0.0
    for i, m in enumerate(model.modalities):
        if m.private_dim:
            s = latents.private[m.name]
            term = model.private_prior(m).log_prob(s) - codes.private[m.name].log_prob(s)
            own = (jnp.arange(s.shape[1]) == i)[:, None]
            ratio += jnp.where(own, term, 0.0) if cross_private else term
    return ratio


def _bound(log_w: Float[Array, "K S B"], log_weights: Float[Array, "S B"], loose: bool) -> Float[Array, "B"]:
    """Tight: `log sum_s w_s 1/K sum_k w`; loose: `sum_s w_s log 1/K sum_k w`."""
    log_mean = jax.nn.logsumexp(log_w, axis=0) - jnp.log(log_w.shape[0])
    if not loose:
        return jax.nn.logsumexp(log_weights + log_mean, axis=0)
    live = jnp.isfinite(log_weights)
    return jnp.sum(jnp.where(live, jnp.exp(log_weights) * log_mean, 0.0), axis=0)


def _importance_bound(
    model: Model,
    params: Params,
    key: Key[Array, ""],
    batch: Batch,
    beta: ArrayLike,
    options: Options,
    *,
    loose: bool,
    dreg: bool,
    cross_private: bool = False,
) -> Loss:
    rows_key, key = jax.random.split(key)
    codes = model.encode(params, batch)
    mixture = model.joint(params, codes, batch.present, rows_key)
    latents = _draw(model, params, key, codes, mixture, options.importance_samples, cross_private)

    def log_prior_and_likelihood(latents: Latents, params: Params) -> Float[Array, "K S B"]:
        def of_sample(one: Latents) -> Float[Array, "*K S B"]:
            log_likelihood = model.log_likelihoods(params, one.z, batch, one.private) @ weights(model)
            return log_likelihood + beta * model.generative_prior(params).log_prob(one.z)

        if options.importance_samples <= options.samples_at_once:
            return of_sample(latents)
        return jax.lax.map(jax.checkpoint(of_sample), latents, batch_size=options.samples_at_once)

    def log_weight(latents: Latents, params: Params, mixture: Mixture, codes: Codes) -> Float[Array, "K S B"]:
        private = beta * _log_private_ratio(model, codes, latents, cross_private)
        return log_prior_and_likelihood(latents, params) - beta * mixture.log_prob(latents.z) + private

    if not dreg:
        bound = jnp.mean(_bound(log_weight(latents, params, mixture, codes), mixture.log_weights, loose))
    else:
        bound = _doubly_reparameterised(log_weight, latents, params, mixture, codes, beta, loose, cross_private)
    return -bound, {"bound": bound}


def _doubly_reparameterised(
    log_weight: Callable[[Latents, Params, Mixture, Codes], Float[Array, "K S B"]],
    latents: Latents,
    params: Params,
    mixture: Mixture,
    codes: Codes,
    beta: ArrayLike,
    loose: bool,
    cross_private: bool,
) -> Float[Array, ""]:
    """The importance-weighted bound with a doubly reparameterised gradient (Tucker et al. 2019), exact for mixtures.

    With W the normalised weights (v within the sum under the logarithm: v = W where tight) and
    rho_r(z) = w_r q_r(z) / q(z), the score that a draw z of component s has in its own component becomes the path
    derivative d(W rho_s)/dz, so that log w is differentiated along the path with weight
    `W (1 - beta (1 - v) rho_s)`; the scores of the other components, `-beta W rho_r d log q_r/d phi`, stay. For one
    component that is Tucker's squared weight. Squaring the weights of stratified mixtures as well, as MMVAE does, is
    biased where components overlap. Gradients of decoders and prior are those of the plain bound. MMVAE+'s auxiliary
    draws have no score to replace.
    """
    frozen_latents, frozen_params, frozen_mixture, frozen_codes = jax.lax.stop_gradient(
        (latents, params, mixture, codes)
    )
    log_w, pullback = jax.vjp(
        lambda z, p: log_weight(z, p, frozen_mixture, frozen_codes), frozen_latents, frozen_params
    )
    within = jax.nn.softmax(log_w, axis=0)
    log_sums = jax.nn.logsumexp(log_w, axis=0) + frozen_mixture.log_weights
    across = jnp.exp(frozen_mixture.log_weights) if loose else jax.nn.softmax(log_sums, axis=0)
    share, normalised = within * across, within if loose else within * across
    by_latents, by_params = pullback(share)

    rho_of_path = _responsibilities(frozen_mixture, latents.z)
    rho = jax.lax.stop_gradient(rho_of_path)
    own = jnp.eye(rho.shape[1])[:, :, None]
    own_rho = jnp.sum(own * rho, axis=2)
    factor = 1 - beta * (1 - normalised) * own_rho
    surrogate = jnp.vdot(by_latents.z * factor[..., None], latents.z)
    for i, (name, draws) in enumerate(latents.private.items()):
        scored = 1 - beta * (1 - normalised)
        if cross_private:
            scored = jnp.where((jnp.arange(rho.shape[1]) == i)[:, None], scored, 1.0)
        surrogate += jnp.vdot(by_latents.private[name] * scored[..., None], draws)
    surrogate -= beta * jnp.sum(share[:, :, None] * own * rho_of_path)
    scores = mixture.components.log_prob(frozen_latents.z[..., None, :, :])
    surrogate -= beta * jnp.sum(share[:, :, None] * (1 - own) * rho * scores)
    surrogate += sum(map(jnp.vdot, jax.tree.leaves(by_params), jax.tree.leaves(params)))
    value = jnp.mean(_bound(log_w, mixture.log_weights, loose))
    return value + (surrogate - jax.lax.stop_gradient(surrogate)) / log_w.shape[-1]


def _responsibilities(mixture: Mixture, z: Float[Array, "K S B D"]) -> Float[Array, "K S R B"]:
    """`rho_r(z) = w_r q_r(z) / q(z)` of every component r at every draw."""
    log_joint = mixture.log_weights + mixture.components.log_prob(z[..., None, :, :])
    return jax.nn.softmax(log_joint, axis=-2)


def iwae(model: Model, params: Params, key: Key[Array, ""], batch: Batch, beta: ArrayLike, options: Options) -> Loss:
    """Tight importance-weighted bound, `log 1/(SK) sum_{s,k} w`, with `w = p(z) prod_m p(x_m|z)^{w_m} / q(z|X)`.

    K draws from each of the S components and the full mixture density in every weight (Shi et al. 2019; Burda et al.
    2016).
    """
    return _importance_bound(model, params, key, batch, beta, options, loose=False, dreg=False)


def iwae_loose(
    model: Model, params: Params, key: Key[Array, ""], batch: Batch, beta: ArrayLike, options: Options
) -> Loss:
    """The loose form that Shi et al. (2019, Eq. 3) print: the mean over components of `log 1/K sum_k w`."""
    return _importance_bound(model, params, key, batch, beta, options, loose=True, dreg=False)


def dreg(model: Model, params: Params, key: Key[Array, ""], batch: Batch, beta: ArrayLike, options: Options) -> Loss:
    """`iwae` with the doubly reparameterised gradient: same value, same mean gradient, less variance."""
    return _importance_bound(model, params, key, batch, beta, options, loose=False, dreg=True)


def dreg_loose(
    model: Model, params: Params, key: Key[Array, ""], batch: Batch, beta: ArrayLike, options: Options
) -> Loss:
    """`iwae_loose` with the doubly reparameterised gradient: MMVAE's published objective."""
    return _importance_bound(model, params, key, batch, beta, options, loose=True, dreg=True)


def mmvae_plus(
    model: Model, params: Params, key: Key[Array, ""], batch: Batch, beta: ArrayLike, options: Options
) -> Loss:
    """MMVAE+ (Palumbo et al. 2023): `dreg_loose` over shared u with private w_m, for `moe` and `auxiliary_prior`.

    Component m draws u ~ q(u|x_m) and w_m ~ q(w_m|x_m); x_m is decoded from (u, w_m), every other x_n from u and a draw
    of the learned auxiliary prior of w_n. The weights hold the mixture density of u and q(w_m|x_m) for w_m.
    """
    return _importance_bound(model, params, key, batch, beta, options, loose=True, dreg=True, cross_private=True)
