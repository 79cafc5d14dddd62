# SPDX-License-Identifier: GPL-3.0-or-later
"""Says what is wrong with a zone, from what stands in Redis alone."""

from __future__ import annotations

import ipaddress
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from typing import Any

import redis

from .replay import Replay, changes_of, shared_addresses

Fields = Mapping[str, str]


@dataclass(frozen=True)
class Picture:
    """All of a zone at one moment."""

    meta: Fields
    peers: Mapping[str, Any]
    leases: Mapping[str, Any]
    events: Sequence[tuple[str, Fields]]
    seen: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def take(cls, client: redis.Redis, zone: str) -> Picture:
        """Reads it in one transaction."""
        with client.pipeline(transaction=True) as pipe:
            for part in ("meta", "peers", "leases", "seen"):
                pipe.hgetall(f"{{{zone}}}:{part}")
            pipe.xrange(f"{{{zone}}}:events")
            meta, peers, leases, seen, events = pipe.execute()
        heard = {key: int(text) for key, text in seen.items()}
        return cls(meta, _decoded(peers), _decoded(leases), events, heard)


def _decoded(records: Fields) -> dict[str, Any]:
    return {key: json.loads(record) for key, record in records.items()}


def faults(picture: Picture) -> list[str]:
    """Every sentence is something that must never be, at no moment.

    A zone that is gone has no fault: whether it may be gone only the history tells.
    """
    if not picture.meta:
        return []
    return [
        *shared_addresses(picture.leases),
        *_places(picture),
        *_prefixes(picture.leases),
        *_members(picture),
        *_names(picture.peers),
        *_log(picture),
        *_story(picture),
    ]


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


def _names(peers: Mapping[str, Any]) -> Iterator[str]:
    for name, count in Counter(peer["n"] for peer in peers.values()).items():
        if count > 1:
            yield f"{count} peers are called {name}"


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
    # A zone that supervisors put back into an empty Redis goes on where it stood, with a log of its own.
    is_new = picture.meta["rev"] == "0" or "restored" in picture.meta
    if ends != stands or (not picture.events and not is_new):
        yield f"the zone stands at {stands} and its log of {len(picture.events)} events ends at {ends}"
    for (first, _), (second, fields) in pairwise(picture.events):
        before, after = position(first), position(second)
        # An epoch may begin further on, behind all that an older copy had already used.
        is_next = after[1] == before[1] + 1 or ("prev" in fields and after[1] > before[1])
        if not is_next:
            yield f"between {first} and {second} of the log lies a gap"
        says_so = fields.get("prev") == str(before[0]) or "zone" in fields
        if after[0] != before[0] and (not says_so or after[0] < before[0]):
            yield f"{second} opens an epoch after {first} and says {dict(fields)}"


def position(entry: str) -> tuple[int, int]:
    epoch, rev = entry.split("-")
    return int(epoch), int(rev)


def _story(picture: Picture) -> Iterator[str]:
    """Tells the log from its first event: no address twice on the way, and what is there now at the end."""
    begins = position(picture.events[0][0])[1] == 1 if picture.events else picture.meta["rev"] == "0"
    if not begins:
        return
    told = Replay()
    for entry, fields in picture.events:
        for change in changes_of(fields):
            told.apply(change)
        for fault in shared_addresses(told.leases):
            yield f"after {entry} {fault}"
    for what, ours, theirs in (
        ("peers", told.peers, picture.peers),
        ("leases", told.leases, picture.leases),
    ):
        keys = [key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)]
        if keys:
            yield f"the log does not come to the {what} that are there: {sorted(keys)}"
