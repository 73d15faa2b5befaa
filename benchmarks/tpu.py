"""Compiled for TPU pods, without one: what a step would do and take there.

    python -m benchmarks.tpu                               # all slices; minutes each
    python -m benchmarks.tpu --topology v5e:16x16 --model mopoe

Compiles the program that `fit` runs (loop, composition of the tuples and all) and those of the evaluation for slices of
TPUs that need not be there (`pip install ".[tpu]"`), and reads from them what every chip computes, keeps, moves
and exchanges. Nothing runs: seconds are predicted from that and from the chips' published peaks (`chips.py`).
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

# Nothing asks for a machine that is not there, or locks it; set before JAX starts.
os.environ |= {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_LOG_DIR": "disabled",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from jax.experimental import topologies  # noqa: E402
from jax.sharding import Mesh, NamedSharding  # noqa: E402
from jaxtyping import PyTree  # noqa: E402

from benchmarks.chips import CHIPS, predict  # noqa: E402
from benchmarks.hlo import Program  # noqa: E402
from benchmarks.models import WIDTHS, paper_training, polymnist_model  # noqa: E402
from benchmarks.pods import draw, tables  # noqa: E402
from benchmarks.run import machine, versions  # noqa: E402
from mmvae_jax import subsets  # noqa: E402
from mmvae_jax.data.batching import Split, take  # noqa: E402
from mmvae_jax.data.mnist import Digits  # noqa: E402
from mmvae_jax.data.polymnist import compose_dataset, embedded_backgrounds  # noqa: E402
from mmvae_jax.evaluation import EvaluationSettings, coherence, likelihood, probe  # noqa: E402
from mmvae_jax.evaluation.chunks import MAX_ENCODED, MAX_EXAMPLES, decoded_at_once  # noqa: E402
from mmvae_jax.evaluation.classifier_networks import ImageClassifier  # noqa: E402
from mmvae_jax.loop import make_stretch  # noqa: E402
from mmvae_jax.model import Model  # noqa: E402
from mmvae_jax.sharding import device_mesh, partition  # noqa: E402
from mmvae_jax.training import Training, init_state  # noqa: E402
from mmvae_jax.zoo import MODELS, model_row  # noqa: E402

Row = dict[str, Any]
# Latent dimension and widths of the networks.
SIZES = {"paper": (512, WIDTHS), "large": (8192, tuple(4 * width for width in WIDTHS))}


@dataclass(frozen=True)
class Case:
    """A training program: the size of its model, tuples a chip, and over how many chips large parameters are split."""

    size: str
    per_chip: int
    model_parallel: int = 1


# Weak scaling keeps 16 tuples a chip; strong scaling a batch of 256, of the large model 2048.
_WEAK = (Case("paper", 16),)
CASES: dict[str, tuple[Case, ...]] = {
    "v5e:1x1": (*_WEAK, Case("paper", 256)),
    "v5e:2x2": _WEAK,
    "v5e:2x4": (*_WEAK, Case("paper", 32), Case("large", 16, 8), Case("large", 256, 8)),
    "v5e:4x4": (*_WEAK, Case("large", 16), Case("large", 16, 8)),
    "v5e:8x8": (*_WEAK, Case("paper", 4), Case("large", 16, 8), Case("large", 32, 8)),
    "v5e:16x16": (*_WEAK, Case("paper", 1), Case("large", 16, 8), Case("large", 8, 8)),
    "v4:4x4x4": _WEAK,
    "v5p:4x4x4": (*_WEAK, Case("large", 16), Case("large", 16, 8)),
    "v5p:8x8x4": _WEAK,
}
_EVALUATED = ("v5e:2x2", "v5e:4x4", "v5e:16x16", "v4:4x4x4", "v5p:4x4x4")


def slice_mesh(topology: str, model_parallel: int = 1) -> Mesh:
    """The mesh that `fit` would use on a slice such as `v5e:4x4`."""
    options: dict[str, Any] = {}
    if topology.startswith("v4"):
        options["chip_config_name"] = "megacore"  # both cores of a chip as one device, as JAX has it on a TPU
    if topology == "v5e:1x1":
        options["chips_per_host_bounds"] = (1, 1, 1)
    found = topologies.get_topology_desc(topology, platform="tpu", **options)
    return device_mesh(model_parallel, found.devices)


def blank_tuples() -> Split:
    """PolyMNIST's training split, as large as with all of MNIST; nobody looks at the digits."""
    train, test = np.zeros((60_000, 28, 28), np.uint8), np.zeros((10_000, 28, 28), np.uint8)
    labels = np.zeros(60_000, np.int32)
    return compose_dataset(Digits(train, labels, test, labels[:10_000], "blank"), embedded_backgrounds()).train


