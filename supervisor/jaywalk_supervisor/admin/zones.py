# SPDX-License-Identifier: GPL-3.0-or-later
"""Zones read, added, changed and removed, as the ``zone`` command and the REST API do."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

import redis

from jaywalk.controller.address import agent_user, node_user
from jaywalk.core import ip
from jaywalk.core.errors import InvalidValue, JaywalkError
from jaywalk.zone.models import Zone
from jaywalk.zone.patch import ZonePatch
from jaywalk.zone.policy import Policy
from jaywalk.zone.redis_keys import REMOVED_ZONES, ZONES, ZoneKeys

from ..state.zone_state import ZoneState
from ..store import node_users, redis_users
from ..store.acl import password_hash, set_password, write_user
from ..store.audit import zone_entry
from ..store.store import Origin, Store, ZoneGone
from . import tokens
from .default_zones import DEFAULT_ZONES
from .zone_view_models import diff_lines, zone_detail, zone_summary

# Names that an error lists before it says that there are more.
NAMES_IN_ERROR = 5


class UnknownZone(InvalidValue):
    """No zone has that name."""


class Conflict(InvalidValue):
    """The request conflicts with the zone as it is."""


class ZoneInUse(JaywalkError):
    """A zone has peers, and the request to remove it is without force; ``cut`` counts and names them."""

    def __init__(self, zone: dict[str, Any], names: Sequence[str]) -> None:
        self.cut = {"leases": zone["leases"], "peers": list(names)}
        shown = ", ".join(names[:NAMES_IN_ERROR]) + (", ..." if len(names) > NAMES_IN_ERROR else "")
        super().__init__(
            f"zone {zone['name']} has {zone['leases']} leases and {zone['peers']} peers ({shown}): "
            "their tunnels would stay as they are and receive no more changes, and their addresses would be "
            "forgotten",
            "have them leave first, or use force (--force; by REST ?force=true)",
        )


def list_zones(store: Store) -> list[dict[str, Any]]:
    """Returns the summaries of all zones, by name."""
    return [get_zone_or_error(store, name) for name in store.zones()]


def get_zone(store: Store, name: str) -> dict[str, Any]:
    """Returns the summary of one zone; raises ``UnknownZone``."""
    check_known(store.zones(), name)
    return zone_summary(store.load(name))


def get_zone_or_error(store: Store, name: str) -> dict[str, Any]:
    """Returns the summary of one zone, or its name and the reason in ``error`` if it cannot be read."""
    try:
        return zone_summary(store.load(name))
    except (InvalidValue, ZoneGone) as error:
        return {"name": name, "description": "", "pools": [], "peers": 0, "leases": 0, "error": str(error)}


def get_zone_detail(store: Store, name: str) -> dict[str, Any]:
    """Returns one zone with the last-seen times of its peers; raises ``UnknownZone``."""
    check_known(store.zones(), name)
    state = store.load(name)
    state.last_seen_at = store.last_seen(name)
    return zone_detail(state, store.time(name))


def check_known(names: Collection[str], name: str) -> None:
    """Raises ``UnknownZone`` if ``name`` is not among the ``names`` of zones."""
    if name not in names:
        raise UnknownZone(f"the zone '{name}' is unknown", f"there are {', '.join(names) or 'none'}")


def add(
    store: Store, name: str, patch: ZonePatch, agent_password: str | None, grow: bool = False
) -> tuple[bool, dict[str, Any]]:
    """Creates a zone, or sets the description, the policy and the agents' password of an existing one.

    Returns whether anything changed, and the zone.  Raises ``Conflict`` if the zone exists with other pools:
    only :func:`change` changes those, so that a typing error changes none.  With ``grow`` they may become
    larger, or more.
    """
    zone = patch.new_zone(name)
    readded = bool(store.redis.sismember(REMOVED_ZONES, zone.name))
    created = store.create(zone, Origin(readded=readded))
    store.redis.srem(REMOVED_ZONES, zone.name)
    keys = ZoneKeys(zone.name)
    store.run("mark", [keys.meta, keys.credentials], ["", "", "1"])
    updated, state = update_zone(
        store, zone.name, lambda state: _patch_for_existing(state, zone, patch, grow).apply(state.zone)
    )
    changed = _set_password(store, zone.name, agent_password) or updated or created
    return changed, _summary_now(store, state)


def preview_add(store: Store, name: str, patch: ZonePatch, grow: bool = False) -> tuple[list[str], list[str]]:
    """Returns the diff lines of the zone before and after :func:`add`, without the password.

    Raises as that does.
    """
    zone = patch.new_zone(name)
    if zone.name not in store.zones():
        return [], diff_lines(zone)
    state = store.load(zone.name)
    after = _patch_for_existing(state, zone, patch, grow).apply(state.zone)
    _check_fit(state, after)
    return diff_lines(state.zone), diff_lines(after)


def change(
    store: Store, name: str, patch: ZonePatch, agent_password: str | None = None
) -> tuple[bool, dict[str, Any]]:
    """Changes a zone; returns whether anything changed, and the zone.

    Raises ``UnknownZone``, and ``Conflict`` if a lease or a child prefix does not fit the new pools.
    """
    check_known(store.zones(), name)
    changed, state = update_zone(store, name, lambda state: patch.apply(state.zone))
    return _set_password(store, name, agent_password) or changed, _summary_now(store, state)


def update_zone(store: Store, name: str, desired: Callable[[ZoneState], Zone]) -> tuple[bool, ZoneState]:
    """Sets the zone's own fields to those that ``desired`` returns.

    Returns whether that changed anything, and the zone as it is then.  Decides again if another commit came
    in between.  Raises ``Conflict`` if a lease or a child prefix does not fit the pools.
    """
    while True:
        state = store.load(name)
        zone = desired(state)
        if zone == state.zone:
            return False, state
        _check_fit(state, zone)
        new_pools = zone.pools != state.zone.pools
        # A signed statement of the mesh lock decides about all records, so that nodes read them again.
        reload = new_pools or zone.signed != state.zone.signed
        entry = zone_entry(store.author, "zone-set", state.zone, zone)
        outcome = store.change(name, state.head, zone.to_wire(), reload, entry)
        if outcome == "OK":
            # Other pools can make a record readable that was not.
            return True, store.load(name) if state.unreadable else _with_zone(state, zone)
        if outcome == "GONE":
            raise ZoneGone(name)


def check_pools(state: ZoneState, zone: Zone) -> None:
    """Raises ``Conflict`` if a lease or a child prefix of ``state`` does not fit the pools of ``zone``."""
    pools = ZoneState(zone, 0, 0)
    for lease in state.leases.values():
        for address in lease.addresses:
            pool = pools.pool_of(address)
            if pool is None or pool.is_reserved(address):
                where = "outside them" if pool is None else f"on a reserved address of {pool.cidr}"
                raise Conflict(
                    f"zone {zone.name} cannot have the pools {', '.join(zone.pools)}: {address} of "
                    f"{lease.name} ({lease.state}) would lie {where}",
                    "give pools that hold all leases, or release that one",
                )
        for prefix in lease.prefixes:
            overlapped = ip.overlapping(zone.networks, prefix)
            if overlapped is not None:
                raise Conflict(
                    f"the pool {overlapped} overlaps the child prefix {prefix} of {lease.name}",
                    "give another pool, or have that prefix given back",
                )


def pools_grow(known: Sequence[str], desired: Sequence[str]) -> bool:
    """Returns whether each pool of ``known`` lies in one of ``desired``."""
    around = ip.networks(desired)
    for pool in ip.networks(known):
        wider = ip.holding(around, str(pool.network_address))
        if wider is None or wider.prefixlen > pool.prefixlen:
            return False
    return True


def remove(store: Store, name: str, force: bool) -> dict[str, Any]:
    """Removes a zone with all its leases and Redis users; returns the zone as it was.

    Its agents keep their tunnels.  Raises ``UnknownZone``, and ``ZoneInUse`` if it has peers, unless
    ``force``.
    """
    try:
        zone = get_zone(store, name)
    except ZoneGone:
        zone = {"name": name, "peers": 0, "leases": 0}
    keys = ZoneKeys(name)
    everything = (
        *(keys.peers, keys.meta, keys.leases, keys.events, keys.inbox, keys.operator_inbox),
        *(keys.credentials, keys.blocked, keys.floors, keys.last_seen, keys.leader),
        *(keys.join_tokens, keys.pending),
    )
    users = [agent_user(name), *_node_users(store, name)]
    entry = zone_entry(store.author, "zone-remove", _settings(store, name), None)
    # First, so that a supervisor that misses the zone finds that an operator removed it.
    store.redis.sadd(REMOVED_ZONES, name)
    if store.run("remove", [keys.audit, *everything], ["1" if force else "", *entry]) != "OK":
        store.redis.srem(REMOVED_ZONES, name)
        raise ZoneInUse(zone, sorted(peer.name for peer in store.load(name).peers.values()))
    store.redis.srem(ZONES, name)
    tokens.remove_zone(store, name)
    # The zone's agents connect again and are refused, also by a later zone of this name.
    redis_users.remove_users(store, users)
    return zone


def _node_users(store: Store, name: str) -> list[str]:
    """Returns the users of the zone's nodes; none if their records cannot be read."""
    try:
        return [node_user(name, key) for key in node_users.read(store, name)]
    except redis.ResponseError:
        return []


