"""What `fit` runs, compiled for a TPU slice that is not there."""

import math
from dataclasses import replace

import jax
import pytest

pytest.importorskip("libtpu", reason="compiling for TPUs needs libtpu: pip install mmvae-jax[tpu]")

from benchmarks.hlo import Program  # noqa: E402
from benchmarks.models import paper_training, polymnist_model  # noqa: E402
from benchmarks.tpu import blank_tuples, compile_training, evaluations, measured, slice_mesh  # noqa: E402
from mmvae_jax.objectives import Options  # noqa: E402
from mmvae_jax.zoo import model_row  # noqa: E402


@pytest.fixture(scope="module")
def compiled():
    mesh, model = slice_mesh("v5e:2x2"), polymnist_model("mopoe", 16, widths=(8, 8, 8))
    return model, compile_training(model, paper_training(16 * mesh.size), blank_tuples(), mesh)


def test_chips_exchange_one_gradient_and_no_tuple(compiled):
    model, program = compiled
    params = jax.eval_shape(model.init, jax.random.key(0))
    (exchanged,) = Program(program.as_text()).collectives()
    assert (exchanged.kind, exchanged.group, exchanged.times) == ("all-reduce", 4, 1)
    gradient = 4 * sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    assert gradient <= exchanged.size < gradient + 100, "the gradient and the terms of the loss"


def test_no_loop_over_tuples_is_left(compiled):
    """A TPU runs scatters and gathers of slices one after the other: pictures cut and components chosen need none."""
    program = Program(compiled[1].as_text())
    assert {times for _, _, times in program.work()} == {1}


def test_importance_samples_are_not_gathered():
    """Several latents of every tuple: each chip decodes those of its tuples."""
    mesh, row = slice_mesh("v5e:2x2"), model_row("mmvae")
    model = replace(polymnist_model(row.fusion, 16, widths=(8, 8, 8)), **row.options)
    training = replace(paper_training(16 * mesh.size), objective=row.objective, options=Options(importance_samples=3))
    program = Program(compile_training(model, training, blank_tuples(), mesh).as_text())
    assert {each.kind for each in program.collectives()} == {"all-reduce"}


@pytest.mark.parametrize("name", ["log-likelihood", "joint coherence"])
def test_chips_share_what_is_decoded(name):
    """Of tuples and of the prior."""
    model = polymnist_model("mopoe", 16, widths=(8, 8, 8))

    def flops(topology: str) -> float:
        programs = dict(evaluations(model, blank_tuples(), slice_mesh(topology)))
        return programs[name]().cost_analysis()["flops"]

    assert flops("v5e:2x2") < 0.3 * flops("v5e:1x1")


def test_a_step_is_measured_and_predicted(compiled):
    row = measured(compiled[1], slice_mesh("v5e:2x2"))
    assert row["memory_bytes"] < 16e9
    assert 0 < row["predicted"]["exchange"] < row["predicted"]["seconds"] < 1
