"""Several processes, one a host or more: how they find each other, agree, and end when one of them is lost."""

import importlib.util
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec

from mmvae_jax.errors import UserError, one_line
from mmvae_jax.rollcall import call_roll
from mmvae_jax.sharding import AXES, device_mesh, whole

# A host that says nothing for so long is taken for lost; JAX's own default is longer than most patience.
_HEARTBEAT_SECONDS = 30
_MAX_MESSAGE = 4000
_SECONDS_TO_GO_FIRST = 5
# By so much JAX waits longer than we do: where others are missing it ends a process with a stack trace.
_SECONDS_LONGER = 60
# What the collectives of CPUs, the coordination service and barriers say of a peer that has gone.
_SIGNS_OF_LOSS = ("Gloo", "Connection", "UNAVAILABLE", "heartbeat", "DEADLINE_EXCEEDED", "barrier", "CANCELLED")
_VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")


def _several(name: str) -> Callable[[Mapping[str, str]], bool]:
    """Whether a variable says that there are several processes."""
    return lambda environment: environment.get(name, "").isdecimal() and int(environment[name]) > 1


def _on_tpu(environment: Mapping[str, str]) -> bool:
    """Whether this is a machine with TPUs; JAX finds out with how many others, one alone among them."""
    chips = any(Path("/dev").glob("accel*")) or any(Path("/dev/vfio").glob("[0-9]*"))
    return chips and importlib.util.find_spec("libtpu") is not None and "TPU_SKIP_MDS_QUERY" not in environment


# Managers that JAX asks itself for place and number of processes.
_MANAGERS: dict[str, Callable[[Mapping[str, str]], bool]] = {
    "Slurm": _several("SLURM_NTASKS"),
    "Open MPI": _several("OMPI_COMM_WORLD_SIZE"),
    "Kubernetes": lambda environment: {"KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX"} <= environment.keys(),
    "a TPU pod": _on_tpu,
}


class Place(NamedTuple):
    """A process among others: where the first one listens, its own number, and how many there are."""

    address: str
    process: int
    count: int


def announced(environment: Mapping[str, str]) -> Place | str | None:
    """What a launcher says to its processes.

    Returns:
      A place by JAX's variables; the name of a manager that JAX asks itself; None where a process is on its own.

    Raises:
      UserError: for half of JAX's variables.
    """
    manager = next((name for name, present in _MANAGERS.items() if present(environment)), None)
    address, count, process = (environment.get(name, "") for name in _VARIABLES)
    if not address or (manager and not (count or process)):
        return manager
    missing = [name for name, value in zip(_VARIABLES, (address, count, process), strict=True) if not value]
    if missing:
        needed = f"{' and '.join(missing)}: set all of them, or --distributed=HOST:PORT,ID,COUNT"
        raise UserError(f"{_VARIABLES[0]}={address} without {needed}")
    return place(f"{address},{process},{count}")


def place(text: str) -> Place:
    """`HOST:PORT,ID,COUNT` as a place.

    Raises:
      UserError: for anything else.
    """
    address, _, numbers = text.partition(",")
    process, _, count = numbers.partition(",")
    host, _, port = address.rpartition(":")
    if not host or not all(number.isdecimal() for number in (port, process, count)):
        raise UserError(f"distributed={text!r}: give auto, off or HOST:PORT,ID,COUNT, such as 10.0.0.1:8476,0,4")
    if not int(process) < int(count):
        raise UserError(f"distributed={text!r}: process {process} of {count}; give an ID from 0 to {int(count) - 1}")
    return Place(address, int(process), int(count))


