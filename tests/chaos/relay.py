# SPDX-License-Identifier: GPL-3.0-or-later
"""A TCP relay in front of servers: forwards bytes until a test cuts or freezes it."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import Callable, Iterable
from functools import partial
from types import TracebackType

from jaywalk_agent.host.netns import inside


class Relay:
    """Listens on one port for each of the ``ports`` of loopback, in its own thread.

    After a freeze, ``heal`` delivers the held requests and replies late. If a sentinel or a shard names one
    of ``ports`` to its client, the relay replaces it with its own port. Its clients are on loopback, or on
    that of the network namespace ``netns``; the ``ports`` are in the namespace of this process.
    """

    def __init__(self, ports: Iterable[int], netns: str = "") -> None:
        # The relay's own port for each server's port.
        self.ports = dict.fromkeys(ports, 0)
        # A port in RESP: alone as a text or a number, or after the address in a redirection.
        self._named = re.compile(rb"(?<=[\n:])(%s)(?=\r\n)" % b"|".join(b"%d" % port for port in self.ports))
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)
        self._connections: set[asyncio.Task[None]] = set()
        self._open = asyncio.Event()
        self._netns = netns
        self._is_cut = False

    def __enter__(self) -> Relay:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()
        self._call(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self) -> None:
        """Close all connections and accept no new ones."""
        self._call(self._cut)

    def freeze(self) -> None:
        """Keep the connections open and forward nothing in either direction."""
        self._call(self._open.clear)

    def heal(self) -> None:
        self._call(self._heal)

    def _call(self, action: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(action)

    def _cut(self) -> None:
        self._is_cut = True
        for task in self._connections:
            task.cancel()

    def _heal(self) -> None:
        self._is_cut = False
        self._open.set()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._open.set()
        servers = [self._loop.run_until_complete(self._listen(port)) for port in self.ports]
        self._ready.set()
        self._loop.run_forever()
        for server in servers:
            server.close()
        self._loop.run_until_complete(asyncio.sleep(0))

    async def _listen(self, port: int) -> asyncio.Server:
        with inside(self._netns):
            listener = socket.create_server(("127.0.0.1", 0))
        server = await asyncio.start_server(partial(self._forward, port), sock=listener)
        self.ports[port] = int(server.sockets[0].getsockname()[1])
        return server

    async def _forward(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = [writer]
        own = asyncio.current_task()
        assert own is not None
        self._connections.add(own)
        try:
            if self._is_cut:
                return
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", port)
            writers.append(server_writer)
            directions = [
                asyncio.create_task(self._pump(reader, server_writer)),
                asyncio.create_task(self._pump(server_reader, writer, self._renamed)),
            ]
            try:
                await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for direction in directions:
                    direction.cancel()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._connections.discard(own)
            for each in writers:
                each.close()

    def record(self, data: bytes) -> None:
        """Take note of bytes on their way; this relay does nothing with them."""

    def _renamed(self, data: bytes) -> bytes:
        return self._named.sub(lambda found: b"%d" % self.ports[int(found[0])], data)

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        passed: Callable[[bytes], bytes] = bytes,
    ) -> None:
        while True:
            try:
                data = await reader.read(65536)
                await self._open.wait()
                if not data:
                    return
                self.record(data)
                writer.write(passed(data))
                await writer.drain()
            except OSError:
                return
