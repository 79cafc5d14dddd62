# SPDX-License-Identifier: GPL-3.0-or-later
"""Which addresses and prefixes a key gets: policy over a zone's pools, read only.

A key has one address of each IP version that the zone has pools for.  Its lease is sticky: it stays the
key's own after the node left, until an operator releases it, or until a pool is full and the lease is the
one that was released first and is out of quarantine.  Where the zone's policy lets a node take a requested
address from another one, be it at once or when that one was not heard of for long, that one gets a fresh
address in the same commit; what an operator reserved, or is in quarantine, is never taken.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from jaywalk.core import ip, validation
from jaywalk.core.errors import RequestRefused
from jaywalk.zone.models import Lease, reservation_key

from ..state.pool import Pool
from ..state.prefix_index import PrefixIndex
from ..state.unreadable import Unreadable
from ..state.zone_state import ZoneState


@dataclass(frozen=True)
class Claimant:
    """Who is to have addresses: those that are its own already, and the keys that hold them so far.

    ``may_take``: whether a requested address may be another node's.
    """

    addresses: tuple[str, ...]
    keys: frozenset[str]
    may_take: bool = False


@dataclass(frozen=True)
class Grant:
    """The addresses that a key may have, and what that costs others.

    ``evicted`` are keys whose released leases make room, ``displaced`` keys with their new addresses.
    """

    addresses: tuple[str, ...]
    evicted: tuple[str, ...] = ()
    displaced: tuple[tuple[str, tuple[str, ...]], ...] = ()


def choose(state: ZoneState, asker: Claimant, requested: Sequence[str], now: float) -> Grant:
    """One address of each version: the requested one, else the asker's own, else the lowest free one.

    Raises ``RequestRefused`` where a requested address cannot be had, or a pool is full.
    """
    wished = _requested(state, asker, requested, now)
    own = {ip.version_of(address): address for address in asker.addresses}
    addresses: list[str] = []
    evicted: list[str] = []
    for version in dict.fromkeys(pool.version for pool in state.pools):
        address = wished.get(version) or own.get(version) or _lowest_free(state, version)
        if address is None:
            address, victim = _reused(state, version, now)
            evicted.append(victim)
        check_growth(state, asker.keys, address)
        addresses.append(address)
    if not wished and not evicted:
        return Grant(tuple(addresses))
    displaced = _displaced(state, asker, wished, own, now, evicted)
    return Grant(
        tuple(addresses),
        tuple(dict.fromkeys(evicted)),
        tuple((key, moved) for key, moved in displaced.items() if key not in evicted),
    )


def check_growth(state: ZoneState, keys: Collection[str], address: str) -> None:
    """Raises ``RequestRefused`` where ``address`` is new to ``keys`` and may be an unreadable record's."""
    if not state.unreadable:
        return
    holder, version = owner_of(state, address), ip.version_of(address)
    for mark in state.unreadable.values() if holder not in keys else ():
        if version in mark.unknown and mark.key not in keys:
            raise unreadable_refusal(
                state, mark, f"gives no new IPv{version} address, since one of its leases may be any of them"
            )


def unreadable_refusal(state: ZoneState, mark: Unreadable, why: str) -> RequestRefused:
    """The refusal of what would use or overwrite a record that cannot be read."""
    name = state.zone.name
    return RequestRefused("unreadable", f"zone {name} {why}: {mark.message(name)}")


def filter_free(state: ZoneState, addresses: Iterable[str]) -> tuple[str, ...]:
    """Those of ``addresses`` that a new key could have."""
    pools = ((address, state.pool_of(address)) for address in addresses)
    return tuple(
        address
        for address, pool in pools
        if pool is not None and pool.owner_of(address) is None and not pool.is_reserved(address)
    )


def _displaced(
    state: ZoneState,
    asker: Claimant,
    wished: Mapping[int, str],
    own: Mapping[int, str],
    now: float,
    evicted: list[str],
) -> dict[str, tuple[str, ...]]:
    """The keys whose addresses the asker takes, with those that they get; adds to ``evicted``.

    A fresh address is the lowest free one, else the one that the asker gives up; where there is neither, a
    node that left loses its lease, and one in the mesh gets the address of such a lease.  A lease that was
    imported is nobody's, and ends.
    """
    displaced: dict[str, tuple[str, ...]] = {}
    for version, address in wished.items():
        holder = owner_of(state, address)
        if holder is None or holder in asker.keys:
            continue
        fresh = _lowest_free(state, version) or own.get(version)
        lease = state.leases[holder]
        if _is_imported(lease) or (fresh is None and lease.released is not None):
            evicted.append(holder)
            continue
        if fresh is None:
            fresh, victim = _reused(state, version, now)
            evicted.append(victim)
        held = displaced.get(holder, lease.addresses)
        displaced[holder] = tuple(fresh if each == address else each for each in held)
    return displaced


