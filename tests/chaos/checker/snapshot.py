# SPDX-License-Identifier: GPL-3.0-or-later
"""The invariants of a zone at one moment, checked on the data in Redis alone."""

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
class ZoneSnapshot:
    """All data of a zone at one moment."""

    meta: Fields
    peers: Mapping[str, Any]
    leases: Mapping[str, Any]
    events: Sequence[tuple[str, Fields]]
    seen: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, client: redis.Redis, zone: str) -> ZoneSnapshot:
        """Read it in one transaction."""
        with client.pipeline(transaction=True) as pipe:
            for part in ("meta", "peers", "leases", "seen"):
                pipe.hgetall(f"{{{zone}}}:{part}")
            pipe.xrange(f"{{{zone}}}:events")
            meta, peers, leases, seen, events = pipe.execute()
        last_seen = {key: int(text) for key, text in seen.items()}
        return cls(meta, _decoded(peers), _decoded(leases), events, last_seen)


def _decoded(records: Fields) -> dict[str, Any]:
    return {key: json.loads(record) for key, record in records.items()}


def faults(snapshot: ZoneSnapshot) -> list[str]:
    """Return a sentence for each violated invariant.

    A missing zone has no fault here: only the history shows whether it may be missing.
    """
    if not snapshot.meta:
        return []
    return [
        *shared_addresses(snapshot.leases),
        *_addresses(snapshot),
        *_prefixes(snapshot.leases),
        *_members(snapshot),
        *_names(snapshot.peers),
        *_log(snapshot),
        *_log_replays_to_state(snapshot),
    ]


def _addresses(snapshot: ZoneSnapshot) -> Iterator[str]:
    pools = [ipaddress.ip_network(pool) for pool in json.loads(snapshot.meta["pools"])]
    for key, lease in snapshot.leases.items():
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
            yield f"{key} has the addresses {lease['a']} in a zone with {snapshot.meta['pools']}"


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


def _members(snapshot: ZoneSnapshot) -> Iterator[str]:
    for key, peer in snapshot.peers.items():
        lease = snapshot.leases.get(key)
        if lease is None:
            yield f"the peer {key} has no lease"
        elif lease.get("t") is not None:
            yield f"the peer {key} is in the mesh and its lease is not live"
        elif (peer["a"], peer.get("p", [])) != (lease["a"], lease.get("p", [])):
            yield f"the peer {key} is {peer} and its lease {lease}"
    for key, lease in snapshot.leases.items():
        if lease.get("t") is None and key not in snapshot.peers:
            yield f"the lease of {key} is live and it is no peer"


def _log(snapshot: ZoneSnapshot) -> Iterator[str]:
    here = f"{snapshot.meta['epoch']}-{snapshot.meta['rev']}"
    ends = snapshot.events[-1][0] if snapshot.events else here
    # A zone that supervisors restore into an empty Redis continues at its position, with a new log.
    is_new = snapshot.meta["rev"] == "0" or "restored" in snapshot.meta
    if ends != here or (not snapshot.events and not is_new):
        yield f"the zone is at {here} and its log of {len(snapshot.events)} events ends at {ends}"
    for (first, _), (second, fields) in pairwise(snapshot.events):
        before, after = position(first), position(second)
        # An epoch may begin after a gap, behind all revisions that an older copy has used.
        is_next = after[1] == before[1] + 1 or ("prev" in fields and after[1] > before[1])
        if not is_next:
            yield f"between {first} and {second} of the log is a gap"
        names_former_epoch = fields.get("prev") == str(before[0]) or "zone" in fields
        if after[0] != before[0] and (not names_former_epoch or after[0] < before[0]):
            yield f"{second} opens an epoch after {first} with {dict(fields)}"


def position(entry: str) -> tuple[int, int]:
    epoch, rev = entry.split("-")
    return int(epoch), int(rev)


def _log_replays_to_state(snapshot: ZoneSnapshot) -> Iterator[str]:
    """Replay the log from its first event: no address twice at any event, and the current data at the end."""
    begins = position(snapshot.events[0][0])[1] == 1 if snapshot.events else snapshot.meta["rev"] == "0"
    if not begins:
        return
    replay = Replay()
    for entry, fields in snapshot.events:
        for change in changes_of(fields):
            replay.apply(change)
        for fault in shared_addresses(replay.leases):
            yield f"after {entry} {fault}"
    for what, ours, theirs in (
        ("peers", replay.peers, snapshot.peers),
        ("leases", replay.leases, snapshot.leases),
    ):
        keys = [key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)]
        if keys:
            yield f"the log does not come to the {what} that are there: {sorted(keys)}"
