# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections to Redis that bound what it may send: how long one reply takes, and how large it is.

redis-py waits a timeout for each piece that comes, so that a server which sends a byte now and then is read
for ever, and hiredis makes room for as many elements as a header announces.  The bounds lie below the
parser, in the socket, since there are several parsers and none has any.
"""

from __future__ import annotations

import math
import socket
import struct
import time
from typing import Any

from ..core import validation
from . import reply_kinds
from .reply_meter import Bounds, BoundsExceeded, ReplyMeter

try:
    import redis
except ImportError:  # the edge (a module) says how to get it
    HAS_REDIS = False
else:
    HAS_REDIS = True

MIN_BYTES_PER_SECOND = 20_000_000
"""Bytes a second at which a reply earns more time, so that large ones pass on a slow network."""


class BoundedSocket(socket.socket):
    """A connected socket whose reads end by a deadline and pass a meter."""

    def __init__(self, connected: socket.socket, bounds: Bounds) -> None:
        timeout = connected.gettimeout()
        super().__init__(connected.family, connected.type, connected.proto, connected.detach())
        self.settimeout(timeout)
        self._meter = ReplyMeter(bounds)
        self._timeout = timeout
        self._deadline = math.inf
        self._cut = False

    def begin(self, seconds: float) -> None:
        """Starts to wait for a reply, which may take ``seconds`` in all."""
        if self._cut:
            self._limit(self._timeout)
            self._cut = False
        self._meter.begin()
        self._deadline = time.monotonic() + seconds

    def end(self) -> None:
        """Ends that: what redis-py looks at between two replies has no deadline."""
        self._deadline = math.inf

    def recv(self, size: int, flags: int = 0) -> bytes:
        """As of any socket; raises ``BoundsExceeded``."""
        self._limit_by_deadline()
        try:
            piece = super().recv(size, flags)
        except (BlockingIOError, socket.timeout):
            self._refuse_slowness()
            raise
        if not flags:
            self._meter.take(piece)
        return piece

    def recv_into(self, buffer: Any, size: int = 0, flags: int = 0) -> int:
        """As of any socket; raises ``BoundsExceeded``."""
        self._limit_by_deadline()
        try:
            count = super().recv_into(buffer, size, flags)
        except (BlockingIOError, socket.timeout):
            self._refuse_slowness()
            raise
        if not flags:
            self._meter.take(bytes(memoryview(buffer)[:count]))
        return count

    def use_kernel_timeout(self) -> None:
        """Has the kernel watch over the timeout (SO_RCVTIMEO, socket(7)).

        Python does it by a poll() before each call, and an agent that wakes beside ten thousand pays for
        each.
        """
        if self._timeout:
            self.settimeout(None)
            self._limit(self._timeout)

    def _limit_by_deadline(self) -> None:
        """Has a read that is not the first of its reply end with the reply's time."""
        if self._meter.size == 0 or self._deadline == math.inf:
            return
        left = self._deadline + self._meter.size / MIN_BYTES_PER_SECOND - time.monotonic()
        self._cut = True
        if left <= 0:
            self._refuse_slowness()
        self._limit(min(left, self._timeout or left))

    def _refuse_slowness(self) -> None:
        if self._cut:
            raise BoundsExceeded(f"a reply so slowly that {self._meter.size} bytes of it came in its time")

    def _limit(self, seconds: float | None) -> None:
        if self.gettimeout() is not None or seconds is None:
            self.settimeout(seconds)
            return
        span = struct.pack("@ll", int(seconds), int(seconds % 1 * 1_000_000) or 1)
        self.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, span)
        self.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, span)


if HAS_REDIS:

    class UnexpectedReply(redis.ConnectionError):
        """What was sent is no reply that Redis gives to us; says what."""

    def unexpected_reply_to(command: object) -> UnexpectedReply:
        """The error for a reply of another kind than ``command`` has."""
        return UnexpectedReply(f"a reply to {command} of another kind than Redis's")

    class BoundedConnection(redis.Connection):
        """A connection to Redis over a :class:`BoundedSocket`.

        A reply may take as long as the connection's timeout, and ``blocked`` seconds more.
        """

        def __init__(self, *args: Any, bounds: Bounds, **settings: Any) -> None:
            _untyped(super()).__init__(*args, **settings)
            self.bounds = bounds
            self.blocked = 0.0
            self._by = math.inf
            self._bounded: BoundedSocket | None = None

        def connect(self) -> None:
            """Connects and logs in, which together may take as long as one reply."""
            self._by = time.monotonic() + (self.socket_timeout or math.inf)
            try:
                _untyped(super()).connect()
            finally:
                self._by = math.inf

        # The abstract method by which each of redis-py's kinds of connections gets its socket: redis-py has
        # no other way to hand one in.
        def _connect(self) -> BoundedSocket:
            self._bounded = BoundedSocket(_untyped(super())._connect(), self.bounds)
            return self._bounded

        def disconnect(self, *args: Any, **options: Any) -> None:
            """As of any connection."""
            self._bounded = None
            _untyped(super()).disconnect(*args, **options)

        def use_kernel_timeout(self) -> None:
            """See :meth:`BoundedSocket.use_kernel_timeout`; does nothing before the connection is made."""
            if self._bounded is not None:
                self._bounded.use_kernel_timeout()

        def read_response(self, *args: Any, **options: Any) -> Any:
            """The next reply; raises ``UnexpectedReply``."""
            connected = self._bounded
            if connected is None:
                return super().read_response(*args, **options)
            patience = (self.socket_timeout or math.inf) + self.blocked
            connected.begin(min(patience, self._by - time.monotonic()))
            try:
                return super().read_response(*args, **options)
            except BoundsExceeded as error:
                raise UnexpectedReply(str(error)) from None
            except RecursionError:
                raise UnexpectedReply("a reply of too many levels") from None
            except redis.exceptions.InvalidResponse as error:
                raise UnexpectedReply(f"what is no reply ({validation.shown(str(error))})") from None
            finally:
                connected.end()

    class BoundedRedis(redis.Redis):
        """A client that refuses replies of another kind than its command has."""

        def parse_response(self, connection: Any, command_name: Any, **options: Any) -> Any:
            """The reply to a command; raises ``UnexpectedReply``."""
            try:
                reply = _untyped(super()).parse_response(connection, command_name, **options)
            except (TypeError, ValueError, AttributeError, LookupError):
                raise unexpected_reply_to(command_name) from None
            if not reply_kinds.fits(command_name, reply):
                raise unexpected_reply_to(command_name)
            return reply

    class BoundedPool(redis.ConnectionPool):
        """The same as a pool, which is what all of redis-py's clients take."""

        def __init__(self, **settings: Any) -> None:
            super().__init__(connection_class=BoundedConnection, **settings)


def _untyped(methods: object) -> Any:
    """The methods of a class of redis-py, some of which have no types."""
    return methods
