"""Rows of one's own: what is registered may be chosen by its name, and a name means one thing."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from mmvae_jax import Model, Training, UserError, fit
from mmvae_jax.fusion import FUSIONS, Fusion
from mmvae_jax.objectives import OBJECTIVES, Objective
from mmvae_jax.registration import TABLES, register
from mmvae_jax.zoo import ModelRow
from tests import toy

pytestmark = pytest.mark.usefixtures("registries")
OWN = Fusion("products of all experts but one", "products", lambda m, _: ~np.eye(m, dtype=bool))


def test_what_is_registered_is_chosen_by_its_name():
    register("leave_one_out", OWN)
    register("mild", Objective(OBJECTIVES["elbo"].loss, "the ELBO"))
    register("mine", ModelRow("leave_one_out", "mild", "nobody's", {"prior": "learned_scale"}))
    modalities = toy.model("poe", ("normal", "bernoulli")).modalities
    model = Model.of("mine", modalities, 2)
    assert model.resolved_fusion is OWN and model.prior == "learned_scale"
    assert Training.of("mine").objective == "mild"


@pytest.mark.parametrize("kind", TABLES, ids=lambda kind: kind.__name__)
def test_a_name_that_is_taken_is_refused(kind):
    table = TABLES[kind]
    name, row = next(iter(table.items()))
    with pytest.raises(UserError, match=f"{kind.__name__} '{name}' is there already: register yours under another"):
        register(name, row)
    assert table[name] is row
    assert all(type(each) is kind for each in table.values())


def test_a_model_of_what_is_not_there_is_refused():
    with pytest.raises(UserError, match="unknown fusion 'leave_one_out'"):
        register("mine", ModelRow("leave_one_out", "elbo", "nobody's"))
    with pytest.raises(UserError, match="unknown objective 'mild'"):
        register("mine", ModelRow("poe", "mild", "nobody's"))
    assert "leave_one_out" not in FUSIONS


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (np.ones((1, 3), bool), r"shape \(1, 3\) and type bool"),
        (np.ones((2, 2)), r"shape \(2, 2\) and type float64"),
        (np.ones((0, 2), bool), r"shape \(0, 2\) and type bool"),
        (np.ones(2, bool), r"shape \(2,\) and type bool"),
    ],
)
def test_rows_that_do_not_fit_the_networks_are_refused(rows, told):
    register("own", Fusion("rows of another shape", "products", lambda m, _: rows))
    model = toy.model("poe", ("normal", "bernoulli"))
    with pytest.raises(UserError, match=f"fusion own: its rows are of {told}: give booleans, .* each of 2 networks"):
        replace(model, fusion="own")


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("field", ["kind", "prior_expert"])
def test_a_fusion_of_an_unknown_kind_is_refused(field):
    with pytest.raises(UserError, match="unknown .* 'mine': choose one of "):
        replace(OWN, **{field: "mine"})


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("result", [jnp.ones(()), (jnp.ones(3), {}), (jnp.ones(()), {"nats": jnp.ones(3)}), None])
def test_an_objective_that_returns_no_loss_and_terms_is_refused(result):
    register("own", Objective(lambda *_: result, "my bound"))
    model = toy.model("poe", ("normal", "bernoulli"))
    with pytest.raises(UserError, match="my bound: loss returned .*: give a number and a dict of numbers, its terms"):
        fit(model, {"normal": np.zeros((4, 3))}, Training("own", steps=1, batch_size=4))


@pytest.mark.usefixtures("unchecked")
def test_what_is_no_row_is_refused():
    with pytest.raises(UserError, match="'mine' is a function: give a row, one of Fusion, Objective, "):
        register("mine", lambda m, key: np.eye(m, dtype=bool))  # pyright: ignore[reportArgumentType]