def described(tree: PyTree, mesh: Mesh, model_parallel: int = 1) -> PyTree:
    """Shapes in place of arrays, on the mesh as `sharding.placed` would put them."""

    def describe(leaf: Any) -> jax.ShapeDtypeStruct:
        sharding = NamedSharding(mesh, partition(leaf.shape, model_parallel))
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    return jax.tree.map(describe, tree)


def compile_training(model: Model, training: Training, split: Split, mesh: Mesh) -> jax.stages.Compiled:
    """The program of many steps that `fit` dispatches."""
    key = jax.random.key(0)
    state = jax.eval_shape(lambda: init_state(model, training, key))
    plan = jax.eval_shape(split.plan, split.arrays, key)
    arguments = described((split.arrays, plan, jnp.zeros((), jnp.int32)), mesh)
    with jax.set_mesh(mesh):
        steps = jax.jit(make_stretch(model, training, split, one_dispatch=True), donate_argnums=0)
        return steps.lower(described(state, mesh, training.model_parallel), *arguments).compile()


def evaluations(model: Model, split: Split, mesh: Mesh) -> Iterator[tuple[str, Callable[[], jax.stages.Compiled]]]:
    """What `evaluate` runs with its default settings, a chunk of test tuples each."""
    key, settings = jax.random.key(0), EvaluationSettings()
    params = jax.eval_shape(model.init, key)
    batches = jax.eval_shape(lambda: [take(split, key, n) for n in (MAX_EXAMPLES, MAX_ENCODED)])
    tuples, encoded = described(batches, mesh)
    powerset = subsets.powerset(len(model.modalities))
    targets, corrected = likelihood.targets_of(powerset)
    module = ImageClassifier(10, settings.classifier.dropout)
    one = jnp.zeros((1, *model.modalities[0].shape))
    weights = jax.eval_shape(lambda: {name: module.init(key, one)["params"] for name in model.names})
    modules = (module,) * len(model.names)
    given, weights, key, masks, sets = described((params, weights, key, *map(jnp.asarray, (powerset, targets))), mesh)
    at_once, samples = decoded_at_once(model, params), settings.log_likelihood_samples
    told = (model, modules, coherence.most_likely, given, weights, key, tuples, masks)
    calls = {
        "log-likelihood": (likelihood._estimates, model, samples, at_once, corrected, given, key, tuples, masks, sets),
        "conditional coherence": (coherence._conditional, *told),
        "joint coherence": (coherence._joint_classes, model, modules, at_once, given, weights, key, None),
        "probe": (probe._means, model, given, key, encoded, masks),
    }
    for name, (function, *arguments) in calls.items():

        def compiled(function: Any = function, arguments: Any = arguments) -> jax.stages.Compiled:
            with jax.set_mesh(mesh):
                return function.__wrapped__.lower(*arguments).compile()

        yield name, compiled


