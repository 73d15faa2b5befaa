"""Objectives: `OBJECTIVES` maps a name to a row with the loss and what it needs; to add an objective, add a row."""

from dataclasses import dataclass, fields
from typing import Any, get_args

import jax
import numpy as np

from mmvae_jax.errors import UserError, check_choice
from mmvae_jax.fusion import FUSIONS, Kind
from mmvae_jax.model import Model
from mmvae_jax.objectives.conditional import jmvae, svae, vaevae
from mmvae_jax.objectives.elbo import elbo, mmjsd, mvae, mvtcae, powerset_elbo
from mmvae_jax.objectives.importance import dreg, dreg_loose, iwae, iwae_loose, mmvae_plus
from mmvae_jax.objectives.terms import Loss, LossFn, Options, Terms
from mmvae_jax.priors import PRIORS


@dataclass(frozen=True)
class Objective:
    """A row of `OBJECTIVES`.

    Attributes:
      loss: (model, params, key, batch, beta, options) -> (loss, terms), in nats.
      summary: what it is, in a line.
      options: the fields of `Options` that it reads.
      fusions: the kinds of fusion that it admits.
      posteriors: the families of posteriors that it admits; None: all that the fusion does.
      needs_pairs: it learns from complete tuples only.
      needs_private: every modality needs a private latent with a learned auxiliary prior.
      needs_closed_kl: it takes KLs to the prior in closed form (with `kl=sample`, where it reads that, none).
    """

    loss: LossFn
    summary: str
    options: tuple[str, ...] = ()
    fusions: tuple[Kind, ...] = get_args(Kind)
    posteriors: tuple[str, ...] | None = None
    needs_pairs: bool = False
    needs_private: bool = False
    needs_closed_kl: bool = True

    def __call__(self, *arguments: Any) -> Loss:
        """The loss and its terms.

        Raises:
          UserError: they are something else than a number and a dict of numbers.
        """
        match found := self.loss(*arguments):
            case value, {**terms} if all(np.shape(each) == () for each in (value, *terms.values())):
                return value, terms
        shapes = jax.tree.map(np.shape, found)
        raise UserError(f"{self.summary}: loss returned {shapes}: give a number and a dict of numbers, its terms")


_IMPORTANCE = ("importance_samples", "samples_at_once")
_CONDITIONAL: tuple[Kind, ...] = ("product", "joint", "subsets", "replacements")

OBJECTIVES: dict[str, Objective] = {
    "elbo": Objective(elbo, "evidence lower bound", ("kl", "expectation", "beta_style")),
    "powerset_elbo": Objective(powerset_elbo, "mean of the ELBOs under every subset's posterior", ("beta_style",)),
    "mvae": Objective(
        mvae, "ELBOs of everything, of each modality, of random subsets", ("random_subsets", "beta_style")
    ),
    "mmjsd": Objective(
        mmjsd,
        "ELBO with a Jensen-Shannon divergence to a dynamic prior",
        ("expectation", "beta_style"),
        ("experts",),
        ("gaussian",),
    ),
    "mvtcae": Objective(mvtcae, "bound on total correlation", ("correlation", "beta_style"), ("product",)),
    "iwae": Objective(iwae, "importance-weighted bound, tight", _IMPORTANCE, needs_closed_kl=False),
    "iwae_loose": Objective(
        iwae_loose, "importance-weighted bound, a component at a time", _IMPORTANCE, needs_closed_kl=False
    ),
    "dreg": Objective(dreg, "iwae, doubly reparameterised gradient", _IMPORTANCE, needs_closed_kl=False),
    "dreg_loose": Objective(dreg_loose, "iwae_loose, that gradient", _IMPORTANCE, needs_closed_kl=False),
    "mmvae_plus": Objective(
        mmvae_plus,
        "dreg_loose with private latents",
        _IMPORTANCE,
        ("experts",),
        needs_private=True,
        needs_closed_kl=False,
    ),
    "jmvae": Objective(
        jmvae, "ELBO of a joint network, tied to each modality's", ("alpha", "beta_style"), ("joint",), needs_pairs=True
    ),
    "vaevae": Objective(vaevae, "conditional bounds; unimodal ELBOs where unpaired", ("beta_style",), _CONDITIONAL),
    "svae": Objective(svae, "vaevae and the unimodal ELBOs of paired data", ("beta_style",), _CONDITIONAL),
}


def check(model: Model, objective: str, options: Options | None = None) -> None:
    """Whether an objective can train a model with these options, by its row.

    Raises:
      UserError: it cannot: the fusion, the posterior, the prior or a missing private latent stands against it, or an
        option is set that it does not read.
    """
    check_choice(objective, OBJECTIVES, "objective")
    row, options, kind = OBJECTIVES[objective], options or Options(), model.resolved_fusion.kind
    if kind not in row.fusions:
        able = " or ".join(name for name, fusion in FUSIONS.items() if fusion.kind in row.fusions)
        what = FUSIONS[model.fusion].summary if kind == FUSIONS[model.fusion].kind else "with subsets or an empty one"
        raise UserError(f"objective {objective} with fusion {model.fusion} ({what}): use fusion {able} as it is")
    if row.posteriors is not None and model.posterior not in row.posteriors:
        able = " or ".join(row.posteriors)
        raise UserError(f"objective {objective} with posterior={model.posterior}: use posterior={able}")
    if row.needs_private and not (model.auxiliary_prior and all(m.private_dim for m in model.modalities)):
        raise UserError(
            f"objective {objective} needs a private latent of every modality and auxiliary priors: set a private-dim "
            "above 0 and auxiliary-prior"
        )
    sampled = "kl" in row.options and options.kl == "sample"
    if row.needs_closed_kl and not sampled and not PRIORS[model.prior].closed:
        remedy = "use kl=sample" if "kl" in row.options else "use an objective that samples it, such as iwae"
        raise UserError(f"objective {objective} with prior={model.prior}, to which no KL has a closed form: {remedy}")
    default = Options()
    for field in fields(Options):
        value = getattr(options, field.name)
        if value != getattr(default, field.name) and field.name not in row.options:
            readers = ", ".join(name for name, other in OBJECTIVES.items() if field.name in other.options)
            flag = field.name.replace("_", "-")
            raise UserError(f"{flag}={value} with objective {objective}, which does not read it: {readers} would")


__all__ = ["OBJECTIVES", "Loss", "LossFn", "Objective", "Options", "Terms", "check"]
