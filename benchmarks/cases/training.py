"""Training steps: of each fusion, and against the number of modalities, the batch and the latent dimension."""

import jax

from benchmarks.limits import step_flops
from benchmarks.measure import Call, Work
from benchmarks.models import Run, dataset, polymnist_model, polymnist_run, prepare, random_split
from benchmarks.scales import Scale
from mmvae_jax.loop import make_stretch


def steps_of(run: Run, steps: int, one_dispatch: bool | None = None) -> Call:
    """A call that goes on training by some steps, as `fit` does between two looks at the host."""
    stretch = make_stretch(run.model, run.training, run.split, one_dispatch)
    # The step donates its state; the caller's own is left alone.
    state, reached = jax.tree.map(lambda leaf: leaf.copy(), run.state), int(run.state.step)

    def call() -> None:
        nonlocal state, reached
        reached += steps
        tally = jax.block_until_ready(stretch(state, run.split.arrays, run.plan, reached))
        assert bool(tally.finite)
        state = tally.state

    return call


def step_work(run: Run, steps: int) -> Work:
    """The work of some steps."""
    flops = step_flops(run.model, run.training.batch_size)
    return Work(steps_of(run, steps), "step", steps, flops)


def train(scale: Scale, data: str | None, fusion: str) -> Work:
    """The paper's PolyMNIST, tuples composed in the step; MultiVae gets its batch as ready float32 arrays."""
    work = step_work(polymnist_run(scale, data, fusion), scale.steps)
    work.peer = {
        "job": "train",
        "fusion": fusion,
        "batch": scale.batch,
        "latent": scale.latent,
        "count": scale.steps,
    }
    return work


def modalities(scale: Scale, data: str | None, count: int, subsets: str) -> Work:
    """The same networks for other numbers of modalities, on random pictures."""
    count = scale.capped(count)
    model = polymnist_model("mopoe", scale.fusion_latent, count, subsets)
    run = prepare(model, random_split(count, 2 * scale.fusion_batch), scale.fusion_batch)
    work = step_work(run, scale.steps)
    work.notes["modalities"] = count
    return work


def batch(scale: Scale, data: str | None, size: int) -> Work:
    """Against the batch size."""
    model = polymnist_model("mopoe", scale.latent)
    work = step_work(prepare(model, dataset(data).train, scale.capped(size)), scale.steps)
    work.notes["batch"] = scale.capped(size)
    return work


def latent(scale: Scale, data: str | None, dim: int) -> Work:
    """Against the latent dimension, and with it the width of the dense layer."""
    model = polymnist_model("mopoe", scale.capped(dim))
    work = step_work(prepare(model, dataset(data).train, scale.batch), scale.steps)
    work.notes["latent"] = scale.capped(dim)
    return work