def join(distributed: str = "auto", timeout: int = 120) -> None:
    """Join the other processes of a pod or cluster; call it before any computation.

    Args:
      distributed: `auto`, as the launcher has announced (JAX's variables, TPU pods, Slurm, Open MPI, Kubernetes; a
        process on its own otherwise), `off`, or `HOST:PORT,ID,COUNT`: where process 0 can be reached, which process
        this is, and how many there are.
      timeout: seconds to wait for the others.

    Raises:
      UserError: when they cannot be joined, saying who is missing.
    """
    if distributed == "off":
        return
    found = announced(os.environ) if distributed == "auto" else place(distributed)
    if found is None or (isinstance(found, Place) and found.count == 1):
        return
    # Its handler of SIGTERM would take the place of ours.
    jax.config.update("jax_enable_preemption_service", False)
    initialize = partial(jax.distributed.initialize, heartbeat_timeout_seconds=_HEARTBEAT_SECONDS)
    if isinstance(found, Place):
        call_roll(found.address, found.process, found.count, timeout)
        initialize(
            found.address,
            found.count,
            found.process,
            cluster_detection_method="deactivate",
            initialization_timeout=timeout,
        )
        _connect()
        return
    remedy = "give --distributed=HOST:PORT,ID,COUNT, or --distributed=off"
    late = f"processes started by {found} did not all come within {timeout} s: {remedy}"
    patience = threading.Timer(timeout, _give_up, (late,))
    patience.start()
    try:
        initialize(initialization_timeout=timeout + _SECONDS_LONGER)
        _connect()
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        raise UserError(f"processes started by {found} do not find each other ({one_line(error)}): {remedy}") from error
    finally:
        patience.cancel()


def _give_up(line: str) -> NoReturn:
    """End a process that waits inside JAX, where no exception reaches it, as a user's mistake does."""
    print(f"error: {line}", file=sys.stderr, flush=True)
    os._exit(2)


def _connect() -> None:
    """The first collectives, while all processes are in step.

    On CPUs they make connections for which nobody waits longer than half a minute: too short where one host reads its
    data more slowly than another. Those that follow wait as long as it takes.
    """
    wait_for_all("joined")
    sharding = NamedSharding(device_mesh(), PartitionSpec(AXES))
    ones = jax.make_array_from_callback((jax.device_count(),), sharding, lambda index: np.ones(1))
    whole(ones)


def first_process() -> bool:
    """Whether this is the process that prints and writes."""
    return jax.process_index() == 0


def said_by_first(report: Callable[[str], None]) -> Callable[[str], None]:
    """`report` in the first process; in all others what takes a line and says nothing."""
    return report if first_process() else lambda line: None


def agreed(*, stop: bool, save: bool) -> tuple[bool, bool]:
    """The same decisions on all hosts: to stop if any wants to, to save if the first one does."""
    if jax.process_count() == 1:
        return stop, save
    wishes = np.asarray(multihost_utils.process_allgather(np.array([stop, save])))
    return bool(wishes[:, 0].any()), bool(wishes[0, 1])


def by_first(work: Callable[[], object]) -> None:
    """Process 0 does something for all; its mistake is everyone's.

    Raises:
      UserError: on all hosts, where it did on the first.
    """
    problem = ""
    if first_process():
        try:
            work()
        except UserError as error:
            problem = str(error)
    if jax.process_count() > 1:
        told = np.zeros(_MAX_MESSAGE, np.uint8)
        said = problem.encode()[:_MAX_MESSAGE]
        told[: len(said)] = np.frombuffer(said, np.uint8)
        problem = bytes(np.asarray(multihost_utils.broadcast_one_to_all(told))).rstrip(b"\0").decode(errors="replace")
    if problem:
        raise UserError(problem)


def wait_for_all(what: str) -> None:
    """Returns when all hosts have got here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


def joined() -> bool:
    """Whether this process is one of several."""
    return jax.distributed.is_initialized()


def lost(error: Exception) -> str:
    """What an error means in a process that is one of several."""
    what = one_line(error)
    if isinstance(error, jax.errors.JaxRuntimeError) and any(word in str(error) for word in _SIGNS_OF_LOSS):
        return f"process {jax.process_index()} lost another process of this run ({what})"
    return f"process {jax.process_index()} failed ({type(error).__name__}: {what})"


def leave(code: int) -> NoReturn:
    """End this process without the farewell for which JAX would wait for the others.

    The first one goes last: with it goes what connects the others, which JAX then ends with a stack trace.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    if first_process():
        time.sleep(_SECONDS_TO_GO_FIRST)
    os._exit(code)
