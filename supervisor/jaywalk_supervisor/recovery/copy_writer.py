# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the copies of zones to the disk, in a thread of its own: a slow disk delays no join."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for

from .copies import ZoneCopy
from .copy_folder import CopyFolder

# Delay until a copy on the disk contains new leases; what an operator changes is written at once.
LAZY_SECONDS = 30.0
# A larger zone waits longer, so that writing its leases needs a few hundredths of a core at most.
LEASES_PER_SECOND = 1000
# Time for which the end of a supervisor waits for the disk.
FLUSH_SECONDS = 1.0


class CopyWriter:
    """Writes the files of a folder that contains the copies ``known`` at the start."""

    def __init__(self, folder: CopyFolder, known: Iterable[ZoneCopy]) -> None:
        self.folder = folder
        now = time.monotonic()
        self._written = {copy.zone.name: (copy, now) for copy in known}
        self._writes: dict[str, Future[None]] = {}
        self._retry_at = 0.0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="copies")

    def schedule(self, copy: ZoneCopy, lazy_seconds: float = LAZY_SECONDS) -> None:
        """Schedules the writing of a copy that differs from the one on the disk, at once or after a delay."""
        name, now = copy.zone.name, time.monotonic()
        if now < self._retry_at or not self._is_done(name):
            return
        written, since = self._written.get(name, (None, 0.0))
        if written is None or is_due(copy, written, now - since, lazy_seconds):
            self._writes[name] = self._thread.submit(self._write, name, copy)

    def remove(self, name: str) -> None:
        """Removes the copy of a zone that was removed on purpose."""
        self._writes[name] = self._thread.submit(self._remove, name)

    def set_aside(self, name: str, why: str) -> str:
        """Renames the file of a copy; returns its new path, or "" if there is none."""
        self._wait()
        self._written.pop(name, None)
        return self.folder.set_aside(name, why)

    def flush(self, copies: Iterable[ZoneCopy]) -> None:
        """Writes what the disk does not have yet, within the time limit."""
        self._wait()
        for copy in copies:
            self.schedule(copy, lazy_seconds=0.0)
        self._wait()

    def _is_done(self, name: str) -> bool:
        write = self._writes.get(name)
        return write is None or write.done()

    def _wait(self) -> None:
        wait_for(list(self._writes.values()), FLUSH_SECONDS)

    def _write(self, name: str, copy: ZoneCopy) -> None:
        if self.folder.write(name, copy.to_text()):
            self._written[name] = (copy, time.monotonic())
        else:
            self._retry_at = time.monotonic() + LAZY_SECONDS

    def _remove(self, name: str) -> None:
        self._written.pop(name, None)
        self.folder.drop(name)


def is_due(copy: ZoneCopy, written: ZoneCopy, age: float, lazy_seconds: float) -> bool:
    """Whether ``copy`` must replace the copy on the disk, which was written ``age`` seconds ago."""
    if copy is written or copy.position == written.position:
        return copy.digest != written.digest
    if copy.position[0] != written.position[0] or copy.differs_much(written):
        return True
    delay = lazy_seconds and max(lazy_seconds, len(copy.leases) / LEASES_PER_SECOND)
    return age >= delay and not copy.same_as(written)
