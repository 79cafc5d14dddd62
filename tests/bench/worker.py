# SPDX-License-Identifier: GPL-3.0-or-later
"""A worker process of blocking clients, each with its own thread and socket.

A worker reads commands as JSON lines from standard input, replies to each with a line, and ends with it.
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

# Clients that connect at once: fewer than the kernel's queue of a listening socket.
SLICE = 200
# A client releases the interpreter when it waits for its socket. Hundreds that request it every 5 ms
# (Python's default) would use a whole core.
SWITCH_SECONDS = 0.1
# New objects per client after which Python collects garbage: as often as in the client's own process.
NEW_OBJECTS = gc.get_threshold()[0]
POLL_SECONDS = 0.02
# The stack of each thread; a client has no deep calls.
STACK_BYTES = 256 * 1024


class Client(Protocol):
    """One client; ``at`` is the time of its last progress, by the monotonic clock of all processes."""

    at: float

    def run(self) -> None: ...

    def has_reached(self, *_: Any, **goal: Any) -> bool:
        """Return whether the client has reached the goal."""


class Worker:
    """The commands that every kind of worker has."""

    def __init__(self) -> None:
        self.clients: list[Any] = []

    def _start(self, clients: Iterable[Client], **goal: int) -> int:
        """Start clients in slices; each slice must reach ``goal`` before the next starts."""
        waiting = iter(clients)
        while batch := list(islice(waiting, SLICE)):
            self.clients += batch
            gc.set_threshold(NEW_OBJECTS * len(self.clients))
            for each in batch:
                threading.Thread(target=each.run, daemon=True).start()
            _wait_for_all(batch, goal)
        return len(self.clients)

    def wait_until(self, **goal: int) -> float:
        """Wait until all have reached the goal; return the time of the last."""
        _wait_for_all(self.clients, goal)
        last: float = max(each.at for each in self.clients)
        return last

    def cpu(self) -> float:
        """Return this process's processor seconds so far."""
        return time.process_time()


def _wait_for_all(clients: Iterable[Client], goal: Mapping[str, int]) -> None:
    """Wait for one after the other, since repeated checks of all would use their processor time."""
    for each in clients:
        while not each.has_reached(**goal):
            time.sleep(POLL_SECONDS)


def serve(worker: Worker) -> None:
    """Run the commands of standard input; end at once with it, even during a command."""
    threading.stack_size(STACK_BYTES)
    sys.setswitchinterval(SWITCH_SECONDS)
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read_commands, args=(lines,), daemon=True).start()
    while True:
        command = json.loads(lines.get())
        reply = getattr(worker, command.pop("do"))(**command)
        print(json.dumps(reply), flush=True)


def _read_commands(lines: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        lines.put(line)
    os._exit(0)
