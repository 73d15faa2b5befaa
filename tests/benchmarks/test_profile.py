"""The profile of a training step finds its operations and its matrix products."""

import jax
import jax.numpy as jnp

from benchmarks.profile import main, matrix_products


def test_the_table_names_every_kind_of_operation(capsys):
    assert main(["mopoe", "--scale", "tiny"]) == 0
    output = capsys.readouterr().out
    assert "matrix products alone" in output
    for kind in ("matrix products", "windows cut out and laid down", "gradient norm, guard and Adam"):
        assert f"| {kind}" in output


def test_products_are_found_inside_loops_and_gradients():
    def f(a, b):
        return jax.lax.fori_loop(0, 3, lambda _, c: jnp.tanh(c @ b), a).sum()

    def g(a, b):
        unused = b @ b
        return jax.grad(lambda a: ((a @ b) ** 2).sum())(a).sum() + f(a, b) + 0 * unused.shape[0]

    program = jax.jit(g).lower(jnp.ones((40, 50)), jnp.ones((50, 50))).compile().as_text() or ""
    products = list(matrix_products(program))
    assert ((40, 50), (50, 50), (((1,), (0,)), ((), ()))) in products
    assert len(products) == 3, "forward, backward and in the loop; what is not used is not counted"
