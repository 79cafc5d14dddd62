# SPDX-License-Identifier: GPL-3.0-or-later
"""Zones as commands and REST show them: summary, detail with last-seen times, and lines of a diff."""

from __future__ import annotations

from typing import Any

from jaywalk.core import validation
from jaywalk.zone.models import Zone
from jaywalk.zone.options import POLICY_OPTIONS, ZONE_OPTIONS
from jaywalk.zone.requests import REPORT_SECONDS

from ..state.zone_state import ZoneState

# A peer that sent no request and no report for this long is listed as unseen.
UNSEEN_AFTER_SECONDS = 3 * REPORT_SECONDS


def zone_summary(state: ZoneState) -> dict[str, Any]:
    """Returns a zone, its fill and its policy in JSON values."""
    return {
        "name": state.zone.name,
        "description": state.zone.description,
        "pools": [
            {"cidr": pool.cidr, "held": len(pool.owners), "capacity": pool.capacity} for pool in state.pools
        ],
        "policy": state.zone.policy.to_json(),
        "warnings": [
            *(warning for pool in state.pools if (warning := pool.warning())),
            *filter(None, [undeclared_warning(state.zone)]),
        ],
        "unreadable": [mark.to_json(state.zone.name) for mark in state.unreadable.values()],
        "peers": len(state.peers),
        "leases": len(state.leases),
        "epoch": state.epoch,
        "rev": state.rev,
    }


def undeclared_warning(zone: Zone) -> str:
    """Returns what a zone of an older version still permits, and the command that closes it, or nothing."""
    undeclared = (option for option in POLICY_OPTIONS if option.field in zone.policy.undeclared)
    open_options = [option for option in undeclared if option.is_stricter]
    if not open_options:
        return ""
    flags = (f"{option.flag} {' '.join(option.texts(option.default))}" for option in open_options)
    return (
        f"zone {zone.name} was made by an older version and permits its members what that did: close it "
        f"with 'jaywalk-supervisor zone set {zone.name} {' '.join(flags)}', or with a play that reaches all "
        "machines"
    )


def zone_detail(state: ZoneState, now: float) -> dict[str, Any]:
    """Returns the summary of a zone and when each peer was last seen, as of ``now`` in seconds since 1970."""
    last_seen = state.last_seen_at
    peers = sorted(state.peers.values(), key=lambda peer: (last_seen.get(peer.key, 0), peer.name))
    entries = [
        {
            "name": peer.name,
            "public_key": peer.key,
            "last_seen": validation.iso_time(last_seen[peer.key]) if peer.key in last_seen else None,
        }
        for peer in peers
    ]
    oldest = now - UNSEEN_AFTER_SECONDS
    unseen = [
        entry for entry, peer in zip(entries, peers, strict=True) if last_seen.get(peer.key, 0) < oldest
    ]
    return {**zone_summary(state), "seen": entries, "unseen": unseen}


def diff_lines(zone: Zone) -> list[str]:
    """Returns a zone as diffs show it, one line for each value of each option."""
    return [
        f"zone {zone.name} {option.label} {text}"
        for option in ZONE_OPTIONS
        for text in option.texts(option.value_in(zone))
    ]
