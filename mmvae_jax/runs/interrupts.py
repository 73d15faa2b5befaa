"""Ctrl-C and SIGTERM as a request to stop, so that a run can save before it ends."""

import signal
import threading
from types import FrameType
from typing import Self


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM, where there is nothing to wait for.

    Attributes:
      number: the signal's.
    """

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


class Interrupts:
    """While active, SIGINT and SIGTERM only set `requested`, the signal's name.

    A second Ctrl-C raises `Interrupted` at once. A context manager that puts the old handlers
    back. Outside the main thread, where Python allows no handlers, `requested` stays None.

        with Interrupts() as interrupts:
            while step < steps and interrupts.requested is None: ...

    Args:
      at_once: the first signal raises `Interrupted` as well.
    """

    requested: str | None = None

    def __init__(self, at_once: bool = False):
        self._at_once = at_once

    def __enter__(self) -> Self:
        self._previous = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            # A handler that was not installed from Python reads as None and cannot be put back.
            signal.signal(number, handler or signal.SIG_DFL)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._at_once or (number == signal.SIGINT and self.requested is not None):
            raise Interrupted(number)
        self.requested = signal.Signals(number).name
