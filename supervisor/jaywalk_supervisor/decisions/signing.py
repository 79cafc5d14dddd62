# SPDX-License-Identifier: GPL-3.0-or-later
"""Which signed statement of the mesh lock a lease has; pure like :mod:`.agent_requests`.

A supervisor has no lock key and pins none: it checks the form of a statement and stores it.  Nodes check
whose signature it has.
"""

from __future__ import annotations

from dataclasses import replace

from jaywalk.core.errors import InvalidValue, RequestRefused
from jaywalk.trust.statements import NodeStatement, Signed
from jaywalk.zone.events import Change
from jaywalk.zone.models import Lease
from jaywalk.zone.requests import Reply, Request

from ..state.zone_state import ZoneState
from .allocation import Grant
from .decision import Decision, admit


def sign(state: ZoneState, request: Request, now: float) -> Decision:
    """Stores the statement that an operator signed about the key of a lease."""
    lease = state.leases.get(request.key)
    if lease is None:
        raise RequestRefused(
            "no-lease", f"the key {request.key} has no lease in zone {state.zone.name}: reserve one first"
        )
    statement = _statement(state, request)
    before = _serial(lease.signed)
    if lease.signed is not None and statement.serial < before:
        raise RequestRefused(
            "older-statement",
            f"the statement about {lease.name} has the serial {statement.serial}, and the stored one "
            f"{before}: sign it again, since nodes do not take an older one",
        )
    if lease.signed == request.signed:
        return Decision(Reply.granted(lease, changed=False))
    peer = state.peers.get(request.key)
    if peer is not None:
        return admit(
            state, peer._replace(signed=request.signed, rev=state.rev + 1), Grant(peer.addresses), now
        )
    signed = replace(lease, signed=request.signed)
    return Decision(Reply.granted(signed, changed=True), (Change("=", lease.key, signed.to_wire()),))


def newest_statement(state: ZoneState, lease: Lease | None, request: Request) -> Signed | None:
    """The statement of a node that joins: the stored one, or the newer one that the node brings.

    So a zone that lost its leases has the statements again once its nodes join.
    """
    stored = lease.signed if lease is not None else None
    if request.signed is None or request.signed == stored:
        return stored
    try:
        brought = _statement(state, request)
    except RequestRefused:
        return stored
    return request.signed if stored is None or brought.serial > _serial(stored) else stored


def _statement(state: ZoneState, request: Request) -> NodeStatement:
    """The statement of a request; raises ``RequestRefused`` if it is not one about its key in this zone."""
    try:
        statement = NodeStatement.parse(request.signed.statement if request.signed else "")
    except InvalidValue as error:
        raise RequestRefused("statement", str(error)) from None
    if (statement.zone, statement.key) != (state.zone.name, request.key):
        raise RequestRefused(
            "statement",
            f"the statement is about {statement.key} in zone {statement.zone}, and the request about "
            f"{request.key} in zone {state.zone.name}: send each statement for its own key",
        )
    return statement


def _serial(signed: Signed | None) -> int:
    """The serial of a stored statement; 0 for none, and for one of another version."""
    try:
        return NodeStatement.parse(signed.statement).serial if signed else 0
    except InvalidValue:
        return 0
