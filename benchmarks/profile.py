"""Where the time of a training step goes: `python -m benchmarks.profile mopoe`.

A Markdown table of what XLA's threads do in the training step of `--preset=paper`, by the kind of operation, from
`jax.profiler` and the names in the compiled program; how long the step's matrix products take one after the other
with nothing between them, each on all cores (the profile shows only one of a product's threads); and the bytes that all
other operations read and write, beside the speed of this machine's memory.
"""

import argparse
import math
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from re import findall, search
from tempfile import TemporaryDirectory
from typing import Any

import jax
import jax.numpy as jnp
from jax.profiler import ProfileData

from benchmarks.cases.seeds import prepare_seeds, separately
from benchmarks.limits import memory_bytes_per_second
from benchmarks.measure import Work, sample
from benchmarks.models import polymnist_run
from benchmarks.peer_process import cores
from benchmarks.scales import SCALES, Scale
from mmvae_jax.data.batching import batch_at
from mmvae_jax.loop import in_place
from mmvae_jax.training import train_step

_STEPS = 10
# The first that is found in the names of the kernel and of its operation. A product into which XLA took a transpose, on
# its own or as YNNPACK's, bears the transpose's name.
_KINDS = (
    (r"dot_general|^dot|^ynn_fusion.*transpose$", "matrix products"),
    (r"Conv.*(stack|pad|concatenate)|(stack|pad).*Conv", "windows cut out and laid down"),
    (r"transpose$", "copies turned round"),
    (r"Network|Decoder", "activations, biases and their gradients"),
    (r"jvp", "subset posteriors, KLs and likelihoods"),
    (r"", "gradient norm, guard and Adam; composing the batch"),
)


def profile(scale: Scale, fusion: str) -> tuple[float, dict[str, float]]:
    """Seconds of a step, and seconds of all threads together in it by the kind of operation."""
    run = polymnist_run(scale, None, fusion)
    seeds = prepare_seeds(run.model, run.training, run.split, 1, _STEPS)
    ((state, plan),) = separately(seeds)
    compiled = seeds.alone.lower(state, run.split.arrays, plan).compile()
    named = findall(r'%?([\w.-]+) = .*op_name="([^"]*)"', compiled.as_text() or "")
    kinds = {name: _kind(f"{name} {op}") for name, op in named}
    state = jax.block_until_ready(compiled(state, run.split.arrays, plan))
    seconds: defaultdict[str, float] = defaultdict(float)
    with TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            start = time.perf_counter()
            jax.block_until_ready(compiled(state, run.split.arrays, plan))
            wall = time.perf_counter() - start
        for name, duration in _events(Path(folder)):
            if name in kinds:
                seconds[kinds[name]] += duration / 1e9 / _STEPS
    return wall / _STEPS, seconds


def products_and_rest(scale: Scale, fusion: str) -> tuple[float, float]:
    """Seconds of all matrix products of a step, each as a program of its own, and bytes of everything else in it.

    The bytes are those that XLA counts for the compiled step, inputs and outputs of every kernel, less the products'.
    """
    run = polymnist_run(scale, None, fusion)
    batch = batch_at(run.split, run.split.arrays, run.plan, 0, scale.batch)
    compiled = in_place(partial(train_step, run.model, run.training)).lower(run.state, batch).compile()
    products = Counter(matrix_products(compiled.as_text() or ""))
    cost: Any = compiled.cost_analysis()
    rest = cost["bytes accessed"] - sum(count * _product_bytes(*product) for product, count in products.items())
    return sum(count * _product_seconds(*product) for product, count in products.items()), rest


def matrix_products(program: str) -> Iterator[tuple[Any, ...]]:
    """Shapes and dimension numbers of every matrix product in a compiled program."""
    shapes = {name: _numbers(dims) for name, dims in findall(r"%([\w.-]+) = f32\[([\d,]*)\]", program)}
    for a, b, numbers in findall(r" dot\(%([\w.-]+), %([\w.-]+)\), (.*)", program):
        kinds = ("lhs_contracting", "rhs_contracting", "lhs_batch", "rhs_batch")
        found = (search(kind + r"_dims={([\d,]*)}", numbers) for kind in kinds)
        left, right, *batch = (_numbers(match[1]) if match else () for match in found)
        yield shapes[a], shapes[b], ((left, right), tuple(batch))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(",") if number)


def _product_seconds(a: tuple[int, ...], b: tuple[int, ...], dimensions: Any) -> float:
    """The median of a few."""
    x, y = jnp.ones(a), jnp.ones(b)
    product = jax.jit(partial(jax.lax.dot_general, dimension_numbers=dimensions))

    def call() -> None:
        jax.block_until_ready(product(x, y))

    return sample(Work(call), _STEPS, budget=10.0).summary()["median"]


def _product_bytes(a: tuple[int, ...], b: tuple[int, ...], dimensions: Any) -> float:
    """Of both operands and the result, in float32."""
    product = partial(jax.lax.dot_general, dimension_numbers=dimensions)
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (a, b)]
    return 4.0 * sum(math.prod(array.shape) for array in (*shapes, jax.eval_shape(product, *shapes)))


def _kind(names: str) -> str:
    return next(kind for pattern, kind in _KINDS if search(pattern, names))


def _events(folder: Path) -> Iterator[tuple[str, float]]:
    """Name and nanoseconds of everything that XLA's threads did."""
    for path in folder.rglob("*.xplane.pb"):
        for plane in ProfileData.from_file(str(path)).planes:
            for line in plane.lines:
                yield from ((event.name, event.duration_ns) for event in line.events)


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    description = "Where a training step's time goes."
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=description)
    parser.add_argument("fusion", nargs="?", default="mopoe", choices=("poe", "moe", "mopoe"))
    parser.add_argument("--scale", choices=SCALES, default="full", help="tiny only proves the code")
    options = parser.parse_args(arguments)
    wall, seconds = profile(SCALES[options.scale], options.fusion)
    alone, rest = products_and_rest(SCALES[options.scale], options.fusion)
    speed = memory_bytes_per_second()
    print(
        f"{options.fusion}: {1e3 * wall:.3g} ms a step on {cores()} cores, matrix products alone {1e3 * alone:.3g} ms; "
        f"everything else reads and writes {rest / 1e9:.3g} GB, which memory does in {1e3 * rest / speed:.3g} ms "
        f"({speed / 1e9:.3g} GB/s)\n"
    )
    print("| what | thread-ms a step | share |\n|---|---:|---:|")
    for kind, spent in sorted(seconds.items(), key=lambda item: -item[1]):
        print(f"| {kind} | {1e3 * spent:.1f} | {spent / sum(seconds.values()):.0%} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
