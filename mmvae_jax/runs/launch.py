"""Several processes of one command on this machine, as the hosts of a pod or cluster would run them."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

from mmvae_jax.errors import UserError
from mmvae_jax.runs.command import exit_code, program
from mmvae_jax.runs.config import settings

# What the others get to end by themselves when one has ended, and after SIGTERM.
_SECONDS_TO_END = 60.0
_SECONDS_TO_OBEY = 20.0
# When a signal has ended one, no other can finish: some notice it themselves, some wait until JAX takes it for lost.
_SECONDS_AFTER_A_LOSS = 15.0
_SECONDS_BETWEEN_LOOKS = 0.1
_KEPT_LINES = 50
# What XLA's collectives print when they have found each other, and the stack traces of its coordination service.
_NOISE = re.compile(r"\[Gloo\] Rank|\*\*\* Check failure stack trace|\s+@ +0x")


@dataclass(frozen=True)
class Launch:
    """Several processes of one command on this machine.

    Attributes:
      processes: how many.
      devices: CPU devices of each, virtual ones; 0: those that it finds.
    """

    processes: int = 2
    devices: int = 0

    def __post_init__(self) -> None:
        if self.processes < 1:
            raise UserError(f"processes={self.processes}: give a whole number of at least 1")
        if self.devices < 0:
            raise UserError(f"devices={self.devices}: give a whole number of at least 0")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `--processes=N -- command ...`; the exit code is the worst of the processes'."""
    codes: list[int] = []

    def work() -> None:
        given = list(sys.argv[1:] if arguments is None else arguments)
        flags, command = (given[: given.index("--")], given[given.index("--") + 1 :]) if "--" in given else (given, [])
        launch = settings(Launch, Launch(), program(), flags)
        if not command:
            raise UserError(f"no command: {program()} --processes=N -- python -m experiments.polymnist ...")
        codes.append(launched(launch, command))

    return exit_code(work) or max(codes, default=0)


def launched(launch: Launch, command: Sequence[str]) -> int:
    """Run a command's processes to their end, passing SIGINT and SIGTERM on to them.

    Returns:
      The worst of their exit codes, 128 and the signal's number for a process that a signal ended.
    """
    address = f"127.0.0.1:{_free_port()}"
    if shutil.which(command[0]) is None:
        raise UserError(f"no program {command[0]!r}: give a command after --")
    workers = [_Worker(command, launch, address, number) for number in range(launch.processes)]

    def pass_on(number: int, frame: FrameType | None) -> None:
        for worker in workers:
            worker.process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        lost = _wait(workers)
    finally:
        for worker in workers:
            worker.process.kill()
            worker.finish()
        for number, handler in before.items():
            signal.signal(number, handler)
    shown = set(workers[0].lines)
    # Where one was lost the others' last words are JAX's stack traces.
    for worker in workers[1:] if lost is None else [lost]:
        for line in worker.lines:
            if line not in shown:
                print(f"[process {worker.number}] {line}", file=sys.stderr, end="")
    for worker in workers if lost is None else ():
        if worker.process.returncode < 0:
            print(f"[process {worker.number}] ended by {worker.signal}", file=sys.stderr)
    return max(worker.code for worker in workers)


class _Worker:
    """A process and what it says: the first one's lines are shown as they come, the others' last ones kept."""

    def __init__(self, command: Sequence[str], launch: Launch, address: str, number: int):
        environment = os.environ | {
            "JAX_COORDINATOR_ADDRESS": address,
            "JAX_NUM_PROCESSES": str(launch.processes),
            "JAX_PROCESS_ID": str(number),
        }
        if launch.devices:
            environment["JAX_NUM_CPU_DEVICES"] = str(launch.devices)
        self.number = number
        self.lines: deque[str] = deque(maxlen=_KEPT_LINES)
        # A session of its own: Ctrl-C reaches it once, through us.
        self.process = subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        streams = ((self.process.stdout, sys.stdout), (self.process.stderr, sys.stderr))
        self._threads = [threading.Thread(target=self._read, args=pair, daemon=True) for pair in streams]
        for thread in self._threads:
            thread.start()

    def _read(self, source: Any, target: Any) -> None:
        for line in source:
            if _NOISE.match(line):
                continue
            self.lines.append(line)
            if self.number == 0:
                target.write(line)
                target.flush()

    @property
    def runs(self) -> bool:
        return self.process.poll() is None

    @property
    def code(self) -> int:
        """As a shell gives it."""
        code = self.process.returncode
        return code if code >= 0 else 128 - code

    @property
    def signal(self) -> str:
        """The name of the signal that ended it."""
        return signal.Signals(-self.process.returncode).name

    def finish(self) -> None:
        """Waits for the end of the process and of what it says."""
        self.process.wait()
        for thread in self._threads:
            thread.join()


def _wait(workers: Sequence[_Worker]) -> _Worker | None:
    """Until all have ended, or have had time to after the first did.

    Returns:
      The first to end, if a signal ended it; that is told of at once.
    """
    while all(worker.runs for worker in workers):
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    lost = next((worker for worker in workers if not worker.runs and worker.process.returncode < 0), None)
    if lost is not None:
        line = f"error: process {lost.number} was ended by {lost.signal}; the same command goes on from what is saved"
        print(line, file=sys.stderr)
        _give(_SECONDS_AFTER_A_LOSS, workers)
        return lost
    _give(_SECONDS_TO_END, workers)
    for worker in workers:
        worker.process.terminate()
    _give(_SECONDS_TO_OBEY, workers)
    return None


def _give(seconds: float, workers: Sequence[_Worker]) -> None:
    """Time to end in."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(worker.runs for worker in workers):
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]
