"""Kills of a whole sweep at random moments, each time started again by the same command; then its table, compared.

    python -m tests.faults.sweeps --seeds=2 --betas=3 --kills=5      # of 2 models: 12 runs

A kill is SIGKILL of the sweep alone, whose runs live on, or of all its processes, SIGTERM or SIGINT. Not collected by pytest.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
KINDS = ("SIGKILL", "SIGKILL of all", "SIGTERM", "SIGINT")


class Swept:
    """A sweep's folder, and the command that starts it and goes on with it."""

    def __init__(self, folder: Path, cache: Path, *flags: str):
        self.command = [sys.executable, "-m", "experiments.sweep", "tests/runs/own_experiment.py", f"--out={folder}"]
        self.command += [*flags, f"--cache={cache}"]
        self.folder, self._output = folder, folder.with_suffix(".txt")

    def start(self) -> subprocess.Popen[bytes]:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
        with self._output.open("ab") as output:
            return subprocess.Popen(self.command, cwd=ROOT, env=environment, stdout=output, stderr=output)

    def said(self) -> str:
        return self._output.read_text()

    def table(self) -> str:
        return (self.folder / "comparison.md").read_text()


def kill_tree(pid: int) -> None:
    """SIGKILL to a process and all that it has started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    os.kill(pid, signal.SIGKILL)
    for child in children:
        os.kill(int(child), signal.SIGKILL)


def without_times(table: str) -> list[str]:
    """The rows of a table, apart from how long training took, and the widths of its columns."""
    rows = [line for line in table.splitlines() if not line.startswith(("| Training, s", "|-"))]
    return [" ".join(row.split()) for row in rows]


def main() -> None:
    """Kill, start again, compare, and print what happened."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for flag, default in (("--seeds", 2), ("--betas", 3), ("--kills", 5), ("--seed", 0), ("--steps", 400)):
        parser.add_argument(flag, type=int, default=default)
    given = parser.parse_args()
    draw = random.Random(given.seed)
    # A shell's background commands, and what they start, would ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    betas = ",".join(str(beta) for beta in range(1, given.betas + 1))
    flags = [f"--seeds={given.seeds}", "--model=poe,moe", f"--beta={betas}", "--jobs=2"]
    flags += ["--", f"--steps={given.steps}", "--every-steps=20"]
    with tempfile.TemporaryDirectory() as name:
        alone, killed = (Swept(Path(name) / folder, Path(name) / "cache", *flags) for folder in ("alone", "killed"))
        started = time.monotonic()
        if code := alone.start().wait():
            raise SystemExit(f"exit code {code}:\n{alone.said()[-2000:]}")
        seconds = time.monotonic() - started
        print(f"left alone: {seconds:.0f} s\n{alone.table()}", flush=True)
        kills = 0
        while True:
            process, begun = killed.start(), time.monotonic()
            until = (
                begun + draw.uniform(0.05, 1.0) * seconds / (given.kills + 1) if kills < given.kills else float("inf")
            )
            while process.poll() is None and time.monotonic() < until:
                time.sleep(0.05)
            if process.poll() is not None:
                break
            kind, kills = draw.choice(KINDS), kills + 1
            if kind == "SIGKILL of all":
                kill_tree(process.pid)
            else:
                process.send_signal(signal.Signals[kind])
            reports = len(list(killed.folder.glob("*/report.html")))
            code = process.wait()
            print(
                f"kill {kills}: {kind} after {until - begun:.0f} s, {reports} runs done, exit code {code}", flush=True
            )
        ended = {path.parent.name: path.read_text() for path in killed.folder.glob("*/output.txt")}
        twice = [run for run, said in ended.items() if said.count("report.html") != 1]
        broken = [run for run, said in ended.items() if "Traceback" in said or "cannot be read" in said]
        same = without_times(alone.table()) == without_times(killed.table())
        print(f"{kills} kills; last exit code {process.returncode}; {len(ended)} runs")
        print(f"reports written more than once, or never: {twice or 'none'}; tracebacks: {broken or 'none'}")
        print(f"the same table as left alone: {'yes' if same else 'no'}")
        sys.exit(0 if same and not twice and not broken and process.returncode == 0 else 1)


if __name__ == "__main__":
    main()
