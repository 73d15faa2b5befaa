"""The time that tracing and compiling the training step takes: `python -m benchmarks.probe SCALE CACHE_FOLDER`."""

import json
import sys
import time

import jax

from benchmarks.cases.training import steps_of
from benchmarks.models import polymnist_run
from benchmarks.scales import SCALES


def main(scale: str, cache: str) -> None:
    """Print the seconds as JSON: the first call less the second is compilation."""
    jax.config.update("jax_compilation_cache_dir", cache)
    call = steps_of(polymnist_run(SCALES[scale], None), 1)
    times = []
    for _ in range(2):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    print(json.dumps({"compile": times[0] - times[1]}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
