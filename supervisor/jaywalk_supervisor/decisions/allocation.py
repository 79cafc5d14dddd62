# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides which addresses and prefixes a key gets: allocation policy on a zone's pools, read only.

A key has one address of each IP version for which the zone has pools.  Its lease is sticky: the key keeps it
after the node left, until an operator releases it, or until a pool is full and the lease is the oldest
released one and out of quarantine.  The zone's policy may let a node take a requested address from another
node, always or if that node was not seen for some time; then that node gets a new address in the same commit.
An address that is reserved by an operator or in quarantine is never taken.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from jaywalk.core import ip, validation
from jaywalk.core.errors import RequestRefused
from jaywalk.zone.models import Lease

from ..state.pool import Pool
from ..state.prefix_index import PrefixIndex
from ..state.unreadable import Unreadable
from ..state.zone_state import ZoneState


@dataclass(frozen=True)
class Claimant:
    """The key that gets addresses: the addresses it already has, and the keys that hold them.

    ``may_take``: whether a requested address may belong to another node.
    """

    addresses: tuple[str, ...]
    keys: frozenset[str]
    may_take: bool = False


@dataclass(frozen=True)
class Grant:
    """The addresses that a key gets, and the effects on other keys.

    ``evicted`` are keys whose released leases end, ``displaced`` are keys with their new addresses.
    """

    addresses: tuple[str, ...]
    evicted: tuple[str, ...] = ()
    displaced: tuple[tuple[str, tuple[str, ...]], ...] = ()


def choose(state: ZoneState, claimant: Claimant, requested: Sequence[str], now: float) -> Grant:
    """Chooses one address of each version: the requested one, else the claimant's own, else the lowest free.

    Raises ``RequestRefused`` if a requested address is not available, or a pool is full.
    """
    granted = _check_requested(state, claimant, requested, now)
    own = {ip.version_of(address): address for address in claimant.addresses}
    addresses: list[str] = []
    evicted: list[str] = []
    for version in dict.fromkeys(pool.version for pool in state.pools):
        address = granted.get(version) or own.get(version) or _lowest_free(state, version)
        if address is None:
            address, victim = _reuse_oldest(state, version, now)
            evicted.append(victim)
        check_growth(state, claimant.keys, address)
        addresses.append(address)
    if not granted and not evicted:
        return Grant(tuple(addresses))
    displaced = _displaced(state, claimant, granted, own, now, evicted)
    return Grant(
        tuple(addresses),
        tuple(dict.fromkeys(evicted)),
        tuple((key, new) for key, new in displaced.items() if key not in evicted),
    )


def check_growth(state: ZoneState, keys: Collection[str], address: str) -> None:
    """Raises ``RequestRefused`` if ``address`` is new to ``keys`` and may belong to an unreadable record."""
    if not state.unreadable:
        return
    owner, version = owner_of(state, address), ip.version_of(address)
    for mark in state.unreadable.values() if owner not in keys else ():
        if version in mark.unknown and mark.key not in keys:
            raise unreadable_refusal(
                state, mark, f"gives no new IPv{version} address, since one of its leases may be any of them"
            )


def unreadable_refusal(state: ZoneState, mark: Unreadable, why: str) -> RequestRefused:
    """Returns the refusal of a request that would use or overwrite an unreadable record."""
    name = state.zone.name
    return RequestRefused("unreadable", f"zone {name} {why}: {mark.message(name)}")


def filter_free(state: ZoneState, addresses: Iterable[str]) -> tuple[str, ...]:
    """Returns those of ``addresses`` that a new key could get."""
    pools = ((address, state.pool_of(address)) for address in addresses)
    return tuple(
        address
        for address, pool in pools
        if pool is not None and pool.owner_of(address) is None and not pool.is_reserved(address)
    )


