# SPDX-License-Identifier: GPL-3.0-or-later
"""SIGTERM and SIGINT: a wait ends at once, a change only when it is done."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stopped(BaseException):
    """Somebody asked this program to end while it waited."""


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
            raise Stopped

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Marks a wait that a signal may break off."""
        self._waiting = True
        try:
            if self._asked:
                raise Stopped
            yield
        finally:
            self._waiting = False

    def sleep(self, seconds: float) -> None:
        """Sleeps, or raises :class:`Stopped` as soon as a signal comes."""
        with self.waiting():
            time.sleep(seconds)
