"""The profile of a training step finds its operations and its matrix products."""

import jax
import jax.numpy as jnp

from benchmarks.profile import _products, main


def test_the_table_names_every_kind_of_operation(capsys):
    assert main(["mopoe", "--scale", "tiny"]) == 0
    output = capsys.readouterr().out
    assert "matrix products alone" in output
    for kind in ("matrix products", "windows cut out and laid down", "gradient norm, guard and Adam"):
        assert f"| {kind}" in output


def test_products_are_found_inside_loops_and_gradients():
    def f(a, b):
        return jax.lax.fori_loop(0, 3, lambda _, c: jnp.tanh(c @ b), a).sum()

    jaxpr = jax.make_jaxpr(jax.jit(lambda a, b: jax.grad(lambda a: (a @ b).sum())(a).sum() + f(a, b)))
    shapes = [product[:2] for product in _products(jaxpr(jnp.ones((2, 3)), jnp.ones((3, 3))).jaxpr)]
    assert ((2, 3), (3, 3)) in shapes
    assert len(shapes) >= 2
