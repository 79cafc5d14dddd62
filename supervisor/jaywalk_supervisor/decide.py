# SPDX-License-Identifier: GPL-3.0-or-later
"""What a request changes in a zone: pure decisions over :class:`ZoneState`, which they only read.

The public key is the identity.  A request that asks for what is already so changes nothing and makes no
event; one that is older than the key's last change is refused.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from jaywalk.errors import RequestRefused
from jaywalk.models import Lease, Peer, Reply, Request
from jaywalk.zonelog import Change

from .ipam import Grant, check_prefixes, choose
from .state import ZoneState

ABSENT = Reply(ok=True, state="absent")


@dataclass(frozen=True)
class Decision:
    """The changes of one request, in order, and its answer; ``peer`` is what a ``+`` among them says."""

    reply: Reply
    changes: tuple[Change, ...] = ()
    peer: Peer | None = None


def decide(state: ZoneState, request: Request, now: float) -> Decision:
    """Decides on ``request`` at the time ``now``; a refusal is an answer, not an exception."""
    try:
        _refuse_other_machine(state.peers.get(request.key), request)
        return _DECIDERS[request.op](state, request, now)
    except RequestRefused as refusal:
        return Decision(Reply.refused(refusal.code, str(refusal)))


def _join(state: ZoneState, request: Request, now: float) -> Decision:
    lease = state.leases.get(request.key)
    _refuse_stale(lease, request)
    grant = choose(state, request.key, request.request_ip, now)
    check_prefixes(state, request.key, request.child_prefixes)
    peer = Peer(
        key=request.key,
        name=request.name or (lease.name if lease else default_name(request.key)),
        addresses=grant.addresses,
        prefixes=request.child_prefixes,
        endpoint=request.endpoint,
        seq=request.seq,
        instance=request.instance or _instance_of(state.peers.get(request.key)),
    )
    return _admit(state, peer, grant)


def _leave(state: ZoneState, request: Request, now: float) -> Decision:
    lease = state.leases.get(request.key)
    if lease is None:
        return Decision(ABSENT)
    _refuse_stale(lease, request)
    if request.key not in state.peers:
        return Decision(Reply.granted(lease, changed=False))
    left = replace(lease, released=now, prefixes=(), seq=request.seq)
    record: dict[str, object] = {"t": now, "s": request.seq}
    return Decision(Reply.granted(left, changed=True), (Change("-", request.key, record),))


def _endpoint(state: ZoneState, request: Request, now: float) -> Decision:
    peer = state.peers.get(request.key)
    if peer is None:
        raise RequestRefused(
            "not-joined", f"the peer {request.key} is not in zone {state.zone.name}: join first"
        )
    _refuse_stale(state.leases.get(request.key), request)
    moved = replace(peer, endpoint=request.endpoint, seq=request.seq)
    return _admit(state, moved, Grant(peer.addresses))


def _reserve(state: ZoneState, request: Request, now: float) -> Decision:
    """An operator's word for a node that is in the mesh, was, or is still to come."""
    grant = choose(state, request.key, request.request_ip, now)
    peer, lease = state.peers.get(request.key), state.leases.get(request.key)
    prefixes = request.child_prefixes or (lease.prefixes if lease else ())
    check_prefixes(state, request.key, prefixes)
    name = request.name or (lease.name if lease else default_name(request.key))
    if peer is not None:
        return _admit(state, replace(peer, name=name, addresses=grant.addresses, prefixes=prefixes), grant)
    seq = lease.seq if lease else 0
    reserved = Lease(request.key, name, grant.addresses, prefixes, released=0, seq=seq)
    if reserved == lease:
        return Decision(Reply.granted(lease, changed=False))
    return Decision(
        Reply.granted(reserved, changed=True),
        (*_evictions(grant), Change("=", request.key, reserved.to_wire())),
    )


def _release(state: ZoneState, request: Request, now: float) -> Decision:
    """An operator frees a key's addresses; a peer that is in the mesh leaves it."""
    lease = state.leases.get(request.key)
    if lease is None:
        return Decision(ABSENT)
    changes = [Change("=", request.key)]
    if request.key in state.peers:
        changes.insert(0, Change("-", request.key, {"t": now, "s": lease.seq}))
    return Decision(replace(ABSENT, changed=True), tuple(changes))


def _show(state: ZoneState, request: Request, now: float) -> Decision:
    lease = state.leases.get(request.key)
    return Decision(ABSENT if lease is None else Reply.granted(lease, changed=False))


_DECIDERS: Mapping[str, Callable[[ZoneState, Request, float], Decision]] = {
    "join": _join,
    "leave": _leave,
    "endpoint": _endpoint,
    "reserve": _reserve,
    "release": _release,
    "show": _show,
}


def default_name(key: str) -> str:
    """A DNS label for a peer that brings no name: the first four bytes of its key."""
    return f"peer-{base64.b64decode(key)[:4].hex()}"


def _instance_of(peer: Peer | None) -> str:
    return peer.instance if peer is not None else ""


def _refuse_other_machine(peer: Peer | None, request: Request) -> None:
    """Once a key joined from another machine, the one before may neither move that peer nor remove it."""
    known = _instance_of(peer)
    if request.op in ("leave", "endpoint") and request.instance and known not in ("", request.instance):
        raise RequestRefused(
            "superseded",
            f"the key {request.key} joined from another machine: join again to take it back",
        )


def _refuse_stale(lease: Lease | None, request: Request) -> None:
    if lease is not None and request.seq < lease.seq:
        raise RequestRefused(
            "stale",
            f"the request {request.seq} of {request.key} is older than its last one ({lease.seq}): "
            "send it again, and check the node's clock",
        )


def _admit(state: ZoneState, peer: Peer, grant: Grant) -> Decision:
    """The peer's record goes out if it says anything new; its seq and rev alone are nothing new."""
    known = state.peers.get(peer.key)
    lease = Lease(peer.key, peer.name, peer.addresses, peer.prefixes, None, peer.seq)
    if known is not None and replace(known, seq=peer.seq) == replace(peer, rev=known.rev):
        return Decision(Reply.granted(lease, changed=False))
    admitted = replace(peer, rev=state.rev + 1)
    changes = (*_evictions(grant), Change("+", peer.key, admitted.to_wire()))
    return Decision(Reply.granted(lease, changed=True), changes, admitted)


def _evictions(grant: Grant) -> tuple[Change, ...]:
    return tuple(Change("=", key) for key in grant.evicted)
