"""Streaming from a folder ten times larger than the memory that a run may use, killed and resumed.

    python -m benchmarks.streaming              # half an hour on two cores, most of it for making and removing files
    python -m benchmarks.streaming --ratio      # instead: examples/s in training, streamed and from the device

The folder has the layout of the PolyMNIST release. Its pictures are hard links to a few thousand files, so that it
takes directory entries and no space: the modalities repeat after different numbers of pictures, and no two tuples are
alike. A run is the command that users type, in a process of its own, evaluation included; the limit is RLIMIT_DATA,
which counts all memory that a process may write into, used or not.
"""

import argparse
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import jax
import numpy as np
from PIL import Image

from experiments.polymnist import EXPERIMENT
from mmvae_jax.data.batching import take
from mmvae_jax.data.polymnist import MODALITIES, polymnist
from mmvae_jax.loop import fit
from mmvae_jax.runs.runner import load_run, prepare

TUPLE = len(MODALITIES) * 28 * 28 * 3
# Pictures of the modalities before they repeat; coprime, so that tuples do not.
_PERIODS = (997, 991, 983, 977, 971)
_MIB = 2**20


def make_release(folder: Path, train: int, test: int) -> None:
    """A release of so many tuples: coarse random pictures, which are small files."""
    rng = np.random.default_rng(0)
    for name, period in zip(MODALITIES, _PERIODS, strict=True):
        (folder / name).mkdir(parents=True)
        for i in range(period):
            coarse = rng.integers(0, 256, (7, 7, 3), dtype=np.uint8)
            Image.fromarray(coarse.repeat(4, 0).repeat(4, 1)).save(folder / name / f"{i}.png")
        for split, count in (("train", train), ("test", test)):
            (folder / split / name).mkdir(parents=True)
            source = os.open(folder / name, os.O_RDONLY)
            target = os.open(folder / split / name, os.O_RDONLY)
            for i in range(count):
                os.link(f"{i % period}.png", f"{i // 10}.{i % 10}.png", src_dir_fd=source, dst_dir_fd=target)
            os.close(source)
            os.close(target)


def run(out: Path, data: Path, limit: int, steps: int, kill_at: int = 0) -> list[tuple[int, int, int]]:
    """Starts the command and watches its log until it ends or, from a step on, is killed.

    Returns:
      (step, resident MiB, highest resident MiB so far) at every line of the log.
    """
    command = [sys.executable, "-m", "experiments.polymnist", f"--data={data}", f"--out={out}"]
    command += [f"--cache={data.parent / 'cache'}", f"--steps={steps}", "--every-steps=100", "--streaming=auto"]
    command += [
        "--widths",
        "4",
        "8",
        "--hidden=16",
        "--test-examples=100",
        "--joint-samples=100",
        "--classifier.steps=64",
    ]
    bound = partial(resource.setrlimit, resource.RLIMIT_DATA, (limit * _MIB, limit * _MIB))
    # Threads' arenas of memory would count as used.
    process = subprocess.Popen(command, preexec_fn=bound, env={**os.environ, "MALLOC_ARENA_MAX": "2"})
    seen, last = [], last_step(out)
    while process.poll() is None:
        time.sleep(0.05)
        step = last_step(out)
        if step != last:
            seen.append((step, *memory_of(process.pid)))
            last = step
        if kill_at and seen and step >= kill_at:
            process.send_signal(signal.SIGKILL)
            process.wait()
            print(f"kill -9 at step {step}", flush=True)
            return seen
    assert process.returncode == 0, f"exit code {process.returncode}"
    return seen


def last_step(out: Path) -> int:
    """The step of the last whole line of a run's log."""
    log = out / "log.jsonl"
    lines = [line for line in log.read_text().splitlines() if line.endswith("}")] if log.exists() else []
    return json.loads(lines[-1])["step"] if lines else 0


