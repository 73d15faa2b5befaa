"""What a run reports while it trains: `log.jsonl`, TensorBoard events and a progress bar."""

import json
import math
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any, Self

from etils import epath
from jaxtyping import Array, Float
from tensorboardX import SummaryWriter
from tqdm import tqdm

from mmvae_jax.runs.folder import write_whole

LOG_FILE = "log.jsonl"
TENSORBOARD_FOLDER = "tensorboard"
SECONDS_BETWEEN_LINES = 10.0


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
        self._file = (folder / LOG_FILE).open("a", encoding="utf-8")
        self._events = SummaryWriter(
            str(folder / TENSORBOARD_FOLDER),
            purge_step=start_step + 1 if start_step else None,
            flush_secs=5,
        )
        self._progress = _Progress(total_steps, start_step, show_progress)

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
        """
        if step <= self._step:
            raise ValueError(f"report of step {step} after step {self._step}: steps must increase")
        values = {name: float(value) for name, value in terms.items()}
        now = time.monotonic()
        rate = (step - self._step) * self._batch_size / max(now - self._reported, 1e-9)
        row = {"step": step, "seconds": self.seconds, "examples_per_second": rate, **values}
        self._file.write(_line(row))
        self._file.flush()
        for name, value in {**values, "examples_per_second": rate}.items():
            self._events.add_scalar(name, value, step)
        self._progress.show(step, values.get("loss", math.nan), rate)
        self._step, self._reported = step, now

    def close(self) -> None:
        """Flushes and closes the log, the events and the bar."""
        self._progress.close()
        self._events.close()
        self._file.close()


def read_log(folder: epath.PathLike) -> list[dict[str, Any]]:
    """The rows of a run's `log.jsonl`, steps strictly increasing, without torn lines."""
    rows: list[dict[str, Any]] = []
    for row in _rows(epath.Path(folder) / LOG_FILE):
        if not rows or row["step"] > rows[-1]["step"]:
            rows.append(row)
    return rows


def _rows(path: epath.Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    for line in path.read_bytes().decode(errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and row.keys() >= {"step", "seconds"}:
            yield row


def _line(row: Mapping[str, float]) -> str:
    finite = {name: value if math.isfinite(value) else None for name, value in row.items()}
    return json.dumps(finite, allow_nan=False) + "\n"


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
