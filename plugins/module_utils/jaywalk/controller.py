# SPDX-License-Identifier: GPL-3.0-or-later
"""The client's side of the controller: snapshots, events, requests and their answers, over redis-py.

redis-py's errors become ours here, so that no caller knows them and no password gets into a message.
"""

from __future__ import annotations

import ipaddress
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, cast

from . import bounded, retention, values
from .errors import (
    ControllerDenied,
    ControllerFull,
    ControllerUnreachable,
    InvalidValue,
    JaywalkError,
    MissingTool,
    NoAnswer,
)
from .marks import Head, Place, marks_of, readable, remember
from .models import Lease, Zone
from .replies import AwaitedReply
from .reply_meter import NODE, Bounds
from .requests import EXPIRING_OPS, Reply, Request
from .zonelog import HEAD_FIELDS, Event, Fork, Gap, ZoneKeys, ZoneView, history_of, wait_of

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
FIRST_REPEAT = 2.0
"""Seconds until an unanswered request is sent again; doubles each time (the request is idempotent)."""
PAGE = 500
"""Records read at a time."""
EVENTS_PAGE = 100
"""Events read at a time: a commit has up to 256 kB of records and one request more."""
MAX_PAGES = 2000
"""Of one hash: a million records, and far more than any zone has."""
BLOCKED = 0.8
"""The part of a connection's timeout for which Redis may be had to wait for news."""

_PUSH = "#!lua flags=allow-oom\nreturn redis.call('RPUSH', KEYS[1], ARGV[1])"

Entry = tuple[str, dict[str, str]]
"""One entry of a stream: its id and its fields."""
RawEntry = tuple[str, list[str]]
"""The same as Redis sends it: each field's name, then its value."""


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
    client = redis.Redis(connection_pool=pool, single_connection_client=True)
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
    client = redis.Redis(connection_pool=pool)
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
    if isinstance(error, redis.exceptions.ReadOnlyError):
        return ControllerUnreachable(f"the controller {where} is a read-only replica", "name the primary")
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


