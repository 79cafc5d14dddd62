# SPDX-License-Identifier: GPL-3.0-or-later
"""A zone by its log: peers and leases after each event."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Record = Mapping[str, Any]

# The letters of the fields of a peer's record that its lease lacks.
_PEER_ONLY = frozenset("reflomyx")


@dataclass(frozen=True)
class Change:
    """One line of an event: ``+`` a peer is new or changed, ``-`` it left, ``=`` only its lease changed."""

    sign: str
    key: str
    record: Record | None = None


def changes_of(fields: Mapping[str, str]) -> list[Change]:
    """Return the lines of one entry of the log."""
    return [Change(*line) for line in json.loads(fields.get("o", "[]"))]


@dataclass
class Replay:
    """Peers and leases by key, as the hashes in Redis hold them."""

    peers: dict[str, Record] = field(default_factory=dict)
    leases: dict[str, Record] = field(default_factory=dict)

    def apply(self, change: Change) -> None:
        """Apply one line."""
        record = change.record
        if change.sign == "+" and record is not None:
            self.peers[change.key] = record
            self.leases[change.key] = {
                name: value for name, value in record.items() if name not in _PEER_ONLY
            }
        elif change.sign == "-":
            self.peers.pop(change.key, None)
            if record is not None and change.key in self.leases:
                self.leases[change.key] = _left(self.leases[change.key], record)
        elif record is not None:
            self.leases[change.key] = record
        else:
            self.leases.pop(change.key, None)

    def copy(self) -> Replay:
        """Return a shallow copy; records never change."""
        return Replay(dict(self.peers), dict(self.leases))

    def holder(self, address: str) -> str | None:
        """Return the key that holds ``address``."""
        return next((key for key, lease in self.leases.items() if address in lease["a"]), None)


def _left(lease: Record, record: Record) -> Record:
    """Return a lease after its node left: only the prefixes reserved by an operator stay."""
    kept = {"p": lease["k"]} if lease.get("k") else {}
    rest = {name: value for name, value in lease.items() if name != "p"}
    return {**rest, **kept, **record}


def shared_addresses(leases: Mapping[str, Record]) -> Iterator[str]:
    """Yield a sentence for each address that two keys hold."""
    holders: dict[str, str] = {}
    for key, lease in leases.items():
        for address in lease["a"]:
            if address in holders:
                yield f"{address} is leased to {holders[address]} and to {key}"
            holders[address] = key


def by_version(addresses: Sequence[str]) -> dict[int, str]:
    """Return each address by its IP version."""
    return {ipaddress.ip_address(address).version: address for address in addresses}
