"""Evidence lower bounds of one joint posterior: ELBO, powerset ELBO, MVAE's sum of ELBOs, mmJSD and MVTCAE."""

from collections.abc import Mapping
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Key

from mmvae_jax import subsets
from mmvae_jax.data.batching import Batch
from mmvae_jax.mixture import Mixture, draw
from mmvae_jax.model import Codes, Model, Params
from mmvae_jax.objectives.terms import (
    Loss,
    Options,
    component_kls,
    draw_private,
    sampled_kl,
    total,
)
from mmvae_jax.posteriors import Posterior


def elbo(model: Model, params: Params, key: Key[Array, ""], batch: Batch, beta: ArrayLike, options: Options) -> Loss:
    """`E_q[sum_m w_m log p(x_m|z)] - beta KL(q||p)` under the joint posterior (Sutter et al. 2021, Eq. 10)."""
    rows_key, key = jax.random.split(key)
    codes = model.encode(params, batch)
    mixture = model.joint(params, codes, batch.present, rows_key)
    return mixture_elbo(model, params, key, batch, codes, mixture, beta, options)


def powerset_elbo(
    model: Model, params: Params, key: Key[Array, ""], batch: Batch, beta: ArrayLike, options: Options
) -> Loss:
    """The mean over all subsets A of the ELBO on log p(X) under q(z|X_A) (Sutter et al. 2021, Eqs. 4 and 5).

    Every subset is decoded. By Lemma 3 it is at most `elbo` of `mopoe` with `kl=sample`.
    """
    codes = model.encode(params, batch)
    masks = subsets.powerset(len(model.modalities))
    given = subset_posteriors(model, params, codes, batch.present, masks)
    live = jnp.any(batch.present & masks[:, None, :], -1)
    log_share = jax.nn.log_softmax(jnp.where(live | ~jnp.any(live, 0), 0.0, -jnp.inf), axis=0)
    every = Mixture(log_share[:, None] + given.log_weights, given.components)
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), every)
    exact = replace(options, kl="bound", expectation="all")
    return mixture_elbo(model, params, key, batch, codes, flat, beta, exact)


def mixture_elbo(
    model: Model,
    params: Params,
    key: Key[Array, ""],
    batch: Batch,
    codes: Codes,
    mixture: Mixture,
    beta: ArrayLike,
    options: Options,
) -> Loss:
    """The ELBO under a given mixture."""
    draw_key, private_key = jax.random.split(key)
    draws = draw(draw_key, mixture, options.expectation)
    private = draw_private(model, codes, private_key, draws.z.shape[:1])
    log_likelihoods = model.log_likelihoods(params, draws.z, batch, private.z)
    expected = jnp.einsum("eb,ebm->bm", draws.weights, log_likelihoods)
    prior = model.generative_prior(params)
    kl = component_kls(mixture, prior) if options.kl == "bound" else sampled_kl(mixture, draws, prior)
    penalties = {"kl": (beta, kl), "kl_private": (beta * options.beta_style, jnp.sum(private.kl, -1))}
    return total(model, expected, penalties)


def subset_posteriors(
    model: Model,
    params: Params,
    codes: Codes,
    present: Bool[Array, "B M"],
    masks: Bool[Array, "R M"] | Bool[np.ndarray, "R M"],
) -> Mixture:
    """q(z|X_A) for R subsets at once, leaves [R, S, B, ...]."""
    return jax.vmap(lambda mask: model.given(params, codes, present, mask))(jnp.asarray(masks))


def mvae(model: Model, params: Params, key: Key[Array, ""], batch: Batch, beta: ArrayLike, options: Options) -> Loss:
    """`ELBO(X) + sum_m ELBO(x_m) + sum_{j=1..k} ELBO(random subset)` (Wu & Goodman 2018, Eq. 4).

    A subset's ELBO reconstructs only that subset. Random subsets are drawn afresh every step, uniformly over the
    non-empty ones. The sum is no bound on log p(X).
    """
    rows_key, draw_key, private_key = jax.random.split(key, 3)
    m = len(model.modalities)
    fixed = np.concatenate([subsets.full(m), subsets.singletons(m)])
    masks = jnp.concatenate([fixed, subsets.random(rows_key, m, options.random_subsets)])
    codes = model.encode(params, batch)
    posteriors = subset_posteriors(model, params, codes, batch.present, masks)
    keys = jax.random.split(draw_key, len(masks))
    z = jax.vmap(lambda k, q: draw(k, q, "stratified").z[0])(keys, posteriors)
    private = draw_private(model, codes, private_key, (len(masks),))
    # A modality is decoded for the subsets that may hold it: most of many modalities' do not.
    may_hold = np.concatenate([fixed, np.ones((options.random_subsets, m), bool)])
    log_likelihoods = jnp.stack(
        [
            _sum_over_subsets(model, params, name, np.flatnonzero(may_hold[:, i]), z, batch, private.z, masks[:, i])
            for i, name in enumerate(model.names)
        ],
        -1,
    )
    kl = jnp.sum(jax.vmap(component_kls, (0, None))(posteriors, model.generative_prior(params)), axis=0)
    private_kl = private.kl @ jnp.sum(masks, axis=0).astype(float)
    penalties = {"kl": (beta, kl), "kl_private": (beta * options.beta_style, private_kl)}
    return total(model, log_likelihoods, penalties)


