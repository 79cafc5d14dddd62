# SPDX-License-Identifier: GPL-3.0-or-later
"""Preview of a request's effect on a zone, as pure functions: its refusals, and the record after a grant.

Only a supervisor assigns addresses.  A diff therefore shows an address that the request does not name and the
key does not have as a :func:`placeholder`, also in the run that receives it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Union

from ..core import ip
from ..core.errors import InvalidValue, RequestRefused
from ..zone.models import Lease, Peer, Zone
from ..zone.names import unique_name
from ..zone.requests import Request

# A key's record in a zone: a peer in the mesh, or a lease.
Held = Union[Peer, Lease]


def lines(
    about: str,
    name: str,
    addresses: Iterable[str],
    prefixes: Iterable[str],
    endpoint: str = "",
    state: str = "",
) -> tuple[str, ...]:
    """Returns a record as the lines of a diff, one fact per line; each line starts with ``about``."""
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


def check_not_taken(holders: Iterable[Held], request: Request, takeover: bool = False) -> None:
    """Raises ``InvalidValue`` if a holder other than the requesting key has what ``request`` asks for.

    ``takeover`` says that the zone's policy lets the requesting key take addresses of others.
    """
    for held in holders:
        if held.key == request.key:
            continue
        owner = f"{held.name} ({held.key})"
        for host in () if takeover else request.request_ip:
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


def endpoint_fields(known: Peer | None, request: Request) -> dict[str, Any]:
    """Returns the endpoint fields of a record after ``request``.

    The endpoint that other nodes observed stays as long as the node's own endpoint is the same.
    """
    stays = known is not None and known.endpoint == request.endpoint and not request.fixed
    return {
        "endpoint": request.endpoint,
        "fixed": request.fixed,
        "local": request.local,
        "relay": request.relay,
        "observed": known.observed if known is not None and stays else "",
        "symmetric": known is not None and stays and known.symmetric,
    }


def preview_name(name: str, own: Peer | None, others: Collection[Peer]) -> str:
    """Returns the name of a node that requests ``name`` next to ``others``; ``own`` is its record so far.

    Names that an operator reserved for hosts outside the mesh are unknown here.
    """
    taken = {other.name for other in others} | {other.host for other in others}
    return unique_name(name, own, taken.__contains__)[0]


def expected_addresses(held: Held | None, request: Request) -> tuple[str, ...]:
    """Returns the addresses that a granted request surely has: the requested ones, and those that stay."""
    requested = {ip.version_of(host): host for host in request.request_ip}
    own = {ip.version_of(host): host for host in (held.addresses if held else ())}
    return tuple({**own, **requested}.values())


def preview_addresses(zone: Zone, addresses: Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    """Returns one entry per IP version of the zone: an address that is ``known``, or its placeholder."""
    shown = {ip.version_of(host): host for host in addresses if host in set(known)}
    versions = dict.fromkeys(ip.version_of(pool) for pool in zone.pools)
    return tuple(shown.get(version) or placeholder(version) for version in versions)


def placeholder(version: int) -> str:
    """Returns the text for an address that the zone will choose."""
    return f"(IPv{version} assigned by the zone)"
