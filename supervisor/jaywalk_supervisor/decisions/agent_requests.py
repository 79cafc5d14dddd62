# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides on requests of nodes: pure functions on :class:`ZoneState`, which they only read.

The public key is the identity.  A request whose result already exists changes nothing and makes no event; a
request that is older than the key's last change is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from jaywalk.core.errors import RequestRefused
from jaywalk.core.key_format import default_name
from jaywalk.mesh.preview import check_endpoints_outside, endpoint_fields
from jaywalk.zone.events import Change
from jaywalk.zone.member_authority import check_member_prefixes
from jaywalk.zone.models import Lease, Peer
from jaywalk.zone.names import unique_name
from jaywalk.zone.record_fields import GRANTS, LEASE
from jaywalk.zone.requests import CHECK, REMOVED, REPORT, Reply, Request
from jaywalk.zone.reservations import merge_prefixes, unclaimed
from jaywalk.zone.retention import may_be_retained

from ..state.zone_state import ZoneState
from .admission import admitted, granted_name, granted_prefixes, spent
from .allocation import Claimant, Grant, check_prefixes, choose, filter_free, unreadable_refusal
from .authority import UNKNOWN, Installation, check_quota, permitted
from .blocks import check_not_blocked
from .decision import ABSENT, Decision, admit, end_lease, grant_time, leave_unknown
from .last_seen import refusal
from .naming import note, renamed
from .operator_requests import OPERATOR_HANDLERS
from .possession import check_possession
from .signing import newest_statement

__all__ = ["Decision", "decide"]


def decide(state: ZoneState, request: Request, now: float, installation: Installation = UNKNOWN) -> Decision:
    """Decides on ``request`` at the time ``now``; a refusal is an answer, not an exception."""
    try:
        check_not_blocked(state, request)
        check_possession(state, request)
        _check_same_machine(state.peers.get(request.key), request)
        request = permitted(state, admitted(state, request, now), installation)
        decision = _HANDLERS[request.op](state, request, now)
        _check_not_overwriting(state, request, decision.changes)
    except RequestRefused as refusal:
        return Decision(Reply.refused(refusal.code, str(refusal)))
    if not request.notes:
        return decision
    notes = (*request.notes, *decision.reply.notes)
    return replace(decision, reply=replace(decision.reply, notes=notes))


def _check_not_overwriting(state: ZoneState, request: Request, changes: Sequence[Change]) -> None:
    """Allows only the node itself to overwrite an unreadable record, and only a release to remove it."""
    for change in changes if state.unreadable else ():
        mark = state.unreadable.get(change.key)
        own = request.op in ("join", "leave") and change.key == request.key
        released = request.op == "block" or (request.op == "release" and not request.child_prefixes)
        if mark is not None and not (mark.covered or own or released):
            raise unreadable_refusal(state, mark, "keeps that lease as it is")


