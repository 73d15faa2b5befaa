"""Fresh processes: imports, compilation, and the time until the first step. Imports no JAX: the children do."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

from benchmarks.measure import Work
from benchmarks.scales import Scale

_ROOT = Path(__file__).parents[2]
_LONGEST = 900.0
_LOOK_EVERY = 0.01


def imports(scale: Scale, data: str | None) -> Work:
    """Importing everything that a run imports."""

    def call() -> None:
        subprocess.run([sys.executable, "-c", "import experiments.polymnist"], cwd=_ROOT, check=True)

    return Work(call, unit="process")


def compile_step(scale: Scale, data: str | None, cache: str) -> Work:
    """Tracing and compiling the training step, in a process that does little else."""
    folder = TemporaryDirectory(prefix="benchmark-compile-")
    counter = iter(range(10**6))

    def call() -> float:
        cached = Path(folder.name) / ("cached" if cache == "cached" else str(next(counter)))
        command = [sys.executable, "-m", "benchmarks.probe", scale.name, str(cached)]
        done = subprocess.run(command, cwd=_ROOT, check=True, capture_output=True, text=True)
        return json.loads(done.stdout.splitlines()[-1])["compile"]

    return Work(call, unit="process", finish=folder.cleanup)


def first_step(scale: Scale, data: str | None, cache: str) -> Work:
    """The experiment's own command line, until its log reports the first step; then it is stopped."""
    folder = TemporaryDirectory(prefix="benchmark-start-")
    counter = iter(range(10**6))

    def call() -> float:
        number = next(counter)
        compiled = "cached" if cache == "cached" else str(number)
        options = [
            "--preset=paper",
            "--steps=1",
            f"--batch-size={scale.batch}",
            f"--latent-dim={scale.latent}",
            f"--data={data or 'embedded'}",
            f"--cache={folder.name}/cache-{compiled}",
        ]
        out = Path(folder.name) / f"run-{number}"
        command = [sys.executable, "-m", "experiments.polymnist", *options, f"--out={out}"]
        return seconds_until(out / "log.jsonl", command)

    return Work(call, unit="process", finish=folder.cleanup)


def seconds_until(path: Path, command: Sequence[str]) -> float:
    """Time from the start of a process until a file has content; the process is ended then.

    Raises:
      RuntimeError: the process ended first, or took too long.
    """
    with TemporaryFile() as output:
        start = time.perf_counter()
        process = subprocess.Popen(command, cwd=_ROOT, stdout=output, stderr=output, start_new_session=True)
        try:
            while not (path.is_file() and path.stat().st_size):
                seconds = time.perf_counter() - start
                if process.poll() is not None or seconds > _LONGEST:
                    output.seek(0)
                    said = output.read().decode(errors="replace").strip()[-500:]
                    raise RuntimeError(f"no {path.name} after {seconds:.0f} s; {command[2]} said: {said}")
                time.sleep(_LOOK_EVERY)
            return time.perf_counter() - start
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