def check_prefixes(state: ZoneState, keys: Collection[str], prefixes: Sequence[str]) -> None:
    """Raises ``RequestRefused`` where one peer cannot announce all of ``prefixes`` together.

    What the leases of ``keys`` hold is the peer's own.
    """
    if not prefixes:
        return
    own = PrefixIndex()
    for prefix in prefixes:
        if (pool := ip.overlapping(state.zone.networks, prefix)) is not None:
            raise RequestRefused(
                "prefix-in-pool",
                f"the child prefix {prefix} overlaps the pool {pool} of zone {state.zone.name}: "
                "announce one outside of the zone's pools",
            )
        for other in state.prefixes.overlapping(prefix):
            if other.key not in keys:
                raise RequestRefused(
                    "prefix-taken",
                    f"the child prefix {prefix} overlaps {other.prefix} of {_called(state, other.key)}: "
                    "prefixes are unique within a zone, announce another one",
                )
        _check_unreadable_prefixes(state, keys, prefix)
        for other in own.overlapping(prefix):
            raise RequestRefused(
                "prefix-twice",
                f"the child prefixes {prefix} and {other.prefix} overlap: announce one of them",
            )
        own.add(prefix, "")


def _check_unreadable_prefixes(state: ZoneState, keys: Collection[str], prefix: str) -> None:
    if not state.unreadable or any(each.prefix == prefix for each in state.prefixes.overlapping(prefix)):
        return
    for mark in state.unreadable.values():
        if mark.covered or mark.key in keys:
            continue
        if not mark.prefixes_known or ip.overlapping(ip.networks(mark.lease.prefixes), prefix):
            raise unreadable_refusal(
                state, mark, f"does not take the child prefix {prefix}, which may be another node's"
            )


def _requested(state: ZoneState, asker: Claimant, requested: Sequence[str], now: float) -> dict[int, str]:
    """The requested addresses by version, each of them free for the asker or to be taken."""
    wished: dict[int, str] = {}
    for address in requested:
        version = ip.version_of(address)
        if version in wished:
            raise RequestRefused(
                "address",
                f"both {wished[version]} and {address} are requested: request one IPv{version} address",
            )
        _check_free(state, asker, address, now)
        wished[version] = address
    return wished


def _check_free(state: ZoneState, asker: Claimant, address: str, now: float) -> None:
    pool = state.pool_of(address)
    if pool is None:
        pools = ", ".join(state.zone.pools)
        raise RequestRefused(
            "address-outside",
            f"the requested address {address} lies outside the pools of zone {state.zone.name} ({pools}): "
            "request one inside",
        )
    if pool.is_reserved(address):
        raise RequestRefused(
            "address-reserved",
            f"the requested address {address} is the network's own in {pool.cidr}, or excluded by the "
            "operator: request another one",
        )
    holder = pool.owner_of(address)
    if holder is None or holder in asker.keys:
        return
    lease = state.leases[holder]
    if not asker.may_take or lease.state == "reserved":
        raise RequestRefused(
            "address-taken",
            f"the requested address {address} belongs to {_called(state, holder)}: "
            "request another one, or have an operator release that lease",
        )
    if (until := state.quarantined_until(lease)) > now and not _is_imported(lease):
        raise RequestRefused(
            "address-quarantined",
            f"the requested address {address} is kept for {_called(state, holder)}, which left "
            f"{validation.iso_time(state.released_at(lease))}, until {validation.iso_time(until)}: "
            "request another one, wait, or have an operator release that lease, which frees it at once",
        )
    if not _stale(state, lease, now):
        raise RequestRefused(
            "address-taken",
            f"the requested address {address} belongs to {_called(state, holder)}, which was last seen "
            f"{validation.iso_time(state.last_seen(lease, now))}: request another one, or wait until it is "
            f"not heard of for {state.zone.policy.stale_after} s",
        )


def _stale(state: ZoneState, lease: Lease, now: float) -> bool:
    """Whether the zone's policy lets others take what ``lease`` holds.

    Nobody counts as silent for longer than somebody has listened.
    """
    policy = state.zone.policy
    if policy.takeover != "stale" or _is_imported(lease):
        return True
    return now - max(state.last_seen(lease, now), state.listening_since) >= policy.stale_after


def _lowest_free(state: ZoneState, version: int) -> str | None:
    free = (pool.lowest_free() for pool in _pools(state, version))
    return next((address for address in free if address is not None), None)


def _reused(state: ZoneState, version: int, now: float) -> tuple[str, str]:
    """The address of the lease that was released first, and that lease's key."""
    victim = state.oldest_released(now - state.zone.policy.quarantine)
    for address in victim.addresses if victim else ():
        if victim is not None and ip.version_of(address) == version:
            return address, victim.key
    pools = _pools(state, version)
    fill = ", ".join(f"{pool.cidr} holds {len(pool.owners)} of {pool.capacity}" for pool in pools)
    raise RequestRefused(
        "exhausted",
        f"zone {state.zone.name} has no IPv{version} address left ({fill}): "
        "release leases that nobody uses, or give the zone a larger pool",
    )


def _pools(state: ZoneState, version: int) -> list[Pool]:
    return [pool for pool in state.pools if pool.version == version]


def _is_imported(lease: Lease) -> bool:
    """Whether an address was imported, and has no owner yet."""
    return lease.key == reservation_key(lease.name)


def owner_of(state: ZoneState, address: str) -> str | None:
    """The key that has ``address``, or None."""
    pool = state.pool_of(address)
    return None if pool is None else pool.owner_of(address)


def _called(state: ZoneState, key: str) -> str:
    lease = state.leases.get(key)
    if lease is None:
        return key
    since = f" since {validation.iso_time(lease.since)}" if lease.since else ""
    return f"{lease.name} ({lease.state}{since}, {key})"
