"""Everything that one GPU is asked: right numbers, speed against its matrix products, a resumable paper-size training.

    python -m benchmarks.gpu --minutes 20

Every stage writes `<out>/gpu.json` as it ends, and a stage that fails leaves its error there: whatever was measured
before a time limit is kept. Needs the platforms `cuda` and `cpu`; on a machine without a GPU `--scale tiny` proves the
script.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jax
import matplotlib
import numpy as np
from jaxtyping import PyTree

from benchmarks.cases.fusing import fused, random_experts
from benchmarks.cases.seeds import prepare_seeds
from benchmarks.cases.training import steps_of
from benchmarks.limits import matmul_flops_per_second, step_flops
from benchmarks.measure import Call, Work, sample
from benchmarks.models import Run, dataset, polymnist_model, prepare
from benchmarks.peer_process import PeerProcess
from benchmarks.run import machine, versions
from benchmarks.scales import SCALES, Scale
from mmvae_jax.data.batching import batch_at
from mmvae_jax.training import train_step

matplotlib.use("Agg")
_ROOT = Path(__file__).parents[1]
_TOLERANCE = 1e-4
_REPEATS = 5


@dataclass(frozen=True)
class Plan:
    """Sizes of the stages: of the models, steps in one measurement, seeds, matrix size, and the training's options."""

    scale: Scale
    steps: int
    seeds: tuple[int, ...]
    matrix: int
    modalities: int
    training: tuple[str, ...] = ()


PLANS = {
    "full": Plan(SCALES["full"], 100, (1, 5), 8192, 10),
    "tiny": Plan(
        SCALES["tiny"],
        2,
        (2,),
        128,
        4,
        (
            *("--widths", "4", "8", "--hidden=16", "--batch-size=8", "--latent-dim=16", "--steps=12"),
            *("--log-likelihood-samples=2", "--log-likelihood-examples=4", "--test-examples=16"),
            *("--joint-samples=16", "--classifier.steps=2"),
        ),
    ),
}


@dataclass
class Results:
    """What has been measured so far, on disk after every stage."""

    path: Path
    values: dict[str, Any] = field(default_factory=dict)

    def stage(self, name: str, measure: Callable[[], Any]) -> None:
        """Run a stage; its error in place of its result if it fails."""
        print(f"{name} ...", flush=True)
        start = time.perf_counter()
        try:
            found = measure()
        except Exception as error:  # one stage must not take the others with it
            traceback.print_exc()
            found = {"error": f"{type(error).__name__}: {error}"}
        self.values[name] = found
        self.values.setdefault("stage_seconds", {})[name] = time.perf_counter() - start
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self.values, indent=1) + "\n")
        print(json.dumps(found), flush=True)


def about() -> dict[str, Any]:
    """The card, the machine and the libraries."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    driver = ""
    if shutil.which(command[0]):
        driver = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    device = jax.devices()[0]
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    found = {"device": device.device_kind, "platform": device.platform, "driver": driver, "when": when}
    return {**found, "machine": machine(), "versions": versions()}


def closed_forms(plan: Plan) -> dict[str, float]:
    """Largest differences, relative to the largest value, of products, KLs and mixture densities from the CPU's."""
    scale = plan.scale
    experts = random_experts(plan.modalities, scale.fusion_batch, scale.fusion_latent)
    points = jax.random.normal(jax.random.key(0), (scale.fusion_batch, scale.fusion_latent))

    @jax.jit
    def forms(experts, points):
        mixture, kl = fused(experts)
        return {"products": mixture.components, "kls": kl, "log_density": mixture.log_prob(points)}

    ours, theirs = _on_both(forms, (experts, points))
    found = {name: _difference(ours[name], theirs[name]) for name in theirs}
    return within_tolerance(found)


