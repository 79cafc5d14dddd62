# SPDX-License-Identifier: GPL-3.0-or-later
"""What a zone remembers of a key whose lease ended: its last seq, below which its requests are replays.

Without it, the same bytes of an old join would be accepted again after an operator released the key.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from typing import NamedTuple

from jaywalk.zone.models import Lease

# Keys that a zone remembers: 10 MB of Redis. Beyond it, the oldest go, and one floor for all keys rises.
MAX_FLOORS = 100_000
# The part of them that goes at once.
TRIMMED = 0.1
# The field with the floor of all keys that have none of their own.
ALL = "*"
_PROVEN = "v"


class Floor(NamedTuple):
    """The last ``seq`` of a key, and whether it has ``proven`` that its node holds the private key."""

    seq: int
    proven: bool = False

    def to_wire(self) -> str:
        return f"{self.seq}{_PROVEN if self.proven else ''}"


def parse(records: Mapping[str, str]) -> dict[str, Floor]:
    """Returns the floors of ``{zone}:floors`` by key, without those that do not parse."""
    found = {}
    for key, text in records.items():
        digits = text.removesuffix(_PROVEN)
        if digits.isascii() and digits.isdigit() and len(digits) <= 16:
            found[key] = Floor(int(digits), text != digits)
    return found


def of_ended(lease: Lease, known: Floor | None) -> Floor:
    """Returns the floor of a key whose ``lease`` ends, and which had the floor ``known`` before."""
    before = known or Floor(0)
    return Floor(max(lease.seq, before.seq), lease.proven or before.proven)


def oldest(floors: Mapping[str, Floor]) -> dict[str, Floor]:
    """Returns the floors to forget, if there are too many: those with the lowest seq."""
    if len(floors) <= MAX_FLOORS:
        return {}
    count = len(floors) - int(MAX_FLOORS * (1 - TRIMMED))
    return dict(heapq.nsmallest(count, floors.items(), key=lambda item: item[1].seq))
