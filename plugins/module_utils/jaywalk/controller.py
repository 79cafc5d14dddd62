# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the controller is, and connections to it, over redis-py.

redis-py's errors become ours here, so that no caller knows them and no password gets into a message.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, cast

from . import bounded, values
from .errors import (
    ControllerDenied,
    ControllerFull,
    ControllerUnreachable,
    InvalidValue,
    JaywalkError,
    MissingTool,
)
from .reply_meter import NODE, Bounds
from .zonelog import ZoneKeys

try:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry
    from redis.sentinel import MasterNotFoundError, Sentinel
except ImportError:  # the edge (a module) says how to get it
    HAS_REDIS = False
else:
    HAS_REDIS = True
    UNANSWERED = (redis.ConnectionError, redis.TimeoutError, redis.exceptions.RedisClusterException)

DEFAULT_PORT = 6379
SENTINEL_PORT = 26379
SENTINELS = "sentinel://"
CLUSTER = "cluster://"
SENTINEL_TIMEOUT = 1.0
"""Seconds for one sentinel, since the next one knows the same."""
TIMEOUT = 5.0
"""Seconds to connect, and to wait for an answer that Redis itself gives."""


@dataclass(frozen=True)
class ControllerAddress:
    """Where the controller is and as whom we come; ``password`` stays out of every text.

    Where ``sentinels`` are named, (host, port) each, they tell where the primary of ``service`` is, and
    ``host`` and ``port`` are those of the first of them.  Where ``nodes`` are named they are servers of a
    Redis Cluster, and ``zone`` says which zone's shard is meant.
    """

    host: str
    port: int = DEFAULT_PORT
    user: str = ""
    password: str = field(default="", repr=False)
    timeout: float = TIMEOUT
    sentinels: tuple[tuple[str, int], ...] = ()
    service: str = ""
    nodes: tuple[tuple[str, int], ...] = ()
    zone: str = ""

    @classmethod
    def parse(cls, text: str, user: str = "", password: str = "") -> ControllerAddress:
        """Reads ``HOST`` or ``HOST:PORT``, an IPv6 address in brackets when a port follows; or
        ``sentinel://HOST[:PORT],.../SERVICE``, with port 26379 unless given; or ``cluster://HOST[:PORT],...``.
        """
        if "@" in text:  # what stands before it may be a password
            raise InvalidValue("the controller's address holds an '@'", "give HOST or HOST:PORT")
        if text.startswith(CLUSTER):
            nodes = tuple(_host_and_port(each, DEFAULT_PORT) for each in text[len(CLUSTER) :].split(","))
            return cls(*nodes[0], user, password, nodes=nodes)
        if not text.startswith(SENTINELS):
            host, port = _host_and_port(text, DEFAULT_PORT)
            return cls(host, port, user, password)
        listed, _slash, service = text[len(SENTINELS) :].partition("/")
        if not re.fullmatch(r"[A-Za-z0-9._-]+", service):
            raise InvalidValue(
                f"the controller {values.shown(text)} names no service of its sentinels",
                "give sentinel://HOST[:PORT],HOST[:PORT]/SERVICE",
            )
        sentinels = tuple(_host_and_port(each, SENTINEL_PORT) for each in listed.split(","))
        return cls(*sentinels[0], user, password, sentinels=sentinels, service=service)

    @property
    def hosts(self) -> tuple[str, ...]:
        """All hosts that are named."""
        return tuple(host for host, _port in self.sentinels or self.nodes) or (self.host,)

    def __str__(self) -> str:
        listed = ",".join(values.join_endpoint(*each) for each in self.sentinels or self.nodes)
        if self.sentinels:
            return f"{SENTINELS}{listed}/{self.service}"
        return f"{CLUSTER}{listed}" if self.nodes else values.join_endpoint(self.host, self.port)


def _host_and_port(text: str, default_port: int) -> tuple[str, int]:
    host, colon, digits = text.rpartition(":")
    if not colon or (":" in host and not host.endswith("]")):
        host, digits = text, str(default_port)
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not _is_host(host):
        raise InvalidValue(f"the controller {values.shown(text)} does not parse", "give HOST or HOST:PORT")
    return host, values.port(digits, "controller's port")


