# SPDX-License-Identifier: GPL-3.0-or-later
"""uvicorn's HTTP/1.1 with a time limit for the header of a request, which uvicorn has not (its issue 157)."""

from __future__ import annotations

import asyncio

from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.server import ServerState

from .connections import Connection, Connections

# Time for the header of a request, from the connection or from its first byte on.
HEADER_SECONDS = 10.0
# Time for the rest of an answer once the connection is to be closed.
CLOSE_SECONDS = 10.0


class BoundedProtocol(H11Protocol):
    """One connection; it tells its record whether the API works on a request of it."""

    def __init__(
        self, config: Config, state: ServerState, connection: Connection, connections: Connections
    ) -> None:
        super().__init__(config, state, {"connection": connection})
        self._record = connection
        self._records = connections
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Begins the time for the first header."""
        super().connection_made(transport)
        self._record.close = transport.abort
        self._deadline = self.loop.call_later(HEADER_SECONDS, transport.abort)

    def data_received(self, data: bytes) -> None:
        """Reads a part of a request; its first byte begins the time for its header."""
        if self._deadline is None and not self._working:
            self._deadline = self.loop.call_later(HEADER_SECONDS, self.transport.abort)
        super().data_received(data)
        self._update()

    def on_response_complete(self) -> None:
        """Waits for the next request, or takes one that is here already."""
        self._records.touch(self._record)
        super().on_response_complete()
        self._update()

    def timeout_keep_alive_handler(self) -> None:
        """Closes an idle connection; one whose client does not take the last answer is aborted later."""
        super().timeout_keep_alive_handler()
        self.loop.call_later(CLOSE_SECONDS, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends the connection's time and its record."""
        super().connection_lost(exc)
        self._end_deadline()
        self._records.remove(self._record)

    def _update(self) -> None:
        if self._working:
            self._end_deadline()
        self._record.busy = self._working and not self.cycle.more_body

    @property
    def _working(self) -> bool:
        """Whether a request with a complete header has no complete answer."""
        cycle: RequestResponseCycle | None = self.cycle  # uvicorn omits the None of its beginning
        return cycle is not None and not cycle.response_complete

    def _end_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