def one_step(plan: Plan) -> dict[str, float]:
    """Relative distances (L2, a leaf of the tree at a time) of one training step's results from the CPU's."""
    run = paper_run(plan.scale)
    batch = batch_at(run.split, run.split.arrays, run.plan, 0, plan.scale.batch)
    step = jax.jit(partial(train_step, run.model, run.training))
    with jax.default_matmul_precision("highest"):
        (ours, terms, _), (theirs, cpu_terms, _) = _on_both(step, (run.state, batch))
    found = {
        "loss": _difference(terms["loss"], cpu_terms["loss"]),
        "params": _distance(ours.params, theirs.params),
        "moments": _distance(ours.opt_state, theirs.opt_state),
    }
    return within_tolerance(found)


def _on_both(function: Callable, arguments: PyTree) -> tuple[Any, Any]:
    """Results on the default device and on the CPU."""
    results = []
    for device in (jax.devices()[0], jax.devices("cpu")[0]):
        moved = jax.device_put(arguments, device)
        results.append(jax.device_get(jax.block_until_ready(function(*moved))))
    return results[0], results[1]


def _difference(ours: PyTree, theirs: PyTree) -> float:
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs)


def _distance(ours: PyTree, theirs: PyTree) -> float:
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    norms = [(float(np.linalg.norm(np.subtract(a, b))), float(np.linalg.norm(b))) for a, b in pairs]
    return max(difference / norm for difference, norm in norms if norm > 0)


def within_tolerance(differences: dict[str, float]) -> dict[str, float]:
    """The differences, if all are small.

    Raises:
      AssertionError: one is not.
    """
    far = {name: value for name, value in differences.items() if not value <= _TOLERANCE}
    if far:
        raise AssertionError(f"differs from the CPU by more than {_TOLERANCE}: {far}")
    return differences


def paper_run(scale: Scale, data: str | None = None, dtype: str = "float32") -> Run:
    """The paper preset's training."""
    return prepare(polymnist_model("mopoe", scale.latent, dtype=dtype), dataset(data).train, scale.batch)


def peaks(plan: Plan) -> dict[str, float]:
    """TFLOP/s of square matrix products: what each dtype and precision could reach."""
    kinds = {
        "bfloat16": ("bfloat16", None),
        "float32": ("float32", None),
        "float32 highest": ("float32", "highest"),
    }
    return {name: matmul_flops_per_second(plan.matrix, *kind) / 1e12 for name, kind in kinds.items()}


def steps(plan: Plan, data: str | None, roofs: dict[str, float]) -> list[dict[str, Any]]:
    """The training step: a dispatch a step, and many in one `lax.while_loop`; dtypes; several seeds under one vmap."""
    rows = []
    for dtype in ("float32", "bfloat16"):
        run = paper_run(plan.scale, data, dtype)
        flops = step_flops(run.model, plan.scale.batch)
        calls = {
            (1, "plain loop"): steps_of(run, plan.steps, one_dispatch=False),
            (1, "one while_loop"): steps_of(run, plan.steps, one_dispatch=True),
            **{(n, "one fori_loop, vmap"): seeds_of(run, n, plan.steps) for n in plan.seeds},
        }
        for (seeds, how), call in calls.items():
            found = sample(Work(call, per=plan.steps), _REPEATS, budget=60.0).summary()
            speed = seeds * flops / found["median"] / 1e12
            row = {"seeds": seeds, "dtype": dtype, "how": how, "tflops": speed, "of_peak": speed / roofs[dtype]}
            rows.append({**row, "steps_per_second": seeds / found["median"], **found})
            print(f"  {how}, {dtype}, {seeds} seeds: {1e3 * found['median']:.3g} ms", flush=True)
    return rows


def seeds_of(run: Run, count: int, steps: int) -> Call:
    """A call that takes some steps of several seeds in one dispatch."""
    seeds = prepare_seeds(run.model, run.training, run.split, count, steps)
    states = seeds.states

    def call() -> None:
        nonlocal states
        states = jax.block_until_ready(seeds.together(states, run.split.arrays, seeds.plans))

    return call


