# SPDX-License-Identifier: GPL-3.0-or-later
"""A Redis whose memory is full: it refuses what would take more, so that joins wait, and nodes repeat them.

Redis refuses a script that takes memory at its first write, and goes on with one that wrote before: no script
of ours is left half done.  What frees memory in the end goes through all the same.
"""

from __future__ import annotations

import logging
from typing import Any

import redis

from jaywalk.controller.address import ControllerAddress
from jaywalk.controller.errors import memory_trouble

from ..store.store import Store
from .health import Health

log = logging.getLogger(__name__)

# Operations whose commits a full Redis is made to take.
FREEING = ("leave", "release")
# Of its memory in use, below which a full Redis counts as relieved.
RELIEVED = 0.97


class MemoryMonitor:
    """Whether Redis has memory left, kept in ``health.memory_error``."""

    def __init__(self, health: Health, where: ControllerAddress) -> None:
        self._health = health
        self._where = where

    def check(self, store: Store) -> None:
        """Asks Redis; where a managed one does not say, the next commit that passes shows it."""
        try:
            parts = [_used(each) for each in store.info("memory")]
        except redis.ResponseError:
            self.relieved()
            return
        if max(parts) >= 1:
            self.full()
        elif max(parts) < RELIEVED:
            self.relieved()

    def full(self) -> None:
        """Notes that Redis refused something for want of memory."""
        if not self._health.memory_error:
            self._health.memory_error = str(memory_trouble(self._where))
            log.error("%s; joins wait until this is over", self._health.memory_error)

    def relieved(self) -> None:
        """Notes that there is memory again."""
        if self._health.memory_error:
            self._health.memory_error = ""
            log.info("the controller %s has memory left again", self._where)


def _used(memory: dict[str, Any]) -> float:
    """The part of its memory that a server counts against ``maxmemory``; 0 where it has no bound."""
    bound = int(memory.get("maxmemory", 0))
    counted = int(memory.get("used_memory", 0)) - int(memory.get("mem_not_counted_for_evict", 0))
    return counted / bound if bound else 0.0
