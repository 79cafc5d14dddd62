# SPDX-License-Identifier: GPL-3.0-or-later
"""A bare connection to Redis: a socket and hiredis."""

from __future__ import annotations

import socket

import hiredis


def pack_command(*arguments: str | int | bytes) -> bytes:
    """Return a command in Redis's protocol (RESP)."""
    # The stub of hiredis has tuples of one element only.
    command: bytes = hiredis.pack_command(arguments)  # type: ignore[arg-type]
    return command


def connect_raw(address: list[str]) -> socket.socket:
    """Return an authenticated connection; ``address`` is host, port, user and password."""
    host, port, user, password = address
    connection = socket.create_connection((host, int(port)))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(pack_command("AUTH", user, password))
    assert connection.recv(64) == b"+OK\r\n"
    return connection
