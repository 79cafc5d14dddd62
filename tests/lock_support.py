# SPDX-License-Identifier: GPL-3.0-or-later
"""A mesh lock of zone-blue for tests: its key, and statements about peers and about the zone."""

from __future__ import annotations

from collections.abc import Sequence

from jaywalk.trust.lock import Lock, Memory
from jaywalk.trust.lock_keys import LockKey
from jaywalk.trust.statements import NodeStatement, Signed, ZoneStatement
from jaywalk.zone.models import Peer

LOCK_KEY = LockKey.generate()
POOLS = ("10.20.0.0/20",)


def statement_of(peer: Peer, serial: int = 1, key: LockKey = LOCK_KEY, zone: str = "zone-blue") -> Signed:
    """The statement that allows exactly what the record of ``peer`` holds."""
    allowed = peer.addresses, peer.prefixes, bool(peer.relay)
    return key.sign(NodeStatement(zone, peer.key, peer.name, *allowed, serial))


def signed(peer: Peer, serial: int = 1, key: LockKey = LOCK_KEY) -> Peer:
    """The record with that statement."""
    return peer._replace(signed=statement_of(peer, serial, key))


def zone_statement(
    serial: int = 1,
    pools: Sequence[str] = POOLS,
    revoked: Sequence[tuple[str, int]] = (),
    key: LockKey = LOCK_KEY,
    keys: Sequence[str] = (),
    zone: str = "zone-blue",
) -> str:
    """The text of a signed statement about the zone, as meta data hold it."""
    own = tuple(keys) or (key.public,)
    return key.sign(ZoneStatement(zone, tuple(pools), own, 0, tuple(revoked), serial)).to_text()


def lock_of(memory: Memory | None = None, zone: str = "zone-blue") -> Lock:
    """The lock of a node that pins the key of these tests."""
    return Lock(zone, [LOCK_KEY.public], memory)
