"""What there is to choose from, as text tables: models, fusions, objectives, priors."""

from collections.abc import Sequence

from mmvae_jax.fusion import FUSIONS
from mmvae_jax.objectives import OBJECTIVES, Objective
from mmvae_jax.priors import PRIORS
from mmvae_jax.zoo import MODELS, ModelRow


def handles_missing(row: ModelRow) -> bool:
    """Whether a model trains on incomplete tuples."""
    return not OBJECTIVES[row.objective].needs_pairs


def model_table(m: int) -> str:
    """All models, fusions, objectives and priors as text tables, with the inference networks for m modalities."""
    models = [
        (name, row.fusion, row.objective, "yes" if handles_missing(row) else "no", str(row.network_count(m)), row.paper)
        for name, row in MODELS.items()
    ]
    fusions = [(name, row.prior_expert, row.summary) for name, row in FUSIONS.items()]
    objectives = [(name, _admitted(row), ", ".join(row.options), row.summary) for name, row in OBJECTIVES.items()]
    tables = [
        _aligned(("model", "fusion", "objective", "missing", "networks", "paper"), models),
        _aligned(("fusion", "prior expert", "makes"), fusions),
        _aligned(("objective", "takes fusion", "reads", "is"), objectives),
        _aligned(("prior", "is"), [(name, row.summary) for name, row in PRIORS.items()]),
    ]
    return "\n\n".join(tables)


def _admitted(row: Objective) -> str:
    names = [name for name, fusion in FUSIONS.items() if fusion.kind in row.fusions]
    return "any" if len(names) == len(FUSIONS) else ", ".join(names)


def _aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[i]) for line in [header, *rows]) for i in range(len(header))]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in [header, *rows])