def _displaced(
    state: ZoneState,
    claimant: Claimant,
    granted: Mapping[int, str],
    own: Mapping[int, str],
    now: float,
    evicted: list[str],
) -> dict[str, tuple[str, ...]]:
    """Returns the keys whose addresses the claimant takes, with their new addresses; adds to ``evicted``.

    The new address is the lowest free one, else the one that the claimant gives up.  If there is neither, a
    node that left loses its lease, and a joined node gets the address of such a lease.  An imported lease has
    no owner and ends.
    """
    displaced: dict[str, tuple[str, ...]] = {}
    for version, address in granted.items():
        owner = owner_of(state, address)
        if owner is None or owner in claimant.keys:
            continue
        fresh = _lowest_free(state, version) or own.get(version)
        lease = state.leases[owner]
        if lease.has_placeholder_key or (fresh is None and lease.released is not None):
            evicted.append(owner)
            continue
        if fresh is None:
            fresh, victim = _reuse_oldest(state, version, now)
            evicted.append(victim)
        held = displaced.get(owner, lease.addresses)
        displaced[owner] = tuple(fresh if other == address else other for other in held)
    return displaced


def check_prefixes(state: ZoneState, keys: Collection[str], prefixes: Sequence[str]) -> None:
    """Raises ``RequestRefused`` if one peer cannot announce all of ``prefixes`` together.

    Prefixes in the leases of ``keys`` are the peer's own.
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
                    f"the child prefix {prefix} overlaps {other.prefix} of {_describe(state, other.key)}: "
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
    if not state.unreadable or any(other.prefix == prefix for other in state.prefixes.overlapping(prefix)):
        return
    for mark in state.unreadable.values():
        if mark.covered or mark.key in keys:
            continue
        if not mark.prefixes_known or ip.overlapping(ip.networks(mark.lease.prefixes), prefix):
            raise unreadable_refusal(
                state, mark, f"does not take the child prefix {prefix}, which may be another node's"
            )


def _check_requested(
    state: ZoneState, claimant: Claimant, requested: Sequence[str], now: float
) -> dict[int, str]:
    """Returns the requested addresses by version, after checking that the claimant may have each."""
    granted: dict[int, str] = {}
    for address in requested:
        version = ip.version_of(address)
        if version in granted:
            raise RequestRefused(
                "address",
                f"both {granted[version]} and {address} are requested: request one IPv{version} address",
            )
        _check_free(state, claimant, address, now)
        granted[version] = address
    return granted


def _check_free(state: ZoneState, claimant: Claimant, address: str, now: float) -> None:
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
    owner = pool.owner_of(address)
    if owner is None or owner in claimant.keys:
        return
    lease = state.leases[owner]
    if not claimant.may_take or lease.state == "reserved":
        raise RequestRefused(
            "address-taken",
            f"the requested address {address} belongs to {_describe(state, owner)}: "
            "request another one, or have an operator release that lease",
        )
    if (until := state.quarantined_until(lease)) > now and not lease.has_placeholder_key:
        raise RequestRefused(
            "address-quarantined",
            f"the requested address {address} is kept for {_describe(state, owner)}, which left "
            f"{validation.iso_time(state.released_at(lease))}, until {validation.iso_time(until)}: "
            "request another one, wait, or have an operator release that lease, which frees it at once",
        )
    if not _stale(state, lease, now):
        raise RequestRefused(
            "address-taken",
            f"the requested address {address} belongs to {_describe(state, owner)}, which was last seen "
            f"{validation.iso_time(state.last_seen(lease, now))}: request another one, or wait until it was "
            f"not seen for {state.zone.policy.stale_after} s",
        )


def _stale(state: ZoneState, lease: Lease, now: float) -> bool:
    """Whether the zone's policy lets others take the addresses of ``lease``.

    No node counts as silent for longer than requests were received without a gap.
    """
    policy = state.zone.policy
    if policy.takeover != "stale" or lease.has_placeholder_key:
        return True
    return now - max(state.last_seen(lease, now), state.listening_since) >= policy.stale_after


def _lowest_free(state: ZoneState, version: int) -> str | None:
    free = (pool.lowest_free() for pool in _pools(state, version))
    return next((address for address in free if address is not None), None)


def _reuse_oldest(state: ZoneState, version: int, now: float) -> tuple[str, str]:
    """Returns an address of the lease that was released first, and that lease's key."""
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


def owner_of(state: ZoneState, address: str) -> str | None:
    """Returns the key that has ``address``, or None."""
    pool = state.pool_of(address)
    return None if pool is None else pool.owner_of(address)


def _describe(state: ZoneState, key: str) -> str:
    lease = state.leases.get(key)
    if lease is None:
        return key
    since = f" since {validation.iso_time(lease.since)}" if lease.since else ""
    return f"{lease.name} ({lease.state}{since}, {key})"