def memory_of(pid: int) -> tuple[int, int]:
    """Resident and highest resident MiB of a process."""
    found = dict(re.findall(r"(VmRSS|VmHWM):\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text()))
    return int(found.get("VmRSS", 0)) // 1024, int(found.get("VmHWM", 0)) // 1024


def acceptance(folder: Path, limit: int, steps: int) -> None:
    """One run without interruption and one that is killed twice, both within the limit; raises where they differ."""
    size = 10 * limit * _MIB // TUPLE + 1
    start = time.perf_counter()
    make_release(folder / "release", size, 1000)
    print(f"made {size} training tuples, {size * TUPLE / _MIB:.0f} MiB decoded, in {time.perf_counter() - start:.0f} s")
    begin = partial(run, data=folder / "release", limit=limit, steps=steps)
    memory = begin(folder / "whole")
    print(f"limit {limit} MiB of data; step: resident MiB (highest so far)")
    chosen = memory[:: max(1, len(memory) // 12)] + memory[-1:]
    print(", ".join(f"{step}: {now} ({highest})" for step, now, highest in chosen), flush=True)
    for kill_at in (steps // 3, steps * 3 // 4, 0):
        begin(folder / "killed", kill_at=kill_at)
    states = [load_run(EXPERIMENT, folder / name)[1] for name in ("whole", "killed")]
    whole, killed = (jax.tree.leaves(state._replace(key=None)) for state in states)
    assert all(np.array_equal(a, b) for a, b in zip(whole, killed, strict=True)), "the resumed run ended elsewhere"
    print(f"killed twice and resumed: all {len(whole)} arrays of the state bit-identical after {steps} steps")


def ratio(folder: Path, steps: int, rounds: int = 2) -> None:
    """Examples of `fit` in a second, of the wall clock's and of the CPUs', on 3,900 tuples as PNG files: medians over
    dispatches, of rounds in turn. On a CPU that is shared the second is to be trusted.
    """
    batch = take(polymnist("embedded").train, jax.random.key(0), 4000)
    for split, chosen in (("train", slice(0, 3900)), ("test", slice(3900, 4000))):
        for name, values in batch.x.items():
            (folder / split / name).mkdir(parents=True)
            for i, (x, label) in enumerate(zip(np.asarray(values[chosen]), batch.label[chosen], strict=True)):
                Image.fromarray(x).save(folder / split / name / f"{i}.{label}.png")
    for preset in ("quick", "paper"):
        config = replace(EXPERIMENT.presets[preset], data=str(folder))
        speeds: dict[str, list[np.ndarray]] = {"off": [], "on": []}
        for _, streaming in product(range(rounds), ("off", "on")):
            prepared = prepare(EXPERIMENT, replace(config, streaming=streaming))
            times = [(time.perf_counter(), time.process_time())]
            fit(
                prepared.model,
                prepared.dataset.train,
                replace(prepared.training, steps=steps),
                state=prepared.template,
                after=lambda state, progress, times=times: times.append((time.perf_counter(), time.process_time())),
                steps_per_dispatch=5,
            )
            # The first two: compiled, and read ahead while that was done.
            taken = np.median(np.diff(times, axis=0)[2:], axis=0)
            speeds[streaming].append(5 * prepared.training.batch_size / taken)
        off, on = (np.median(speeds[streaming], axis=0) for streaming in ("off", "on"))
        for clock, slow, fast in zip(("second", "CPU second"), on, off, strict=True):
            told = f"{fast:.0f} examples a {clock} from the device, {slow:.0f} streamed, ratio {slow / fast:.2f}"
            print(f"{preset}: {told}", flush=True)


def main() -> None:
    """Measures what the command line asks for, in a folder that is removed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ratio", action="store_true", help="compare speeds instead")
    parser.add_argument("--limit", type=int, default=1400, help="MiB of data memory a run may use (default: 1400)")
    parser.add_argument("--steps", type=int, default=1500, help="of training (default: 1500)")
    arguments = parser.parse_args()
    with TemporaryDirectory(prefix="benchmark-streaming-") as folder:
        if arguments.ratio:
            ratio(Path(folder), arguments.steps)
        else:
            acceptance(Path(folder), arguments.limit, arguments.steps)


if __name__ == "__main__":
    main()
