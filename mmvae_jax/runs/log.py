"""What a run reports while it trains: `log.jsonl`, TensorBoard events and a progress bar."""

import json
import math
import re
import sys
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any, Self

from etils import epath
from jaxtyping import Array, Float
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]
from tensorboardX.summary import scalar
from tqdm import tqdm

from mmvae_jax.runs.folder import in_bucket, write_whole, writing

LOG_FILE = "log.jsonl"
TENSORBOARD_FOLDER = "tensorboard"
SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_FLUSHES = 5.0
_LONGEST_LINE = 2**14


class RunLog:
    """Writes every report of a run to `log.jsonl`, to TensorBoard and to a progress bar on stderr.

    A line of `log.jsonl` is one object: `step`, `seconds` (training time, continued across
    resumes), `examples_per_second` since the line before, and the reported terms; a value that is
    not finite is null. On resume, lines past `start_step` (and one torn by a kill) are dropped:
    the run repeats those steps. A context manager.

    Args:
      folder: the run's folder.
      total_steps: the step at which training ends.
      start_step: the step at which it starts, 0 for a fresh run.
      batch_size: examples a step.
      show_progress: a bar on a terminal; elsewhere a line every ten seconds at most.

    Raises:
      UserError: when nothing can be written there.
    """

    def __init__(
        self,
        folder: epath.PathLike,
        total_steps: int,
        start_step: int,
        batch_size: int,
        show_progress: bool = True,
    ):
        folder = epath.Path(folder)
        kept = [row for row in read_log(folder) if row["step"] <= start_step]
        write_whole(folder / LOG_FILE, "".join(json.dumps(row) + "\n" for row in kept))
        if start_step == 0:
            (folder / TENSORBOARD_FOLDER).rmtree(missing_ok=True)
        self._batch_size = batch_size
        self._seconds_before = kept[-1]["seconds"] if kept else 0.0
        self._started = self._reported = time.monotonic()
        self._step = start_step
        self._folder = folder
        self._open = ExitStack()
        with writing(folder / LOG_FILE):
            self._lines = _InBucket(folder / LOG_FILE) if in_bucket(folder) else _Lines(folder / LOG_FILE)
        self._open.callback(self._lines.close)
        with writing(folder / TENSORBOARD_FOLDER):
            self._events = _Events(folder / TENSORBOARD_FOLDER, start_step)
        self._open.callback(self._events.close)
        self._progress = _Progress(total_steps, start_step, show_progress)
        self._open.callback(self._progress.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def seconds(self) -> float:
        """Training time in seconds so far, earlier parts of a resumed run included."""
        return self._seconds_before + time.monotonic() - self._started

    def report(self, step: int, terms: Mapping[str, float | Float[Array, ""]]) -> None:
        """Records the terms (loss in nats, its parts, learning rate ...) after `step` steps.

        Raises:
          ValueError: when `step` is not past the step of the report before.
          UserError: when it cannot be written.
        """
        if step <= self._step:
            raise ValueError(f"report of step {step} after step {self._step}: steps must increase")
        values = {name: float(value) for name, value in terms.items()}
        now = time.monotonic()
        rate = (step - self._step) * self._batch_size / max(now - self._reported, 1e-9)
        row = {"step": step, "seconds": self.seconds, "examples_per_second": rate, **values}
        with writing(self._folder / LOG_FILE):
            self._lines.write(_line(row))
        with writing(self._folder / TENSORBOARD_FOLDER):
            self._events.write(step, {**values, "examples_per_second": rate})
        self._progress.show(step, values.get("loss", math.nan), rate)
        self._step, self._reported = step, now

    def close(self) -> None:
        """Flushes and closes the log, the events and the bar.

        Raises:
          UserError: when the rest cannot be written.
        """
        with writing(self._folder / TENSORBOARD_FOLDER):
            self._open.close()


def read_log(folder: epath.PathLike) -> list[dict[str, Any]]:
    """The rows of a run's `log.jsonl`, steps strictly increasing, without torn lines."""
    return _increasing(_rows(epath.Path(folder) / LOG_FILE))


def last_step(folder: epath.PathLike) -> int:
    """The step of the last whole line of a run's `log.jsonl`, of which only the end is read; 0 where there is none."""
    path = epath.Path(folder) / LOG_FILE
    if not path.exists():
        return 0
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - _LONGEST_LINE))
        steps = re.findall(rb'^{"step": (\d+),.*}$', file.read(), re.MULTILINE)
    return int(steps[-1]) if steps else 0


