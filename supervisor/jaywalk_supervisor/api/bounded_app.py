# SPDX-License-Identifier: GPL-3.0-or-later
"""The Flask application behind an asynchronous server: no thread ever waits for a client.

The event loop reads a whole request, within a time and a size; a thread then makes the whole answer; the
event loop sends it.  So the number of slow clients is no limit for the others.  A response that lasts, such
as a stream of events, belongs before this bridge, in the event loop.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from weakref import WeakValueDictionary

from flask import Flask

from . import wsgi
from .connections import Connection, Connections, client_of
from .rates import TokenBuckets
from .wsgi import Answer

MAX_BODY_BYTES = 65536
BODY_SECONDS = 20.0
# Time in which a client has to take its answer.
ANSWER_SECONDS = 60.0
# Limit of all answers that clients have not taken yet; over it, the oldest connection of those is closed.
MAX_UNSENT_BYTES = 64 << 20
CHUNK_BYTES = 65536
THREADS = 16
THREADS_OF_ADDRESS = 8

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class _Refused(Exception):
    """A request that is not even read, and its answer."""

    def __init__(self, status: int, text: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(text)
        body = json.dumps({"message": text}).encode()
        framing = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            # The rest of the request is not read.
            (b"connection", b"close"),
        ]
        self.answer = Answer(status, [*framing, *headers], body)


class _Disconnected(Exception):
    """The client went before its request was complete."""


class BoundedApp:
    """An ASGI application around ``app``; for the connections of one event loop.

    ``rates``: how many requests each address may send.
    """

    def __init__(self, app: Flask, connections: Connections, rates: TokenBuckets) -> None:
        self._app = app
        self._threads = ThreadPoolExecutor(THREADS, "api")
        self._connections = connections
        self._rates = rates
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._unsent: dict[Connection, int] = {}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answers one request."""
        connection: Connection = scope["state"]["connection"]
        client = client_of(scope["client"][0])
        try:
            self._check_rate(client)
            body = await self._read(scope, receive)
        except _Refused as refusal:
            await self._send(connection, refusal.answer, send)
            return
        except _Disconnected:
            return
        turns = self._turns.setdefault(client, asyncio.Semaphore(THREADS_OF_ADDRESS))
        async with turns:
            loop = asyncio.get_running_loop()
            answer = await loop.run_in_executor(self._threads, wsgi.call, self._app, scope, body)
        await self._send(connection, answer, send)

    def _check_rate(self, client: str) -> None:
        if wait := self._rates.take(client):
            retry = str(math.ceil(wait)).encode()
            raise _Refused(429, f"too many requests from {client}: send fewer", (b"retry-after", retry))

    async def _read(self, scope: Message, receive: Receive) -> bytes:
        """Returns the body; raises ``_Refused`` for one that is too large or too slow."""
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        too_large = _Refused(413, f"the body is larger than {MAX_BODY_BYTES:,} bytes")
        if int(announced) > MAX_BODY_BYTES:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _Disconnected
                    body += message["body"]
                    if len(body) > MAX_BODY_BYTES:
                        raise too_large
                    if not message["more_body"]:
                        return bytes(body)
        except TimeoutError:
            raise _Refused(408, f"the body was not here after {BODY_SECONDS:.0f} s") from None

    async def _send(self, connection: Connection, answer: Answer, send: Send) -> None:
        start = {"type": "http.response.start", "status": answer.status, "headers": list(answer.headers)}
        body = answer.body
        self._make_room(connection, len(body))
        # From here on the connection only waits for its client, and may be closed for another one.
        connection.busy = False
        self._connections.touch(connection)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await send(start)
                for at in range(0, len(body), CHUNK_BYTES):
                    await send(_part(body[at : at + CHUNK_BYTES], more=True))
                await send(_part(b"", more=False))
        except TimeoutError:
            connection.close()
        finally:
            self._unsent.pop(connection, None)

    def _make_room(self, connection: Connection, size: int) -> None:
        self._unsent[connection] = size
        total = sum(self._unsent.values())
        for slow in list(self._unsent):
            if total <= MAX_UNSENT_BYTES or slow is connection:
                break
            total -= self._unsent.pop(slow)
            slow.close()


def _part(body: bytes, more: bool) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}
