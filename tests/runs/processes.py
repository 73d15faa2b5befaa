"""Runs of several processes on this machine, as tests start them and listen to them."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Run:
    """A run of several processes, started by the launcher, and what it prints."""

    def __init__(self, processes: int, program: Sequence[str | Path], *flags: str, devices: int = 1):
        launcher = [
            sys.executable,
            "-m",
            "experiments.launch",
            f"--processes={processes}",
            f"--devices={devices}",
            "--",
        ]
        command = [*launcher, sys.executable, *map(str, program), *flags]
        environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
        self.said = ""

    def wait_for(self, words: str) -> None:
        assert self.process.stderr is not None
        while words not in self.said:
            line = self.process.stderr.readline()
            assert line, f"ended without {words!r}: {self.said}"
            self.said += line

    def worker(self, number: int) -> int:
        """The id of one of its processes."""
        ids = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        place = f"JAX_PROCESS_ID={number}".encode()
        return next(int(i) for i in ids if place in Path(f"/proc/{i}/environ").read_bytes().split(b"\0"))

    def end(self) -> int:
        self.said += self.process.communicate()[1]
        return self.process.returncode


def last_step(out: Path) -> int:
    return max(int(path.name) for path in (out / "checkpoints").iterdir() if path.name.isdecimal())
