# SPDX-License-Identifier: GPL-3.0-or-later
"""The connections over which the API writes zones: one per thread of the server, kept between requests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import redis

from jaywalk.controller.address import ControllerAddress
from jaywalk.controller.errors import RedisErrorTranslator
from jaywalk.core.errors import ControllerDenied, ControllerUnreachable

from ..store.connection import REDIS_UNAVAILABLE
from ..store.store import Store


class WriteConnection:
    """Keeps an open store for each thread, so that a write costs a PING and not a login with two INFOs."""

    def __init__(self, where: ControllerAddress) -> None:
        self._where = where
        self._kept = threading.local()

    @contextmanager
    def store(self) -> Iterator[Store]:
        """Yields a store that answers; raises ``ControllerUnreachable`` and ``ControllerDenied``.

        An error of Redis closes it: the next request finds the primary again.
        """
        store = self._open()
        try:
            with RedisErrorTranslator(self._where):
                yield store
        except (ControllerUnreachable, ControllerDenied):
            self._close()
            raise

    def _open(self) -> Store:
        kept: Store | None = getattr(self._kept, "store", None)
        if kept is not None:
            with suppress(redis.RedisError, *REDIS_UNAVAILABLE):
                kept.redis.ping()
                return kept
            self._close()
        self._kept.store = Store.open(self._where, "jaywalk-api")
        opened: Store = self._kept.store
        return opened

    def _close(self) -> None:
        store: Store | None = self._kept.__dict__.pop("store", None)
        if store is not None:
            store.close()
