# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares a zone in Redis with a supervisor's copy of it and decides what to restore: pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import Enum

from jaywalk.core import ip, validation
from jaywalk.zone.events import Change
from jaywalk.zone.models import Lease
from jaywalk.zone.view import MAX_HISTORY

from ..state.zone_state import ZoneState
from .copies import NOWHERE, Position, ZoneCopy, as_lost, as_reserved, is_reserved

# Limit of differences in a log line.
MAX_SHOWN = 10


class Relation(Enum):
    """How a zone in Redis relates to a copy of it.

    ``NEWER``: the zone contains the copy's position and has advanced past it.  ``RECREATED``: the zone was
    created after the copy was taken and shares no history with it.  ``OLDER``: the zone was rolled back to a
    position before the copy.
    """

    NEWER = "newer"
    RECREATED = "recreated"
    OLDER = "older"


def relation(known: Position, now: Position, history: Sequence[Position]) -> Relation:
    """Returns how a zone at ``now`` relates to a copy at ``known``.

    ``history`` holds the last revision of each earlier epoch of the zone.
    """
    ends = dict(history) | {now[0]: now[1]}
    if known == NOWHERE:
        return Relation.NEWER
    if known[0] in ends:
        return Relation.NEWER if known[1] <= ends[known[0]] else Relation.OLDER
    if known[0] > min(ends):
        return Relation.OLDER
    # It may be an epoch that is no longer in the zone's history.
    return Relation.NEWER if len(history) >= MAX_HISTORY else Relation.RECREATED


def missing_leases(state: ZoneState, copy: ZoneCopy, now: float) -> tuple[list[Change], list[str]]:
    """Returns changes that add leases of ``copy`` which ``state`` lacks, and sentences on conflicts.

    The changes are applied to ``state``.  Operators' leases come first.
    """
    changes: list[Change] = []
    left_out: list[str] = []
    leases = sorted(copy.leases.values(), key=lambda lease: not is_reserved(lease))
    for lease in leases:
        why = _conflict(state, lease)
        if why is None:
            change = Change("=", lease.key, _without_taken_prefixes(state, as_lost(lease, now)).to_wire())
            state.apply(change)
            changes.append(change)
        elif why and is_reserved(lease):
            left_out.append(f"the reservation of {lease.name} ({', '.join(lease.addresses)}): {why}")
    return changes, left_out


def _conflict(state: ZoneState, lease: Lease) -> str | None:
    """Returns why a lease conflicts with ``state``; None if it does not, "" if the zone already has it."""
    known = state.leases.get(lease.key)
    if known is not None:
        same = not is_reserved(lease) or as_reserved(known) == replace(as_reserved(lease), since=known.since)
        return "" if same else f"its key has the lease {', '.join(known.addresses)} already"
    for address in lease.addresses:
        pool = state.pool_of(address)
        if pool is None or pool.is_reserved(address):
            return f"{address} lies outside the pools, or is excluded"
        if (owner := pool.owner_of(address)) is not None:
            return f"{address} belongs to {state.leases[owner].name}"
    if lease.host and state.other_keys_named(lease.host, {lease.key}):
        return f"another node has the name {lease.host}"
    return None


def _without_taken_prefixes(state: ZoneState, lease: Lease) -> Lease:
    """Returns the lease without the prefixes that now belong to another node or overlap a pool."""
    free = tuple(
        prefix
        for prefix in lease.prefixes
        if not any(True for _other in state.prefixes.overlapping(prefix))
        and ip.overlapping(state.zone.networks, prefix) is None
    )
    return replace(
        lease,
        prefixes=free,
        reserved_prefixes=tuple(prefix for prefix in lease.reserved_prefixes if prefix in free),
    )


def outdated_reservations(state: ZoneState, copy: ZoneCopy) -> list[Change]:
    """Returns changes that end reservations of ``state`` which come from a copy older than ``copy``.

    These are missing in ``copy``.  A reservation made after ``copy`` was taken is newer and stays.
    """
    return [
        Change("=", key)
        for key, lease in state.leases.items()
        if lease.state == "reserved" and key not in copy.leases and lease.since < copy.saved
    ]


def differences(copy: ZoneCopy, state: ZoneState, digest: str) -> list[str]:
    """Returns sentences on what an operator made in ``copy`` that the zone lacks or has differently."""
    zone = state.zone
    found = [
        f"{what} is {after} and was {before}"
        for what, before, after in (
            ("the pools", ", ".join(copy.zone.pools), ", ".join(zone.pools)),
            ("the description", validation.shown(copy.zone.description), validation.shown(zone.description)),
            ("the policy", copy.zone.policy.to_wire(), zone.policy.to_wire()),
        )
        if before != after
    ]
    if digest != copy.digest:
        found.append("the agents' password differs")
    current = {key: as_reserved(lease) for key, lease in state.leases.items() if is_reserved(lease)}
    for key, lease in copy.reserved.items():
        if key not in current:
            found.append(f"the reservation of {lease.name} ({', '.join(lease.addresses)}) is missing")
        elif current[key] != lease:
            found.append(f"the reservation of {lease.name} differs")
    found += [
        f"the reservation of {lease.name} ({', '.join(lease.addresses)}), which was released, exists again"
        for key, lease in current.items()
        if key not in copy.leases
    ]
    more = len(found) - MAX_SHOWN
    return found[:MAX_SHOWN] + ([f"and {more} more"] if more > 0 else [])
