# SPDX-License-Identifier: GPL-3.0-or-later
"""Detects a Redis whose memory is full: it refuses writes, so that joins wait and nodes repeat them.

Redis refuses a script that needs memory at its first write and lets a script continue that has already
written: no script of ours stops halfway.  Commits that free memory are still allowed.
"""

from __future__ import annotations

import logging
from typing import Any

import redis

from jaywalk.controller.address import ControllerAddress
from jaywalk.controller.errors import memory_full

from ..store.store import Store
from .health import Health

log = logging.getLogger(__name__)

# Operations that are committed even if Redis's memory is full.
FREEING = ("leave", "release", "block")
# Share of memory in use below which a full Redis counts as relieved.
RELIEVED_SHARE = 0.97
# Shares of memory in use between which a warning begins and ends.
WARNING_SHARE = 0.8
WARNING_ENDS_SHARE = 0.75


class MemoryMonitor:
    """Maintains ``health.memory_error``, which is set while Redis has no memory left."""

    def __init__(self, health: Health, where: ControllerAddress) -> None:
        self._health = health
        self._where = where

    def check(self, store: Store) -> None:
        """Reads Redis's memory use; if a managed server hides it, only refused commits show a lack."""
        try:
            parts = [_used(memory) for memory in store.info("memory")]
        except redis.ResponseError:
            self.record_relieved()
            return
        self._warn(max(parts))
        if max(parts) >= 1:
            self.record_full()
        elif max(parts) < RELIEVED_SHARE:
            self.record_relieved()

    def _warn(self, used: float) -> None:
        if used < WARNING_ENDS_SHARE:
            self._health.memory_warning = ""
        elif used >= WARNING_SHARE and not self._health.memory_warning:
            self._health.memory_warning = (
                f"the controller {self._where} uses {used:.0%} of its memory ('maxmemory'): once it is full, "
                "joins wait"
            )
            log.warning("%s", self._health.memory_warning)

    def record_full(self) -> None:
        """Records that Redis refused a write for lack of memory."""
        if not self._health.memory_error:
            self._health.memory_error = str(memory_full(self._where))
            log.error("%s; joins wait until this is over", self._health.memory_error)

    def record_relieved(self) -> None:
        """Records that Redis has memory again."""
        if self._health.memory_error:
            self._health.memory_error = ""
            log.info("the controller %s has memory left again", self._where)


def _used(memory: dict[str, Any]) -> float:
    """Returns the share of ``maxmemory`` that a server uses; 0 if it has no limit."""
    bound = int(memory.get("maxmemory", 0))
    counted = int(memory.get("used_memory", 0)) - int(memory.get("mem_not_counted_for_evict", 0))
    return counted / bound if bound else 0.0
