"""Several seeds at once: one vmapped step against one step a seed."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.stages import Wrapped
from jaxtyping import PyTree

from benchmarks.measure import Work
from benchmarks.models import SHAPE, dataset
from benchmarks.scales import Scale
from mmvae_jax.data.batching import Split, batch_at
from mmvae_jax.loop import in_place, steps_per_epoch
from mmvae_jax.modality import Modality
from mmvae_jax.model import Model
from mmvae_jax.networks.conv import ConvDecoder, ConvEncoder
from mmvae_jax.training import Training, TrainState, init_state, train_step


class Seeds(NamedTuple):
    """Runs that differ in their seed.

    Attributes:
      states, plans: leaves with a leading axis of seeds.
      alone: some steps of one run as one program, (state, arrays, plan) -> state.
      together: the same steps of all.
    """

    states: TrainState
    plans: PyTree
    alone: Wrapped
    together: Wrapped


def quick_model() -> Model:
    """The networks of PolyMNIST's quick preset, which is what several seeds are trained of on a CPU."""
    widths = (16, 32, 64)
    encoder, decoder = ConvEncoder(widths, hidden=128), ConvDecoder(SHAPE, widths[::-1])
    return Model(tuple(Modality(f"m{i}", SHAPE, encoder, decoder, "laplace", 0.1, pixels=True) for i in range(5)), 32)


def prepare_seeds(model: Model, training: Training, split: Split, count: int, steps: int = 1) -> Seeds:
    """States, plans, and so many steps of one run and of all."""
    keys = jax.random.split(jax.random.key(0), count)
    states = jax.vmap(lambda key: init_state(model, training, key))(keys)
    plans = jax.vmap(split.plan, (None, 0))(split.arrays, keys)
    per_epoch = steps_per_epoch(split, training)

    def step(state: TrainState, arrays: PyTree, plan: PyTree) -> TrainState:
        start = state.step % per_epoch * training.batch_size
        return train_step(model, training, state, batch_at(split, arrays, plan, start, training.batch_size))[0]

    def many(state: TrainState, arrays: PyTree, plan: PyTree) -> TrainState:
        return jax.lax.fori_loop(0, steps, lambda _, state: step(state, arrays, plan), state)

    return Seeds(states, plans, in_place(many), in_place(jax.vmap(many, (0, None, 0))))


def separately(seeds: Seeds) -> list[tuple[TrainState, PyTree]]:
    """State and plan of every seed by itself."""
    count = len(seeds.states.step)
    return [jax.tree.map(lambda leaf, i=i: leaf[i], (seeds.states, seeds.plans)) for i in range(count)]


def parallel(scale: Scale, data: str | None, count: int) -> Work:
    """The quick preset's step for every seed."""
    training = Training(steps=10**6, batch_size=min(64, 4 * scale.batch), learning_rate=4e-3)
    split = dataset(data).train
    seeds = prepare_seeds(quick_model(), training, split, count, scale.steps)
    alone = separately(seeds)
    states, plans = jax.tree.map(jnp.copy, (seeds.states, seeds.plans))

    def call() -> None:
        nonlocal states
        states = jax.block_until_ready(seeds.together(states, split.arrays, plans))

    def one_by_one() -> None:
        for i, (state, plan) in enumerate(alone):
            alone[i] = (jax.block_until_ready(seeds.alone(state, split.arrays, plan)), plan)

    notes = {"seeds": count}
    return Work(call, "seed step", count * scale.steps, rival=one_by_one, rival_name="separate runs", notes=notes)
