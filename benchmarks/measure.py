"""One measurement: what to time, against what, how often; and the memory it takes. Imports no JAX."""

import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Call = Callable[[], float | None]
MIN_REPEATS = 3


@dataclass
class Work:
    """What a case hands over to be measured.

    Attributes:
      call: does the work once, waiting for its end; may return its own time in seconds instead of being timed.
      unit: of what `per` counts, for example step.
      per: how many units one call does.
      flops: floating-point operations a unit takes, matrix products only; 0 where arithmetic is not the limit.
      rival: the same number of units done another way, alternating with `call`.
      rival_name: who.
      peer: the job that MultiVae does in turn (see `peer.py`), if it is asked to.
      notes: further numbers for the JSON, filled in by the case or while it runs.
      compare: called with the peer's notes on its job, to enter in `notes` how far its numbers are from ours.
      finish: called after the last measurement.
    """

    call: Call
    unit: str = "call"
    per: float = 1.0
    flops: float = 0.0
    rival: Call | None = None
    rival_name: str = ""
    peer: Mapping[str, Any] | None = None
    notes: dict[str, Any] = field(default_factory=dict)
    compare: Callable[[Mapping[str, Any]], None] | None = None
    finish: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Samples:
    """Seconds a unit, one entry a repeat; `rival` is empty without one; `first` is the warm-up, with compilation."""

    ours: list[float]
    rival: list[float]
    first: float

    def summary(self) -> dict[str, Any]:
        """Medians and extremes, and the median of the paired ratios."""
        found: dict[str, Any] = {**spread(self.ours), "first": self.first, "samples": self.ours}
        if self.rival:
            ratios = [ours / rival for ours, rival in zip(self.ours, self.rival, strict=True)]
            found["rival"] = {**spread(self.rival), "samples": self.rival}
            found["ratio"] = statistics.median(ratios)
            found["ratios"] = ratios
        return found


def spread(values: list[float]) -> dict[str, float]:
    """Median, minimum and maximum."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def sample(work: Work, repeats: int, budget: float) -> Samples:
    """Warm up, then measure: ours and the rival's in turn, the order changing every time.

    Args:
      work: what to measure.
      repeats: measurements of each.
      budget: seconds after which no further repeat starts, once there are three.
    """
    calls = [work.call] if work.rival is None else [work.call, work.rival]
    first = [_seconds(call) / work.per for call in calls][0]
    times: list[list[float]] = [[] for _ in calls]
    start = time.perf_counter()
    for repeat in range(repeats):
        if repeat >= MIN_REPEATS and time.perf_counter() - start > budget:
            break
        turn = list(range(len(calls)))
        for i in turn if repeat % 2 == 0 else reversed(turn):
            times[i].append(_seconds(calls[i]) / work.per)
    return Samples(times[0], times[1] if len(times) > 1 else [], first)


def _seconds(call: Call) -> float:
    start = time.perf_counter()
    own = call()
    return time.perf_counter() - start if own is None else own


def peak_memory_mib() -> float:
    """The largest resident set that this process, or any child that has ended, has had."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / unit
    status = Path("/proc/self/status")
    if not status.exists():
        return max(children, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)
    # Linux lets ru_maxrss start at the parent's size; VmHWM is of this program alone.
    own = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return max(children, int(own.split()[1]) / 2**10)