def _join(state: ZoneState, request: Request, now: float) -> Decision:
    lease = state.leases.get(request.key)
    _check_not_stale(lease, request)
    _check_not_replayed(state, request)
    if request.key in state.peers and lease is not None and lease.seq == request.seq:
        # A repeated request: it must not undo what another node was granted since.
        return Decision(Reply.granted(lease, changed=False))
    reservation = _claimed(state, lease, request)
    if request.token is None:
        check_quota(state, reservation or lease)
    held = reservation or lease
    keys = frozenset({request.key, reservation.key} if reservation else {request.key})
    may_take = state.zone.policy.takeover != "never"
    own = held.addresses if held else ()
    if held is None or held.key in state.unreadable:
        own = (*filter_free(state, request.former_ip), *own)
    grant = choose(state, Claimant(own, keys, may_take), request.request_ip, now)
    kept, host = (held.reserved_prefixes, held.host) if held else ((), "")
    kept = merge_prefixes(kept, granted_prefixes(request.token, request))
    host = host or granted_name(state, request, held)
    name, asked = (host, "") if host else _name(state, keys, request, lease)
    prefixes = merge_prefixes(kept, request.child_prefixes)
    check_member_prefixes(state.zone.policy, state.zone.name, request.child_prefixes, kept)
    check_prefixes(state, keys, prefixes)
    fresh = [prefix for prefix in prefixes if held is None or prefix not in held.prefixes]
    check_endpoints_outside(fresh, request, state.peers.values())
    peer = Peer(
        key=request.key,
        name=name,
        addresses=grant.addresses,
        prefixes=prefixes,
        **_endpoint_fields(state.peers.get(request.key), request),
        seq=request.seq,
        rev=state.rev + 1,
        since=grant_time(lease, grant, now),
        machine_id=request.machine_id or _machine_id_of(state.peers.get(request.key)),
        host=host,
        reserved_prefixes=kept,
        requested_name=asked,
        signed=newest_statement(state, lease, request),
        grants=_grants_of(held, request),
        proven=request.proven,
    )
    freed = end_lease(state, reservation, now) if reservation else ()
    decision = admit(state, peer, grant, now, freed, renamed(state, host, keys) if host else {})
    notes = (
        *_repair_notes(state, request),
        *note(state, keys, name, asked),
        *_other_machine_notes(state.peers.get(request.key), request),
    )
    changes = (*decision.changes, *spent(request))
    return replace(decision, changes=changes, reply=replace(decision.reply, notes=notes))


def _claimed(state: ZoneState, lease: Lease | None, request: Request) -> Lease | None:
    """Returns the reservation by name that a node with ``lease`` claims by its join, or None.

    A node chooses its own name, so the zone's policy or a join token for names has to permit that; a host
    that has a reservation claims no second one.
    """
    named = request.token is not None and bool(request.token.names)
    if not (state.zone.policy.member_claims or named) or (lease is not None and lease.host):
        return None
    return unclaimed(state.leases, request.name)


def _grants_of(held: Lease | None, request: Request) -> tuple[str, ...]:
    """Returns the grants of a node that joins with the lease ``held``; older versions wrote none."""
    if request.token is not None:
        words = {*request.token.grants, *(held.grants if held else ())}
        return (LEASE, *(word for word in GRANTS if word in words))
    if held is None or held.grants or not held.is_operators or held.has_placeholder_key:
        return held.grants if held is not None else ()
    return (LEASE,)


def _repair_notes(state: ZoneState, request: Request) -> tuple[str, ...]:
    """Returns the note for a join that replaces an unreadable record."""
    mark = state.unreadable.get(request.key)
    if mark is None or mark.covered:
        return ()
    keys = mark.redis_keys(state.zone.name)
    return (f"the record of {request.key} in {keys} could not be read and was replaced",)


def _other_machine_notes(before: Peer | None, request: Request) -> tuple[str, ...]:
    """Returns the note for a key that joins from another machine than before: both may be running."""
    if before is None or not request.machine_id or before.machine_id in ("", request.machine_id):
        return ()
    where = f" at {before.observed or before.endpoint}" if before.observed or before.endpoint else ""
    return (
        f"the key {request.key} was another machine's until now, {before.name}{where}: it stands down; "
        "if both run, give one of them a key of its own",
    )


def _name(state: ZoneState, keys: Collection[str], request: Request, lease: Lease | None) -> tuple[str, str]:
    is_taken = partial(state.is_taken, keys)
    return unique_name(_requested_name(request, lease), lease, is_taken, request.former_name)


def _requested_name(request: Request, lease: Lease | None) -> str:
    """Returns the requested name; a node that requests none keeps its name."""
    if request.name or lease is None:
        return request.name or default_name(request.key)
    return lease.requested_name or lease.name


def _leave(state: ZoneState, request: Request, now: float) -> Decision:
    lease = state.leases.get(request.key)
    if lease is None:
        return leave_unknown(state, request.key, now)
    _check_not_stale(lease, request)
    joined = request.key in state.peers or request.key in state.unreadable
    if not joined and not may_be_retained(state.epoch, now):
        return Decision(Reply.granted(lease, changed=False))
    released = now if joined else lease.released or 0
    left = replace(lease, released=released, prefixes=lease.reserved_prefixes, seq=request.seq)
    record: dict[str, object] = {"t": released, "s": request.seq}
    return Decision(Reply.granted(left, changed=joined), (Change("-", request.key, record),))


