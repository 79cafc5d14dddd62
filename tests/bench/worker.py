# SPDX-License-Identifier: GPL-3.0-or-later
"""One of the processes of a crowd: blocking clients, each with a thread and a socket of its own.

A worker reads commands as JSON lines from standard input, answers each with a line, and ends with its input.
"""

from __future__ import annotations

import gc
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, Protocol

SLICE = 200
"""Clients that connect at a time: fewer than the kernel's queue of a listening socket."""
SWITCH_SECONDS = 0.1
"""A client gives way when it waits for its socket; hundreds that ask every 5 ms would fill a core."""
NEW_PEER_SECONDS = gc.get_threshold()[0]
"""New objects of one client after which Python looks for garbage, as often as it would in its own process."""
POLL = 0.02
STACK_BYTES = 256 * 1024
"""Of each thread; a client's calls do not go deep."""


class Member(Protocol):
    """One client; ``at`` is when it last got on, by the monotonic clock that all processes share."""

    at: float

    def run(self) -> None: ...

    def stands(self, *_: Any, **goal: Any) -> bool:
        """Whether it is where it should come to."""


class Crowd:
    """The commands that every kind of crowd knows."""

    def __init__(self) -> None:
        self.members: list[Any] = []

    def _start(self, members: Iterable[Member], **goal: int) -> int:
        """Starts clients by slices, each of which has to come to ``goal`` before the next."""
        waiting = iter(members)
        while batch := list(islice(waiting, SLICE)):
            self.members += batch
            gc.set_threshold(NEW_PEER_SECONDS * len(self.members))
            for each in batch:
                threading.Thread(target=each.run, daemon=True).start()
            _wait_for_all(batch, goal)
        return len(self.members)

    def until(self, **goal: int) -> float:
        """Waits until all stand at the goal; returns when the last of them came there."""
        _wait_for_all(self.members, goal)
        last: float = max(each.at for each in self.members)
        return last

    def cpu(self) -> float:
        """Seconds of processor time of this process so far."""
        return time.process_time()


def _wait_for_all(members: Iterable[Member], goal: Mapping[str, int]) -> None:
    """One after the other, since a look at all of them again and again takes time from those it waits for."""
    for each in members:
        while not each.stands(**goal):
            time.sleep(POLL)


def serve(crowd: Crowd) -> None:
    """Does what standard input says; ends with it at once, whatever it does then."""
    threading.stack_size(STACK_BYTES)
    sys.setswitchinterval(SWITCH_SECONDS)
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(lines,), daemon=True).start()
    while True:
        command = json.loads(lines.get())
        answer = getattr(crowd, command.pop("do"))(**command)
        print(json.dumps(answer), flush=True)


def _listen(lines: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        lines.put(line)
    os._exit(0)
