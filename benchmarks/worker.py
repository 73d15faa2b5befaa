"""One benchmark in this process, so that its memory is its own: `python -m benchmarks.worker` (called by `run`)."""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.catalogue import ENTRIES
from benchmarks.measure import Work, peak_memory_mib, sample
from benchmarks.peer_process import PeerProcess
from benchmarks.scales import SCALES


def measured(name: str, scale: str, data: str | None, repeats: int, budget: float, peer: str | None) -> dict[str, Any]:
    """A row of the results."""
    entry = ENTRIES[name]
    start = time.perf_counter()
    case = entry.load()
    before = peak_memory_mib()
    work: Work = case(SCALES[scale], data, *entry.arguments)
    row: dict[str, Any] = {"name": name, "about": entry.about, "scale": scale, "unit": work.unit}
    row["setup_seconds"] = time.perf_counter() - start
    # An arithmetic limit needs JAX, which the cases of fresh processes must not import here.
    speeds = [_matmul_speed()] if work.flops else []
    row |= _sampled(work, repeats, budget, peer)
    row["imports_mib"] = before
    if work.flops:
        speed = max(*speeds, _matmul_speed())
        limit = work.flops / speed
        row |= {"flops": work.flops, "matmul_gflops": speed / 1e9, "limit_seconds": limit}
        row["times_limit"] = row["median"] / limit
    work.finish()
    return {**row, "notes": work.notes}


def _sampled(work: Work, repeats: int, budget: float, peer: str | None) -> dict[str, Any]:
    if peer is None or work.peer is None:
        found = sample(work, repeats, budget).summary() | {"peak_mib": peak_memory_mib()}
        return found if work.rival is None else {**found, "against": work.rival_name}
    with PeerProcess(peer) as process:
        process.prepare(work.peer)
        found = sample(replace(work, rival=process.run), repeats, budget).summary()
        # Asked before the peer ends: from then on it counts among this process's children.
        found |= {"peak_mib": peak_memory_mib(), "against": "MultiVae 1.0.3"}
        if work.compare is not None:
            work.compare(process.notes)
        found["rival"] |= {"peak_mib": process.peak_mib, **process.about}
    return found


def _matmul_speed() -> float:
    from benchmarks.limits import matmul_flops_per_second

    return matmul_flops_per_second()


def main() -> None:
    """Measure and write the row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=ENTRIES)
    parser.add_argument("--scale", choices=SCALES, default="full")
    parser.add_argument("--data")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--budget", type=float, default=90.0)
    parser.add_argument("--peer")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    row = measured(given.name, given.scale, given.data, given.repeats, given.budget, given.peer)
    given.out.write_text(json.dumps(row))


if __name__ == "__main__":
    main()
