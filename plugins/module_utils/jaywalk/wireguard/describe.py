# SPDX-License-Identifier: GPL-3.0-or-later
"""Describes plans for the log: the changes of a plan, and changes that others made before it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from ..core.ip import version_of
from .interface import Interface, ObservedInterface, WgPeer, networks_of
from .plan import Plan
from .steps import Create, Delete, PeerStep, RemovePeer, ResetPeer, SetPeer, Step

# A sentence names this many things one by one, and gives the number of the others.
LISTED = 3
# So much of a public key stands for a peer without a name, enough to find it in ``wg show``.
KEY_CHARACTERS = 8
# Kinds of which an interface has any number.
_LISTED_KINDS = ("address", "route")
_NO_NAMES: Mapping[str, str] = MappingProxyType({})


def changes(plan: Plan, names: Mapping[str, str] = _NO_NAMES) -> str:
    """The changes of a plan in one line; ``names`` are the peers' names by public key."""
    grouped: dict[str, list[str]] = {}
    for step in plan.steps:
        for verb, thing in _changes(step, names):
            grouped.setdefault(verb, []).append(thing)
    return ", ".join(f"{verb} {listed(sorted(things))}".rstrip() for verb, things in grouped.items())


def listed(things: Sequence[str], separator: str = ", ", most: int = LISTED) -> str:
    """The first ``most`` of ``things``, and the number of the others."""
    more = len(things) - most
    return separator.join(things[:most]) + (f" and {more} more" if more > 0 else "")


def _changes(step: Step, names: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Pairs of a verb and the thing that the step changes."""
    if isinstance(step, (Create, Delete)):
        yield "created the interface" if isinstance(step, Create) else "deleted the interface", ""
    elif isinstance(step, PeerStep):
        yield f"{_peer_verb(step)} peer", _peer_of(step, names)
    else:
        for line in step.removed:
            kind, _space, value = line.partition(" ")
            # Of a setting only the new value is listed.
            if kind in _LISTED_KINDS:
                yield f"removed {kind}", value
        for line in step.added:
            kind, _space, value = line.partition(" ")
            yield f"{'added' if kind in _LISTED_KINDS else 'set'} {kind}", value


def _peer_of(step: PeerStep, names: Mapping[str, str]) -> str:
    """The peer by name; a removed peer without a name by its key and endpoint, which are gone afterwards."""
    if step.key in names or not isinstance(step, RemovePeer):
        return peer_name(step.key, names)
    return _key_and_endpoint(step.peer)


def _peer_verb(step: PeerStep) -> str:
    if isinstance(step, RemovePeer):
        return "removed"
    if isinstance(step, ResetPeer):
        return "reset"
    return "added" if isinstance(step, SetPeer) and step.before is None else "changed"


def peer_name(key: str, names: Mapping[str, str]) -> str:
    """A peer's name, or the beginning of its public key."""
    return names.get(key) or f"{key[:KEY_CHARACTERS]}..."


def drift(
    observed: ObservedInterface | None,
    last: Interface,
    desired: Interface,
    zone: str,
    names: Mapping[str, str] = _NO_NAMES,
) -> tuple[str, ...]:
    """The changes that others made to the interface since ``last`` was applied, a sentence each.

    Leaves out changes of the zone itself (``desired`` differs from ``last``), and consequences of an
    interface or a link that is gone.
    """
    if observed is None or not (observed.public_key or observed.peers or observed.addresses):
        # A bare interface belongs to a userspace program that was killed and restarted.
        return (f"interface {last.name} was gone",)
    return (
        *_lost_settings(observed, last, desired),
        *_lost_link(observed, last, desired),
        *_lost_peers(observed, last, desired, names),
        *_foreign(observed, last, desired, zone),
    )


def _lost_settings(observed: ObservedInterface, last: Interface, desired: Interface) -> Iterator[str]:
    if last.public_key == desired.public_key and observed.public_key != desired.public_key:
        yield "the private key was another one" if observed.public_key else "the private key was gone"
    if last.listen_port == desired.listen_port and desired.listen_port not in (None, observed.listen_port):
        yield f"the listen port was {observed.listen_port}"
    if last.mtu == desired.mtu and desired.mtu not in (None, observed.mtu):
        yield f"the MTU was {observed.mtu}"


def _lost_link(observed: ObservedInterface, last: Interface, desired: Interface) -> Iterator[str]:
    if not observed.up:
        yield f"link {last.name} was down"
    addresses = [address for address in last.addresses if address in desired.addresses]
    for address in addresses:
        # A link that is down has no IPv6 address.
        if address not in observed.addresses and (observed.up or version_of(address) == 4):
            yield f"address {address} was gone"
    if observed.up:
        networks = observed.lost_networks & networks_of(addresses).keys()
        lost = sorted(((last.routes & desired.routes) - observed.routes) | networks)
        yield from (f"route {prefix} was gone" for prefix in lost)
        yield from (f"the local route of address {host} was gone" for host in sorted(observed.lost_hosts))


def _lost_peers(
    observed: ObservedInterface, last: Interface, desired: Interface, names: Mapping[str, str]
) -> Iterator[str]:
    kept = [key for key in last.peers if key in desired.peers]
    gone = sorted(peer_name(key, names) for key in kept if key not in observed.peers)
    if gone:
        yield f"{_peers(gone)} {listed(gone)} {'were' if len(gone) > 1 else 'was'} gone"
    for key in kept:
        allowed_ips, found = last.peers[key].allowed_ips, observed.peers.get(key)
        if found is not None and found.preshared:
            yield f"peer {peer_name(key, names)} had a preshared key"
        if (
            found is not None
            and allowed_ips == desired.peers[key].allowed_ips
            and set(found.allowed_ips) != set(allowed_ips)
        ):
            others = listed(found.allowed_ips) or "none"
            yield f"the allowed IPs of peer {peer_name(key, names)} were {others}"


def _peers(names: Sequence[str]) -> str:
    return "peers" if len(names) > 1 else "peer"


def _foreign(observed: ObservedInterface, last: Interface, desired: Interface, zone: str) -> Iterator[str]:
    reason = f"which zone {zone} does not have: another program put it there"
    peers = sorted(observed.peers.keys() - last.peers.keys() - desired.peers.keys())
    if peers:
        shown = listed([_key_and_endpoint(observed.peers[key]) for key in peers])
        yield f"removed {_peers(peers)} {shown}, {reason}"
    for address in observed.addresses:
        if address not in last.addresses and address not in desired.addresses:
            yield f"removed address {address}, {reason}"
    known = last.routes | desired.routes | desired.accepted_routes
    for prefix in sorted(observed.routes - known):
        yield f"removed route {prefix}, {reason}"


def _key_and_endpoint(peer: WgPeer) -> str:
    return f"{peer.key} ({peer.endpoint})" if peer.endpoint else peer.key
