# SPDX-License-Identifier: GPL-3.0-or-later
"""Who serves a zone while several supervisors run: a short lease in ``{zone}:leader``.

It spares conflicts and nothing else.  A leader that was paused and goes on, or two that both believe to
lead, lose time and no address, since each commit compares (run id, epoch, rev) before it writes.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Any

from jaywalk.zonelog import ZoneKeys

LEASE_MS = 1200
BEAT_SECONDS = 0.3
"""How often leases are renewed and those of others tried: a dead leader is replaced within 1.5 s."""


class Leadership:
    """The leases of one supervisor, by a name that no other has."""

    def __init__(self) -> None:
        self._name = secrets.token_hex(8)
        self._led: frozenset[str] = frozenset()

    def claim(self, redis: Any, zones: Iterable[str]) -> frozenset[str]:
        """Renews what this supervisor leads, takes what nobody does, and returns all that it leads now."""
        names = list(zones)
        with redis.pipeline(transaction=False) as pipe:
            for zone in names:
                key = ZoneKeys(zone).leader
                if zone in self._led:
                    pipe.getex(key, px=LEASE_MS)
                else:
                    pipe.set(key, self._name, nx=True, get=True, px=LEASE_MS)
            holders = pipe.execute()
        # SET answers with the holder before it; an own lease that ran out is taken anew at the next beat.
        self._led = frozenset(
            zone
            for zone, holder in zip(names, holders, strict=True)
            if holder == self._name or (holder is None and zone not in self._led)
        )
        return self._led

    def resign(self, redis: Any) -> None:
        """Gives all leases back, so that another supervisor need not wait until they run out."""
        for zone in self._led:
            key = ZoneKeys(zone).leader
            if redis.get(key) == self._name:
                redis.delete(key)
        self._led = frozenset()
