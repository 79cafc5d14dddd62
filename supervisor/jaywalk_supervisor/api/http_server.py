# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTTP server of the API: accepts connections within their limits, with TLS if there is a certificate.

uvicorn parses HTTP.  Connections are accepted here, since uvicorn limits neither the connections of one
address nor those whose TLS handshake lasts.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, cast

from flask import Flask
from uvicorn.config import Config
from uvicorn.server import ServerState

from .bounded_app import BoundedApp
from .connections import Connection, Connections, client_of
from .http_protocol import BoundedProtocol
from .rates import TokenBuckets
from .tls import Certificate

log = logging.getLogger(__name__)

MAX_HEADER_BYTES = 16384
KEEP_ALIVE_SECONDS = 5
HANDSHAKE_SECONDS = 10.0
BACKLOG = 512
# Pause after an accept that failed, for instance for lack of file descriptors.
ACCEPT_PAUSE_SECONDS = 0.2


class ApiServer:
    """Listens on ``host`` and ``port`` from its creation on; :meth:`run` serves.

    ``rates``: how many requests each address may send.
    Raises ``OSError`` if it cannot listen.
    """

    def __init__(
        self,
        app: Flask,
        host: str,
        port: int,
        certificate: Certificate | None = None,
        rates: TokenBuckets | None = None,
    ) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
        self._listener.setblocking(False)
        # Connections inherit it: the header and the body of an answer leave at once.
        self._listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.port: int = self._listener.getsockname()[1]
        self._certificate = certificate
        self._connections = Connections()
        # What clients send is no event for our log.
        logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
        self._config = Config(
            BoundedApp(app, self._connections, rates or TokenBuckets()),
            http=BoundedProtocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        )
        self._config.load()
        self._state = ServerState()
        self._state.default_headers = [(b"server", b"jaywalk-supervisor")]
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._accepting: asyncio.Task[None] | None = None

    def run(self) -> None:
        """Serves until :meth:`stop`."""
        with suppress(asyncio.CancelledError), asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._accept())
        self._listener.close()

    def stop(self) -> None:
        """Ends :meth:`run`, from another thread."""
        with suppress(RuntimeError):  # it has ended by itself
            self._loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        # A connection that arrives now would be set as the result of a cancelled future.
        self._loop.remove_reader(self._listener)
        if self._accepting is not None:
            self._accepting.cancel()

    async def _accept(self) -> None:
        self._accepting = asyncio.current_task()
        while True:
            try:
                peer, address = await self._loop.sock_accept(self._listener)
            except OSError as error:
                log.warning("the REST API cannot accept a connection: %s", error.strerror)
                await asyncio.sleep(ACCEPT_PAUSE_SECONDS)
                continue
            connection = Connection(client_of(address[0]))
            if self._connections.admit(connection):
                self._start(self._connect(peer, connection), connection)
            else:
                peer.close()

    def _start(self, work: Coroutine[Any, Any, None], connection: Connection) -> None:
        task = self._loop.create_task(work)
        connection.close = lambda: cast("None", task.cancel())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, peer: socket.socket, connection: Connection) -> None:
        """Begins TLS, if there is a certificate, and hands the connection to its protocol."""
        context = self._certificate.context() if self._certificate else None
        try:
            await self._loop.connect_accepted_socket(
                lambda: BoundedProtocol(self._config, self._state, connection, self._connections),
                peer,
                ssl=context,
                ssl_handshake_timeout=HANDSHAKE_SECONDS if context else None,
            )
        except (OSError, asyncio.CancelledError):
            # The handshake failed, took too long, or the connection was closed for another one.
            peer.close()
            self._connections.remove(connection)
