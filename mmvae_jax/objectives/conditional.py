"""Objectives that tie the posteriors of smaller subsets to those of larger ones: JMVAE, VAEVAE and SVAE."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Int, Key

from mmvae_jax import subsets
from mmvae_jax.data.batching import Batch
from mmvae_jax.model import Model, Params
from mmvae_jax.objectives.elbo import subset_posteriors
from mmvae_jax.objectives.terms import Loss, Options, draw_private, total


def jmvae(model: Model, params: Params, key: Key[Array, ""], batch: Batch, beta: ArrayLike, options: Options) -> Loss:
    """`ELBO of q(z|X) - alpha sum_m KL(q(z|X) || q_m(z|x_m))` (Suzuki et al. 2016, JMVAE-kl; SVAE paper, Eq. 2).

    Only tuples with every modality can teach a joint encoder: an incomplete one contributes nothing.
    """
    draw_key, private_key = jax.random.split(key)
    m = len(model.modalities)
    codes = model.encode(params, batch)
    complete = jnp.all(batch.present, -1)
    singles = jax.tree.map(lambda leaf: leaf[:m], codes.shared)
    joint = jax.tree.map(lambda leaf: leaf[m], codes.shared)
    private = draw_private(model, codes, private_key, ())
    log_likelihoods = model.log_likelihoods(params, joint.sample(draw_key), batch, private.z)
    penalties = {
        "kl": (beta, model.generative_prior(params).kl_from(joint)),
        "kl_single": (options.alpha, jnp.sum(joint.kl(singles), axis=0)),
        "kl_private": (beta * options.beta_style, jnp.sum(private.kl, -1)),
    }
    only_complete = {name: (weight, jnp.where(complete, value, 0.0)) for name, (weight, value) in penalties.items()}
    return total(model, jnp.where(complete[:, None], log_likelihoods, 0.0), only_complete)


def _removals(masks: Bool[np.ndarray, "R M"]) -> tuple[Int[np.ndarray, "P"], Int[np.ndarray, "P"]]:
    """Pairs (A, A without one modality) as row indices."""
    index = {mask.tobytes(): row for row, mask in enumerate(masks)}
    pairs = []
    for row, mask in enumerate(masks):
        for j in np.flatnonzero(mask) if mask.sum() > 1 else ():
            smaller = mask.copy()
            smaller[j] = False
            pairs.append((row, index[smaller.tobytes()]))
    larger, smaller_rows = np.array(pairs, int).reshape(-1, 2).T
    return larger, smaller_rows


def _lattice(
    model: Model,
    params: Params,
    key: Key[Array, ""],
    batch: Batch,
    beta: ArrayLike,
    options: Options,
    unimodal_on_pairs: bool,
) -> Loss:
    """Sum over observed subsets A of `E_{q(z|A)}[sum_{m in A} log p] - sum_{j in A} KL(q(z|A) || q(z|A without j))`.

    For one modality the last term is `beta KL(q(z|x_m) || p)`. It is the bound obtained by writing log p(x_A) as
    log p(x_j|x_rest) + log p(x_rest) and optimising each conditional prior (SVAE paper, Appendix B), so in Appendix D's
    three-modal loss the pair terms (Eq. D.29) keep the KLs to their own members only; the print adds KLs to the third
    modality's posterior and to the prior, which that derivation does not yield and incomplete data cannot supply. Where
    several rules define a posterior (SVAE's q^i(z|x_i, x_j)) every term is summed over rules, as Appendix D says.
    """
    draw_key, private_key = jax.random.split(key)
    masks = subsets.powerset(len(model.modalities))
    larger, smaller = _removals(masks)
    codes = model.encode(params, batch)
    posteriors = subset_posteriors(model, params, codes, batch.present, masks)
    observed = ~jnp.any(masks[:, None, :] & ~batch.present, -1)
    whole = jnp.all(masks[:, None, :] == batch.present, -1)
    single = masks.sum(-1) == 1
    counted = observed & (whole | unimodal_on_pairs | ~single[:, None])
    rules = (jnp.isfinite(posteriors.log_weights) & counted[:, None, :]).astype(jnp.float32)

    q = posteriors.components
    z = q.sample(draw_key)
    private = draw_private(model, codes, private_key, z.shape[:2])
    log_likelihoods = model.log_likelihoods(params, z, batch, private.z) * masks[:, None, None, :]
    log_likelihood = jnp.einsum("rsb,rsbm->bm", rules, log_likelihoods)

    above = jax.tree.map(lambda leaf: leaf[larger][:, :, None], q)
    below = jax.tree.map(lambda leaf: leaf[smaller][:, None], q)
    live_below = jnp.isfinite(posteriors.log_weights)[smaller][:, None]
    tie = jnp.where(live_below, above.kl(below), 0.0)
    kl_tie = jnp.einsum("psb,pstb->b", rules[larger], tie)
    kl = jnp.einsum("rsb,rsb->b", rules * single[:, None, None], model.generative_prior(params).kl_from(q))
    uses = jnp.einsum("rsb,rm->bm", rules, masks.astype(np.float32))
    penalties = {
        "kl": (beta, kl),
        "kl_subsets": (1.0, kl_tie),
        "kl_private": (beta * options.beta_style, jnp.sum(uses * private.kl, -1)),
    }
    return total(model, log_likelihood, penalties)


def vaevae(model: Model, params: Params, key: Key[Array, ""], batch: Batch, beta: ArrayLike, options: Options) -> Loss:
    """VAEVAE (Wu & Goodman 2019): pairs tie q(z|x_1, x_2) to q(z|x_1) and q(z|x_2), the rest gives unimodal ELBOs."""
    return _lattice(model, params, key, batch, beta, options, unimodal_on_pairs=False)


def svae(model: Model, params: Params, key: Key[Array, ""], batch: Batch, beta: ArrayLike, options: Options) -> Loss:
    """SVAE's loss (Eqs. 7-10): VAEVAE's plus the unimodal ELBOs on paired data too.

    Algorithm 1 prints its KL terms with the wrong sign; Eq. 7 is right.
    """
    return _lattice(model, params, key, batch, beta, options, unimodal_on_pairs=True)
