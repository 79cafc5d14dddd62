# SPDX-License-Identifier: GPL-3.0-or-later
"""Signals: they end a wait at once, and a change after its completion."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from jaywalk_agent.host.signals import Stopped, StopSignal


def send(number: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_wait(stop: StopSignal, number: int) -> None:
    threading.Timer(0.1, send, [number]).start()
    with pytest.raises(Stopped):
        stop.sleep(100)


def test_a_signal_during_a_change_ends_the_next_wait(stop: StopSignal) -> None:
    done = []
    send()
    done.append("changed")
    with pytest.raises(Stopped):
        stop.sleep(100)
    assert done == ["changed"]


def test_a_signal_between_two_waits_ends_the_second(stop: StopSignal) -> None:
    with stop.waiting():
        pass
    send()
    with pytest.raises(Stopped), stop.waiting():
        pytest.fail("the wait began")


def test_an_error_in_a_wait_is_raised(stop: StopSignal) -> None:
    with pytest.raises(KeyError), stop.waiting():
        raise KeyError
    send()