def torch_steps(plan: Plan, python: str, device: str) -> dict[str, Any]:
    """MultiVae's step on the same device, if PyTorch and MultiVae can be imported there."""
    with PeerProcess(python, device) as peer:
        sizes = {"batch": plan.scale.batch, "latent": plan.scale.latent, "count": plan.steps}
        peer.prepare({"job": "train", "fusion": "mopoe", **sizes})
        return {**sample(Work(peer.run, per=plan.steps), _REPEATS, budget=60.0).summary(), **peer.about}


def train(plan: Plan, data: str | None, minutes: float, runs: Path, out: Path) -> dict[str, Any]:
    """`--preset=paper` for so many minutes, going on where the last call stopped; then its evaluation and figures."""
    folder = runs / "gpu-paper"
    command = [sys.executable, "-m", "experiments.polymnist", "--preset=paper", f"--data={data or 'embedded'}"]
    command += [f"--out={folder}", f"--cache={runs / 'cache'}", *plan.training]
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=_ROOT)
    log = folder / "log.jsonl"
    while process.poll() is None:
        if time.perf_counter() - start > 60 * minutes:
            process.send_signal(signal.SIGTERM)
            process.wait()
            # The run saved its state; its evaluation is another call.
            subprocess.run([*command, "--eval-only"], cwd=_ROOT, check=True)
        time.sleep(0.1)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command[1:3])} ended with code {process.returncode}")
    for picture in (folder / "figures").glob("*.png"):
        shutil.copy(picture, out / f"gpu-paper-{picture.name}")
    last = json.loads(log.read_text().splitlines()[-1])
    metrics = json.loads((folder / "metrics.json").read_text())
    return {"command": command[1:], "steps": last["step"], "train_seconds": last["seconds"], "metrics": metrics}


def draw(values: dict[str, Any], path: Path) -> None:
    """Steps a second of every way to train, and the share of the card's matrix-product speed."""
    import matplotlib.pyplot as plt

    rows = values["steps"]
    labels = [f"{row['how']}\n{row['dtype']}, seeds {row['seeds']}" for row in rows]
    rates, shares = [row["steps_per_second"] for row in rows], [100 * row["of_peak"] for row in rows]
    if "median" in values.get("torch", {}):
        labels.append("MultiVae\nPyTorch")
        rates.append(1 / values["torch"]["median"])
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    left.barh(labels, rates)
    left.set(xlabel="steps a second, all seeds together")
    right.barh(labels[: len(shares)], shares)
    right.set(xlabel="% of the dtype's matrix-product speed")
    for axes in (left, right):
        axes.invert_yaxis()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(given: list[str] | None = None) -> int:
    """Run all stages; the exit code: 1 if one failed (PyTorch's apart, which may not be installed)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="One GPU, checked and measured.")
    parser.add_argument("--minutes", type=float, default=20.0, help="for the training; 0 skips it")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="for gpu.json and the pictures")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="for the training's own folder, which resumes")
    parser.add_argument("--data", help="a data folder; default the embedded digits")
    parser.add_argument("--torch-python", default=sys.executable, help="an interpreter with PyTorch and MultiVae")
    parser.add_argument("--scale", choices=PLANS, default="full", help="tiny only proves the script")
    options = parser.parse_args(given)
    # The training and PyTorch share the card with this process.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    out, runs = options.out.resolve(), options.runs.resolve()
    data = str(Path(options.data).resolve()) if options.data else None
    plan, results = PLANS[options.scale], Results(out / "gpu.json")
    device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    results.stage("about", about)
    results.stage("closed_forms", partial(closed_forms, plan))
    results.stage("one_step", partial(one_step, plan))
    results.stage("matmul_tflops", partial(peaks, plan))
    results.stage("steps", lambda: steps(plan, data, results.values["matmul_tflops"]))
    results.stage("memory", lambda: dict(jax.devices()[0].memory_stats() or {}))
    results.stage("torch", partial(torch_steps, plan, options.torch_python, device))
    if options.minutes > 0:
        results.stage("training", partial(train, plan, data, options.minutes, runs, out))
    if "error" not in results.values["steps"]:
        draw(results.values, out / "gpu-steps.png")
    failed = [name for name, found in results.values.items() if "error" in found and name != "torch"]
    print(f"wrote {results.path}" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
