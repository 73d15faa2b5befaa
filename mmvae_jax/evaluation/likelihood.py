r"""Log-likelihoods by importance sampling, in nats, unweighted by `w_m` and beta.

`log p(x_T) ~ log 1/K sum_k w_k` with `w_k = p(x_T|z_k) p(z_k) / q(z_k|x_A)` and `z_k ~ q(z|x_A)`, where T is a set of
target modalities, A the subset that proposes, and q the full density of the proposal, mixture included. The estimate
is below log p(x_T) in expectation and tends to it with K (Burda et al. 2016).

Private latents are proposed by `q(s_m|x_m)` for m in A and by their prior otherwise, and weighted likewise.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from mmvae_jax import subsets
from mmvae_jax.data.batching import Batch
from mmvae_jax.errors import UserError
from mmvae_jax.evaluation.chunks import MAX_EXAMPLES, chunks, decoded_at_once
from mmvae_jax.model import Codes, Model, Params
from mmvae_jax.sharding import on_all_devices, split_over_devices

Masks = Bool[np.ndarray, "R M"]


class Estimates(NamedTuple):
    """What K samples say of every example, one row a pair of proposal and target.

    Attributes:
      log_prob: the estimate of log p(x_T) in nats.
      variance: of the log importance weights, nats squared (K >= 2).
      ess: effective sample size `(sum w)^2 / sum w^2`, from 1 to K.
    """

    log_prob: Float[np.ndarray, "*R B"]
    variance: Float[np.ndarray, "*R B"]
    ess: Float[np.ndarray, "*R B"]


def importance_estimates(
    model: Model,
    params: Params,
    key: Key[Array, ""],
    batch: Batch,
    proposals: Masks,
    targets: Masks,
    samples: int,
    corrected: bool = True,
) -> Estimates:
    """Estimates of log p(x_T) for R pairs of proposal subset A and target set T; memory does not grow with K, R or B.

    Args:
      model: any model with a posterior for every subset.
      params: its parameters.
      key: PRNG key.
      batch: the examples; absent modalities neither propose nor count.
      proposals: the subsets A, [R, M].
      targets: the sets T, [R, M].
      samples: K.
      corrected: divide by the proposal; without it the result estimates `log E_{q(z|x_A)} p(x_T|z)`.

    Raises:
      UserError: K < 1.
    """
    found = _of_targets(model, params, key, batch, proposals, np.asarray(targets)[:, None], (corrected,), samples)
    return jax.tree.map(lambda leaf: leaf[:, 0], found)


class SubsetEstimates(NamedTuple):
    """What the posteriors of S subsets A say, every one of them by the same K samples.

    Attributes:
      joint: log p(X) of everything, rows [S, B].
      own: log p(x_A), rows [S, B].
      each: log p(x_m) of every modality m, rows [S, M, B]; tight where A has m.
      cross: log E_{q(z|x_A)} p(x_m|z) of every modality m in nats.
    """

    joint: Estimates
    own: Estimates
    each: Estimates
    cross: Float[np.ndarray, "S M B"]


def subset_estimates(
    model: Model, params: Params, key: Key[Array, ""], batch: Batch, subset_masks: Masks, samples: int
) -> SubsetEstimates:
    """`importance_estimates` of everything, of what is given and of every modality, at the cost of one of them.

    What the posterior of everything says of one modality is what the MVAE supplement's Tables 1 and 2 report of it.

    Args:
      model: as in `importance_estimates`.
      params: its parameters.
      key: PRNG key.
      batch: the examples.
      subset_masks: the subsets that propose, [S, M].
      samples: K.

    Raises:
      UserError: K < 1.
    """
    targets, corrected = targets_of(subset_masks)
    found = _of_targets(model, params, key, batch, subset_masks, targets, corrected, samples)
    m = len(model.modalities)
    joint, own, each = (jax.tree.map(lambda leaf, t=t: leaf[:, t], found) for t in (0, 1, slice(2, 2 + m)))
    return SubsetEstimates(joint, own, each, found.log_prob[:, 2 + m :])


def targets_of(subset_masks: Masks) -> tuple[Bool[np.ndarray, "R T M"], tuple[bool, ...]]:
    """What `subset_estimates` asks every subset's posterior for: everything, what is given, every modality twice.

    Returns:
      The sets T, and for each of them whether its estimate is divided by the proposal.
    """
    count, m = subset_masks.shape
    single = np.broadcast_to(np.eye(m, dtype=bool), (count, m, m))
    targets = np.concatenate([np.ones((count, 1, m), bool), subset_masks[:, None], single, single], 1)
    return targets, (*(True,) * (2 + m), *(False,) * m)


def _of_targets(
    model: Model,
    params: Params,
    key: Key[Array, ""],
    batch: Batch,
    proposals: Masks,
    targets: Bool[np.ndarray, "R T M"],
    corrected: tuple[bool, ...],
    samples: int,
) -> Estimates:
    """Estimates of T targets for every proposal, leaves [R, T, B]."""
    if samples < 1:
        raise UserError(f"{samples} importance samples: ask for at least 1")
    at_once = decoded_at_once(model, params)
    rows = jnp.asarray(proposals, bool), jnp.asarray(targets, bool)
    pieces = []
    for chunk in chunks(batch, min(MAX_EXAMPLES, at_once)):
        chunk_key = jax.random.fold_in(key, chunk.index)
        estimates = _estimates(model, samples, at_once, corrected, params, chunk_key, chunk.batch, *rows)
        pieces.append(jax.tree.map(lambda leaf, n=chunk.size: np.asarray(leaf)[..., :n], estimates))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves, -1), *pieces)


def log_likelihood(
    model: Model,
    params: Params,
    key: Key[Array, ""],
    data: Batch | Mapping[str, Any],
    given: Sequence[str] | None = None,
    samples: int = 1000,
) -> Float[np.ndarray, "B"]:
    """log p(X) of everything observed, in nats, for every sample of the data.

    Args:
      model: its description.
      params: from `Model.init` or `fit`.
      key: PRNG key.
      data: a Batch, or a dict from modality name to array; modalities left out are missing.
      given: the modalities whose posterior proposes; default all.
      samples: K.
    """
    mask = subsets.select(model.names if given is None else given, model.names)
    return joint_log_likelihood(model, params, key, model.batch(data), mask[None], samples).log_prob[0]


def joint_log_likelihood(
    model: Model, params: Params, key: Key[Array, ""], batch: Batch, subset_masks: Masks, samples: int
) -> Estimates:
    """log p(X) of everything observed under every subset's posterior (Sutter et al. 2021, Table 4).

    Args:
      model: as in `importance_estimates`.
      params: its parameters.
      key: PRNG key.
      batch: the examples.
      subset_masks: the subsets that propose, [S, M].
      samples: K; 15 in the paper, 1000 for real estimates.
    """
    everything = np.ones_like(subset_masks)
    return importance_estimates(model, params, key, batch, subset_masks, everything, samples)


def marginal_log_likelihood(model: Model, params: Params, key: Key[Array, ""], batch: Batch, samples: int) -> Estimates:
    """log p(x_m) of every modality, proposed by its own posterior; one row a modality."""
    single = np.eye(len(model.modalities), dtype=bool)
    return importance_estimates(model, params, key, batch, single, single, samples)


def conditional_log_likelihood(
    model: Model,
    params: Params,
    key: Key[Array, ""],
    batch: Batch,
    target: Bool[np.ndarray, "M"],
    given: Bool[np.ndarray, "M"],
    samples: int,
) -> Float[np.ndarray, "B"]:
    """log p(x_T|x_A) = log p(x_T, x_A) - log p(x_A), each proposed by its own posterior.

    A difference of two estimates that are low in expectation, hence not a bound itself; it is consistent in K.
    """
    rows = np.stack([target | given, given])
    joint, evidence = importance_estimates(model, params, key, batch, rows, rows, samples).log_prob
    return joint - evidence


def cross_log_likelihood(
    model: Model,
    params: Params,
    key: Key[Array, ""],
    batch: Batch,
    target: Bool[np.ndarray, "M"],
    given: Bool[np.ndarray, "M"],
    samples: int,
) -> Float[np.ndarray, "B"]:
    """log E_{q(z|x_A)} p(x_T|z): how well x_A predicts x_T (Shi et al. 2019, cross-likelihoods)."""
    return importance_estimates(
        model, params, key, batch, given[None], target[None], samples, corrected=False
    ).log_prob[0]


@on_all_devices(static=(0, 1, 2, 3))
def _estimates(
    model: Model,
    samples: int,
    at_once: int,
    corrected: tuple[bool, ...],
    params: Params,
    key: Key[Array, ""],
    batch: Batch,
    proposals: Bool[Array, "R M"],
    targets: Bool[Array, "R T M"],
) -> Estimates:
    codes = model.encode(params, batch)

    def row(arguments: tuple[Array, Array, Array]) -> Estimates:
        row_key, proposal, of_row = arguments
        weigh = partial(_log_weights, model, params, codes, batch, proposal, of_row, corrected)
        return summary(_in_chunks(weigh, row_key, samples, at_once // len(batch.label)))

    keys = jax.random.split(key, len(proposals))
    return jax.lax.map(row, (keys, proposals, targets))


def _in_chunks(weigh, key: Key[Array, ""], samples: int, limit: int) -> Float[Array, "K T B"]:
    """`weigh(keys)` of all K samples, at most `limit` of them at a time."""
    count = math.ceil(samples / max(1, limit))
    size = math.ceil(samples / count)
    keys = jax.random.split(key, count * size).reshape(count, size)
    log_weights = jax.lax.map(weigh, keys)
    return log_weights.reshape(count * size, *log_weights.shape[2:])[:samples]


def _log_weights(
    model: Model,
    params: Params,
    codes: Codes,
    batch: Batch,
    proposal: Bool[Array, "M"],
    targets: Bool[Array, "T M"],
    corrected: tuple[bool, ...],
    keys: Array,
) -> Float[Array, "k T B"]:
    """log w of one sample for every key and target."""
    shared_keys, private_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
    q = model.given(params, codes, batch.present, proposal)
    z = split_over_devices(jax.vmap(q.sample)(shared_keys), axis=1)
    private, private_ratios = _propose_private(model, codes, proposal, private_keys, len(z))
    terms = model.log_likelihoods(params, z, batch, split_over_devices(private, axis=1))
    weights = [jnp.sum(terms, axis=-1, where=target) for target in targets]
    if any(corrected):
        ratio = model.generative_prior(params).log_prob(z) - q.log_prob(z)
        private = [jnp.sum(private_ratios, axis=-1, where=target) for target in targets]
        weights = [w + ratio + own if c else w for w, own, c in zip(weights, private, corrected, strict=True)]
    return jnp.stack(weights, axis=1)


def _propose_private(
    model: Model, codes: Codes, proposal: Bool[Array, "M"], keys: Array, k: int
) -> tuple[dict[str, Float[Array, "k B _"]], Float[Array, "k B M"] | Float[Array, "M"]]:
    """Private latents and, for every modality, log p(s_m) - log q(s_m)."""
    draws, ratios = {}, []
    for i, m in enumerate(model.modalities):
        if not m.private_dim:
            ratios.append(0.0)
            continue
        prior, posterior = model.private_prior(m), codes.private[m.name]
        q = jax.tree.map(partial(jnp.where, proposal[i]), posterior, prior)
        draws[m.name] = jax.vmap(lambda key, q=q, i=i: q.sample(jax.random.fold_in(key, i)))(keys)
        ratios.append(prior.log_prob(draws[m.name]) - q.log_prob(draws[m.name]))
    return draws, jnp.stack(jnp.broadcast_arrays(*ratios), -1)


def summary(log_weights: Float[Array, "K *R B"]) -> Estimates:
    """The estimates from the log weights of K samples or chains."""
    log_sum = jax.nn.logsumexp(log_weights, axis=0)
    log_sum_squares = jax.nn.logsumexp(2 * log_weights, axis=0)
    log_prob: Any = log_sum - math.log(len(log_weights))
    variance: Any = jnp.var(log_weights, axis=0, ddof=1)
    ess: Any = jnp.exp(2 * log_sum - log_sum_squares)
    return Estimates(log_prob, variance, ess)
