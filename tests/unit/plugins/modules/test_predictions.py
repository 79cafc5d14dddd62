# SPDX-License-Identifier: GPL-3.0-or-later
"""Check mode predicts what the supervisor decides, for any zone and any request.

Modules and supervisor share the pure functions of a request's effect. This test holds the rest together: the
refusals, which the supervisor finds with its indexes and the modules with a scan.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

from ansible_collections.jaywalking.mesh.plugins.module_utils import _lease
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.core.errors import JaywalkError
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.mesh import preview
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.zone.view import ZoneView
from ansible_collections.jaywalking.mesh.plugins.modules import jaywalk_join, jaywalk_lease
from hypothesis import assume, given
from hypothesis import strategies as st

from jaywalk.zone.models import Lease, Zone, reservation_key
from jaywalk.zone.policy import Policy
from jaywalk.zone.requests import Reply, Request
from jaywalk_supervisor.decisions.agent_requests import decide
from jaywalk_supervisor.state.zone_state import ZoneState
from tests.unit.supervisor.decisions import test_allocation_machine as allocation

NOW = 1_000_000.0
# An operator's module cannot know whether a pool is full.
UNKNOWN_TO_OPERATORS = {"exhausted"}
# A node's module reads the zone's peers, but neither reservations nor the leases of nodes that left.
UNKNOWN_TO_NODES = {"exhausted", "address-taken", "address-quarantined", "prefix-taken"}

operations = st.sampled_from(["join", "join", "leave", "reserve", "reserve", "rekey", "release"])
endpoints = st.sampled_from(["", "172.20.1.9:51820", "192.0.2.7:51820", "[fd99::9]:51820"])
requests = st.tuples(
    operations,
    allocation.keys,
    allocation.names,
    allocation.wishes,
    allocation.prefixes,
    endpoints,
    st.booleans(),
)


def carry_out(state: ZoneState, request: Request) -> Reply:
    """Decides on the request and applies the decision, one second after the request before."""
    state.rev += 1
    decision = decide(state, replace(request, seq=state.rev), NOW + state.rev)
    for change in decision.changes:
        state.apply(change, decision.peer)
    return decision.reply


@st.composite
def zones(draw: st.DrawFn) -> ZoneState:
    """A zone after up to eight requests of nodes and operators."""
    policy = Policy(takeover=draw(st.sampled_from(["always", "never"])))
    state = ZoneState(
        Zone.validated("zone-blue", draw(st.sampled_from(allocation.POOLS)), "", policy), 1000, 0
    )
    for operation, key, name, addresses, prefixes, endpoint, by_name in draw(st.lists(requests, max_size=8)):
        fields: dict[str, Any] = {"name": name, "request_ip": addresses, "child_prefixes": prefixes}
        if operation == "join":
            fields["endpoint"] = endpoint
        named = by_name and operation in ("reserve", "release")
        request = Request.validated(
            operation, "zone-blue", "" if named else key, **({} if operation == "leave" else fields)
        )
        carry_out(state, request)
    return state


def sent(request: Any) -> Request:
    """The request as the supervisor receives it."""
    return Request.from_wire(request.to_wire(), "zone-blue", (request.op,))


class StateClient:
    """Reads the leases from the supervisor's memory, as the controller's client reads them from Redis."""

    def __init__(self, state: ZoneState) -> None:
        self._state = state

    def lease(self, key: str) -> Lease | None:
        return self._state.leases.get(key)

    def leases(self) -> list[Lease]:
        return list(self._state.leases.values())


@st.composite
def lease_options(draw: st.DrawFn) -> dict[str, Any]:
    """Options of jaywalk_lease: a key, a name, or both, which a rekey needs."""
    key, name = draw(st.one_of(st.none(), allocation.keys)), draw(st.one_of(st.none(), allocation.names))
    assume(key or name)
    return {
        "zone": "zone-blue",
        "public_key": key,
        "name": name,
        "request_ip": draw(allocation.wishes),
        "child_prefixes": draw(allocation.prefixes),
        "state": draw(st.sampled_from(["present", "present", "absent"])),
        "rekey": bool(key and name) and draw(st.booleans()),
        "block": False,
        "reason": "",
        "grants": draw(st.one_of(st.none(), st.lists(st.sampled_from(["relay", "endpoint"])))),
    }


@given(state=zones(), options=lease_options())
def test_check_mode_of_jaywalk_lease_agrees_with_the_decision(
    state: ZoneState, options: dict[str, Any]
) -> None:
    request = jaywalk_lease.declared_request(options)
    leases = _lease.LeaseReader(cast(Any, StateClient(state)))
    key, refusal, after, steps = _lease.requested_key(leases, request), "", None, []
    try:
        lease = leases.get(key)
        after = _lease.predict(leases, request, lease, _lease.source_lease(leases, request))
        steps = _lease.planned_changes(state.zone, leases, request, lease, True)
    except JaywalkError as error:
        refusal = str(error)
    reply = carry_out(state, sent(request))
    if refusal or not reply.ok:
        assert not reply.ok, f"check mode fails: {refusal}"
        assert refusal or not steps or reply.code in UNKNOWN_TO_OPERATORS, reply
        return
    assert reply.changed == bool(steps)
    granted = state.leases.get(key)
    assert (after is None) == (granted is None)
    if after is not None and granted is not None:
        assert set(after.addresses) <= set(granted.addresses)
        chosen: dict[str, Any] = {"addresses": (), "seq": 0, "since": 0}
        assert vars(replace(after, **chosen)) == vars(replace(granted, **chosen))


@st.composite
def join_options(draw: st.DrawFn) -> dict[str, Any]:
    """Options of jaywalk_join."""
    return {
        "state": "present",
        "zone": "zone-blue",
        "listen_port": 51820,
        "name": draw(st.one_of(st.none(), allocation.names)),
        "request_ip": draw(allocation.wishes),
        "child_prefixes": draw(st.one_of(st.none(), allocation.prefixes)),
        "endpoint": draw(endpoints.filter(bool)),
        "join_token": None,
    }


@given(state=zones(), key=allocation.keys, options=join_options())
def test_check_mode_of_jaywalk_join_agrees_with_the_decision(
    state: ZoneState, key: str, options: dict[str, Any]
) -> None:
    view = ZoneView(cast(Any, state.zone), 1000, state.rev, dict(cast(Any, state.peers)))
    own = view.peers.get(key)
    request = jaywalk_join.with_omitted_options(
        jaywalk_join.declared_request(options, "192.0.2.1", key), options, own
    )
    # A node sees neither its own lease while it is away, nor reservations by name.
    assume((key in state.peers) == (key in state.leases))
    assume(reservation_key(request.name) not in state.leases)
    assume(not any(lease.host for lease in state.leases.values() if lease.key not in state.peers))
    context = cast(Any, SimpleNamespace(request=request, own_record=lambda seen: seen.peers.get(key)))
    known = preview.expected_addresses(own, request)
    after, refusal = jaywalk_join.preview_join(context, view, known), ""
    try:
        jaywalk_join.check_predictable(context, view, after, check_mode=True)
    except JaywalkError as error:
        refusal = str(error)
    reply = carry_out(state, sent(request))
    if refusal or not reply.ok:
        assert not reply.ok, f"check mode fails: {refusal}"
        assert refusal or reply.code in UNKNOWN_TO_NODES, reply
        return
    predicted, granted = after.peers[key], state.peers[key]
    assert set(known) <= set(granted.addresses)
    for name in ("name", "prefixes", "endpoint", "fixed", "local", "relay", "observed", "symmetric"):
        assert getattr(predicted, name) == getattr(granted, name), name
