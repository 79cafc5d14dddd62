# SPDX-License-Identifier: GPL-3.0-or-later
"""What the ``zone`` commands do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from jaywalk.errors import InvalidValue
from jaywalk.models import Zone

from .acl import password_hash, set_password, write_user
from .state import ZoneState
from .store import Store


def add(store: Store, zone: Zone, agent_password: str | None) -> tuple[bool, dict[str, Any]]:
    """Makes ``zone``, or its description and agents' password what they should be.

    Returns whether anything changed, and the zone.  An empty description, or a password of None, leaves what
    is there.  Raises ``InvalidValue`` where the zone exists with other pools.
    """
    changed = store.create(zone)
    state = store.load(zone.name)
    known = state.zone
    if sorted(known.pools) != sorted(zone.pools):
        raise InvalidValue(
            f"zone {zone.name} exists with {', '.join(known.pools)} and not with {', '.join(zone.pools)}",
            "give the pools that it has, or another name",
        )
    if zone.description and zone.description != known.description:
        store.describe(zone)
        state.zone = replace(known, description=zone.description)
        changed = True
    if agent_password is not None and set_password(store, zone.name, password_hash(agent_password)):
        write_user(store, zone.name)
        changed = True
    return changed, show(state)


def listing(store: Store) -> list[dict[str, Any]]:
    """All zones, by name."""
    return [show(store.load(name)) for name in store.zones()]


def one(store: Store, name: str) -> dict[str, Any]:
    """One zone; raises ``InvalidValue`` where there is none of that name."""
    names = store.zones()
    if name not in names:
        raise InvalidValue(f"the zone '{name}' is unknown", f"there are {', '.join(names) or 'none'}")
    return show(store.load(name))


def show(state: ZoneState) -> dict[str, Any]:
    """A zone in plain values."""
    return {
        "name": state.zone.name,
        "description": state.zone.description,
        "pools": [
            {"cidr": pool.cidr, "held": len(pool.holders), "capacity": pool.capacity} for pool in state.pools
        ],
        "peers": len(state.peers),
        "leases": len(state.leases),
        "epoch": state.epoch,
        "rev": state.rev,
    }
