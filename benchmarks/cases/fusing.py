"""The fusion alone: posteriors of all subsets and their KLs to the prior."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from benchmarks.catalogue import PEER_FUSION_LIMIT
from benchmarks.measure import Work
from benchmarks.scales import Scale
from mmvae_jax import gaussian
from mmvae_jax.fusion import FUSIONS
from mmvae_jax.gaussian import Gaussian
from mmvae_jax.mixture import Mixture
from mmvae_jax.objectives.terms import component_kls
from mmvae_jax.priors import OfFamily


def random_experts(count: int, batch: int, latent: int) -> Gaussian:
    """Experts drawn by NumPy, so that the peer can draw the same."""
    rng = np.random.default_rng(0)
    mean, log_var = rng.standard_normal((2, count, batch, latent), np.float32)
    return Gaussian(jnp.asarray(mean), jnp.asarray(log_var))


@jax.jit
def fused(experts: Gaussian) -> tuple[Mixture, Float[Array, "B"]]:
    """The MoPoE posterior and the convexity bound of its KL to the prior, as in the training step."""
    count, batch, latent = experts.mean.shape
    prior = gaussian.standard(latent)
    mixture = FUSIONS["mopoe"].joint(experts, jnp.ones((batch, count), bool), prior)
    return mixture, component_kls(mixture, OfFamily(prior))


def fusion(scale: Scale, data: str | None, count: int) -> Work:
    """All 2^M - 1 products; where MultiVae takes part, the two KLs are compared too."""
    count = scale.capped(count)
    experts = random_experts(count, scale.fusion_batch, scale.fusion_latent)
    repeats = max(1, 2 ** (8 - count))

    def call() -> None:
        for _ in range(repeats):
            jax.block_until_ready(fused(experts))

    def compare(peer_notes: Mapping[str, Any]) -> None:
        ours = float(fused(experts)[1].mean())
        work.notes["relative_difference_of_kl"] = abs(ours - peer_notes["kl"]) / abs(ours)

    peer = None
    if count <= PEER_FUSION_LIMIT:
        sizes = {"modalities": count, "batch": scale.fusion_batch, "latent": scale.fusion_latent}
        peer = {"job": "fusion", **sizes, "count": repeats}
    work = Work(call, per=repeats, notes={"modalities": count}, peer=peer, compare=compare)
    return work
