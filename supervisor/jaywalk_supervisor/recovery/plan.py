# SPDX-License-Identifier: GPL-3.0-or-later
"""How a zone in Redis stands to a supervisor's copy of it, and what of the copy goes back: pure decisions."""

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

# Differences that the log names.
SHOWN = 10


class Relation(Enum):
    """How a zone in Redis relates to a copy of it.

    ``NEWER``: the zone contains the copy's position and has advanced past it.  ``RECREATED``: the zone was
    created after the copy was taken and shares no history with it.  ``OLDER``: the zone was rolled back to a
    position before the copy.
    """

    NEWER = "newer"
    RECREATED = "anew"
    OLDER = "older"


def relation(known: Position, now: Position, history: Sequence[Position]) -> Relation:
    """How a zone at ``now``, with the last revision of each epoch before, stands to a copy of ``known``."""
    ends = dict(history) | {now[0]: now[1]}
    if known == NOWHERE:
        return Relation.NEWER
    if known[0] in ends:
        return Relation.NEWER if known[1] <= ends[known[0]] else Relation.OLDER
    if known[0] > min(ends):
        return Relation.OLDER
    # It may be one of the epochs that the zone does not remember any more.
    return Relation.NEWER if len(history) >= MAX_HISTORY else Relation.RECREATED


def missing_leases(state: ZoneState, copy: ZoneCopy, now: float) -> tuple[list[Change], list[str]]:
    """The leases of ``copy`` that ``state`` lacks and has room for, and sentences about those it has not.

    They are applied to ``state``.  Operators' leases come first.
    """
    changes: list[Change] = []
    left_out: list[str] = []
    order = sorted(copy.leases.values(), key=lambda lease: not is_reserved(lease))
    for lease in order:
        why = _obstacle(state, lease)
        if why is None:
            change = Change("=", lease.key, _fitting(state, as_lost(lease, now)).to_wire())
            state.apply(change)
            changes.append(change)
        elif why and is_reserved(lease):
            left_out.append(f"the reservation of {lease.name} ({', '.join(lease.addresses)}): {why}")
    return changes, left_out


def _obstacle(state: ZoneState, lease: Lease) -> str | None:
    """Why a lease does not go into ``state``; None if it does, and empty if the zone has it already."""
    known = state.leases.get(lease.key)
    if known is not None:
        same = not is_reserved(lease) or as_reserved(known) == replace(as_reserved(lease), since=known.since)
        return "" if same else f"its key has the lease {', '.join(known.addresses)} already"
    for address in lease.addresses:
        pool = state.pool_of(address)
        if pool is None or pool.is_reserved(address):
            return f"{address} lies outside the pools, or is excluded"
        if (holder := pool.owner_of(address)) is not None:
            return f"{address} belongs to {state.leases[holder].name}"
    if lease.host and state.other_keys_named(lease.host, {lease.key}):
        return f"another one is called {lease.host}"
    return None


def _fitting(state: ZoneState, lease: Lease) -> Lease:
    """The lease without the prefixes that somebody else has by now."""
    free = tuple(
        each
        for each in lease.prefixes
        if not any(True for _other in state.prefixes.overlapping(each))
        and ip.overlapping(state.zone.networks, each) is None
    )
    return replace(lease, prefixes=free, kept=tuple(each for each in lease.kept if each in free))


def outdated_reservations(state: ZoneState, copy: ZoneCopy) -> list[Change]:
    """What ends those reservations of ``state`` that stem from an older copy than ``copy``, which lacks them.

    One that was made after ``copy`` was taken is an operator's newer word, and stays.
    """
    return [
        Change("=", key)
        for key, lease in state.leases.items()
        if lease.state == "reserved" and key not in copy.leases and lease.since < copy.saved
    ]


def differences(copy: ZoneCopy, state: ZoneState, digest: str) -> list[str]:
    """What an operator made in ``copy`` and the zone does not have, or has otherwise; in sentences."""
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
        found.append("the agents' password is another one")
    here = {key: as_reserved(lease) for key, lease in state.leases.items() if is_reserved(lease)}
    for key, lease in copy.reserved.items():
        if key not in here:
            found.append(f"the reservation of {lease.name} ({', '.join(lease.addresses)}) is missing")
        elif here[key] != lease:
            found.append(f"the reservation of {lease.name} is another one")
    found += [
        f"the reservation of {lease.name} ({', '.join(lease.addresses)}), which was released, is there again"
        for key, lease in here.items()
        if key not in copy.leases
    ]
    more = len(found) - SHOWN
    return found[:SHOWN] + ([f"and {more} more"] if more > 0 else [])
