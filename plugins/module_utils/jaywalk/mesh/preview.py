# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node or an operator wishes of a zone against what the zone holds: is it so already, what will be?

Pure.  Only a supervisor assigns addresses, so one that nobody asked for and nobody has yet cannot be known
before: it is called by :func:`assigned` in every diff, also in the one of the run that learns it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Union

from ..core import ip
from ..core.errors import InvalidValue, RequestRefused
from ..zone.models import Lease, Peer, Zone
from ..zone.names import unique_name
from ..zone.requests import Request

Held = Union[Peer, Lease]
"""What a zone holds of a key: a peer in the mesh, or a lease."""


def lines(
    about: str,
    name: str,
    addresses: Iterable[str],
    prefixes: Iterable[str],
    endpoint: str = "",
    state: str = "",
) -> tuple[str, ...]:
    """What a zone holds of a key, a fact a line, as diffs show it; ``about`` begins each line."""
    facts = [f"name {name}"] if name else []
    facts.extend(f"address {host}" for host in addresses)
    facts.extend(f"child-prefix {prefix}" for prefix in prefixes)
    facts.extend([f"endpoint {endpoint}"] if endpoint else [])
    facts.extend([f"state {state}"] if state else [])
    return tuple(f"{about} {fact}" for fact in facts)


def check_addresses(zone: Zone, addresses: Iterable[str]) -> None:
    """Raises ``InvalidValue`` if no node of ``zone`` can have the requested ``addresses`` together."""
    excluded = ip.networks(zone.policy.excluded)
    requested: dict[int, str] = {}
    for host in addresses:
        version = ip.version_of(host)
        first = requested.setdefault(version, host)
        if first != host:
            raise InvalidValue(f"both {first} and {host} are requested", f"request one IPv{version} address")
        pool = ip.holding(zone.networks, host)
        if pool is None:
            raise InvalidValue(
                f"the requested address {host} lies outside the pools of zone {zone.name}",
                f"request one inside {' or '.join(zone.pools)}",
            )
        if ip.integer_of(host) in ip.own_addresses(pool) or ip.holding(excluded, host):
            raise InvalidValue(
                f"the requested address {host} is the network's own in {pool}, or excluded by the operator",
                "request another one",
            )


def check_prefixes(zone: Zone, prefixes: Iterable[str]) -> None:
    """Raises ``InvalidValue`` if no node of ``zone`` can have ``prefixes`` together."""
    checked: list[ip.Network] = []
    for prefix in prefixes:
        pool = ip.overlapping(zone.networks, prefix)
        if pool is not None:
            raise InvalidValue(
                f"the child prefix {prefix} overlaps the pool {pool} of zone {zone.name}",
                "announce one outside of the zone's pools",
            )
        other = ip.overlapping(checked, prefix)
        if other is not None:
            raise InvalidValue(f"the child prefixes {prefix} and {other} overlap", "announce one of them")
        checked += ip.networks([prefix])


def refuse_taken(
    holders: Iterable[Held], request: Request, own: Iterable[str] = (), taking: bool = False
) -> None:
    """Raises ``InvalidValue`` on wishes for what one of ``holders`` other than the asking key has.

    ``own`` are more keys that are the asker's; ``taking``: the zone's policy moves addresses to who asks.
    """
    mine = {request.key, *own}
    for held in holders:
        if held.key in mine:
            continue
        owner = f"{held.name} ({held.key})"
        for host in () if taking else request.request_ip:
            if host in held.addresses:
                raise InvalidValue(f"the requested address {host} belongs to {owner}", "request another one")
        for prefix in request.child_prefixes:
            other = ip.overlapping(ip.networks(held.prefixes), prefix)
            if other is not None:
                raise InvalidValue(
                    f"the child prefix {prefix} overlaps {other} of {owner}", "announce another one"
                )


def check_endpoints_outside(prefixes: Sequence[str], request: Request, peers: Iterable[Peer]) -> None:
    """Raises ``RequestRefused`` if a prefix that is new to the requesting node contains a tunnel endpoint.

    Peers would route the encrypted packets of that tunnel into the mesh.
    """
    networks = ip.networks(prefixes)
    if not networks:
        return
    endpoints = {request.endpoint: "this node itself"}
    endpoints |= {peer.observed or peer.endpoint: peer.name for peer in peers if peer.key != request.key}
    endpoints.pop("", None)
    for endpoint, name in endpoints.items():
        covered = ip.holding(networks, ip.host_of(endpoint))
        if covered is not None:
            raise RequestRefused(
                "prefix-covers-endpoint",
                f"the child prefix {covered} covers {endpoint}, where peers reach {name}: leave it out",
            )


def whereabouts(known: Peer | None, request: Request) -> dict[str, Any]:
    """What a record will say of where its node is; what others saw holds as long as it says so itself."""
    stays = known is not None and known.endpoint == request.endpoint and not request.fixed
    return {
        "endpoint": request.endpoint,
        "fixed": request.fixed,
        "local": request.local,
        "relay": request.relay,
        "observed": known.observed if known is not None and stays else "",
        "symmetric": known is not None and stays and known.symmetric,
    }


def foretold_name(name: str, own: Peer | None, others: Collection[Peer]) -> str:
    """What a node that asks for ``name`` will be called beside ``others``; ``own`` is its record so far.

    A name that an operator reserved for a host that is not in the mesh is not known here.
    """
    taken = {other.name for other in others} | {other.host for other in others}
    return unique_name(name, own, taken.__contains__)[0]


def known_addresses(held: Held | None, request: Request) -> tuple[str, ...]:
    """The addresses that a granted request will bring for sure: those asked for, and those that stay."""
    wished = {ip.version_of(host): host for host in request.request_ip}
    own = {ip.version_of(host): host for host in (held.addresses if held else ())}
    return tuple({**own, **wished}.values())


def foretold(zone: Zone, addresses: Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    """One entry for each IP version of the zone: an address that was known before, or words for it."""
    sure = {ip.version_of(host): host for host in addresses if host in set(known)}
    versions = dict.fromkeys(ip.version_of(pool) for pool in zone.pools)
    return tuple(sure.get(version) or assigned(version) for version in versions)


def assigned(version: int) -> str:
    """Words for an address that the zone is still to choose."""
    return f"(IPv{version} assigned by the zone)"