def _sum_over_subsets(
    model: Model,
    params: Params,
    name: str,
    rows: Int[np.ndarray, "r"],
    z: Float[Array, "R B D"],
    batch: Batch,
    private: Mapping[str, Float[Array, "R B _"]],
    held: Bool[Array, "R"],
) -> Float[Array, "B"]:
    """log p(x_m|z) of one modality, summed over those subsets of some rows that hold it."""
    own = {name: private[name][rows]} if name in private else {}
    log_likelihoods = model.log_likelihoods(params, z[rows], batch, own, (name,))[..., 0]
    return jnp.sum(log_likelihoods * held[rows, None], 0)


def mmjsd(model: Model, params: Params, key: Key[Array, ""], batch: Batch, beta: ArrayLike, options: Options) -> Loss:
    """mmJSD (Sutter et al. 2020): the ELBO of a mixture with a Jensen-Shannon divergence to a dynamic prior.

    The dynamic prior is the geometric mean of the n observed experts and p(z) with equal weights 1/(n+1); the
    divergence is the equally weighted sum of KL(expert or p(z) || dynamic prior).
    """
    rows_key, draw_key, private_key = jax.random.split(key, 3)
    codes = model.encode(params, batch)
    mixture = model.joint(params, codes, batch.present, rows_key)
    draws = draw(draw_key, mixture, options.expectation)
    private = draw_private(model, codes, private_key, draws.z.shape[:1])
    log_likelihoods = model.log_likelihoods(params, draws.z, batch, private.z)
    expected = jnp.einsum("eb,ebm->bm", draws.weights, log_likelihoods)
    penalties = {
        "kl": (beta, jensen_shannon(codes.shared, batch.present, model.expert_prior(params))),
        "kl_private": (beta * options.beta_style, jnp.sum(private.kl, -1)),
    }
    return total(model, expected, penalties)


def jensen_shannon(experts: Posterior, present: Bool[Array, "B M"], prior: Posterior) -> Float[Array, "B"]:
    """The geometric Jensen-Shannon divergence of the observed experts and the expert p(z), in nats."""
    count = jnp.sum(present, -1) + 1
    everything = jnp.ones((1, experts.mean.shape[0]), bool)
    product = experts.products(everything, present, prior, jnp.ones((1, len(present))))
    dynamic = jax.tree.map(lambda leaf: leaf[0], product).tempered(1 / count)
    divergences = jnp.where(present.T, experts.kl(dynamic), 0.0)
    return (jnp.sum(divergences, axis=0) + prior.kl(dynamic)) / count


def mvtcae(model: Model, params: Params, key: Key[Array, ""], batch: Batch, beta: ArrayLike, options: Options) -> Loss:
    """MVTCAE (Hwang et al. 2021), a lower bound on total correlation, for the product of experts without the prior.

    `(n-a)/n E_q[sum_m log p(x_m|z)] - beta [(1-a) KL(q||p) + a/n sum_m KL(q||q_m)]` over the n observed modalities,
    with a = `correlation`.
    """
    rows_key, draw_key, private_key = jax.random.split(key, 3)
    codes = model.encode(params, batch)
    mixture = model.joint(params, codes, batch.present, rows_key)
    draws = draw(draw_key, mixture, "stratified")
    private = draw_private(model, codes, private_key, (1,))
    log_likelihoods = model.log_likelihoods(params, draws.z, batch, private.z)[0]
    count = jnp.maximum(jnp.sum(batch.present, -1), 1)
    to_experts = jnp.where(batch.present.T, mixture.components.kl(codes.shared), 0.0)
    a = options.correlation
    penalties = {
        "kl": (beta * (1 - a), component_kls(mixture, model.generative_prior(params))),
        "kl_experts": (beta * a, jnp.sum(to_experts, axis=0) / count),
        "kl_private": (beta * options.beta_style, jnp.sum(private.kl, -1)),
    }
    return total(model, log_likelihoods, penalties, (count - a) / count)
