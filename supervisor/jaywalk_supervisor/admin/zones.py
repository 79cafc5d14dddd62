# SPDX-License-Identifier: GPL-3.0-or-later
"""What the ``zone`` commands do."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import redis

from jaywalk.controller.address import agent_user
from jaywalk.controller.errors import is_full
from jaywalk.core import ip, validation
from jaywalk.core.errors import InvalidValue, JaywalkError
from jaywalk.zone import policy as policies
from jaywalk.zone.models import Zone
from jaywalk.zone.policy import Policy
from jaywalk.zone.redis_keys import ZONES, ZoneKeys
from jaywalk.zone.requests import REPORT_SECONDS

from ..state.zone_state import ZoneState
from ..store.acl import password_hash, set_password, write_user
from ..store.connection import REDIS_UNAVAILABLE
from ..store.store import Origin, Store, ZoneGone
from . import tokens

NONE = "none"
"""The word that empties a list."""

log = logging.getLogger(__name__)

REMOVED = "jw:removed"
"""The set of zones that were removed by command, so that no supervisor makes them again by itself."""
DECLARED = "jw:declared"
"""Is there once somebody declared the zones: then supervisors make no default ones."""
DEFAULT_ZONES = (
    Zone("zone-red", ("10.20.0.0/20",), "Tenancy Zone Red"),
    Zone("zone-blue", ("10.20.0.0/20",), "Tenancy Zone Blue"),
)
FROM_NOWHERE = "0-0"
"""The mark ``restored`` of a default zone: any copy of a zone of that name may replace it."""

MISSED_SECONDS = 3 * REPORT_SECONDS
"""A node that was not heard of for so long is shown as unseen."""


class UnknownZone(InvalidValue):
    """There is no zone of that name."""


class Conflict(InvalidValue):
    """What is there stands against what is wished."""


class ZoneInUse(JaywalkError):
    """A zone has peers and nobody insists on its end; ``cut`` names what would be cut off."""

    def __init__(self, zone: dict[str, Any], names: Sequence[str]) -> None:
        self.cut = {"leases": zone["leases"], "peers": list(names)}
        some = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        super().__init__(
            f"zone {zone['name']} has {zone['leases']} leases and {zone['peers']} peers ({some}): "
            "their tunnels would stay as they are and hear of no change, and their addresses be forgotten",
            "have them leave first, or insist (--force; by REST ?force=true)",
        )


@dataclass(frozen=True)
class Wish:
    """What a zone should be; None leaves what is there, or the default where there is no zone yet."""

    cidrs: Sequence[str] | None = None
    cidrs6: Sequence[str] | None = None
    description: str | None = None
    takeover: str | None = None
    quarantine: str | int | None = None
    excluded: Sequence[str] | None = None
    stale_after: str | int | None = None
    forget_after: str | int | None = None

    def policy(self, known: Policy) -> Policy:
        """The zone's policy, ``known`` being the one it has."""
        return Policy.checked(
            known.takeover if self.takeover is None else self.takeover,
            known.quarantine if self.quarantine is None else self.quarantine,
            known.excluded if self.excluded is None else [each for each in self.excluded if each != NONE],
            known.stale_after if self.stale_after is None else self.stale_after,
            known.forget_word if self.forget_after is None else self.forget_after,
        )

    def applied(self, zone: Zone) -> Zone:
        """``zone`` as it should be; pools that are given replace those of the same IP version."""
        old = {version: [pool for pool in zone.pools if _version(pool) == version] for version in (4, 6)}
        pools = [*(self.cidrs or old[4]), *(self.cidrs6 or old[6])]
        description = zone.description if self.description is None else self.description
        wanted = Zone.checked(zone.name, pools, description, self.policy(zone.policy))
        # In their old order where they are the same, so that nothing changes; IPv4 before IPv6 as ever.
        kept = [pool for pool in zone.pools if pool in wanted.pools]
        pools = [*kept, *(pool for pool in wanted.pools if pool not in kept)]
        return replace(wanted, pools=tuple(sorted(pools, key=_version)))


def add(
    store: Store, name: str, wish: Wish, agent_password: str | None, grow: bool = False
) -> tuple[bool, dict[str, Any]]:
    """Makes a zone, or its description, policy and agents' password what they should be.

    Returns whether anything changed, and the zone.  Raises ``Conflict`` where the zone exists with other
    pools: those are changed by :func:`change`, so that a slip of the pen changes none.  With ``grow`` they
    may become larger, or more.
    """
    zone = _new(name, wish)
    readded = bool(store.redis.sismember(REMOVED, zone.name))
    changed = store.create(zone, Origin(readded=readded))
    store.redis.srem(REMOVED, zone.name)
    keys = ZoneKeys(zone.name)
    store.run("mark", [keys.meta, keys.creds], ["", "", "1"])
    kept = _with_pools_of(store.load(zone.name), zone, wish, grow)
    changed = settle(store, zone.name, kept.applied) or changed
    return _set_password(store, zone.name, agent_password) or changed, one(store, zone.name)


