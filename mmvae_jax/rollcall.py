"""Whether all processes of a launch are there, found out before JAX connects them.

Where one is missing or comes twice, JAX ends every process with a stack trace after its timeout and names none. Here
process 0 listens first, at the port that JAX will use, all others tell it who they are, and all hear what is wrong.
"""

import socket
import time
from collections.abc import Iterable

from mmvae_jax.errors import UserError

_SECONDS_BETWEEN_TRIES = 0.2
_SHORTEST_WAIT = 0.001
_PATIENCE = 5.0
_MAX_LINE = 1000
_ALL_HERE = "all here"


def call_roll(address: str, process: int, count: int, timeout: float) -> None:
    """Returns when all processes are there.

    Args:
      address: HOST:PORT of process 0.
      process: which one this is.
      count: how many there are.
      timeout: seconds to wait for them.

    Raises:
      UserError: one is missing, comes twice or counts differently, or the address cannot be used; in all processes that
        are there.
    """
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + timeout
    if process:
        verdict = _report(host.strip("[]"), int(port), f"{process} {count}", deadline)
        if not verdict:
            raise UserError(f"no answer from {address} within {timeout:g} s: start process 0 there, its port open")
    else:
        verdict = _listen(int(port), count, deadline, timeout)
    if verdict != _ALL_HERE:
        raise UserError(verdict)


def _listen(port: int, count: int, deadline: float, timeout: float) -> str:
    """Process 0's part: what all are told."""
    try:
        both = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if both else socket.AF_INET
        server = socket.create_server(("", port), family=family, backlog=count, dualstack_ipv6=both)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"process 0 cannot listen at port {port}: {reason}; choose another in HOST:PORT") from None
    callers: list[socket.socket] = []
    here: set[int] = set()
    with server:
        verdict = ""
        while not verdict:
            try:
                callers.append(_next_caller(server, deadline))
            except TimeoutError:
                missing = ", ".join(str(i) for i in range(1, count) if i not in here)
                verdict = f"of {count} processes {missing} did not come within {timeout:g} s: start every ID once"
                break
            try:
                words = _line(callers[-1]).split()
            except OSError:  # a stranger, who says nothing or has gone
                continue
            if len(words) == 2 and all(word.isdecimal() for word in words):
                verdict = _entered(int(words[0]), int(words[1]), here, count)
    _tell(callers, verdict)
    return verdict


def _next_caller(server: socket.socket, deadline: float) -> socket.socket:
    server.settimeout(max(deadline - time.monotonic(), _SHORTEST_WAIT))
    caller, _ = server.accept()
    caller.settimeout(min(max(deadline - time.monotonic(), _SHORTEST_WAIT), _PATIENCE))
    return caller


def _entered(process: int, told: int, here: set[int], count: int) -> str:
    """The verdict after one more process has come; "" while some are missing."""
    if told != count:
        return f"process 0 was told of {count} processes, number {process} of {told}: give all the same COUNT"
    if process in here or not 0 < process < count:
        return f"two processes have number {process} of {count}: give each an ID of its own"
    here.add(process)
    return _ALL_HERE if len(here) == count - 1 else ""


def _tell(callers: Iterable[socket.socket], verdict: str) -> None:
    for caller in callers:
        with caller:
            try:
                caller.sendall(f"{verdict}\n".encode())
            except OSError:
                continue


def _report(host: str, port: int, line: str, deadline: float) -> str:
    """Another process's part: what process 0 says; "" if it does not answer in time."""
    while time.monotonic() < deadline:
        try:
            left = max(deadline - time.monotonic(), _SHORTEST_WAIT)
            with socket.create_connection((host, port), timeout=left) as caller:
                # Process 0 gives up at about the same time, and knows more.
                caller.settimeout(left + _PATIENCE)
                caller.sendall(f"{line}\n".encode())
                if verdict := _line(caller):
                    return verdict
        except OSError:
            pass
        time.sleep(_SECONDS_BETWEEN_TRIES)
    return ""


def _line(caller: socket.socket) -> str:
    with caller.makefile("rb") as file:
        return file.readline(_MAX_LINE).decode(errors="replace").strip()