def _is_host(text: str) -> bool:
    if ":" in text:
        try:
            return ipaddress.ip_address(text).version == 6
        except ValueError:
            return False
    return bool(text) and text.isprintable() and not any(letter in " /" for letter in text)


def agent_user(zone: str) -> str:
    """The Redis user of a zone's agents: it reaches this one zone and nothing else."""
    return f"agent-{zone}"


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
    with Translated(where):
        client = client_to(where, name)
        alive()
        client.ping()
        cast("Any", client.connection)._sock.let_the_kernel_time()
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
        socket_connect_timeout=min(where.timeout, TIMEOUT),
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
    with Translated(where):
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
            with Translated(here), client_to(here, "jaywalk-locate") as client:
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
        socket_connect_timeout=SENTINEL_TIMEOUT,
        socket_timeout=SENTINEL_TIMEOUT,
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


class Translated:
    """Turns redis-py's errors into ours, with the address and the user named and never the password.

    A class, since a node makes one at each wake-up, and ``contextmanager`` takes four times as long.
    """

    __slots__ = ("_where",)

    def __init__(self, where: ControllerAddress) -> None:
        self._where = where

    def __enter__(self) -> None:
        """Does nothing."""

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is not None and (ours := _translation(self._where, error)) is not None:
            raise ours from None


def _translation(where: ControllerAddress, error: BaseException) -> JaywalkError | None:
    user = f"user '{where.user or 'default'}'"
    refused = f"the controller {where} refused {user}"
    if isinstance(error, (redis.AuthenticationError, redis.exceptions.AuthorizationError)):
        return ControllerDenied(
            refused, "check the password, and that the zone exists ('jaywalk-supervisor zone list')"
        )
    if isinstance(error, redis.exceptions.NoPermissionError):
        return ControllerDenied(
            f"the controller {where} does not let {user} do this ({error})", "use a user that may"
        )
    if (unready := _unready(where, error)) is not None:
        return unready
    if isinstance(error, (*UNANSWERED, OSError, UnicodeError)):
        if "NOAUTH" in str(error) or "WRONGPASS" in str(error):
            return ControllerDenied(refused, "check the password")
        return ControllerUnreachable(
            f"the controller {where} cannot be reached ({_reason(error)})",
            "check that Redis runs there, listens on that address and is not behind a firewall",
        )
    if not isinstance(error, redis.RedisError):
        return None
    return ControllerDenied(
        f"the controller {where} refused a command ({error})", "look into the log of Redis"
    )


def _unready(where: ControllerAddress, error: BaseException) -> ControllerUnreachable | None:
    """What is said of a server that is there, and is not the Redis that it should be, or not yet again."""
    if isinstance(error, (redis.exceptions.AskError, redis.exceptions.ClusterDownError)):
        return ControllerUnreachable(
            f"the controller {where} does not hold the zone at the moment ({error})",
            "wait until the cluster is whole",
        )
    if isinstance(error, bounded.OddReply):
        return ControllerUnreachable(
            f"the controller {where} sends {error}", "is it Redis? Check what listens there"
        )
    if isinstance(error, redis.exceptions.ReadOnlyError) or str(error).startswith("UNBLOCKED"):
        return ControllerUnreachable(
            f"the controller {where} is a read-only replica",
            "name the primary, or make it one ('redis-cli REPLICAOF NO ONE')",
        )
    if is_full(error):
        return memory_trouble(where)
    if str(error).startswith("NOREPLICAS"):
        return ControllerUnreachable(
            f"the controller {where} has too few replicas to take anything in",
            "wait until its replicas are back",
        )
    return None


def is_full(error: BaseException) -> bool:
    """Whether Redis refused a command because its memory is full."""
    return isinstance(error, redis.ResponseError) and "used memory > 'maxmemory'" in str(error)


def memory_trouble(where: ControllerAddress) -> ControllerFull:
    """What is said of a Redis whose memory is full."""
    return ControllerFull(
        f"the controller {where} has no memory left",
        "give its Redis more ('maxmemory'), or remove what fills it ('redis-cli --memkeys' shows that)",
    )


def _reason(error: BaseException) -> str:
    if isinstance(error, UnicodeError):
        return "no such name"
    if isinstance(error.__context__, BlockingIOError):  # the kernel's word for a timeout
        return "no answer in time"
    return str(error).rstrip(".") or type(error).__name__
