"""What all commands have in common: the name that was typed, and an end in one line after a mistake or a signal."""

import sys
from collections.abc import Callable
from pathlib import Path

from mmvae_jax import hosts
from mmvae_jax.errors import UserError
from mmvae_jax.runs.interrupts import Interrupted, Interrupts


def program() -> str:
    """The command as it was typed, up to the arguments that are left in `sys.argv`.

    `python -m experiments.polymnist`, `python my_experiment.py`, or `mmvae polymnist` for an installed script.
    """
    interpreter, *words = sys.orig_argv[: len(sys.orig_argv) - len(sys.argv[1:])]
    installed = bool(words) and not words[0].startswith("-") and not words[0].endswith(".py")
    first, *rest = words if installed else (interpreter, *words)
    return " ".join((Path(first).name, *rest))


def exit_code(work: Callable[[], object]) -> int:
    """Do the work of a command, which a user's mistake or a signal ends with one line on stderr.

    Returns:
      0; 2 after a mistake; 3 where another process of the same run was lost; 128 and the signal's number after SIGINT
      (Ctrl-C) or SIGTERM.
    """
    try:
        with Interrupts(at_once=True):
            work()
    except UserError as error:
        return _ended(f"error: {error}", 2)
    except Interrupted as signal:
        return _ended(f"{signal}: stopped; the same command goes on from what is saved", 128 + signal.number)
    except Exception as error:
        if not hosts.joined():
            raise
        return _ended(f"error: {hosts.lost(error)}; the same command goes on from what is saved", 3)
    return 0


def _ended(line: str, code: int) -> int:
    print(line, file=sys.stderr)
    if hosts.joined():
        hosts.leave(code)
    return code
