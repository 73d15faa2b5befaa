"""Commands with a folder each, some of them at a time, of which any may fail and all may be killed."""

import fcntl
import math
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tqdm import tqdm

from mmvae_jax.errors import UserError
from mmvae_jax.runs.folder import prepare_folder, read_config, writing
from mmvae_jax.runs.interrupts import Interrupted, Interrupts
from mmvae_jax.runs.log import last_step

OUTPUT_FILE = "output.txt"
_LOCK_FILE = ".job"
_SECONDS_BETWEEN_LOOKS = 0.2
_SECONDS_BETWEEN_LINES = 30.0


@dataclass(frozen=True)
class Job:
    """A command that can be stopped anywhere and started again.

    Attributes:
      name: what it is called in messages.
      folder: of the run; what the command says is kept there.
      command: that does it, or goes on with it.
      done: whether nothing is left to do.
    """

    name: str
    folder: Path
    command: Sequence[str]
    done: Callable[[], bool]


def run_jobs(jobs: Sequence[Job], at_once: int) -> dict[str, str]:
    """Run what is not done, showing progress on stderr; one that fails does not stop the others.

    What an earlier call left running, because it was killed itself, is waited for. SIGINT and SIGTERM are passed on as
    SIGTERM, and raised when all that run have saved what they have.

    Returns:
      The jobs that failed, and of each its last words.

    Raises:
      Interrupted: by a signal.
    """
    failed: dict[str, str] = {}
    waiting = deque(job for job in jobs if not job.done())
    active: list[_Active] = []
    progress = _Progress(len(jobs), len(jobs) - len(waiting))
    told = False
    with Interrupts() as interrupts:
        try:
            while active or (waiting and not told):
                if interrupts.requested and not told:
                    told = True
                    progress.say(f"{interrupts.requested}: waiting until {len(active)} at work have saved")
                    active = [each for each in active if each.process is not None]
                    for each in active:
                        each.terminate()
                while waiting and len(active) < at_once and not told:
                    job = waiting.popleft()
                    try:
                        active.append(_Active(job))
                    except UserError as error:
                        failed[job.name] = str(error)
                        progress.end(f"failed: {job.name}: {error}")
                time.sleep(_SECONDS_BETWEEN_LOOKS)
                for each in [each for each in active if each.ended()]:
                    active.remove(each)
                    if each.job.done():
                        progress.end(f"done: {each.job.name}")
                    elif each.process is None:
                        waiting.appendleft(each.job)
                    elif not told:
                        failed[each.job.name] = each.last_words()
                        progress.end(f"failed: {each.job.name}: {failed[each.job.name]}")
                progress.show(active)
        finally:
            for each in active:
                each.kill()
            progress.close()
    if interrupts.requested:
        raise Interrupted(signal.Signals[interrupts.requested])
    return failed


class _Active:
    """A job at work: as a process of ours, or, where its lock is held, as one that an earlier call has left behind.

    The process inherits the lock and holds it for as long as it lives, whatever becomes of us.
    """

    def __init__(self, job: Job):
        prepare_folder(job.folder)
        self.job = job
        self.process: subprocess.Popen[bytes] | None = None
        self._lock = _locked(job.folder)
        if self._lock is None:
            return
        with writing(job.folder / OUTPUT_FILE), (job.folder / OUTPUT_FILE).open("ab") as output:
            self._start = output.tell()
            # A session of its own: Ctrl-C reaches it through us, as SIGTERM.
            self.process = subprocess.Popen(
                job.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[self._lock.fileno()],
                start_new_session=True,
            )
        self._lock.close()

    def ended(self) -> bool:
        if self.process is not None:
            return self.process.poll() is not None
        lock = _locked(self.job.folder)
        if lock is not None:
            lock.close()
        return lock is not None

    def terminate(self) -> None:
        if self.process is not None:
            self.process.terminate()

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def last_words(self) -> str:
        """The error that it ended with, else the last line that it printed."""
        with (self.job.folder / OUTPUT_FILE).open("rb") as output:
            output.seek(self._start)
            lines = [line for line in output.read().decode(errors="replace").splitlines() if line.strip()]
        errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        code = self.process.returncode if self.process is not None else 0
        ended = f"ended by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return (
            f"{ended}: {(errors or lines or ['nothing said'])[-1].strip()} (all of it: {self.job.folder}/{OUTPUT_FILE})"
        )

    def fraction(self) -> float:
        """How much of its training is done."""
        with suppress(UserError):
            steps = ((read_config(self.job.folder) or {}).get("training") or {}).get("steps") or 0
            return min(1.0, last_step(self.job.folder) / steps) if steps else 0.0
        return 0.0


def _locked(folder: Path) -> IO[bytes] | None:
    """The open lock of a job's folder; None where another process has it."""
    file = (folder / _LOCK_FILE).open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


class _Progress:
    """A bar over all jobs on a terminal, lines now and then elsewhere."""

    def __init__(self, total: int, done: int):
        self._total, self._done, self._begun = total, done, done
        self._started, self._shown = time.monotonic(), -math.inf
        layout = "{l_bar}{bar}| {n:.1f}/{total} [{elapsed}<{remaining}]{postfix}"
        on_terminal = sys.stderr.isatty()
        self._bar = tqdm(total=total, initial=done, bar_format=layout, dynamic_ncols=True) if on_terminal else None
        self.say(f"{total} runs, {done} of them done")

    def say(self, line: str) -> None:
        tqdm.write(line, file=sys.stderr)
        sys.stderr.flush()

    def end(self, line: str) -> None:
        self._done += 1
        self.say(f"[{self._done}/{self._total}] {line}")

    def show(self, active: Sequence[_Active]) -> None:
        now = time.monotonic()
        if now - self._shown < (1.0 if self._bar is not None else _SECONDS_BETWEEN_LINES):
            return
        self._shown = now
        parts = {each.job.name: each.fraction() for each in active}
        reached = self._done + sum(parts.values())
        names = ", ".join(f"{name} {part:.0%}" for name, part in parts.items())
        if self._bar is not None:
            self._bar.set_postfix_str(names, refresh=False)
            self._bar.update(reached - self._bar.n)
        elif reached > self._begun:
            left = (now - self._started) * (self._total - reached) / (reached - self._begun)
            self.say(f"{self._done} of {self._total} done, {tqdm.format_interval(left)} left; trained: {names}")

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
