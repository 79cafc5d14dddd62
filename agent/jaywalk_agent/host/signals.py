# SPDX-License-Identifier: GPL-3.0-or-later
"""SIGTERM and SIGINT end a wait at once, and a change only once it is complete."""

from __future__ import annotations

import signal
import time
from types import FrameType


class Stopped(BaseException):
    """A signal arrived while the program waited."""


class StopSignal:
    """Turns the signals into :class:`Stopped`, raised only inside :meth:`waiting`."""

    def __init__(self) -> None:
        self._asked = False
        self._waiting = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
        if self._waiting:
            # ``__exit__`` does not run for a wait that is only being entered.
            self._waiting = False
            raise Stopped

    def waiting(self) -> StopSignal:
        """Marks a wait that a signal may interrupt: ``with stop.waiting():``."""
        return self

    def __enter__(self) -> None:
        self._waiting = True
        if self._asked:
            self._waiting = False
            raise Stopped

    def __exit__(self, *_: object) -> None:
        self._waiting = False

    def sleep(self, seconds: float) -> None:
        """Sleeps; raises :class:`Stopped` as soon as a signal arrives."""
        with self.waiting():
            time.sleep(seconds)
