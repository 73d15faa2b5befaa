"""Runs in processes of their own, forked from one that has imported everything, which end themselves at a given stage."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from matplotlib.figure import Figure

from mmvae_jax.runs import main, runner
from mmvae_jax.runs.checkpoints import Checkpoints
from mmvae_jax.runs.log import LOG_FILE, RunLog
from tests.runs.own_experiment import EXPERIMENT

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload([__name__])


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def then(function: Callable[..., Any], after: Callable[..., None]) -> Callable[..., Any]:
    """The function, and something with the same arguments after it."""

    def both(*arguments: Any, **options: Any) -> Any:
        result = function(*arguments, **options)
        after(*arguments)
        return result

    return both


def torn_line(log: RunLog, step: int, terms: object) -> None:
    if step == 3:
        for path in Path(sys.argv[1]).glob(LOG_FILE):
            with path.open("a") as file:
                file.write('{"step": 4, "sec')
        die()


def save_in_flight(checkpoints: Checkpoints, state: Any, loss: float) -> None:
    if int(state.step) == 6:
        die()


def half_a_picture(figure: Figure, file: Any) -> None:
    path = Path(file if isinstance(file, os.PathLike) else file.name)
    if path.name == "unconditional.png":
        os.truncate(path, path.stat().st_size // 2)
        die()


def before_the_name(function: Callable[..., None]) -> Callable[..., None]:
    def replace(source: Path, target: Path) -> None:
        if Path(target).name == "report.html":
            die()
        function(source, target)

    return replace


STAGES: dict[str, Callable[[], Any]] = {
    "training": lambda: mock.patch.object(RunLog, "report", then(RunLog.report, torn_line)),
    "saving": lambda: mock.patch.object(Checkpoints, "save", then(Checkpoints.save, save_in_flight)),
    "evaluating": lambda: mock.patch.object(runner, "measure", lambda context: context.classifiers and die()),
    "drawing": lambda: mock.patch.object(Figure, "savefig", then(Figure.savefig, half_a_picture)),
    "reporting": lambda: mock.patch("os.replace", before_the_name(os.replace)),
}


def run(arguments: Sequence[str], folder: Path, stage: str | None = None) -> tuple[int | None, str]:
    """One run: its exit code, negative for a signal, and what it said on stderr."""
    said = folder.with_suffix(".txt")
    process = _FORKS.Process(target=_run, args=([*arguments, f"--out={folder}"], folder, said, stage))
    process.start()
    process.join()
    return process.exitcode, said.read_text()


def _run(arguments: Sequence[str], folder: Path, said: Path, stage: str | None) -> None:
    sys.argv = ["drill", str(folder)]
    os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)  # compiled programs of a cache of their own are damaged here
    with said.open("w") as file:
        os.dup2(file.fileno(), sys.stderr.fileno())
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    with STAGES[stage]() if stage else mock.patch.dict({}):
        code = main(EXPERIMENT, arguments)
    os._exit(code)
