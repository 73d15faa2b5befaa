"""Random kill -9 over training and saving of one run, each time started again by the same command.

    python -m tests.faults.kills --kills=100 --seed=0
    python -m tests.faults.kills --kills=20 --processes=2     # one of two processes is killed, the launcher ends the other

A run that ends before it is killed is compared, and the kills go on with another. Not collected by pytest.
"""

import argparse
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import jax
import numpy as np

from mmvae_jax.runs import load_run
from tests.runs.own_experiment import EXPERIMENT

ROOT = Path(__file__).parents[2]
# Seconds of training in which a kill falls, and the share of kills that fall before it.
TRAINING, STARTING = 3.0, 0.1


class Run:
    """One run's folder, and the command that starts it and goes on with it."""

    def __init__(self, folder: Path, cache: Path, steps: int, processes: int, *options: str):
        launcher = ["-m", "experiments.launch", f"--processes={processes}", "--", sys.executable]
        flags = [f"--out={folder}", f"--cache={cache}", f"--steps={steps}", *options]
        self.command = [sys.executable, *launcher[: len(launcher) * (processes > 1)], "-m", "tests.runs.own_experiment"]
        self.command += flags
        self.folder, self.processes = folder, processes
        self.output = folder.with_suffix(".txt")

    def start(self) -> subprocess.Popen[bytes]:
        with self.output.open("ab") as output:
            return subprocess.Popen(self.command, cwd=ROOT, stdout=output, stderr=output)

    def log(self) -> tuple[int, int]:
        """The file that `log.jsonl` is at the moment, of which every start makes another, and its size."""
        path = self.folder / "log.jsonl"
        found = path.stat() if path.exists() else None
        return (found.st_ino, found.st_size) if found else (0, 0)

    def newest(self) -> int:
        """The step of the newest finished checkpoint."""
        names = [path.name for path in (self.folder / "checkpoints").glob("*")]
        return max((int(name) for name in names if name.isdecimal()), default=0)

    def saving(self) -> bool:
        return any((self.folder / "checkpoints").glob("*tmp*"))

    def victim(self, process: subprocess.Popen[bytes], draw: random.Random) -> int:
        """The run's own process, or one of those that the launcher has started."""
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        pids = children.read_text().split() if self.processes > 1 else []
        return int(draw.choice(pids)) if pids else process.pid

    def values(self) -> list[np.ndarray]:
        """Everything in its newest checkpoint."""
        state = load_run(EXPERIMENT, self.folder)[1]
        return [np.asarray(leaf) for leaf in jax.tree.leaves(state._replace(key=jax.random.key_data(state.key)))]


def kill(run: Run, draw: random.Random) -> str | None:
    """Start the run and kill it at a random moment: the phase that it was in, or None where it had ended by itself."""
    before = opened = run.log()
    process = run.start()
    early = draw.random() < STARTING
    until = time.monotonic() + draw.uniform(0, 2 * TRAINING) if early else math.inf
    trains = False
    while process.poll() is None and time.monotonic() < until:
        now = run.log()
        if now[0] != before[0] and opened[0] == before[0]:
            opened = now
        if not trains and opened[0] != before[0] and now[1] > opened[1]:  # the first row of its own
            trains, until = True, time.monotonic() + draw.uniform(0, TRAINING)
        time.sleep(0.005)
    if process.poll() is not None:
        if process.returncode:
            raise SystemExit(f"exit code {process.returncode}:\n{run.output.read_text()[-2000:]}")
        return None
    os.kill(run.victim(process, draw), signal.SIGKILL)
    process.wait()
    return "saving" if trains and run.saving() else "training" if trains else "starting"


def identical(run: Run, other: Run) -> bool:
    return all(map(np.array_equal, run.values(), other.values()))


def main() -> None:
    """Kill, start again, compare, and print what happened."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for flag, default in (("--kills", 100), ("--seed", 0), ("--processes", 1), ("--steps", 1500)):
        parser.add_argument(flag, type=int, default=default)
    given = parser.parse_args()
    draw = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as name:
        place, cache = Path(name), Path(name) / "cache"
        uninterrupted = Run(place / "uninterrupted", cache, given.steps, given.processes, "--every-minutes=0")
        started = time.monotonic()
        if code := uninterrupted.start().wait():
            raise SystemExit(f"exit code {code}:\n{uninterrupted.output.read_text()[-2000:]}")
        print(f"uninterrupted: {given.steps} steps, {time.monotonic() - started:.0f} s", flush=True)
        runs: list[Run] = []
        phases: Counter[str] = Counter()
        resumed: list[int] = []
        equal: list[bool] = []
        while sum(phases.values()) < given.kills or len(equal) < len(runs):
            if len(equal) == len(runs):
                runs.append(Run(place / f"run{len(runs)}", cache, given.steps, given.processes, "--every-steps=5"))
            left = given.kills - sum(phases.values())
            if left:
                phase = kill(runs[-1], draw)
            elif code := runs[-1].start().wait():
                raise SystemExit(f"exit code {code}:\n{runs[-1].output.read_text()[-2000:]}")
            else:
                phase = None
            if phase is None:
                equal.append(identical(runs[-1], uninterrupted))
                print(f"run {len(runs)}: ended, bit-identical: {'yes' if equal[-1] else 'no'}", flush=True)
                continue
            phases[phase] += 1
            resumed.append(runs[-1].newest())
            print(f"kill {sum(phases.values())}: {phase}, resumes at step {resumed[-1]}", flush=True)
        lines = [line for run in runs for line in run.output.read_text().splitlines()]
        fallen = [line for line in lines if "cannot be read" in line or "Traceback" in line]
        print(f"\n{len(resumed)} kills of {given.processes} process(es) in {time.monotonic() - started:.0f} s")
        print("in which phase:", ", ".join(f"{count} {phase}" for phase, count in phases.most_common()))
        print("resumed at step:", " ".join(map(str, resumed)))
        print(f"checkpoints that could not be read, tracebacks: {len(fallen)}")
        print(f"final parameters bit-identical to the uninterrupted run: {equal.count(True)} of {len(equal)} runs")
        sys.exit(0 if all(equal) and not fallen else 1)


if __name__ == "__main__":
    main()
