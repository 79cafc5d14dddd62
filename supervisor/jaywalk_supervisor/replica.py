# SPDX-License-Identifier: GPL-3.0-or-later
"""The zones as readers see them: a copy of its own connection, which survives the controller's absence."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from jaywalk.controller import ControllerAddress
from jaywalk.errors import ControllerUnreachable, InvalidValue, JaywalkError

from .state import ZoneState
from .store import AWAY, Store

TIMEOUT = 1.0
"""Seconds that a reader waits for Redis before it is shown the last known state."""
PAUSE = 1.0
"""Seconds until Redis is tried again after it did not answer."""


class Replica:
    """All zones, brought up to date whenever somebody looks; safe for many threads."""

    def __init__(self, where: ControllerAddress) -> None:
        self.where = replace(where, timeout=TIMEOUT)
        self._lock = threading.Lock()
        self._store: Store | None = None
        self._states: dict[str, ZoneState] = {}
        self._loaded = False
        self._try_after = 0.0

    @contextmanager
    def zones(self, with_seen: bool = False) -> Iterator[Mapping[str, ZoneState]]:
        """The zones by their names, as of now or, without Redis, as they were when it was last there.

        ``with_seen``: also when their keys were last heard of.  Nobody else changes them inside the block.
        Raises ``ControllerUnreachable`` where they were never read.
        """
        with self._lock:
            if time.monotonic() >= self._try_after:
                self._catch_up(with_seen)
            if not self._loaded:
                raise ControllerUnreachable(
                    f"the controller {self.where} cannot be reached", "check that Redis runs there"
                )
            yield self._states

    def close(self) -> None:
        """Ends the connection."""
        with self._lock:
            self._disconnect()

    def _catch_up(self, with_seen: bool) -> None:
        try:
            if self._store is None:
                self._store = Store.open(self.where, "jaywalk-api")
            self._states = self._current(self._store)
            for name, state in self._states.items() if with_seen else ():
                state.seen = self._store.seen(name)
            self._loaded = True
        except (JaywalkError, *AWAY):
            self._disconnect()
            self._try_after = time.monotonic() + PAUSE

    def _current(self, store: Store) -> dict[str, ZoneState]:
        states: dict[str, ZoneState] = {}
        for name in store.zones():
            try:
                known = self._states.get(name)
                states[name] = store.load(name) if known is None else store.catch_up(known)
            except InvalidValue:
                continue  # the committer reports it
        return states

    def _disconnect(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None
