# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections to the controller, over redis-py."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from ..core.errors import (
    ControllerDenied,
    ControllerUnreachable,
    MissingTool,
)
from ..zone.redis_keys import ZoneKeys
from . import bounded
from .address import TIMEOUT_SECONDS, ControllerAddress
from .errors import RedisErrorTranslator
from .reply_meter import NODE, Bounds

try:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry
    from redis.sentinel import MasterNotFoundError, Sentinel
except ImportError:  # the module or command reports how to install it; :data:`.bounded.HAS_REDIS`
    pass

# Short, since the next sentinel has the same data.
SENTINEL_TIMEOUT_SECONDS = 1.0


def connect(
    where: ControllerAddress, name: str = "jaywalk", alive: Callable[[], None] = lambda: None
) -> redis.Redis:
    """A connection that was tested with a PING; raises ``ControllerUnreachable`` or ``ControllerDenied``.

    Calls ``alive`` between the steps, each of which may take ``where.timeout``.
    """
    if not bounded.HAS_REDIS:
        raise MissingTool("redis")
    where = locate(where)
    alive()
    with RedisErrorTranslator(where):
        client = client_to(where, name)
        alive()
        client.ping()
        cast("bounded.BoundedConnection", client.connection).use_kernel_timeout()
    return client


def client_to(where: ControllerAddress, name: str, bounds: Bounds = NODE) -> redis.Redis:
    """A client of the Redis at ``where``, with a single connection that its first command opens."""
    pool = bounded.BoundedPool(
        bounds=bounds,
        tls=tls_context(where),
        host=where.host,
        port=where.port,
        username=where.user or None,
        password=where.password or None,
        decode_responses=True,
        encoding_errors="replace",
        socket_connect_timeout=min(where.timeout, TIMEOUT_SECONDS),
        socket_timeout=where.timeout,
        client_name=name,
        protocol=2,  # replies have the same form in all versions of redis-py
        retry=Retry(NoBackoff(), 0),  # the caller decides when to try again
    )
    # A pool reconnects silently, and nothing then checks that the log is still the same.
    client = bounded.BoundedRedis(connection_pool=pool, single_connection_client=True)
    client.auto_close_connection_pool = True
    return client


def tls_context(where: ControllerAddress) -> ssl.SSLContext | None:
    """The TLS of connections to ``where``; None in plain text.  Raises ``ControllerUnreachable``."""
    return where.tls.context() if where.encrypted else None


def certificate_end(where: ControllerAddress) -> float | None:
    """When the certificate of one server expires, in seconds since 1970; None in plain text.

    Makes a connection of its own and does not log in; raises ``ControllerUnreachable``.
    """
    context = tls_context(where)
    if context is None:
        return None
    with RedisErrorTranslator(where):
        connected = socket.create_connection((where.host, where.port), where.timeout)
        with bounded.encrypted(connected, context, where.host, NODE) as made:
            certificate = made.getpeercert() or {}
    return float(ssl.cert_time_to_seconds(str(certificate["notAfter"])))


def locate(where: ControllerAddress) -> ControllerAddress:
    """The address of the Redis server, from the sentinels or the cluster; resolved for each connection.

    Most sentinels need no login; others get the controller's.  Raises ``ControllerUnreachable`` or
    ``ControllerDenied``.
    """
    if where.nodes:
        return _shard(where)
    if not where.sentinels:
        return where
    login = {"username": where.user or None, "password": where.password}
    with RedisErrorTranslator(where):
        try:
            host, port = _primary(where)
        except MasterNotFoundError as error:
            if "uthentication" not in str(error) and "NOAUTH" not in str(error):
                raise _no_primary(where) from None
            try:
                host, port = _primary(where, **login)
            except MasterNotFoundError:
                raise _no_primary(where) from None
    return replace(where, host=host, port=port, sentinels=(), service="")


def _shard(where: ControllerAddress) -> ControllerAddress:
    """The primary that holds the zone; every server of the cluster redirects to it.

    Skips a server that does not know the zone's user, which the zone's own shard does.
    """
    trouble: ControllerUnreachable | ControllerDenied | None = None
    for host, port in where.nodes:
        here = replace(where, host=host, port=port, nodes=())
        try:
            with RedisErrorTranslator(here), client_to(here, "jaywalk-locate") as client:
                try:
                    client.hget(ZoneKeys(where.zone).meta, "epoch")
                except redis.exceptions.MovedError as moved:
                    return replace(here, host=moved.host or host, port=moved.port)
            return here
        except (ControllerUnreachable, ControllerDenied) as error:
            trouble = trouble if isinstance(trouble, ControllerDenied) else error
    raise trouble or ControllerUnreachable(f"the controller {where} names no server", "name one")


def _primary(where: ControllerAddress, **login: Any) -> tuple[str, int]:
    asked: Any = cast("Any", Sentinel)([])
    asked.sentinels = [_sentinel(*sentinel, tls_context(where), **login) for sentinel in where.sentinels]
    try:
        return cast("tuple[str, int]", asked.discover_master(where.service))
    finally:
        for sentinel in asked.sentinels:
            sentinel.close()


def _sentinel(host: str, port: int, tls: ssl.SSLContext | None, **login: Any) -> redis.Redis:
    pool = bounded.BoundedPool(
        bounds=NODE,
        tls=tls,
        host=host,
        port=port,
        socket_connect_timeout=SENTINEL_TIMEOUT_SECONDS,
        socket_timeout=SENTINEL_TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        **login,
    )
    client = bounded.BoundedRedis(connection_pool=pool)
    client.auto_close_connection_pool = True
    return client


def _no_primary(where: ControllerAddress) -> ControllerUnreachable:
    return ControllerUnreachable(
        f"no sentinel of {where} names a primary",
        f"check that the sentinels run, let us log in, and watch '{where.service}'",
    )
