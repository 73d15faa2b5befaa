"""The table of models: what each row is made of, its settings, and how many networks it has."""

import jax
import pytest

from mmvae_jax import Model, Training, UserError
from mmvae_jax.fusion import FUSIONS
from mmvae_jax.objectives import OBJECTIVES, check
from mmvae_jax.zoo import MODELS, model_row
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


def test_unknown_model_is_refused():
    with pytest.raises(UserError, match="unknown model 'gan': choose one of poe, moe, mopoe"):
        model_row("gan")
    assert model_row("svae") is MODELS["svae"]


@pytest.mark.parametrize("name", MODELS)
def test_model_and_training_of_a_name_are_those_of_its_row(name):
    row, modalities = MODELS[name], toy.model(name, toy.KINDS["image-vector-label"]).modalities
    assert Model.of(name, modalities, 5) == Model(modalities, 5, row.fusion, **row.options)
    assert Training.of(name, steps=7) == Training(row.objective, steps=7)


def test_what_is_said_wins_over_the_row():
    modalities = toy.model("mmvae", ("normal",)).modalities
    assert Model.of("mmvae", modalities, 2, prior="standard").prior == "standard"
    assert Training.of("mmvae", objective="iwae").objective == "iwae"
    for of in (lambda: Model.of("gan", modalities, 2), lambda: Training.of("gan")):
        with pytest.raises(UserError, match="unknown model 'gan'"):
            of()