def _increasing(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The longest sequence of rows whose steps increase: a damaged step costs its own row, and no other."""
    steps: list[int] = []
    chains: list[Any] = []
    for row in rows:
        length = bisect_left(steps, row["step"])
        steps[length : length + 1] = [row["step"]]
        chains[length : length + 1] = [(row, chains[length - 1] if length else None)]
    found, chain = [], chains[-1] if chains else None
    while chain is not None:
        row, chain = chain
        found.append(row)
    return found[::-1]


def _rows(path: epath.Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    for line in path.read_bytes().decode(errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if not isinstance(row, dict):
            continue
        step, seconds = row.get("step"), row.get("seconds")
        if isinstance(step, int) and isinstance(seconds, float | int) and seconds > 0:
            yield row


def _line(row: Mapping[str, float]) -> str:
    finite = {name: value if math.isfinite(value) else None for name, value in row.items()}
    return json.dumps(finite, allow_nan=False) + "\n"


class _Lines:
    """A file to which lines are added, each on disk at once."""

    def __init__(self, path: epath.Path):
        self._file = path.open("a", encoding="utf-8")

    def write(self, line: str) -> None:
        """Adds a line."""
        self._file.write(line)
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class _InBucket:
    """The same in a bucket, where a file cannot be added to: it is written anew, every few seconds and in the end."""

    def __init__(self, path: epath.Path):
        self._path, self._text, self._written = path, path.read_text(), time.monotonic()

    def write(self, line: str) -> None:
        """Adds a line."""
        self._text += line
        if time.monotonic() - self._written >= _SECONDS_BETWEEN_FLUSHES:
            self.close()

    def close(self) -> None:
        """Writes what is left."""
        write_whole(self._path, self._text)
        self._written = time.monotonic()


class _Events:
    """TensorBoard events, written at once: tensorboardX's own writer leaves that to a thread that a full disk ends."""

    def __init__(self, folder: epath.Path, start_step: int):
        folder.mkdir(parents=True, exist_ok=True)
        self._writer = EventsWriter(str(folder / "events"))
        self._flushed = time.monotonic()
        if start_step:
            self._add(start_step + 1, session_log=SessionLog(status=SessionLog.START))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Scalars under their names."""
        for name, value in values.items():
            self._add(step, summary=scalar(name, value))
        if time.monotonic() - self._flushed >= _SECONDS_BETWEEN_FLUSHES:
            self._writer.flush()
            self._flushed = time.monotonic()

    def _add(self, step: int, **content: Any) -> None:
        self._writer.write_event(Event(wall_time=time.time(), step=step, **content))

    def close(self) -> None:
        """Writes what is left."""
        self._writer.close()


class _Progress:
    """A tqdm bar on a terminal, a line now and then where stderr is a file or a pipe."""

    def __init__(self, total_steps: int, start_step: int, enabled: bool):
        self._total = total_steps
        self._start = start_step
        self._started = time.monotonic()
        self._enabled = enabled
        self._printed = -math.inf
        on_terminal = enabled and sys.stderr.isatty()
        self._bar = (
            tqdm(total=total_steps, initial=start_step, unit="step", dynamic_ncols=True) if on_terminal else None
        )

    def show(self, step: int, loss: float, examples_per_second: float) -> None:
        """Moves on to `step`."""
        if self._bar is not None:
            self._bar.set_postfix_str(f"loss {loss:.4g}, {examples_per_second:.0f} examples/s", refresh=False)
            self._bar.update(step - self._bar.n)
            return
        now = time.monotonic()
        due = now - self._printed >= SECONDS_BETWEEN_LINES or step == self._total
        if self._enabled and due:
            self._printed = now
            left = (now - self._started) * (self._total - step) / (step - self._start)
            print(
                f"step {step}/{self._total}, loss {loss:.4g}, "
                f"{examples_per_second:.0f} examples/s, {tqdm.format_interval(left)} left",
                file=sys.stderr,
                flush=True,
            )

    def close(self) -> None:
        """Leaves the finished bar on the terminal."""
        if self._bar is not None:
            self._bar.close()
