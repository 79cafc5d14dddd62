# SPDX-License-Identifier: GPL-3.0-or-later
"""How many requests one key may send: a token bucket for each key, so that no node keeps all others busy.

A commit wakes every agent of a zone, and a node can request another name or endpoint as often as it likes.
"""

from __future__ import annotations

from jaywalk.zone.requests import Reply, Request

# An agent that starts, moves and loses its connection sends a few requests; a request that nobody answers is
# repeated after 2, 4, 8 ... 60 s.
BURST = 30
SECONDS_PER_REQUEST = 5.0
# Limit of keys that are remembered, 20 MB; those that sent nothing for the longest time are forgotten first.
MAX_KEYS = 100_000


class KeyRates:
    """The buckets of the keys that sent requests lately; times are of a monotonic clock."""

    def __init__(self) -> None:
        self._full_at: dict[tuple[str, str], float] = {}

    def take(self, zone: str, key: str, now: float) -> bool:
        """Returns whether ``key`` may send one more request to ``zone`` at ``now``, and counts it if so."""
        bucket = (zone, key)
        full_at = max(self._full_at.pop(bucket, now), now)
        may = full_at - now <= (BURST - 1) * SECONDS_PER_REQUEST
        self._full_at[bucket] = full_at + SECONDS_PER_REQUEST if may else full_at
        if len(self._full_at) > MAX_KEYS:
            del self._full_at[next(iter(self._full_at))]
        return may


def too_many(request: Request) -> Reply:
    """Returns the refusal of a request of a key that sent too many."""
    return Reply.refused(
        "rate",
        f"the key {request.key} sent more than {BURST} requests at once, or more than one in "
        f"{SECONDS_PER_REQUEST:.0f} s: wait a minute, and see whether two machines have the key",
    )
