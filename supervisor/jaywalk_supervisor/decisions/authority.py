# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node may have by its own word: the zone's policy, an operator's grants, and sane endpoints.

A node that asks for more is a member without it, and its reply says in a note how an operator grants it; only
child prefixes and a lease beyond the quota are refused.  Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from jaywalk.core import ip
from jaywalk.core.errors import RequestRefused
from jaywalk.zone.events import Change
from jaywalk.zone.member_authority import (
    may_fix_endpoint,
    may_relay,
    without_endpoint_grant,
    without_relay_grant,
)
from jaywalk.zone.models import Lease, Peer
from jaywalk.zone.requests import REPORT, Request

from ..state.zone_state import ZoneState


@dataclass(frozen=True)
class Installation:
    """Addresses at which no member's endpoint lies: the controller's, and broadcast addresses."""

    controller: frozenset[str] = frozenset()
    broadcast: frozenset[str] = frozenset()


UNKNOWN = Installation()


def permitted(state: ZoneState, request: Request, installation: Installation = UNKNOWN) -> Request:
    """Returns ``request`` of a node without what the node may not have, and with notes that say so."""
    if request.op == REPORT:
        seen = {
            key: endpoint
            for key, endpoint in request.observed.items()
            if not _why_no_endpoint(state, key, ip.host_of(endpoint), (), installation)
        }
        return request if len(seen) == len(request.observed) else replace(request, observed=seen)
    if request.op not in ("join", "endpoint"):
        return request
    held = state.leases.get(request.key)
    grants = (*(held.grants if held else ()), *(request.token.grants if request.token else ()))
    policy, name = state.zone.policy, state.zone.name
    if request.relay and not may_relay(policy, grants):
        request = _noted(replace(request, relay=0), without_relay_grant(name))
    if request.fixed and not may_fix_endpoint(policy, grants):
        request = _noted(replace(request, fixed=False), without_endpoint_grant(name))
    return _with_usable_endpoints(state, request, grants, installation)


def check_quota(state: ZoneState, lease: Lease | None) -> None:
    """Raises ``RequestRefused`` if a node without a lease may not have one by the zone's password alone."""
    limit = state.zone.policy.member_leases
    if lease is None and limit is not None and state.member_leases >= limit:
        raise RequestRefused(
            "quota",
            f"zone {state.zone.name} has {state.member_leases} nodes that joined by its password alone, and "
            f"permits {limit}: have an operator reserve a lease for this key (jaywalk_lease), or raise the "
            f"limit (zone set {state.zone.name} --member-leases)",
        )


def violations(state: ZoneState, limit: int) -> list[Change]:
    """Returns changes of at most ``limit`` peers that have more than the zone's policy permits any more.

    They keep their prefixes, to which tunnels lead, until they announce them again.
    """
    policy = state.zone.policy
    changes: list[Change] = []
    for peer in () if policy.member_relay and policy.member_fixed_endpoint else state.peers.values():
        relay = peer.relay if may_relay(policy, peer.grants) else 0
        fixed = peer.fixed and may_fix_endpoint(policy, peer.grants)
        if (relay, fixed) != (peer.relay, peer.fixed):
            record = peer._replace(relay=relay, fixed=fixed, rev=state.rev + 1)
            changes.append(Change("+", peer.key, record.to_wire()))
        if len(changes) == limit:
            break
    return changes


def without_authority(state: ZoneState, peer: Peer) -> Peer:
    """Returns ``peer`` after its grants changed: without a relay or a fixed endpoint that needs one."""
    policy = state.zone.policy
    return peer._replace(
        relay=peer.relay if may_relay(policy, peer.grants) else 0,
        fixed=peer.fixed and may_fix_endpoint(policy, peer.grants),
    )


def _with_usable_endpoints(
    state: ZoneState, request: Request, grants: Collection[str], installation: Installation
) -> Request:
    """Returns ``request`` with those of its endpoints at which peers may try the node."""
    if not request.endpoint:
        return request
    port = ip.port_of(request.endpoint)
    hosts = (ip.host_of(request.endpoint), *request.local)
    reasons = {host: _why_no_endpoint(state, request.key, host, grants, installation) for host in hosts}
    if not any(reasons.values()):
        return request
    usable = [host for host, reason in reasons.items() if not reason]
    changed = replace(
        request,
        endpoint=ip.join_endpoint(usable[0], port) if usable else "",
        local=tuple(usable[1:]),
        fixed=request.fixed and hosts[0] in usable,
        relay=request.relay if usable else 0,
    )
    return _noted(
        changed,
        *(f"the endpoint address {host} is left out: {reason}" for host, reason in reasons.items() if reason),
    )


def _why_no_endpoint(
    state: ZoneState, key: str, host: str, grants: Iterable[str], installation: Installation
) -> str:
    """Returns why no record of ``key`` may name the address ``host``; empty if it may."""
    policy = state.zone.policy
    if state.zone.contains(host):
        return "it lies in the zone's own pools"
    if not ip.is_machines(host) or host in installation.broadcast:
        return "it is no machine's"
    declared = "records_per_address" not in policy.undeclared
    if declared and host in installation.controller and "endpoint" not in grants:
        return (
            "it is the controller's, and an operator has to grant it (jaywalk_lease with grants: [endpoint])"
        )
    limit = policy.records_per_address
    if limit is not None and state.endpoint_hosts.others(host, key) >= limit:
        return f"{limit} other nodes have it already (zone set {state.zone.name} --records-per-address)"
    return ""


def _noted(request: Request, *notes: str) -> Request:
    return replace(request, notes=(*request.notes, *notes))
