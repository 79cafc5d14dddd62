# SPDX-License-Identifier: GPL-3.0-or-later
"""Waits of tests: for a condition, never for a fixed time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

import pytest

from lab.deadline import Deadline

T = TypeVar("T")
# For a condition that becomes true within a few seconds; on a busy host the deadline extends itself. Tests of
# mutants, in which the condition never becomes true, wait less.
SECONDS = float(os.environ.get("JAYWALK_TEST_WAIT_SECONDS", "60"))


def eventually(observe: Callable[[], T], what: str = "", timeout: float = SECONDS) -> T:
    """Wait until `observe` returns a true value, and return that.

    Fails with ``what`` and with the last value; ``timeout`` is in seconds of an idle host.
    """
    deadline = Deadline(timeout)
    pause = 0.01
    while not (value := observe()):
        if deadline.passed:
            pytest.fail(f"not within {deadline.waited:.0f} s: {what or 'the condition'} (last: {value!r})")
        time.sleep(pause)
        pause = min(0.2, pause * 1.5)
    return value


def becomes(expected: object, observe: Callable[[], object], timeout: float = SECONDS) -> None:
    """Wait until `observe` returns ``expected``."""
    deadline = Deadline(timeout)
    while (value := observe()) != expected:
        if deadline.passed:
            pytest.fail(f"{value!r} instead of {expected!r} after {deadline.waited:.0f} s")
        time.sleep(0.1)
