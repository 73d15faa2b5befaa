"""The table of models: what each row is made of, how many networks it has, and how it prints."""

import jax
import pytest

from mmvae_jax.errors import UserError
from mmvae_jax.fusion import FUSIONS
from mmvae_jax.objectives import OBJECTIVES, check
from mmvae_jax.priors import PRIORS
from mmvae_jax.zoo import MODELS, model_row, model_table
from tests import toy


@pytest.mark.parametrize("name", MODELS)
def test_rows_are_models_that_their_objectives_admit(name):
    check(toy.model(name, toy.KINDS["image-vector-label"]), MODELS[name].objective)


def test_every_fusion_and_objective_is_some_papers():
    assert {row.fusion for row in MODELS.values()} == set(FUSIONS)
    assert {row.objective for row in MODELS.values()} | {"iwae_loose"} == set(OBJECTIVES)


def test_products_without_the_prior_say_so():
    """VAEVAE (a) and MVTCAE define their joint posterior as the plain product of the experts."""
    assert {name for name, row in MODELS.items() if row.options.get("prior_expert") == "none"} == {"vaevae_a", "mvtcae"}


def test_only_jmvae_needs_complete_tuples():
    assert [name for name, row in MODELS.items() if not row.handles_missing] == ["jmvae"]


@pytest.mark.parametrize("name", MODELS)
def test_network_counts_are_those_of_the_parameters(name):
    """M, 2^M - 1, M + 1 or M^2 inference networks."""
    expected = {"subset_networks": 7, "joint_network": 4, "bridge": 4, "replacement_experts": 9}
    count = expected.get(MODELS[name].fusion, 3)
    assert MODELS[name].network_count(3) == count
    model = toy.model(name, toy.KINDS["image-vector-label"])
    params = jax.eval_shape(model.init, jax.random.key(0))
    assert len(params["inference"]) == count
    assert ("prior" in params) == (name.startswith("mmvae"))
    assert ("auxiliary_prior" in params) == (name == "mmvae_plus")


def test_table_has_a_line_a_model_under_aligned_headings():
    models, *others = model_table(3).split("\n\n")
    header, *lines = models.splitlines()
    assert header.split() == ["model", "fusion", "objective", "missing", "networks", "paper"]
    assert [line.split()[0] for line in lines] == list(MODELS)
    column = header.index("paper")
    for line, row in zip(lines, MODELS.values(), strict=True):
        assert line[column:] == row.paper
        assert line[header.index("networks") : column].strip() == str(row.network_count(3))
        assert line[header.index("missing") : header.index("networks")].strip() == (
            "yes" if row.handles_missing else "no"
        )
    listed = [[line.split()[0] for line in table.splitlines()] for table in others]
    assert listed == [["fusion", *FUSIONS], ["objective", *OBJECTIVES], ["prior", *PRIORS]]


def test_unknown_model_is_refused():
    with pytest.raises(UserError, match="unknown model 'gan': choose one of poe, moe, mopoe"):
        model_row("gan")
    assert model_row("svae") is MODELS["svae"]
