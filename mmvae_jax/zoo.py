"""The models of the papers, each a row: a fusion, an objective and the options that make it that model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mmvae_jax.errors import check_choice
from mmvae_jax.fusion import FUSIONS


@dataclass(frozen=True)
class ModelRow:
    """A row of `MODELS`.

    Attributes:
      fusion: a key of `fusion.FUSIONS`.
      objective: a key of `objectives.OBJECTIVES`.
      paper: where it comes from.
      options: fields of `model.Model` that it sets beside the fusion.
    """

    fusion: str
    objective: str
    paper: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def architecture(self) -> dict[str, Any]:
        """All fields of `model.Model` that it sets."""
        return {"fusion": self.fusion, **self.options}

    def network_count(self, m: int) -> int:
        """Inference networks for m modalities."""
        return len(FUSIONS[self.fusion].networks([f"m{i}" for i in range(m)]))


_SHI = {"posterior": "laplace", "prior": "learned_scale"}
_WITHOUT_PRIOR = {"prior_expert": "none"}

MODELS: dict[str, ModelRow] = {
    "poe": ModelRow("poe", "elbo", "Wu & Goodman 2018, without unimodal terms"),
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
