"""Rows of one's own, from outside the package: `register` puts them into the table of their kind."""

from typing import Any

from mmvae_jax.errors import UserError, check_choice
from mmvae_jax.evaluation import METRICS, SAMPLERS, Metric, Sampler
from mmvae_jax.fusion import FUSIONS, Fusion
from mmvae_jax.likelihoods import LIKELIHOODS, Likelihood
from mmvae_jax.objectives import OBJECTIVES, Objective
from mmvae_jax.posteriors import POSTERIORS, Family
from mmvae_jax.priors import PRIORS, PriorRow
from mmvae_jax.zoo import MODELS, ModelRow

Row = Fusion | Objective | Likelihood | Metric | Sampler | PriorRow | Family | ModelRow

TABLES: dict[type, dict[str, Any]] = {
    Fusion: FUSIONS,
    Objective: OBJECTIVES,
    Likelihood: LIKELIHOODS,
    Metric: METRICS,
    Sampler: SAMPLERS,
    PriorRow: PRIORS,
    Family: POSTERIORS,
    ModelRow: MODELS,
}


def register(name: str, row: Row) -> None:
    """Give a fusion, an objective, a likelihood, a metric, a sampler, a prior, a posterior or a model a name.

    From then on the name may be chosen wherever the library's own may: in `Model`, `Modality`, `Training`, as a flag,
    in reports and comparisons. Programs are compiled for names, so that a name means one thing as long as Python runs.

    Args:
      name: that no row of the kind has yet.
      row: what it is called; its type says into which table it goes.

    Raises:
      UserError: the name is taken, the row is none of these, or a model is made of what is not there.
    """
    kind = type(row).__name__
    if type(row) not in TABLES:
        raise UserError(f"{name!r} is a {kind}: give a row, one of {', '.join(known.__name__ for known in TABLES)}")
    table = TABLES[type(row)]
    if name in table:
        raise UserError(f"{kind} {name!r} is there already: register yours under another name")
    if isinstance(row, ModelRow):
        check_choice(row.fusion, FUSIONS, "fusion")
        check_choice(row.objective, OBJECTIVES, "objective")
    table[name] = row