def _settings(store: Store, name: str) -> Zone | None:
    """Returns the zone's own fields, or None if they cannot be read."""
    try:
        return store.load(name).zone
    except (InvalidValue, ZoneGone):
        return None


def _patch_for_existing(state: ZoneState, zone: Zone, patch: ZonePatch, grow: bool) -> ZonePatch:
    """Returns what :func:`add` changes in the zone of ``state``, if ``zone`` is what it requests."""
    known = state.zone
    if not patch.options.get("description"):
        patch = patch.without("description")
    if sorted(known.pools) == sorted(zone.pools):
        return patch.without("cidr", "cidr6")
    if grow and (pools_grow(known.pools, zone.pools) or _is_unused_default(state)):
        return patch
    if grow:
        raise Conflict(
            f"zone {zone.name} exists with {', '.join(known.pools)} and is declared with "
            f"{', '.join(zone.pools)}: pools may grow, and neither shrink nor move",
            "declare pools that hold those that it has, or change them with 'zone set'",
        )
    raise Conflict(
        f"zone {zone.name} exists with {', '.join(known.pools)} and not with {', '.join(zone.pools)}",
        "give the pools that it has, change them with 'zone set', or give another name",
    )


def _is_unused_default(state: ZoneState) -> bool:
    """Returns whether a supervisor created the zone by itself, and it has no lease and no peer."""
    bare = replace(state.zone, policy=Policy())
    defaults = [replace(zone, policy=Policy()) for zone in DEFAULT_ZONES]
    return not state.leases and not state.peers and bare in defaults


def _check_fit(state: ZoneState, zone: Zone) -> None:
    """Raises as :func:`check_pools` if ``zone`` has other pools or excluded networks than ``state``."""
    known = state.zone
    if (zone.pools, zone.policy.excluded) != (known.pools, known.policy.excluded):
        check_pools(state, zone)


def _with_zone(state: ZoneState, zone: Zone) -> ZoneState:
    """Returns ``state``, all of whose records are readable, with the fields and pools of ``zone``."""
    changed = ZoneState(zone, state.epoch, state.rev, state.wait_ms, state.mark)
    for key in state.leases:
        changed.put(key, state.peers.get(key), state.leases[key])
    return changed


def _summary_now(store: Store, state: ZoneState) -> dict[str, Any]:
    """Returns the summary of a zone that was just written, at its present position."""
    state.epoch, state.rev = store.head(state.zone.name).position
    return zone_summary(state)


def _set_password(store: Store, name: str, password: str | None) -> bool:
    if password is None or not set_password(store, name, password_hash(password)):
        return False
    write_user(store, name)
    return True
