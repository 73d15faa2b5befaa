"""The models of the papers, each a row: a fusion, an objective and the options that make it that model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mmvae_jax.errors import check_choice
from mmvae_jax.fusion import FUSIONS
from mmvae_jax.objectives import OBJECTIVES, Objective
from mmvae_jax.priors import PRIORS


@dataclass(frozen=True)
class ModelRow:
    """A row of `MODELS`.

    Attributes:
      fusion: a key of `fusion.FUSIONS`.
      objective: a key of `objectives.OBJECTIVES`.
      paper: where it comes from.
      options: fields of `model.Model` that it sets.
    """

    fusion: str
    objective: str
    paper: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def handles_missing(self) -> bool:
        """Whether it trains on incomplete tuples."""
        return not OBJECTIVES[self.objective].needs_pairs

    def network_count(self, m: int) -> int:
        """Inference networks for m modalities."""
        return len(FUSIONS[self.fusion].networks([f"m{i}" for i in range(m)]))


_SHI = {"posterior": "laplace", "prior": "learned_scale"}
_WITHOUT_PRIOR = {"prior_expert": "none"}

MODELS: dict[str, ModelRow] = {
    "poe": ModelRow("poe", "elbo", "Wu & Goodman 2018, as compared by Sutter et al. 2021"),
    "moe": ModelRow("moe", "elbo", "Shi et al. 2019, as compared by Sutter et al. 2021"),
    "mopoe": ModelRow("mopoe", "elbo", "Sutter et al. 2021"),
    "mopoe_powerset": ModelRow("mopoe", "powerset_elbo", "Sutter et al. 2021, Eq. 5"),
    "mvae": ModelRow("poe", "mvae", "Wu & Goodman 2018"),
    "mvae_quotient": ModelRow("poe_quotient", "mvae", "Wu & Goodman 2018, supplement section 3"),
    "mmvae": ModelRow("moe", "dreg_loose", "Shi et al. 2019", _SHI),
    "mmvae_tight": ModelRow("moe", "dreg", "Shi et al. 2019, tight bound", _SHI),
    "mmvae_iwae": ModelRow("moe", "iwae", "Shi et al. 2019, plain gradient", _SHI),
    "mmjsd": ModelRow("moe", "mmjsd", "Sutter et al. 2020"),
    "jmvae": ModelRow("joint_network", "jmvae", "Suzuki et al. 2016"),
    "vaevae_a": ModelRow("poe", "vaevae", "Wu & Goodman 2019, variant (a)", _WITHOUT_PRIOR),
    "vaevae": ModelRow("subset_networks", "vaevae", "Wu & Goodman 2019, variant (b)"),
    "vaevae_star": ModelRow("subset_networks", "svae", "SVAE paper 2021, VAEVAE*"),
    "svae": ModelRow("replacement_experts", "svae", "SVAE paper 2021"),
    "svae_star": ModelRow("replacement_experts", "vaevae", "SVAE paper 2021, SVAE*"),
    "bridge": ModelRow("bridge", "vaevae", "Yadav et al. 2020"),
    "mvtcae": ModelRow("poe", "mvtcae", "Hwang et al. 2021", _WITHOUT_PRIOR),
    "mmvae_plus": ModelRow("moe", "mmvae_plus", "Palumbo et al. 2023", {**_SHI, "auxiliary_prior": True}),
}


def model_row(name: str) -> ModelRow:
    """The row called `name`.

    Raises:
      UserError: if there is none.
    """
    check_choice(name, MODELS, "model")
    return MODELS[name]


def model_table(m: int) -> str:
    """All models, fusions, objectives and priors as text tables, with the inference networks for m modalities."""
    models = [
        (name, row.fusion, row.objective, "yes" if row.handles_missing else "no", str(row.network_count(m)), row.paper)
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
