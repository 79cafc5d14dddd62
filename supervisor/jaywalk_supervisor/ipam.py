# SPDX-License-Identifier: GPL-3.0-or-later
"""Which addresses and prefixes a key gets: policy over a zone's pools, read only.

A key has one address of each IP version that the zone has pools for.  Its lease is sticky: it stays the
key's own after the node left, until an operator releases it, or until a pool is full and the lease is the
one that was released first and is out of quarantine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaywalk import values
from jaywalk.errors import RequestRefused

from .pools import Pool
from .prefixes import PrefixIndex
from .state import ZoneState

QUARANTINE = 3600.0
"""Seconds for which a released lease is left alone although its pool is full."""


@dataclass(frozen=True)
class Grant:
    """The addresses that a key may have, and the keys whose released leases make room for it."""

    addresses: tuple[str, ...]
    evicted: tuple[str, ...] = ()


def choose(state: ZoneState, key: str, requested: Sequence[str], now: float) -> Grant:
    """One address of each version: the requested one, else the key's own, else the lowest free one.

    Raises ``RequestRefused`` where a requested address cannot be had, or a pool is full.
    """
    wished = _requested(state, key, requested)
    lease = state.leases.get(key)
    own = {_version(address): address for address in (lease.addresses if lease else ())}
    addresses: list[str] = []
    evicted: list[str] = []
    for version in dict.fromkeys(pool.version for pool in state.pools):
        address = wished.get(version) or own.get(version) or _lowest_free(state, version)
        if address is None:
            address, victim = _reused(state, version, now)
            evicted.append(victim)
        addresses.append(address)
    return Grant(tuple(addresses), tuple(dict.fromkeys(evicted)))


def check_prefixes(state: ZoneState, key: str, prefixes: Sequence[str]) -> None:
    """Raises ``RequestRefused`` where ``key`` cannot announce all of ``prefixes`` together."""
    pools = values.networks(state.zone.pools)
    own = PrefixIndex()
    for prefix in prefixes:
        if (pool := values.overlapping(pools, prefix)) is not None:
            raise RequestRefused(
                "prefix-in-pool",
                f"the child prefix {prefix} overlaps the pool {pool} of zone {state.zone.name}: "
                "announce one outside of the zone's pools",
            )
        for other in state.prefixes.overlapping(prefix):
            if other.key != key:
                raise RequestRefused(
                    "prefix-taken",
                    f"the child prefix {prefix} overlaps {other.prefix} of {_called(state, other.key)}: "
                    "prefixes are unique within a zone, announce another one",
                )
        for other in own.overlapping(prefix):
            raise RequestRefused(
                "prefix-twice",
                f"the child prefixes {prefix} and {other.prefix} overlap: announce one of them",
            )
        own.add(prefix, key)


def _requested(state: ZoneState, key: str, requested: Sequence[str]) -> dict[int, str]:
    """The requested addresses by version, each of them free for ``key``."""
    wished: dict[int, str] = {}
    for address in requested:
        version = _version(address)
        if version in wished:
            raise RequestRefused(
                "address",
                f"both {wished[version]} and {address} are requested: request one IPv{version} address",
            )
        _check_free(state, key, address)
        wished[version] = address
    return wished


def _check_free(state: ZoneState, key: str, address: str) -> None:
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
            f"the requested address {address} is the network's own in {pool.cidr}: request another one",
        )
    holder = pool.holder(address)
    if holder not in (None, key):
        raise RequestRefused(
            "address-taken",
            f"the requested address {address} belongs to {_called(state, str(holder))}: "
            "request another one, or have an operator release that lease",
        )


def _lowest_free(state: ZoneState, version: int) -> str | None:
    free = (pool.lowest_free() for pool in _pools(state, version))
    return next((address for address in free if address is not None), None)


def _reused(state: ZoneState, version: int, now: float) -> tuple[str, str]:
    """The address of the lease that was released first, and that lease's key."""
    victim = state.longest_released(now - QUARANTINE)
    for address in victim.addresses if victim else ():
        if victim is not None and _version(address) == version:
            return address, victim.key
    pools = _pools(state, version)
    fill = ", ".join(f"{pool.cidr} holds {len(pool.holders)} of {pool.capacity}" for pool in pools)
    raise RequestRefused(
        "exhausted",
        f"zone {state.zone.name} has no IPv{version} address left ({fill}): "
        "release leases that nobody uses, or give the zone a larger pool",
    )


def _pools(state: ZoneState, version: int) -> list[Pool]:
    return [pool for pool in state.pools if pool.version == version]


def _version(address: str) -> int:
    return 6 if ":" in address else 4


def _called(state: ZoneState, key: str) -> str:
    lease = state.leases.get(key)
    return f"{lease.name} ({lease.state}, {key})" if lease else key
