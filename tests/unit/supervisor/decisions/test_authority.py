# SPDX-License-Identifier: GPL-3.0-or-later
"""What the supervisor leaves out of a member's request, and takes back when the policy changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from jaywalk.zone.models import Zone
from jaywalk.zone.policy import Policy
from jaywalk.zone.record_fields import ENDPOINT
from jaywalk.zone.requests import Request
from jaywalk_supervisor.decisions.agent_requests import decide
from jaywalk_supervisor.decisions.authority import Installation, violations
from jaywalk_supervisor.state.zone_state import ZoneState
from tests import supervisor_support
from tests.supervisor_support import key_of
from tests.unit.supervisor.decisions.test_agent_requests import NOW, ask, carry_out

CLOSED = Policy.parse(member_fixed_endpoint=False)


def join(number: int, **fields: Any) -> Request:
    """A join of which the supervisor checked the proof."""
    return replace(supervisor_support.join("zone-blue", number, **fields), proven=True)


@pytest.fixture
def closed() -> ZoneState:
    return ZoneState(Zone.validated("zone-blue", ["10.20.0.0/24"], policy=CLOSED), 1000, 0)


def test_a_relay_of_before_loses_that_when_the_policy_forbids_it() -> None:
    state = ZoneState(Zone.validated("zone-blue", ["10.20.0.0/24"]), 1000, 0)
    for number in (1, 2, 3):
        endpoint = f"192.0.2.{number}:51820"
        carry_out(state, join(number, endpoint=endpoint, relay=51821, fixed=True))
    carry_out(state, ask("reserve", 1, grants=["relay", "endpoint"]))
    assert violations(state, 10) == []
    state.zone = replace(state.zone, policy=CLOSED)
    assert len(violations(state, 1)) == 1
    for change in violations(state, 10):
        state.apply(change)
    assert {peer.key for peer in state.peers.values() if peer.relay and peer.fixed} == {key_of(1)}
    assert violations(state, 10) == []


def test_a_broadcast_address_and_the_controllers_are_left_out_and_the_next_one_counts(
    closed: ZoneState,
) -> None:
    installation = Installation(frozenset({"192.0.2.10"}), frozenset({"192.0.2.255"}))
    request = join(1, endpoint="192.0.2.10:51820", local=["192.0.2.255", "192.0.2.7"], fixed=True)
    decision = decide(closed, request, NOW, installation)
    assert decision.peer is not None
    assert (decision.peer.endpoint, decision.peer.local) == ("192.0.2.7:51820", ())
    assert len(decision.reply.notes) == 3, "each address, and the fixed endpoint"
    carry_out(closed, ask("reserve", 1, grants=[ENDPOINT]))
    granted = decide(closed, request, NOW, installation).peer
    assert granted is not None
    assert (granted.endpoint, granted.local) == ("192.0.2.10:51820", ("192.0.2.7",))


def test_a_relay_whose_endpoint_is_left_out_joins_without_being_one(closed: ZoneState) -> None:
    carry_out(closed, ask("reserve", 1, grants=["relay"]))
    reply = carry_out(closed, join(1, endpoint="10.20.0.7:51820", relay=51821))
    assert reply.ok
    assert closed.peers[key_of(1)].relay == 0


def test_a_quota_counts_members_alone_and_gives_back_what_ends() -> None:
    policy = Policy.parse(member_leases=2, quarantine=0)
    state = ZoneState(Zone.validated("zone-blue", ["10.20.0.0/24"], policy=policy), 1000, 0)
    carry_out(state, ask("reserve", 9))
    for number in (1, 2, 9):
        assert carry_out(state, join(number)).ok
    assert carry_out(state, join(3)).code == "quota"
    carry_out(state, ask("reserve", 1))
    assert carry_out(state, join(3)).ok, "an operator's word for another key makes room"
    carry_out(state, ask("release", 2))
    assert carry_out(state, join(4)).ok
    assert state.member_leases == 2
