# SPDX-License-Identifier: GPL-3.0-or-later
"""From (observed, desired) to a plan: the steps that differ, to be shown, counted and applied.  Pure.

An interface is never deleted in order to be changed, and a peer that did not change is in no step, so it
loses no packet.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from ..core.ip import version_of
from .interface import Interface, ObservedInterface, ObservedPeer, WgPeer, networks_of
from .steps import (
    AddAddress,
    AddConnectedRoute,
    AddLocalRoute,
    AddRoute,
    Create,
    DelAddress,
    Delete,
    DelRoute,
    LinkUp,
    RemovePeer,
    RemovePresharedKey,
    RestoreAddress,
    RestoreRoute,
    SetKey,
    SetListenPort,
    SetMtu,
    SetPeer,
    Step,
)


@dataclass(frozen=True)
class Plan:
    """The steps from the observed to the desired interface; empty where nothing differs.

    ``found`` are sentences about changes that others made to the interface since the last plan was applied
    (:func:`jaywalk.wireguard.describe.drift`); empty for a caller that keeps no memory of an interface.
    """

    name: str
    steps: tuple[Step, ...] = ()
    found: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.steps)

    @property
    def creates(self) -> bool:
        """Whether the plan creates the interface."""
        return any(isinstance(step, Create) for step in self.steps)

    @property
    def deletes(self) -> bool:
        """Whether the plan deletes the interface."""
        return any(isinstance(step, Delete) for step in self.steps)

    def diff(self) -> dict[str, str]:
        """The plan as an Ansible diff: only what changes, before and after."""
        return {
            "before_header": self.name,
            "after_header": self.name,
            "before": _text(line for step in self.steps for line in step.removed),
            "after": _text(line for step in self.steps for line in step.added),
        }


def _text(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def diff(observed: ObservedInterface | None, desired: Interface | None, now: float | None = None) -> Plan:
    """The plan from ``observed`` to ``desired``; None stands for no interface.

    ``now`` (seconds since 1970) tells live sessions from dead ones: a peer that roamed and has a session
    keeps its endpoint.
    """
    if desired is None:
        return Plan("") if observed is None else Plan(observed.name, (Delete(observed),))
    moment = time.time() if now is None else now
    current = observed or ObservedInterface(desired.name, "", "", 0, (), 0, up=False)
    routes = list(route_steps(desired, current.routes - (desired.accepted_routes - desired.routes)))
    steps = [
        *([Create(desired.name)] if observed is None else []),
        *_settings(current, desired),
        *peer_steps(current.peers, desired.peers, moment),
        *_link(current, desired),
        # After the deletion of addresses: an address takes the kernel's own route to its network along, and
        # no other route.
        *(step for step in routes if isinstance(step, DelRoute)),
        *_restored(current, desired),
        *_lost(current, desired),
        *(step for step in routes if isinstance(step, AddRoute)),
    ]
    return Plan(desired.name, tuple(steps))


def peer_steps(
    observed: Mapping[str, WgPeer],
    desired: Mapping[str, WgPeer],
    now: float,
    only: Iterable[str] | None = None,
) -> Iterator[Step]:
    """Steps for all peers, or for the keys in ``only``: removals first, since an allowed IP may move."""
    keys = sorted(set(observed) | set(desired) if only is None else set(only))
    for key in keys:
        if key in observed and key not in desired:
            yield RemovePeer(observed[key])
    for key in keys:
        if key in desired:
            step = _peer_step(observed.get(key), desired[key], now)
            if step is not None:
                yield step


def _peer_step(before: WgPeer | None, after: WgPeer, now: float) -> Step | None:
    if before is None:
        return SetPeer(None, after)
    endpoint = after.endpoint
    if not endpoint or _keeps_endpoint(before, after, now):
        endpoint = before.endpoint
    if (
        endpoint == before.endpoint
        and after.keepalive == before.keepalive
        and set(after.allowed_ips) == set(before.allowed_ips)
    ):
        return None
    return SetPeer(before, after if endpoint == after.endpoint else replace(after, endpoint=endpoint))


def preshared_steps(observed: Mapping[str, ObservedPeer], desired: Collection[str]) -> Iterator[Step]:
    """Steps that remove preshared keys: there is no handshake with a peer that has another one or none.

    No part of :func:`diff`: an interface that is not the mesh's may have some.
    """
    for key in sorted(desired):
        if key in observed and observed[key].preshared:
            yield RemovePresharedKey(key)


def _keeps_endpoint(before: WgPeer, after: WgPeer, now: float) -> bool:
    """Whether a peer has a session at another endpoint than the declared one: it roamed."""
    has_session = isinstance(before, ObservedPeer) and before.has_session(now)
    return bool(before.endpoint) and before.endpoint != after.endpoint and has_session


def _settings(current: ObservedInterface, desired: Interface) -> Iterator[Step]:
    if current.public_key != desired.public_key:
        yield SetKey(current.public_key, desired.public_key, desired.private_key_file)
    if desired.listen_port is not None and current.listen_port != desired.listen_port:
        yield SetListenPort(current.listen_port, desired.listen_port)


def _link(current: ObservedInterface, desired: Interface) -> Iterator[Step]:
    if desired.mtu is not None and current.mtu != desired.mtu:
        yield SetMtu(current.mtu, desired.mtu)
    # Backwards, since a primary address is listed first and takes its secondaries along.
    for address in reversed(current.addresses):
        if address not in desired.addresses:
            yield DelAddress(address)
    for address in desired.addresses:
        if address not in current.addresses:
            yield AddAddress(address)
    if not current.up:
        yield LinkUp()


def _restored(current: ObservedInterface, desired: Interface) -> Iterator[Step]:
    """Restores the desired addresses and routes that leave with an IPv4 address that is deleted.

    A primary address takes its secondaries (ip-address(8)), the last address of an interface takes all
    IPv4 routes (Linux, fib_disable_ip).
    """
    deleted = (address for address in current.addresses if address not in desired.addresses)
    if not any(version_of(address) == 4 for address in deleted):
        return
    for address in desired.addresses:
        if version_of(address) == 4 and address in current.addresses:
            yield RestoreAddress(address)
    for prefix in sorted(current.routes & desired.routes):
        if version_of(prefix) == 4:
            yield RestoreRoute(prefix, desired.metric)


def _lost(current: ObservedInterface, desired: Interface) -> Iterator[Step]:
    """Restores what the kernel made for an address that stays, and somebody deleted."""
    kept = [address for address in desired.addresses if address in current.addresses]
    for network, host in networks_of(kept).items():
        if network in current.lost_networks:
            yield AddConnectedRoute(network, host)
    # One host may have two prefix lengths, and has one local route.
    for host, address in {address.partition("/")[0]: address for address in kept}.items():
        if host in current.lost_hosts:
            yield AddLocalRoute(address)


def route_steps(desired: Interface, observed: Iterable[str]) -> Iterator[Step]:
    """Steps from the routes into an interface that ``observed`` names to those that it should have."""
    before = set(observed)
    for prefix in sorted(before - desired.routes):
        yield DelRoute(prefix)
    for prefix in sorted(desired.routes - before):
        yield AddRoute(prefix, desired.metric)
