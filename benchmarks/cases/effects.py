"""Every optimisation against doing without it, alternating in one process."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from inspect import unwrap

import jax
import jax.numpy as jnp
from jaxtyping import Array

from benchmarks.cases.fusing import random_experts
from benchmarks.cases.seeds import prepare_seeds, separately
from benchmarks.cases.training import step_work, steps_of
from benchmarks.measure import Call, Work
from benchmarks.models import naive_model, polymnist_model, polymnist_run, prepare
from benchmarks.naive import products_one_by_one
from benchmarks.scales import Scale
from mmvae_jax import subsets
from mmvae_jax.data.batching import batch_at
from mmvae_jax.fusion import fuse
from mmvae_jax.gaussian import Gaussian, standard
from mmvae_jax.loop import in_place
from mmvae_jax.objectives.terms import component_kls
from mmvae_jax.priors import OfFamily
from mmvae_jax.training import TrainState, train_step


def convolutions(scale: Scale, data: str | None) -> Work:
    """Platform-dependent convolutions against `lax.conv_general_dilated` and its own gradients."""
    run = polymnist_run(scale, data)
    work = step_work(run, scale.steps)
    naive = run._replace(model=naive_model(run.model))
    return replace(work, rival=steps_of(naive, scale.steps), rival_name="lax convolutions")


def dispatch(scale: Scale, data: str | None) -> Work:
    """All steps in one `lax.while_loop` against a dispatch each."""
    run = polymnist_run(scale, data)
    rival = steps_of(run, scale.steps, one_dispatch=False)
    return replace(step_work(run, scale.steps), rival=rival, rival_name="a dispatch a step")


def donation(scale: Scale, data: str | None) -> Work:
    """The state updated in place against a new one beside the old."""
    run = polymnist_run(scale, data)
    batch = batch_at(run.split, run.split.arrays, run.plan, 0, scale.batch)
    step = partial(train_step, run.model, run.training)
    donated, kept = in_place(step), jax.jit(step)
    notes = {}
    for name, jitted in (("donated", donated), ("kept", kept)):
        memory = jitted.lower(run.state, batch).compile().memory_analysis()
        if memory is not None:
            total = memory.output_size_in_bytes - memory.alias_size_in_bytes + memory.temp_size_in_bytes
            notes[f"mib_beside_arguments_{name}"] = total / 2**20
    with_batch = _repeated(lambda state: donated(state, batch)[0], run.state, scale.steps)
    without = _repeated(lambda state: kept(state, batch)[0], run.state, scale.steps)
    return Work(with_batch, "step", scale.steps, rival=without, rival_name="state kept", notes=notes)


def copies(scale: Scale, data: str | None) -> Work:
    """Steps in one loop, Adam's moments updated in place, against XLA's defaults, which copy them first."""
    run = polymnist_run(scale, data)
    seeds = prepare_seeds(run.model, run.training, run.split, 1, scale.steps)
    ((state, plan),) = separately(seeds)
    ways = (seeds.alone, jax.jit(unwrap(seeds.alone), donate_argnums=0))
    ours, rival = (_repeated(lambda state, way=way: way(state, run.split.arrays, plan), state, 1) for way in ways)
    return Work(ours, "step", scale.steps, rival=rival, rival_name="XLA's defaults")


def uint8(scale: Scale, data: str | None) -> Work:
    """Gathering, cropping and inverting in the step against a float32 batch that was made before."""
    run = polymnist_run(scale, data)
    batch = batch_at(run.split, run.split.arrays, run.plan, 0, scale.batch)
    ready = batch._replace(x={name: x.astype(jnp.float32) / 255 for name, x in batch.x.items()})
    step = in_place(partial(train_step, run.model, run.training))
    rival = _repeated(lambda state: step(state, ready)[0], run.state, scale.steps)
    on_device = sum(leaf.nbytes for leaf in jax.tree.leaves(run.split.arrays))
    as_float = run.split.size * sum(x.nbytes for x in ready.x.values()) // scale.batch
    notes = {"mib_on_device": on_device / 2**20, "mib_as_float32_tuples": as_float / 2**20}
    ours = steps_of(run, scale.steps, one_dispatch=False)
    return Work(ours, "step", scale.steps, rival=rival, rival_name="float32 at hand", notes=notes)


def heads(scale: Scale, data: str | None) -> Work:
    """Forward and backward of the heads of five encoders."""
    features = jax.random.normal(jax.random.key(0), (scale.batch, scale.latent))
    kernel = jax.random.normal(jax.random.key(1), (5, scale.latent, 2 * scale.latent))

    def one(kernel: Array, x: Array) -> Array:
        return sum(jnp.sum(jnp.tanh(x @ k)) for k in kernel)  # pyright: ignore[reportReturnType]

    def two(kernel: Array, x: Array) -> Array:
        halves = [half for k in kernel for half in jnp.split(k, 2, axis=1)]
        return sum(jnp.sum(jnp.tanh(x @ half)) for half in halves)  # pyright: ignore[reportReturnType]

    return _against(one, two, (kernel, features), "two heads")


def powerset(scale: Scale, data: str | None) -> Work:
    """Products and their gradients for all subsets of eight modalities."""
    masks = subsets.powerset(scale.capped(8))
    experts = random_experts(masks.shape[1], scale.fusion_batch, scale.fusion_latent)
    available = jnp.ones((scale.fusion_batch, masks.shape[1]), bool)
    prior = standard(scale.fusion_latent)

    def at_once(experts: Gaussian) -> Array:
        return component_kls(fuse(experts, masks, available, prior), OfFamily(prior)).sum()

    def one_by_one(experts: Gaussian) -> Array:
        return products_one_by_one(experts, masks).kl(prior).mean(0).sum()

    return _against(at_once, one_by_one, (experts,), "subset by subset")


def bfloat16(scale: Scale, data: str | None) -> Work:
    """`--compute-dtype=bfloat16`: networks in bfloat16, parameters and densities in float32."""
    run = polymnist_run(scale, data)
    half = prepare(polymnist_model("mopoe", scale.latent, dtype="bfloat16"), run.split, scale.batch)
    return replace(step_work(half, scale.steps), rival=steps_of(run, scale.steps), rival_name="float32")


def _repeated(step: Callable[[TrainState], TrainState], state: TrainState, count: int) -> Call:
    state = jax.tree.map(jnp.copy, state)

    def call() -> None:
        nonlocal state
        for _ in range(count):
            state = step(state)
        jax.block_until_ready(state)

    return call


def _against(
    ours: Callable[..., Array], theirs: Callable[..., Array], arguments: tuple, rival_name: str, count: int = 10
) -> Work:
    """Values and gradients by two formulations, with the largest relative difference of the gradients."""
    jitted = [jax.jit(jax.value_and_grad(function)) for function in (ours, theirs)]
    gradients = [jax.tree.leaves(function(*arguments)[1]) for function in jitted]
    difference = max(float(jnp.abs(a - b).max() / jnp.abs(b).max()) for a, b in zip(*gradients, strict=True))

    def calls(function: Callable) -> Call:
        def call() -> None:
            for _ in range(count):
                jax.block_until_ready(function(*arguments))

        return call

    notes = {"largest_relative_difference_of_gradients": difference}
    return Work(calls(jitted[0]), per=count, rival=calls(jitted[1]), rival_name=rival_name, notes=notes)