def foreseen(store: Store, name: str, wish: Wish, grow: bool = False) -> tuple[list[str], list[str]]:
    """What :func:`add` finds and what it leaves, in lines; the password aside, which nobody is shown.

    Raises as that does.
    """
    zone = _new(name, wish)
    if zone.name not in store.zones():
        return [], lines(zone)
    state = store.load(zone.name)
    after = _with_pools_of(state, zone, wish, grow).applied(state.zone)
    if after.pools != state.zone.pools or after.policy.excluded != state.zone.policy.excluded:
        check_pools(state, after)
    return lines(state.zone), lines(after)


def lines(zone: Zone) -> list[str]:
    """A zone as diffs show it, a fact a line."""
    policy = zone.policy
    facts = [("pool", pool) for pool in zone.pools]
    facts += [("description", zone.description), ("takeover", policy.takeover)]
    facts += [("stale after", f"{policy.stale_after} s"), ("quarantine", f"{policy.quarantine} s")]
    forget = policy.forget_after
    facts += [("forget after", policies.NEVER if forget is None else f"{forget} s")]
    facts += [("excluded", each) for each in policy.excluded]
    return [f"zone {zone.name} {name} {value}" for name, value in facts]


def _new(name: str, wish: Wish) -> Zone:
    pools = [*(wish.cidrs or ()), *(wish.cidrs6 or ())]
    return Zone.checked(name, pools, wish.description or "", wish.policy(Policy()))


def _with_pools_of(state: ZoneState, zone: Zone, wish: Wish, grow: bool) -> Wish:
    known = state.zone
    if sorted(known.pools) != sorted(zone.pools):
        if grow and (grows(known.pools, zone.pools) or _is_unused_default(state)):
            return replace(wish, description=wish.description or None)
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
    return replace(wish, cidrs=None, cidrs6=None, description=wish.description or None)


def _is_unused_default(state: ZoneState) -> bool:
    """Whether a supervisor made the zone by itself, and nobody has anything in it."""
    made = {zone.name: zone for zone in DEFAULT_ZONES}
    return not state.leases and not state.peers and made.get(state.zone.name) == state.zone


