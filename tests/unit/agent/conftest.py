# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from jaywalk_agent.stop import StopSignal


@pytest.fixture
def stop() -> Iterator[StopSignal]:
    """Signals as the agent takes them, and as they were after the test."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield StopSignal()
    for number, handler in before.items():
        signal.signal(number, handler)
