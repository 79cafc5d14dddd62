# SPDX-License-Identifier: GPL-3.0-or-later
"""Says what is wrong with a zone, from what stands in Redis alone; knows no code of the product."""

from __future__ import annotations

import ipaddress
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import redis

Fields = Mapping[str, str]


@dataclass(frozen=True)
class Picture:
    """All of a zone at one moment."""

    meta: Fields
    peers: Mapping[str, Any]
    leases: Mapping[str, Any]
    events: Sequence[tuple[str, Fields]]

    @classmethod
    def take(cls, client: redis.Redis, zone: str) -> Picture:
        """Reads it in one transaction."""
        with client.pipeline(transaction=True) as pipe:
            for part in ("meta", "peers", "leases"):
                pipe.hgetall(f"{{{zone}}}:{part}")
            pipe.xrange(f"{{{zone}}}:events")
            meta, peers, leases, events = pipe.execute()
        return cls(meta, _decoded(peers), _decoded(leases), events)


def _decoded(records: Fields) -> dict[str, Any]:
    return {key: json.loads(record) for key, record in records.items()}


def faults(picture: Picture) -> list[str]:
    """Every sentence is something that must never be, at no moment."""
    return [
        *_addresses(picture.leases),
        *_places(picture),
        *_prefixes(picture.leases),
        *_members(picture),
        *_log(picture),
        *_story(picture),
    ]


def _addresses(leases: Mapping[str, Any]) -> Iterator[str]:
    holders: dict[str, str] = {}
    for key, lease in leases.items():
        for address in lease["a"]:
            if address in holders:
                yield f"{address} is leased to {holders[address]} and to {key}"
            holders[address] = key


def _places(picture: Picture) -> Iterator[str]:
    pools = [ipaddress.ip_network(pool) for pool in json.loads(picture.meta["pools"])]
    for key, lease in picture.leases.items():
        versions = []
        for text in lease["a"]:
            address = ipaddress.ip_address(text)
            versions.append(address.version)
            pool = next((pool for pool in pools if address in pool), None)
            if pool is None:
                yield f"{text} of {key} lies in no pool"
            elif address == pool.network_address or (pool.version == 4 and address == pool.broadcast_address):
                yield f"{text} of {key} is the network's own"
        if sorted(versions) != sorted({pool.version for pool in pools}):
            yield f"{key} has the addresses {lease['a']} in a zone with {picture.meta['pools']}"


def _prefixes(leases: Mapping[str, Any]) -> Iterator[str]:
    announced = [
        (ipaddress.ip_network(prefix), key) for key, lease in leases.items() for prefix in lease.get("p", ())
    ]
    for (one, holder), (other, second) in combinations(announced, 2):
        if one.version == other.version and one.overlaps(other):
            yield f"{one} of {holder} overlaps {other} of {second}"


def _members(picture: Picture) -> Iterator[str]:
    for key, peer in picture.peers.items():
        lease = picture.leases.get(key)
        if lease is None:
            yield f"the peer {key} has no lease"
        elif lease.get("t") is not None:
            yield f"the peer {key} is in the mesh and its lease is not live"
        elif (peer["a"], peer.get("p", [])) != (lease["a"], lease.get("p", [])):
            yield f"the peer {key} says {peer} and its lease {lease}"
    for key, lease in picture.leases.items():
        if lease.get("t") is None and key not in picture.peers:
            yield f"the lease of {key} is live and it is no peer"


def _log(picture: Picture) -> Iterator[str]:
    stands = f"{picture.meta['epoch']}-{picture.meta['rev']}"
    ends = picture.events[-1][0] if picture.events else stands
    if ends != stands or (not picture.events and picture.meta["rev"] != "0"):
        yield f"the zone stands at {stands} and its log of {len(picture.events)} events ends at {ends}"
    for (first, _), (second, fields) in pairwise(picture.events):
        before, after = position(first), position(second)
        if after[1] != before[1] + 1:
            yield f"between {first} and {second} of the log lies a gap"
        if after[0] != before[0] and (fields.get("prev") != str(before[0]) or after[0] < before[0]):
            yield f"{second} opens an epoch after {first} and says {dict(fields)}"


def position(entry: str) -> tuple[int, int]:
    epoch, rev = entry.split("-")
    return int(epoch), int(rev)


def _story(picture: Picture) -> Iterator[str]:
    """Tells the log from its first event: no address twice on the way, and the peers of today at the end."""
    if picture.events and position(picture.events[0][0])[1] != 1:
        return
    told: dict[str, Any] = {}
    for entry, fields in picture.events:
        for sign, key, *record in json.loads(fields.get("o", "[]")):
            if sign == "+":
                told[key] = record[0]
            elif sign == "-":
                told.pop(key, None)
        for fault in _addresses(told):
            yield f"after {entry} {fault}"
    if told != picture.peers:
        keys = [key for key in told.keys() | picture.peers.keys() if told.get(key) != picture.peers.get(key)]
        yield f"the log does not come to the peers that are there: {sorted(keys)}"


class Tap:
    """Reads a zone's log as it grows, and says when an entry is rewritten or gone that must stay.

    ``era`` gives the number of tails that Redis lost so far; what was seen after the last one must stay.
    """

    def __init__(self, connect: Callable[[], redis.Redis], zone: str, era: Callable[[], int]) -> None:
        self.seen: dict[str, tuple[Fields, int]] = {}
        self.faults: list[str] = []
        self._connect, self._events, self._era = connect, f"{{{zone}}}:events", era
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            with suppress(redis.RedisError, OSError), self._connect() as client:
                era, last = self._era(), "0"
                # What is seen after a loss is seen anew, from whoever has the zone then.
                while not self._stop.is_set() and self._era() == era:
                    answer: Any = client.xread({self._events: last}, block=300)
                    for entry, fields in dict(answer).get(self._events, []) if answer else []:
                        self.take(entry, fields, era)
                        last = entry

    def take(self, entry: str, fields: Fields, era: int) -> None:
        known, first_era = self.seen.get(entry, (fields, era))
        if known != fields:
            self.faults.append(f"the revision {entry} was used twice: {dict(known)}, then {dict(fields)}")
        self.seen[entry] = (fields, max(era, first_era))

    def lost(self, picture: Picture) -> Iterator[str]:
        """What was in the log in this era and is not any more."""
        there = {entry for entry, _ in picture.events}
        for entry, (_, era) in self.seen.items():
            if era == self._era() and entry not in there:
                yield f"the event {entry} is gone although Redis lost nothing since"