def grows(known: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether each pool of ``known`` lies in one of ``wanted``."""
    around = ip.networks(wanted)
    for pool in ip.networks(known):
        wider = ip.holding(around, str(pool.network_address))
        if wider is None or wider.prefixlen > pool.prefixlen:
            return False
    return True


def change(
    store: Store, name: str, wish: Wish, agent_password: str | None = None
) -> tuple[bool, dict[str, Any]]:
    """Changes a zone; returns whether anything changed, and the zone.

    Raises ``Conflict`` where a lease or a child prefix would no longer fit its pools.
    """
    one(store, name)
    changed = settle(store, name, wish.applied)
    return _set_password(store, name, agent_password) or changed, one(store, name)


def settle(store: Store, name: str, wanted: Callable[[Zone], Zone]) -> bool:
    """Makes a zone's own fields what ``wanted`` makes of them; returns whether that changed anything.

    Raises ``Conflict`` where a lease or a child prefix would no longer fit its pools.
    """
    while True:
        state = store.load(name)
        zone = wanted(state.zone)
        if zone == state.zone:
            return False
        new_pools = zone.pools != state.zone.pools
        if new_pools or zone.policy.excluded != state.zone.policy.excluded:
            check_pools(state, zone)
        outcome = store.change(name, state.head, zone.to_wire(), new_epoch=new_pools)
        if outcome == "OK":
            return True
        if outcome == "GONE":
            raise ZoneGone(name)


def check_pools(state: ZoneState, zone: Zone) -> None:
    """Raises ``Conflict`` where what ``state`` holds does not fit the pools of ``zone``."""
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
            taken = ip.overlapping(zone.networks, prefix)
            if taken is not None:
                raise Conflict(
                    f"the pool {taken} overlaps the child prefix {prefix} of {lease.name}",
                    "give another pool, or have that prefix given back",
                )


def remove(store: Store, name: str, force: bool) -> dict[str, Any]:
    """Removes a zone, with all its leases and its agents' user; returns what the zone was.

    Its agents keep their tunnels as they are.  Raises ``ZoneInUse`` where it has peers, unless ``force``.
    """
    try:
        zone = one(store, name)
    except ZoneGone:
        zone = {"name": name, "peers": 0, "leases": 0}
    keys = ZoneKeys(name)
    everything = [keys.peers, keys.meta, keys.leases, keys.events, keys.inbox, keys.orders, keys.creds]
    # First: a supervisor that misses the zone has to find that this is on purpose.
    store.redis.sadd(REMOVED, name)
    if store.run("remove", [*everything, keys.seen, keys.leader], ["1" if force else ""]) != "OK":
        store.redis.srem(REMOVED, name)
        raise ZoneInUse(zone, sorted(peer.name for peer in store.load(name).peers.values()))
    store.redis.srem(ZONES, name)
    tokens.remove_zone(store, name)
    with suppress(redis.ResponseError):  # a managed server has no users for us to delete
        # Ends the connections of its agents, so that they ask again and learn what happened.
        store.run_on_all_nodes("ACL", "DELUSER", agent_user(name))
    return zone


def with_defaults(store: Store, defaults: Sequence[Zone]) -> list[str]:
    """The names of all zones, once those of ``defaults`` were made that are missing.

    One that was removed by command is not made again, and none where somebody declared the zones; Redis is
    asked for those only where one is missing.
    """
    names = store.zones()
    missing = [zone for zone in defaults if zone.name not in names]
    if missing and store.redis.exists(DECLARED):
        return names
    removed = store.redis.smembers(REMOVED) if missing else ()
    for zone in missing:
        if zone.name not in removed and _is_there(store, zone):
            names.append(zone.name)
    return names


def _is_there(store: Store, zone: Zone) -> bool:
    """Makes a zone; False where it waits for its shard or for memory, which keeps no other one waiting."""
    try:
        made = store.create(zone, Origin(restored=FROM_NOWHERE))
    except REDIS_UNAVAILABLE:
        if not store.where.nodes:
            raise
        return False
    except redis.ResponseError as error:
        if not is_full(error):
            raise
        return False
    if made:
        log.info("made zone %s with %s", zone.name, ", ".join(zone.pools))
    return True


def _set_password(store: Store, name: str, password: str | None) -> bool:
    if password is None or not set_password(store, name, password_hash(password)):
        return False
    write_user(store, name)
    return True


def _version(pool: str) -> int:
    return 6 if ":" in pool else 4


def listing(store: Store) -> list[dict[str, Any]]:
    """All zones, by name."""
    return [one_or_broken(store, name) for name in store.zones()]


def one_or_broken(store: Store, name: str) -> dict[str, Any]:
    """One zone; of one that cannot be read the name, and why in ``error``."""
    try:
        return show(store.load(name))
    except (InvalidValue, ZoneGone) as error:
        return {"name": name, "description": "", "pools": [], "peers": 0, "leases": 0, "error": str(error)}


def one(store: Store, name: str) -> dict[str, Any]:
    """One zone; raises ``UnknownZone`` where there is none of that name."""
    check_known(store.zones(), name)
    return show(store.load(name))


def check_known(names: Collection[str], name: str) -> None:
    """Raises ``UnknownZone`` where ``name`` is not among the ``names`` of zones."""
    if name not in names:
        raise UnknownZone(f"the zone '{name}' is unknown", f"there are {', '.join(names) or 'none'}")


def with_seen(store: Store, name: str) -> dict[str, Any]:
    """One zone, with when each of its peers was last seen; raises as :func:`one`."""
    check_known(store.zones(), name)
    state = store.load(name)
    state.last_seen_at = store.last_seen(name)
    return detailed(state, store.time(name))


def detailed(state: ZoneState, now: float) -> dict[str, Any]:
    """A zone in plain values, with when each of its peers was last seen as of the time ``now``."""
    seen = state.last_seen_at
    peers = sorted(state.peers.values(), key=lambda peer: (seen.get(peer.key, 0), peer.name))
    words = [
        {
            "name": peer.name,
            "public_key": peer.key,
            "last_seen": validation.moment(seen[peer.key]) if peer.key in seen else None,
        }
        for peer in peers
    ]
    missed = now - MISSED_SECONDS
    unseen = [word for word, peer in zip(words, peers, strict=True) if seen.get(peer.key, 0) < missed]
    return {**show(state), "seen": words, "unseen": unseen}


def show(state: ZoneState) -> dict[str, Any]:
    """A zone in plain values."""
    return {
        "name": state.zone.name,
        "description": state.zone.description,
        "pools": [
            {"cidr": pool.cidr, "held": len(pool.owners), "capacity": pool.capacity} for pool in state.pools
        ],
        "policy": {
            "takeover": state.zone.policy.takeover,
            "quarantine": state.zone.policy.quarantine,
            "excluded": list(state.zone.policy.excluded),
            "stale_after": state.zone.policy.stale_after,
            "forget_after": state.zone.policy.forget_word,
        },
        "warnings": [warning for pool in state.pools if (warning := pool.warning())],
        "unreadable": [mark.to_json(state.zone.name) for mark in state.unreadable.values()],
        "peers": len(state.peers),
        "leases": len(state.leases),
        "epoch": state.epoch,
        "rev": state.rev,
    }
