"""Adam on any loss, for what is trained outside `mmvae_jax.training`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key

from mmvae_jax.model import Params


def descend(
    loss: Callable[..., Float[Array, ""]],
    params: Params,
    data: tuple[Any, ...],
    key: Key[Array, ""],
    steps: int,
    batch_size: int,
    learning_rate: float,
) -> Params:
    """Adam on `loss(params, key, *batch)` with batches drawn at random, with replacement."""
    optimizer = optax.adam(learning_rate)

    @jax.jit
    def step(params: Params, state: optax.OptState, data: tuple[Array, ...], key: Key[Array, ""]) -> tuple[Params, Any]:
        rows_key, noise_key = jax.random.split(key)
        rows = jax.random.randint(rows_key, (batch_size,), 0, len(data[0]))
        gradient = jax.grad(loss)(params, noise_key, *(values[rows] for values in data))
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    state, data = optimizer.init(params), tuple(map(jnp.asarray, data))
    for i in range(steps):
        params, state = step(params, state, data, jax.random.fold_in(key, i))
    return params
