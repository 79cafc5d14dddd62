# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections to the controller, over redis-py."""

from __future__ import annotations

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
from .errors import HAS_REDIS, RedisErrorTranslator
from .reply_meter import NODE, Bounds

try:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry
    from redis.sentinel import MasterNotFoundError, Sentinel
except ImportError:  # the edge (a module) says how to get it; :data:`.errors.HAS_REDIS`
    pass

SENTINEL_TIMEOUT_SECONDS = 1.0
"""Seconds for one sentinel, since the next one knows the same."""


def connect(
    where: ControllerAddress, name: str = "jaywalk", alive: Callable[[], None] = lambda: None
) -> redis.Redis:
    """A connection that is proven to work; raises ``ControllerUnreachable`` or ``ControllerDenied``.

    ``alive`` is called between the steps, each of which may take ``where.timeout``.
    """
    if not HAS_REDIS:
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
    """A client of the Redis at ``where``, on a single connection that is made by its first command."""
    pool = bounded.BoundedPool(
        bounds=bounds,
        host=where.host,
        port=where.port,
        username=where.user or None,
        password=where.password or None,
        decode_responses=True,
        encoding_errors="replace",
        socket_connect_timeout=min(where.timeout, TIMEOUT_SECONDS),
        socket_timeout=where.timeout,
        client_name=name,
        protocol=2,  # answers have one shape in all versions of redis-py
        retry=Retry(NoBackoff(), 0),  # whoever calls knows better when to try again
    )
    # A pool mends a lost connection silently, and nobody then asks whether the log is still the same.
    client = bounded.BoundedRedis(connection_pool=pool, single_connection_client=True)
    client.auto_close_connection_pool = True
    return client


def locate(where: ControllerAddress) -> ControllerAddress:
    """The Redis itself, asked of the sentinels or the cluster; to be done anew for each connection.

    Most sentinels need no login; one that does gets the controller's.  Raises ``ControllerUnreachable`` or
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
    """The primary of the cluster that holds the zone: whichever server is asked, it names that one.

    A server that does not know the zone's user is passed over; the zone's own shard does.
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
    asked.sentinels = [_sentinel(*each, **login) for each in where.sentinels]
    try:
        return cast("tuple[str, int]", asked.discover_master(where.service))
    finally:
        for each in asked.sentinels:
            each.close()


def _sentinel(host: str, port: int, **login: Any) -> redis.Redis:
    pool = bounded.BoundedPool(
        bounds=NODE,
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
