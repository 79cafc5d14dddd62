# SPDX-License-Identifier: GPL-3.0-or-later
"""What the mesh lock costs an agent: a zone of 1,000 signed records, and one event in it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from jaywalk.trust.lock import Lock
from jaywalk.trust.lock_keys import LockKey
from jaywalk.trust.statements import NodeStatement, ZoneStatement
from jaywalk.zone.models import Peer, Zone
from jaywalk.zone.view import ZoneView, locked_zone
from tests.bench.results import Figure
from tests.strategies import key

RECORDS = 1_000
ROUNDS = 7
POOLS = ("10.64.0.0/12",)


def measure(log: Callable[[str], None]) -> dict[str, Figure]:
    """Measure reading the records with a lock against reading them without one."""
    log(f"checking {RECORDS} signed records")
    lock_key = LockKey.generate()
    statement = ZoneStatement("bench", POOLS, (lock_key.public,), serial=1)
    zone = replace(Zone("bench", POOLS), signed=lock_key.sign(statement).to_text())
    records = {peer.key: peer.to_wire() for peer in (_peer(number, lock_key) for number in range(RECORDS))}
    bare = [_seconds(lambda: _read(zone, records, None)) for _ in range(ROUNDS)]
    fresh = [_seconds(lambda: _read(zone, records, Lock("bench", [lock_key.public]))) for _ in range(ROUNDS)]
    lock = Lock("bench", [lock_key.public])
    _read(zone, records, lock)
    again = [_seconds(lambda: _read(zone, records, lock)) for _ in range(ROUNDS)]
    return {
        "lock_verify_1000": Figure.against(fresh, bare, "the same records without a lock"),
        "lock_again_1000": Figure.against(again, bare, "the same records without a lock"),
        "lock_verify_one": Figure(round(statistics.median(fresh) / RECORDS * 1e6, 1), "us", RECORDS * ROUNDS),
    }


def _peer(number: int, lock_key: LockKey) -> Peer:
    address = f"10.{64 + (number >> 16)}.{(number >> 8) & 255}.{number & 255 or 255}"
    own = NodeStatement("bench", key(number), f"node{number}", (address,), serial=1)
    return Peer(own.key, own.name, own.addresses, endpoint="192.0.2.1:51820", signed=lock_key.sign(own))


def _read(zone: Zone, records: dict[str, dict[str, Any]], lock: Lock | None) -> None:
    view = ZoneView(locked_zone(zone, lock), 1, 0, lock=lock)
    for public_key, record in records.items():
        view.put(public_key, record)
    assert len(view.peers) == RECORDS


def _seconds(work: Callable[[], None]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun
