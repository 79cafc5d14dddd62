# SPDX-License-Identifier: GPL-3.0-or-later
"""Peers and blocked keys of zones, listed, removed and allowed again, as the ``peer`` command does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaywalk.core import key_format, validation
from jaywalk.core.errors import InvalidValue
from jaywalk.zone.models import Lease
from jaywalk.zone.record_fields import GRANTS
from jaywalk.zone.requests import Request

from ..state.zone_state import ZoneState
from ..store.pending import pending_of
from ..store.store import Store
from .operator_client import ask
from .zones import check_known

# Keys that an error lists before it says that there are more.
KEYS_IN_ERROR = 3
_CLIENT = "jaywalk-supervisor-peer"


def list_peers(store: Store, zone: str = "") -> list[dict[str, Any]]:
    """Returns the keys with a lease in ``zone``, or in all zones; raises ``UnknownZone``."""
    found = []
    for name in _zones(store, zone):
        state = store.load(name)
        state.last_seen_at = store.last_seen(name)
        leases = (lease for lease in state.leases.values() if not lease.has_placeholder_key)
        found += [_facts(state, lease) for lease in sorted(leases, key=lambda lease: lease.name)]
    return found


def blocked(store: Store, zone: str = "") -> list[dict[str, Any]]:
    """Returns the blocked keys of ``zone``, or of all zones; raises ``UnknownZone``."""
    return [
        {
            "zone": name,
            "public_key": key,
            "since": validation.iso_time(block.since),
            "by": block.by,
            "reason": block.reason,
        }
        for name in _zones(store, zone)
        for key, block in sorted(store.blocks(name).items(), key=lambda item: item[1].since)
    ]


def pending(store: Store, zone: str = "") -> list[dict[str, Any]]:
    """Returns the nodes that wait for an approval in ``zone``, or in all zones; raises ``UnknownZone``."""
    return [
        {
            "zone": name,
            "public_key": waiting.key,
            "name": waiting.name,
            "endpoint": waiting.endpoint,
            "since": validation.iso_time(waiting.since),
            "last": validation.iso_time(waiting.last),
        }
        for name in _zones(store, zone)
        for waiting in pending_of(store, name)
    ]


def show(store: Store, peer: str, zone: str = "") -> dict[str, Any]:
    """Returns one key's lease, its endpoint, and whether it is blocked; raises ``InvalidValue``."""
    name, key = find(store, peer, zone)
    state = store.load(name)
    state.last_seen_at = store.last_seen(name)
    lease, block = state.leases.get(key), store.blocks(name).get(key)
    facts: dict[str, Any] = {"zone": name, "public_key": key}
    facts |= _facts(state, lease) if lease is not None else {}
    record = state.peers.get(key)
    facts["endpoint"] = (record.observed or record.endpoint) if record else ""
    facts["blocked"] = None
    if block is not None:
        since = validation.iso_time(block.since)
        facts["blocked"] = {"since": since, "by": block.by, "reason": block.reason}
    return facts


def remove(
    store: Store, peer: str, zone: str, by: str, reason: str, *, block: bool
) -> tuple[bool, dict[str, Any]]:
    """Ends the lease of a key, and with ``block`` blocks the key; returns whether that changed anything."""
    name, key = find(store, peer, zone)
    op = "block" if block else "release"
    reply = ask(store.where, Request.validated(op, name, key, by=by, reason=reason), _CLIENT)
    return reply.changed, {"zone": name, "public_key": key, "blocked": block}


def reserve(
    store: Store, peer: str, zone: str, by: str, grants: Sequence[str] | None = None, **fields: Any
) -> tuple[bool, dict[str, Any]]:
    """Reserves for a key what ``fields`` name, and sets its ``grants`` unless they are None.

    Returns whether that changed anything, and the key's lease.
    """
    name, key = find(store, peer, zone)
    request = Request.validated("reserve", name, key, by=by, grants=grants, **fields)
    reply = ask(store.where, request, _CLIENT)
    return reply.changed, show(store, key, name)


def approve(
    store: Store, key: str, zone: str, by: str, grants: Sequence[str] | None = None, **fields: Any
) -> tuple[bool, dict[str, Any]]:
    """Approves a key, which is to reserve a lease for it; returns as :func:`reserve`.

    Raises ``InvalidValue``.
    """
    return reserve(store, key, _waits_in(store, key, zone), by, grants, **fields)


def reject(store: Store, key: str, zone: str, by: str, reason: str) -> tuple[bool, dict[str, Any]]:
    """Blocks a key that waits for an approval; returns as :func:`remove`, and raises ``InvalidValue``."""
    return remove(store, key, _waits_in(store, key, zone), by, reason, block=True)


def allow(store: Store, peer: str, zone: str, by: str) -> tuple[bool, dict[str, Any]]:
    """Ends the block of a key; returns whether it was blocked."""
    key = key_format.public_key(peer)
    names = [name for name in _zones(store, zone) if zone or key in store.blocks(name)]
    if len(names) > 1:
        raise InvalidValue(
            f"the key {key} is blocked in the zones {', '.join(names)}", "select one with --zone"
        )
    if not names:
        raise InvalidValue(
            f"the key {key} is blocked in no zone", "see 'jaywalk-supervisor peer list --blocked'"
        )
    reply = ask(store.where, Request.validated("allow", names[0], key, by=by), _CLIENT)
    return reply.changed, {"zone": names[0], "public_key": key, "blocked": False}


def find(store: Store, peer: str, zone: str = "") -> tuple[str, str]:
    """Returns the zone and the key of ``peer``, a key or a name; raises ``InvalidValue``.

    A key that a zone does not know is found only in the zone that the caller names.
    """
    is_key = key_format.is_key(peer)
    names = _zones(store, zone)
    found = [
        (name, key) for name in names for key in _keys_of(store.load(name), store.blocks(name), peer, is_key)
    ]
    if not found and is_key and zone:
        return zone, key_format.public_key(peer)
    if len(found) == 1:
        return found[0]
    shown = validation.shown(peer)
    if not found:
        where = f"zone {zone}" if zone else "any zone"
        raise InvalidValue(
            f"the peer {shown} is unknown to {where}",
            "see 'jaywalk-supervisor peer list'; a key that is no peer needs --zone",
        )
    listed = ", ".join(f"{key} of {name}" for name, key in found[:KEYS_IN_ERROR])
    raise InvalidValue(f"{shown} means {len(found)} peers ({listed})", "give --zone, or the key")


def _waits_in(store: Store, key: str, zone: str) -> str:
    """Returns the zone in which a key waits for an approval, unless the caller names it.

    Names do not count: each node chooses its own, also that of a member.
    """
    if not key_format.is_key(key):
        raise InvalidValue(
            f"{validation.shown(key)} is no public key", "see 'jaywalk-supervisor peer list --pending'"
        )
    if zone:
        return zone
    waits_in = [row["zone"] for row in pending(store) if row["public_key"] == key]
    if len(waits_in) != 1:
        raise InvalidValue(f"the key {key} waits in {len(waits_in)} zones", "name one with --zone")
    return str(waits_in[0])


def _keys_of(state: ZoneState, blocks: Any, peer: str, is_key: bool) -> list[str]:
    if is_key:
        return [peer] if peer in state.leases or peer in state.unreadable or peer in blocks else []
    leases = [lease for lease in state.leases.values() if not lease.has_placeholder_key]
    named = [lease.key for lease in leases if peer in (lease.name, lease.host)]
    joined = [key for key in named if key in state.peers]
    return joined or named


def _zones(store: Store, zone: str) -> Sequence[str]:
    names = store.zones()
    if not zone:
        return names
    check_known(names, zone)
    return [zone]


def _facts(state: ZoneState, lease: Lease) -> dict[str, Any]:
    seen = state.last_seen_at.get(lease.key)
    return {
        "zone": state.zone.name,
        "name": lease.name,
        "public_key": lease.key,
        "addresses": list(lease.addresses),
        "child_prefixes": list(lease.prefixes),
        "grants": [word for word in GRANTS if word in lease.grants],
        "state": lease.state,
        "last_seen": validation.iso_time(seen) if seen else None,
    }
