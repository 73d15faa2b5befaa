"""Objectives: `OBJECTIVES` maps a name to loss(model, params, key, batch, beta, options) -> (loss, terms), in nats."""

from mmvae_jax.objectives.conditional import jmvae, svae, vaevae
from mmvae_jax.objectives.elbo import elbo, mmjsd, mvae, mvtcae, powerset_elbo
from mmvae_jax.objectives.importance import dreg, dreg_loose, iwae, iwae_loose, mmvae_plus
from mmvae_jax.objectives.terms import Loss, Objective, Options, Terms

OBJECTIVES: dict[str, Objective] = {
    "elbo": elbo,
    "powerset_elbo": powerset_elbo,
    "mvae": mvae,
    "mmjsd": mmjsd,
    "mvtcae": mvtcae,
    "iwae": iwae,
    "iwae_loose": iwae_loose,
    "dreg": dreg,
    "dreg_loose": dreg_loose,
    "mmvae_plus": mmvae_plus,
    "jmvae": jmvae,
    "vaevae": vaevae,
    "svae": svae,
}
NEEDS_PAIRS = frozenset({"jmvae"})

__all__ = ["NEEDS_PAIRS", "OBJECTIVES", "Loss", "Objective", "Options", "Terms"]
