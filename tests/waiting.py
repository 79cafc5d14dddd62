# SPDX-License-Identifier: GPL-3.0-or-later
"""How tests wait: for what they want, never for a time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

import pytest

from lab.patience import Deadline

T = TypeVar("T")
SECONDS = float(os.environ.get("JAYWALK_TEST_WAIT_SECONDS", "60"))
"""For all that comes by itself within a few seconds; on a busy host the deadline moves away by itself.
The tests of mutants, where it never comes, wait less."""


def eventually(look: Callable[[], T], what: str = "", timeout: float = SECONDS) -> T:
    """Waits until `look` gives something that is true, and returns that.

    Fails with ``what`` and with what `look` gave last; ``timeout`` is in seconds of an idle host.
    """
    deadline = Deadline(timeout)
    pause = 0.01
    while not (found := look()):
        if deadline.passed:
            pytest.fail(
                f"not within {deadline.waited:.0f} s: {what or 'what was waited for'} (last: {found!r})"
            )
        time.sleep(pause)
        pause = min(0.2, pause * 1.5)
    return found


def becomes(wanted: object, look: Callable[[], object], timeout: float = SECONDS) -> None:
    """Waits until `look` gives ``wanted``."""
    deadline = Deadline(timeout)
    while (found := look()) != wanted:
        if deadline.passed:
            pytest.fail(f"{found!r} instead of {wanted!r} after {deadline.waited:.0f} s")
        time.sleep(0.1)
