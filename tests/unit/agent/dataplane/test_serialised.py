# SPDX-License-Identifier: GPL-3.0-or-later
"""Serialised methods of one object: one thread at a time."""

from __future__ import annotations

import threading
import time

from jaywalk_agent.dataplane.serialised import serialised


class Counter:
    """Loses counts if two threads count at a time."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.count = 0

    @serialised
    def add(self, number: int = 1) -> int:
        before = self.count
        time.sleep(0.0001)
        self.count = before + number
        return self.count

    @serialised
    def add_twice(self) -> int:
        self.add()
        return self.add(number=1)


def test_no_count_of_several_threads_is_lost() -> None:
    counter = Counter()
    threads = [threading.Thread(target=lambda: [counter.add_twice() for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.count == 400
    assert counter.add(5) == 405
