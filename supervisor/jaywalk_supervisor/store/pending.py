# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes that wait for an operator's approval: ``{zone}:pending``, for people who decide about them.

No decision depends on these records: a node asks again each minute, whether it has one or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from jaywalk.core import validation
from jaywalk.core.errors import InvalidValue
from jaywalk.zone import codec
from jaywalk.zone.redis_keys import ZoneKeys
from jaywalk.zone.requests import Request

from .store import Store

# Of one zone; those that asked longest ago are forgotten first.
MAX_PENDING = 1000


@dataclass(frozen=True)
class Pending:
    """A node that asked to join first at ``since`` and last at ``last``, in seconds since 1970.

    The node chose ``name`` and ``endpoint`` itself.
    """

    key: str
    name: str = ""
    endpoint: str = ""
    since: int = 0
    last: int = 0

    @classmethod
    def from_wire(cls, key: str, record: object) -> Pending:
        """Reads a record; one that does not parse tells only that its key waits."""
        with suppress(InvalidValue):
            data = codec.mapping(record, "the record")
            return cls(
                key,
                validation.dns_label(data["name"]) if data.get("name") else "",
                validation.endpoint(data["endpoint"]) if data.get("endpoint") else "",
                codec.natural(data.get("since", 0), "time"),
                codec.natural(data.get("last", 0), "time"),
            )
        return cls(key)

    def to_wire(self) -> str:
        """The record as JSON."""
        fields = {"name": self.name, "endpoint": self.endpoint, "since": self.since, "last": self.last}
        return codec.compact({name: value for name, value in fields.items() if value})


def pending_of(store: Store, zone: str) -> list[Pending]:
    """Returns the nodes that wait in ``zone``, the one that asked first at the beginning.

    Not those that an operator decided about: their records stay if the zone wants no approval any more.
    """
    keys = ZoneKeys(zone)
    records = store.redis.hgetall(keys.pending)
    if not records:
        return []
    known = (store.redis.hmget(name, list(records)) for name in (keys.leases, keys.blocked))
    decided = {key for key, *found in zip(records, *known, strict=True) if any(found)}
    waiting = (Pending.from_wire(key, text) for key, text in records.items() if key not in decided)
    return sorted(waiting, key=lambda found: found.since)


def record(store: Store, zone: str, requests: Sequence[Request], now: float) -> None:
    """Records that the nodes of ``requests`` wait at the time ``now``."""
    if not requests:
        return
    name = ZoneKeys(zone).pending
    known = store.redis.hmget(name, [request.key for request in requests])
    records = {}
    for request, text in zip(requests, known, strict=True):
        since = Pending.from_wire(request.key, text).since if text else int(now)
        waiting = Pending(request.key, request.name, request.endpoint, since, int(now))
        records[request.key] = waiting.to_wire()
    store.redis.hset(name, mapping=records)
    surplus = int(store.redis.hlen(name)) - MAX_PENDING
    if surplus > 0:
        every = [Pending.from_wire(*item) for item in store.redis.hgetall(name).items()]
        oldest = sorted(every, key=lambda found: found.last)[:surplus]
        forget(store, zone, [found.key for found in oldest])


def forget(store: Store, zone: str, keys: Iterable[str]) -> None:
    """Removes the records of nodes that wait no more."""
    if gone := list(keys):
        store.redis.hdel(ZoneKeys(zone).pending, *gone)