class ZoneClient:
    """One node's or operator's view of one zone, on one connection.

    ``alive`` is called before each command, which may take ``where.timeout``.
    """

    def __init__(
        self,
        client: redis.Redis,
        where: ControllerAddress,
        zone: str,
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        self.client = client
        self.where = where
        self.keys = ZoneKeys(zone)
        self.zone = zone
        self.alive = alive
        self._awaited: AwaitedReply | None = None

    def snapshot(self) -> ZoneView:
        """The zone as it stands, read by pages; amid commits the newer record wins.

        Raises ``InvalidValue`` where there is no such zone yet.
        """
        view = self.head()
        for key, record in self._records(self.keys.peers):
            view.put(key, record)
        self._catch_up(view)
        return view

    def resync(self, before: ZoneView, own_key: str) -> tuple[ZoneView, retention.Merged]:
        """The zone as it stands, with what the controller lost of it since ``before``; raises like
        :meth:`snapshot`.
        """
        view = self.snapshot()
        shared = retention.shared_by(view, before, self._mark_at)
        lost = retention.missing(view, before, shared)
        left = retention.departed(self._events(shared.least), before, shared) if lost else set()
        return view, retention.merge(view, before, shared, left, own_key, time.time())

    def _mark_at(self, place: Place) -> str:
        """The mark that the log has at ``place``, empty where it holds none."""
        entry = "{}-{}".format(*place)
        with self._asking():
            entries = cast("list[Entry]", self.client.xrange(self.keys.events, entry, entry, count=1))
        try:
            return Event.from_entry(*entries[0]).mark if entries else ""
        except InvalidValue:
            return ""

    def _events(self, since: Place) -> Iterator[Event]:
        """The part of the log after ``since``, as far as it goes back."""
        after = "({}-{}".format(*since) if any(since) else "-"
        while True:
            with self._asking():
                entries = cast(
                    "list[Entry]", self.client.xrange(self.keys.events, after, "+", count=EVENTS_PAGE)
                )
            for entry in entries:
                with suppress(InvalidValue):
                    yield Event.from_entry(*entry)
            if len(entries) < EVENTS_PAGE:
                return
            after = f"({entries[-1][0]}"

    def _catch_up(self, view: ZoneView) -> None:
        """Reads on until the log has reached the newest record, since only then the copy is of one moment."""
        newest = max((peer.rev for peer in view.peers.values()), default=0)
        before = ""
        while view.rev < newest and view.position != before:
            before = view.position
            self.alive()
            try:
                self.read(view)
            except Gap:
                return

    def head(self) -> ZoneView:
        """The zone without its peers; raises like :meth:`snapshot`."""
        with self._asking():
            meta = cast("dict[str, str]", self.client.hgetall(self.keys.meta))
        if not meta:
            raise self._unknown_zone()
        return view_from_meta(self.zone, meta)

    def lease(self, key: str) -> Lease | None:
        """The lease of one key, or None; only operators may read it."""
        with self._asking():
            record = self.client.hget(self.keys.leases, key)
        return None if record is None else Lease.from_wire(key, record)

    def leases(self) -> list[Lease]:
        """All leases of the zone by key that can be read; only operators may read them."""
        return self.lease_records()[0]

    def lease_records(self) -> tuple[list[Lease], dict[str, str]]:
        """As :meth:`leases`, and by their keys why the records of others do not parse."""
        records = dict(self._records(self.keys.leases))
        leases: list[Lease] = []
        unreadable: dict[str, str] = {}
        for key in sorted(records):
            try:
                leases.append(Lease.from_wire(key, records[key]))
            except InvalidValue as error:
                unreadable[key] = error.problem
        return leases, unreadable

    def has_unreadable_record(self, key: str) -> bool:
        """Whether the zone has a record of ``key`` from which its lease cannot be read."""
        try:
            if self.lease(key) is not None:
                return False
        except InvalidValue:
            return True
        with Translated(self.where):
            return self.client.hget(self.keys.peers, key) is not None

    def seen(self) -> dict[str, int]:
        """When each key was last heard of, in seconds since 1970; only operators may read it."""
        with self._asking():
            return seen_at(cast("dict[str, str]", self.client.hgetall(self.keys.seen)))

    def _records(self, name: str) -> Iterator[tuple[str, str]]:
        """What a hash holds, read by pages; a field that is set meanwhile may come twice."""
        cursor = 0
        for _page in range(MAX_PAGES):
            with self._asking():
                cursor, records = cast("Any", self.client.hscan(name, cursor, count=PAGE))
            yield from records.items()
            if cursor == 0:
                return
        raise ControllerUnreachable(
            f"the controller {self.where} sends records without end", "is it Redis? Check what listens there"
        )

    def goes_on_from(self, view: ZoneView) -> bool:
        """Whether the log still goes on from where ``view`` stands; raises like :meth:`snapshot`."""
        with self._asking():
            fields = cast("list[str | None]", self.client.hmget(self.keys.meta, *HEAD_FIELDS))
        return self._leads_on(view, self._head(fields))

    def _leads_on(self, view: ZoneView, head: Head) -> bool:
        """Whether the log goes on from where ``view`` stands to ``head``."""
        if head.place <= view.head.place:
            return not head.is_before(view.head)
        following = f"{view.epoch}-{view.rev + 1}"
        return self._has(view, following, following) or self._has(view, f"{view.epoch + 1}-0", "+")

    def _has(self, view: ZoneView, first: str, last: str) -> bool:
        """Whether the first entry from ``first`` to ``last`` follows on ``view``.

        One entry tells: who was away for long is spared a page of a log that was trimmed beyond it, and who
        lost nothing in a restart of Redis sees that by the entry which opened the new epoch.
        """
        with self._asking():
            entries = cast("list[Entry]", self.client.xrange(self.keys.events, first, last, count=1))
        try:
            return any(Event.from_entry(*entry).follows(view.head) for entry in entries)
        except (InvalidValue, Gap):
            return False

    def _head(self, fields: Sequence[str | None]) -> Head:
        """Where the zone stands, by the ``HEAD_FIELDS`` of its meta data; raises ``InvalidValue``."""
        epoch, rev, mark = fields
        if epoch is None or rev is None:
            raise self._unknown_zone()
        return Head.from_fields(epoch, rev, mark)

    def _unknown_zone(self) -> InvalidValue:
        return InvalidValue(
            f"the zone '{self.zone}' is unknown to the controller {self.where}",
            "make it with 'jaywalk-supervisor zone add', or start the supervisor",
        )

    def read(self, view: ZoneView, nonce: str = "", block: float = 0.0) -> tuple[set[str], Reply | None]:
        """Waits up to ``block`` seconds for events and, if ``nonce`` is given, for that request's answer.

        Takes the events into ``view`` and returns the keys that changed, and the reply if it came; with a
        reply ``view`` has reached the commit that it is about.  Raises ``Gap`` where only a snapshot helps.
        """
        awaited = self._awaiting(nonce) if nonce else None
        streams: dict[str, str] = {self.keys.events: view.position}
        batches = self._xread({**streams, **awaited.positions} if awaited else streams, block)
        text = awaited.take(batches) if awaited else None
        reply = None if text is None else Reply.from_wire(text)
        entries = batches.get(self.keys.events, [])
        changed = _take_in(view, entries)
        while reply is not None and len(entries) == EVENTS_PAGE:
            self.alive()
            entries = self._xread({self.keys.events: view.position}, 0).get(self.keys.events, [])
            changed |= _take_in(view, entries)
        return changed, reply

    def check_in(self, view: ZoneView, report: Request | None = None) -> None:
        """Sends a report, if there is one, and looks in the same round trip whether the log is still the one
        that ``view`` follows: one that was emptied or put back to an older copy says nothing by itself.

        Raises ``Gap`` where it is another, and as well like :meth:`snapshot`.
        """
        reports = [("RPUSH", self.keys.inbox, report.to_wire())] if report is not None else []
        fields, *refusals = self._pipelined([("HMGET", self.keys.meta, *HEAD_FIELDS), *reports])
        head = self._head(fields)
        if head.is_before(view.head):
            raise Fork(
                f"zone {self.zone} was followed up to {view.head} and stands at {head}: "
                "Redis was put back to an older copy"
            )
        if not self._leads_on(view, head):
            raise Gap(f"the log of zone {self.zone} stands at {head} and does not go on from {view.head}")
        with self._asking():
            for refusal in refusals:
                if isinstance(refusal, redis.ResponseError):
                    raise refusal

    def _pipelined(self, commands: Sequence[tuple[str, ...]]) -> list[Any]:
        """The answers to several commands in one round trip; refusals as errors among them but for the first.

        redis-py's own pipeline would open a second connection.
        """
        connection: Any = self.client.connection
        answers: list[Any] = []
        with self._asking():
            connection.send_packed_command(connection.pack_commands(commands))
            for _each in commands:
                try:
                    answers.append(connection.read_response())
                except redis.ResponseError as error:
                    answers.append(error)
            if isinstance(answers[0], redis.ResponseError):
                raise answers[0]
        return answers

    def submit(self, request: Request, to: str = "") -> None:
        """Puts a request into the zone's inbox (or the list ``to``); it may be sent twice without harm."""
        name, text = to or self.keys.inbox, request.to_wire()
        with self._asking():
            try:
                self.client.rpush(name, text)
            except redis.ResponseError as error:
                if name != self.keys.orders or not is_full(error):
                    raise
                self.client.eval(_PUSH, 1, name, text)  # an operator may have come to free memory
        if request.nonce:  # sent again: Redis may have been put back, and ids then begin anew
            self._awaited = None

    def _awaiting(self, nonce: str) -> AwaitedReply:
        if self._awaited is None or self._awaited.nonce != nonce:
            self._awaited = AwaitedReply(self.keys, nonce)
        return self._awaited

    def now(self) -> float | None:
        """The controller's clock, in seconds since 1970; None for a user that may not ask for it."""
        try:
            with Translated(self.where):
                seconds, microseconds = self.client.time()
        except ControllerDenied:  # of a supervisor of an older version, or made by hand
            return None
        return seconds + microseconds / 1e6

    def expiring(self, request: Request, timeout: float) -> Request:
        """``request`` with the end of ``timeout`` seconds in it, less what its answer may take."""
        if request.op not in EXPIRING_OPS or (now := self.now()) is None:
            return request
        return replace(request, expires=int((now + timeout - min(1.0, timeout / 10)) * 1000))

    def ask(self, request: Request, timeout: float, to: str = "") -> Reply:
        """Sends a request until it is answered; raises ``NoAnswer`` after ``timeout`` seconds.

        An order or a join that nobody answered by then is carried out no more.
        """
        deadline = time.monotonic() + timeout
        request = self.expiring(request, timeout)
        pause = FIRST_REPEAT
        while (now := time.monotonic()) < deadline:
            self.submit(request, to)
            awaited, until = self._awaiting(request.nonce), min(now + pause, deadline)
            while (left := until - time.monotonic()) > 0:
                text = awaited.take(self._xread(awaited.positions, left))
                if text is not None:
                    return Reply.from_wire(text)
            pause *= 2
        lapsed = ", and it will not be carried out any more" if request.expires else ""
        raise NoAnswer(
            f"no supervisor answered the request for zone '{self.zone}' within {timeout:g} seconds{lapsed}",
            "check that jaywalk-supervisor runs and reaches the same controller",
        )

    def _asking(self) -> Translated:
        self.alive()
        return Translated(self.where)

    def _xread(self, streams: dict[str, str], block: float) -> dict[str, list[RawEntry]]:
        """One XREAD, straight on the client's connection.

        Redis answers all readers of a zone in one go, so that what each of them spends counts; the way
        through ``Redis.xread`` takes as long as all that we then do with an event.
        """
        wait = max(1, int(min(block, self.where.timeout * BLOCKED) * 1000))
        connection: Any = self.client.connection
        connection.blocked = wait / 1000
        with Translated(self.where):
            connection.send_command(
                "XREAD", "COUNT", EVENTS_PAGE, "BLOCK", wait, "STREAMS", *streams, *streams.values()
            )
            answer = connection.read_response()
        connection.blocked = 0.0
        return dict(answer or ())


def _paired(words: list[str]) -> dict[str, str]:
    """The fields of an entry by name."""
    return dict(zip(words[::2], words[1::2]))


def seen_at(record: Mapping[str, str]) -> dict[str, int]:
    """``{zone}:seen`` as numbers; what is none is left out, since nothing rests on it."""
    return {key: int(text) for key, text in record.items() if text.isascii() and text.isdigit()}


def _take_in(view: ZoneView, entries: list[RawEntry]) -> set[str]:
    """Applies events as Redis gave them; returns the keys that changed, raises ``Gap``."""
    changed: set[str] = set()
    for entry_id, words in entries:
        try:
            changed |= view.apply(Event.from_entry(entry_id, _paired(words)))
        except InvalidValue as error:
            raise Gap(str(error)) from None
    return changed


def view_from_meta(zone: str, meta: dict[str, str]) -> ZoneView:
    """An empty copy of a zone at the position that its meta names."""
    try:
        epoch, rev, wait_ms = int(meta["epoch"]), int(meta["rev"]), wait_of(meta["wait_ms"])
    except (KeyError, ValueError):
        raise InvalidValue(
            f"the meta data of zone '{zone}' do not parse", "check the supervisor's log"
        ) from None
    history = history_of(meta.get("history", ""))
    ends = marks_of(meta.get("marks", ""))
    marks = {place: ends[place[0]] for place in history if place[0] in ends}
    remember(marks, (epoch, rev), readable(meta.get("mark")))
    return ZoneView(Zone.from_wire(zone, meta), epoch, rev, wait_ms=wait_ms, history=history, marks=marks)
