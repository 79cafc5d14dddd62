# SPDX-License-Identifier: GPL-3.0-or-later
"""Zones and tokens as the API reads them: a copy over its own connection, which outlives the controller."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

import redis

from jaywalk.controller.address import ControllerAddress
from jaywalk.core.errors import ControllerUnreachable, InvalidValue, JaywalkError

from ..admin import tokens
from ..admin.tokens import Token
from ..monitoring.clock import SharedClock
from ..monitoring.record_check import RecordCheck
from ..state.wrong_type import is_wrong_type
from ..state.zone_state import ZoneState
from ..store.connection import REDIS_UNAVAILABLE
from ..store.store import Store

# How long a reader waits for Redis before it gets the last known state.
REDIS_TIMEOUT_SECONDS = 1.0
# A connection that was idle for longer is replaced: Redis may have closed it ('timeout').
IDLE_SECONDS = 60.0
# How long after a failure the replica does not try Redis again.
RETRY_AFTER_SECONDS = 1.0


class Replica:
    """All zones, updated at each read; thread-safe."""

    def __init__(self, where: ControllerAddress) -> None:
        self.where = replace(where, timeout=REDIS_TIMEOUT_SECONDS)
        self._clock = SharedClock()
        self._lock = threading.Lock()
        self._store: Store | None = None
        self._states: dict[str, ZoneState] | None = None
        self._tokens: Sequence[Token] | None = None
        self._try_after = 0.0
        self._used_at = 0.0
        self._record_check = RecordCheck()

    @contextmanager
    def zones(self, with_last_seen: bool = False) -> Iterator[Mapping[str, ZoneState]]:
        """Yields the zones by name, as they are now or, without Redis, as they were when it last answered.

        ``with_last_seen`` also updates when their keys were last seen.  No other thread changes them inside
        the block.  Raises ``ControllerUnreachable`` if they were never read.
        """
        with self._lock:
            self._catch_up(self._read_zones_and_last_seen if with_last_seen else self._read_zones)
            if self._states is None:
                raise self._never_read()
            yield self._states

    def tokens(self) -> Sequence[Token]:
        """Returns the tokens of the API, as they are now or were last; raises as :meth:`zones`."""
        with self._lock:
            self._catch_up(self._read_tokens)
            if self._tokens is None:
                raise self._never_read()
            return self._tokens

    def now(self) -> float:
        """Returns the controller's time, continued since the last read; :meth:`zones` may be open."""
        return self._clock.now()

    def close(self) -> None:
        """Closes the connection."""
        with self._lock:
            self._disconnect()

    def _catch_up(self, read: Callable[[Store], None]) -> None:
        if time.monotonic() < self._try_after:
            return
        if time.monotonic() - self._used_at > IDLE_SECONDS:
            self._disconnect()
        self._used_at = time.monotonic()
        try:
            if self._store is None:
                self._store = Store.open(self.where, "jaywalk-api")
            read(self._store)
        except (JaywalkError, *REDIS_UNAVAILABLE):
            self._disconnect()
            self._try_after = time.monotonic() + RETRY_AFTER_SECONDS

    def _read_tokens(self, store: Store) -> None:
        self._tokens = tokens.list_tokens(store)

    def _read_zones(self, store: Store) -> None:
        before, states = self._states or {}, {}
        for name in store.zones():
            known = before.get(name)
            try:
                states[name] = store.load(name) if known is None else store.catch_up(known)
            except InvalidValue:
                continue  # the committer reports it
            except redis.ResponseError as error:
                if is_wrong_type(error):
                    continue
                raise
            except REDIS_UNAVAILABLE:
                if known is None or not store.where.nodes:
                    raise
                states[name] = known  # its shard is away; the others may be there
        for name in () if store.where.nodes else self._record_check.changed(store, states):
            with suppress(InvalidValue):
                states[name] = store.reload(states[name])
        self._states = states
        self._clock.update(store.time)

    def _read_zones_and_last_seen(self, store: Store) -> None:
        self._read_zones(store)
        for name, state in (self._states or {}).items():
            try:
                state.last_seen_at = store.last_seen(name)
            except REDIS_UNAVAILABLE:
                if not store.where.nodes:
                    raise
            except InvalidValue:
                continue  # the committer reports it

    def _never_read(self) -> ControllerUnreachable:
        return ControllerUnreachable(
            f"the controller {self.where} cannot be reached", "check that Redis runs there"
        )

    def _disconnect(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None
