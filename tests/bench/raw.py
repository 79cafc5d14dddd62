# SPDX-License-Identifier: GPL-3.0-or-later
"""A bare connection to Redis: a socket, and hiredis to write and read."""

from __future__ import annotations

import socket

import hiredis


def packed(*words: str | int | bytes) -> bytes:
    """A command as it travels."""
    # The stub of hiredis knows tuples of one word only.
    command: bytes = hiredis.pack_command(words)  # type: ignore[arg-type]
    return command


def connected(way: list[str]) -> socket.socket:
    """A connection that is logged in; ``way`` is host, port, user and password."""
    host, port, user, password = way
    connection = socket.create_connection((host, int(port)))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(packed("AUTH", user, password))
    assert connection.recv(64) == b"+OK\r\n"
    return connection