def measured(compiled: jax.stages.Compiled, mesh: Mesh) -> Row:
    """What a compiled program says of one chip, and what follows from it."""
    program = Program(compiled.as_text() or "")
    work = list(program.work())
    cost: Any = compiled.cost_analysis()
    traffic = sum(times * program.traffic(line, where) for line, where, times in work)
    cycles = sum(times * line.cycles for line, _, times in work)
    collectives = program.collectives()
    stats: Any = compiled.memory_analysis()
    memory = {
        "arguments": stats.argument_size_in_bytes,
        "temporaries": stats.temp_size_in_bytes,
        "results": stats.output_size_in_bytes - stats.alias_size_in_bytes,
        "program": stats.generated_code_size_in_bytes,
    }
    chip = CHIPS[mesh.devices.flat[0].device_kind]
    step = predict(chip, mesh, cost["flops"], traffic, cycles, collectives)
    return {
        "flops": cost["flops"],
        "xla_bytes": cost["bytes accessed"],
        "hbm_bytes": traffic,
        "cycles": cycles,
        "memory": memory,
        "memory_bytes": sum(memory.values()),
        "collectives": [each._asdict() for each in collectives],
        "predicted": {**asdict(step), "on_chip": step.on_chip, "seconds": step.seconds},
    }


def rows(topology: str, model: str, split: Split) -> Iterator[Row]:
    """Of all programs for one slice."""
    chosen = model_row(model)

    def sized(size: str) -> Model:
        latent, widths = SIZES[size]
        return replace(polymnist_model(chosen.fusion, latent, widths=widths), **chosen.options)

    for case in CASES[topology]:
        mesh = slice_mesh(topology, case.model_parallel)
        training = replace(
            paper_training(case.per_chip * mesh.size), objective=chosen.objective, model_parallel=case.model_parallel
        )
        about = {"topology": topology, "chips": mesh.size, "model": model, "program": "training step", **asdict(case)}
        yield {**about, **_tried(partial(compile_training, sized(case.size), training, split, mesh), mesh)}
    if topology in _EVALUATED:
        mesh = slice_mesh(topology)
        for name, compiled in evaluations(sized("paper"), split, mesh):
            about = {"topology": topology, "chips": mesh.size, "model": model, "program": name, "size": "paper"}
            yield {**about, **_tried(compiled, mesh)}


def _tried(compiled: Callable[[], jax.stages.Compiled], mesh: Mesh) -> Row:
    """A program's numbers, or why the compiler refused it: too large for the chip's memory, as a rule."""
    start = time.perf_counter()
    try:
        found = measured(compiled(), mesh)
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        found = {"error": str(error).strip().splitlines()[0][:300]}
    return {**found, "compile_seconds": time.perf_counter() - start}


def main(given: list[str] | None = None) -> int:
    """Compile, write the JSON, print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tpu", description="Compiled for TPU pods; nothing runs."
    )
    parser.add_argument("--topology", nargs="*", choices=CASES, default=list(CASES), help="slices; default all")
    parser.add_argument("--model", choices=MODELS, default="mopoe", help="a model of the papers")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/tpu.json"), help="rows are updated")
    parser.add_argument("--plot", type=Path, default=Path("docs/pods.png"))
    options = parser.parse_args(given)
    results: dict[str, Any] = {"rows": json.loads(options.json.read_text())["rows"] if options.json.is_file() else []}
    results |= {"machine": machine(), "versions": {**versions(), "libtpu": metadata.version("libtpu")}}
    split = blank_tuples()
    for topology in options.topology:
        replaced = [row for row in results["rows"] if (row["topology"], row["model"]) != (topology, options.model)]
        results["rows"] = replaced
        for row in rows(topology, options.model, split):
            results["rows"].append(row)
            said = row.get("error") or f"{1e3 * row['predicted']['seconds']:.3g} ms predicted"
            print(f"{topology} {row['program']} {row['size']}: {said}", file=sys.stderr, flush=True)
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.write_text(json.dumps(results, indent=1) + "\n")
    order = list(CASES)
    shown = sorted(
        (row for row in results["rows"] if row["model"] == options.model), key=lambda row: order.index(row["topology"])
    )
    print(tables(shown))
    draw(shown, options.plot)
    print(f"wrote {options.json} and {options.plot}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
