# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections to Redis that limit each reply: the time that it takes, and its size.

redis-py applies its timeout to each piece of a reply, so it reads for ever from a server that sends one byte
at a time, and hiredis allocates as many elements as a header announces.  The limits apply below the parser,
in the socket, since redis-py has several parsers and none has limits.
"""

from __future__ import annotations

import math
import socket
import ssl
import struct
import time
from typing import Any, Union, cast

from ..core import validation
from . import reply_kinds
from .reply_meter import Bounds, BoundsExceeded, ReplyMeter
from .tls import HandshakeFailed, is_spoken_at

try:
    import redis
except ImportError:  # the module or command reports how to install it
    HAS_REDIS = False
else:
    HAS_REDIS = True

# A reply gets more time as it grows, at this rate, so that large replies pass on a slow network.
MIN_BYTES_PER_SECOND = 20_000_000


class _BoundedReads(socket.socket):
    """Reads with a deadline that pass through a :class:`.ReplyMeter`; on top of a kind of socket."""

    def limit_replies(self, bounds: Bounds) -> None:
        """Sets the limits of each reply; to be called once, on a connected socket."""
        self._meter = ReplyMeter(bounds)
        self._timeout = self.gettimeout()
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
        """Removes the deadline: redis-py also reads between two replies."""
        self._deadline = math.inf

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """As of any socket; raises ``BoundsExceeded``."""
        self._limit_by_deadline()
        try:
            piece = super().recv(buflen, flags)
        except (BlockingIOError, socket.timeout):
            self._refuse_slowness()
            raise
        if not flags:
            self._meter.take(piece)
        return piece

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        """As of any socket; raises ``BoundsExceeded``."""
        self._limit_by_deadline()
        try:
            count = super().recv_into(buffer, nbytes or 0, flags)
        except (BlockingIOError, socket.timeout):
            self._refuse_slowness()
            raise
        if not flags:
            self._meter.take(bytes(memoryview(buffer)[:count]))
        return count

    def _limit_by_deadline(self) -> None:
        """Limits a read to the time left for its reply, except for the first read of a reply."""
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
        self.settimeout(seconds)


class BoundedSocket(_BoundedReads):
    """A connected socket in plain text with limits."""

    def __init__(self, connected: socket.socket, bounds: Bounds) -> None:
        timeout = connected.gettimeout()
        super().__init__(connected.family, connected.type, connected.proto, connected.detach())
        self.settimeout(timeout)
        self.limit_replies(bounds)

    def use_kernel_timeout(self) -> None:
        """Lets the kernel apply the timeout (SO_RCVTIMEO, socket(7)).

        Python otherwise calls poll() before each read, which costs an agent CPU time for each event.
        """
        if self._timeout:
            self.settimeout(None)
            self._limit(self._timeout)

    def _limit(self, seconds: float | None) -> None:
        if self.gettimeout() is not None or seconds is None:
            self.settimeout(seconds)
            return
        span = struct.pack("@ll", int(seconds), int(seconds % 1 * 1_000_000) or 1)
        self.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, span)
        self.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, span)


class BoundedTlsSocket(_BoundedReads, ssl.SSLSocket):
    """A connected socket with TLS and limits; :func:`encrypted` makes it."""

    def use_kernel_timeout(self) -> None:
        """Does nothing: Python's ssl reads on for ever when the kernel's timeout ends a read."""

    def sendall(self, data: Any, flags: int = 0) -> None:
        """As of any socket; raises the alert with which the server closed the connection, if there is one."""
        try:
            super().sendall(data, flags)
        except (ssl.SSLEOFError, ConnectionError):
            self.recv(1)
            raise


def encrypted(
    connected: socket.socket, context: ssl.SSLContext, host: str, bounds: Bounds
) -> BoundedTlsSocket:
    """Makes the TLS handshake with ``host`` on a connected socket; raises ``HandshakeFailed``."""
    context.sslsocket_class = BoundedTlsSocket
    try:
        made = cast("BoundedTlsSocket", context.wrap_socket(connected, server_hostname=host))
    except OSError as error:
        connected.close()
        raise HandshakeFailed(str(error)) from error
    made.limit_replies(bounds)
    return made


Bounded = Union[BoundedSocket, BoundedTlsSocket]

if HAS_REDIS:

    class UnexpectedReply(redis.ConnectionError):
        """The server sent something that is not a valid reply; the text describes it."""

    class WantsTls(redis.ConnectionError):
        """The server closed a connection in plain text, and speaks TLS."""

    def unexpected_reply_to(command: object) -> UnexpectedReply:
        """The error for a reply of the wrong type for ``command``."""
        return UnexpectedReply(f"a reply to {command} of another kind than Redis's")

    class BoundedConnection(redis.Connection):
        """A connection to Redis over a :class:`BoundedSocket`, or with ``tls`` a :class:`BoundedTlsSocket`.

        A reply may take the connection's timeout plus ``blocked`` seconds.
        """

        def __init__(
            self, *args: Any, bounds: Bounds, tls: ssl.SSLContext | None = None, **settings: Any
        ) -> None:
            _untyped(super()).__init__(*args, **settings)
            self.bounds = bounds
            self.tls = tls
            self.blocked = 0.0
            self._by = math.inf
            self._bounded: Bounded | None = None
            self._reached = False

        def connect(self) -> None:
            """Connects and logs in; both together may take as long as one reply."""
            self._by = time.monotonic() + (self.socket_timeout or math.inf)
            try:
                _untyped(super()).connect()
            except redis.AuthenticationError:
                raise
            except redis.ConnectionError:
                closed = self._reached and self.tls is None
                if closed and is_spoken_at(self.host, self.port):
                    raise WantsTls("the server speaks TLS") from None
                raise
            finally:
                self._by = math.inf

        # The abstract method by which each of redis-py's kinds of connections gets its socket: redis-py has
        # no other way to hand one in.
        def _connect(self) -> Bounded:
            connected = _untyped(super())._connect()
            self._reached = True
            if self.tls is None:
                self._bounded = BoundedSocket(connected, self.bounds)
            else:
                self._bounded = encrypted(connected, self.tls, self.host, self.bounds)
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
        """A client that rejects replies of the wrong type for their command."""

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
        """A pool of such connections, as all clients of redis-py expect."""

        def __init__(self, **settings: Any) -> None:
            super().__init__(connection_class=BoundedConnection, **settings)


def _untyped(methods: object) -> Any:
    """The object itself; some methods of redis-py's classes have no types."""
    return methods