def _endpoint(state: ZoneState, request: Request, now: float) -> Decision:
    peer = state.peers.get(request.key)
    if peer is None:
        raise RequestRefused(
            "not-joined", f"the peer {request.key} is not in zone {state.zone.name}: join first"
        )
    _check_not_stale(state.leases.get(request.key), request)
    record = peer._replace(**_endpoint_fields(peer, request), seq=request.seq, rev=state.rev + 1)
    return admit(state, record, Grant(peer.addresses), now)


def _endpoint_fields(known: Peer | None, request: Request) -> dict[str, Any]:
    if request.relay and not request.endpoint:
        raise RequestRefused(
            "relay-unreachable",
            "a relay needs an endpoint that its peers reach: give it --local-endpoint-ip",
        )
    return endpoint_fields(known, request)


def _report(state: ZoneState, request: Request, now: float) -> Decision:
    """Records the endpoints that a member observes, and updates the peers whose endpoint changes by that."""
    if refusal(state, request):
        return Decision(ABSENT)
    observer = state.peers[request.key]
    known = {key: endpoint for key, endpoint in request.observed.items() if key in state.peers}
    state.observations.record(observer, known, now)
    records = [state.observations.updated_record(state.zone, state.peers, key, now) for key in known]
    updated = [peer._replace(rev=state.rev + 1) for peer in records if peer is not None]
    names = " ".join(peer.name for peer in updated)
    changes = tuple(Change("+", peer.key, peer.to_wire()) for peer in updated)
    return Decision(Reply(ok=True, name=names, changed=bool(changes)), changes)


def _check(state: ZoneState, request: Request, now: float) -> Decision:
    """Tells the state of the key's lease; without a lease, whether the one that the node knows has ended.

    A lease that Redis lost is absent, although an earlier one of the key has ended.
    """
    lease, floor = state.leases.get(request.key), state.floors.get(request.key)
    removed = floor is not None and floor.seq >= request.last_seq
    without = REMOVED if removed else ABSENT.state
    return Decision(Reply(ok=True, state=without if lease is None else lease.state))


_HANDLERS: Mapping[str, Callable[[ZoneState, Request, float], Decision]] = {
    "join": _join,
    "leave": _leave,
    "endpoint": _endpoint,
    REPORT: _report,
    CHECK: _check,
    **OPERATOR_HANDLERS,
}


def _machine_id_of(peer: Peer | None) -> str:
    return peer.machine_id if peer is not None else ""


def _check_same_machine(peer: Peer | None, request: Request) -> None:
    """Refuses that a machine updates or removes a peer whose key joined from another machine since."""
    known = _machine_id_of(peer)
    if request.op in ("leave", "endpoint") and request.machine_id and known not in ("", request.machine_id):
        raise RequestRefused(
            "superseded",
            f"the key {request.key} joined from another machine: join again to take it back",
        )


def _check_not_stale(lease: Lease | None, request: Request) -> None:
    if lease is not None and request.seq < lease.seq:
        raise RequestRefused(
            "stale",
            f"the request {request.seq} of {request.key} is older than its last one ({lease.seq}): "
            "send it again, and check the node's clock",
        )


def _check_not_replayed(state: ZoneState, request: Request) -> None:
    """Refuses a join that is not newer than the last request of a key whose lease ended since."""
    floor = state.floors.get(request.key)
    least = floor.seq if floor is not None else state.least_seq if request.key not in state.leases else 0
    if least and request.seq <= least:
        raise RequestRefused(
            "stale",
            f"the request {request.seq} of {request.key} is not newer than its last one ({least}), from "
            "before its lease ended: send it again, and check the node's clock",
        )
