"""Signals as requests: flag, second Ctrl-C, old handlers back, other threads."""

import os
import signal
import threading

import pytest

from mmvae_jax.runs.interrupts import Interrupts


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_only_sets_the_flag(number: signal.Signals):
    with Interrupts() as interrupts:
        assert interrupts.requested is None
        send(number)
        assert interrupts.requested == number.name


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_a_further_ctrl_c_stops_at_once(first: signal.Signals):
    with pytest.raises(KeyboardInterrupt), Interrupts():
        send(first)
        send(signal.SIGINT)
        pytest.fail("the second signal did not raise")


def test_a_second_sigterm_is_still_a_request():
    with Interrupts() as interrupts:
        send(signal.SIGTERM)
        send(signal.SIGTERM)
        assert interrupts.requested == "SIGTERM"


def test_the_old_handlers_come_back_even_after_an_error():
    seen: list[int] = []
    old = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    ctrl_c = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(RuntimeError), Interrupts():
            send(signal.SIGTERM)
            raise RuntimeError
        assert seen == []
        send(signal.SIGTERM)
        assert seen == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGINT) is ctrl_c
    finally:
        signal.signal(signal.SIGTERM, old)


def test_outside_the_main_thread_it_changes_nothing():
    before = signal.getsignal(signal.SIGINT)
    seen: list[object] = []

    def work() -> None:
        with Interrupts() as interrupts:
            seen.extend([signal.getsignal(signal.SIGINT), interrupts.requested])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before, None]
