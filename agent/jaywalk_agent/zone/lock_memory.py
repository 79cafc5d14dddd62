# SPDX-License-Identifier: GPL-3.0-or-later
"""What this node remembers of its zone's mesh lock, on disk: so that no older statement comes back."""

from __future__ import annotations

import json
import logging
import time

from jaywalk.core.errors import InvalidValue, JaywalkError
from jaywalk.core.files import write_private
from jaywalk.service.repeat_filter import RepeatFilter
from jaywalk.trust.lock import Lock, Memory

from ..config import AgentConfig

log = logging.getLogger(__name__)


def open_lock(config: AgentConfig) -> Lock | None:
    """The lock of this node's pinned keys with what it remembers; None if it pins none.

    Raises ``MissingTool`` without the library ``cryptography``.
    """
    return Lock(config.zone, config.lock_keys, _read(config)) if config.lock_keys else None


def _read(config: AgentConfig) -> Memory | None:
    file = config.lock_memory_file
    try:
        return Memory.from_json(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError, InvalidValue) as error:
        # The pinned keys still decide; only what was seen before is forgotten.
        log.warning("ignored %s, which holds what was signed before: %s", file, error)
        return None


class LockMemoryWriter:
    """Writes what a lock remembers once it changes."""

    def __init__(self, config: AgentConfig, lock: Lock | None) -> None:
        self._file = config.lock_memory_file
        self._lock = lock
        self._repeats = RepeatFilter()

    def save(self) -> None:
        """Writes the memory if it differs from the file; a full disk is logged, and tried again."""
        if self._lock is None or not self._lock.changed:
            return
        try:
            write_private(str(self._file), json.dumps(self._lock.memory.to_json()) + "\n")
            self._lock.changed = False
        except JaywalkError as error:
            for sentence in self._repeats.news([f"{self._file} stays as it was: {error}"], time.monotonic()):
                log.warning("%s", sentence)
