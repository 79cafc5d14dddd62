# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's membership: what records and replies make of it, and which request it waits for."""

from __future__ import annotations

import pytest

from jaywalk.core.errors import RequestRefused
from jaywalk.zone.requests import CHECK, Reply, Request
from jaywalk_agent.zone.membership import (
    ENDPOINT_UPDATE,
    JOIN,
    LONGEST_REPEAT_SECONDS,
    Membership,
    OutstandingRequest,
)
from tests.agent_support import peer

OURS, OTHERS = "000000aa", "000000bb"
OWN = peer(0, machine_id=OURS)
GRANTED = Reply(ok=True)
BLOCKED_REPLY = Reply.refused("blocked", "the key is blocked")
REFUSED = Reply.refused("address-taken", "10.20.0.9 belongs to node1")


def request(op: str = JOIN, endpoint: str = "192.0.2.10:51820", **fields: object) -> Request:
    return Request.validated(op, "zone-blue", OWN.key, endpoint=endpoint, **fields)  # type: ignore[arg-type]


def send(membership: Membership, sent: Request | None = None) -> None:
    assert membership.outstanding is not None
    membership.outstanding.request = sent or request(membership.outstanding.op)
    membership.sent(0.0)


@pytest.fixture
def membership() -> Membership:
    """Of a node that has just started without a snapshot."""
    made = Membership("zone-blue", OWN.key, OURS)
    made.start(None)
    return made


@pytest.fixture
def member(membership: Membership) -> Membership:
    """Of a node that has joined."""
    send(membership)
    membership.handle_reply(GRANTED, OWN, 0.0)
    membership.update(OWN, removal=True)
    return membership


def op_of(membership: Membership) -> str:
    return membership.outstanding.op if membership.outstanding is not None else ""


def test_a_request_is_repeated_ever_more_slowly() -> None:
    outstanding = OutstandingRequest(JOIN)
    now, pauses = 0.0, []
    for _ in range(8):
        assert outstanding.due(now)
        outstanding.sent(now)
        assert not outstanding.due(now + 1.9)
        pauses.append(outstanding.next_send - now)
        now = outstanding.next_send
    assert pauses == [2, 4, 8, 16, 32, 60, 60, 60]


def test_a_node_starts_with_a_join_and_is_a_member_once_it_is_granted(membership: Membership) -> None:
    assert (op_of(membership), membership.never_joined, membership.member) == (JOIN, True, False)
    send(membership)
    membership.handle_reply(GRANTED, OWN, 0.0)
    membership.update(OWN, removal=True)
    assert membership.member
    assert not (membership.never_joined or membership.waiting or membership.error)


@pytest.fixture
def enrolled(membership: Membership) -> Membership:
    """Of a node whose first join was granted, before it has read its zone as its own user."""
    membership.enrol(0.0)
    send(membership)
    membership.granted()
    membership.connected()
    return membership


def test_a_granted_join_is_not_sent_again_by_the_nodes_own_user(enrolled: Membership) -> None:
    assert not enrolled.waiting
    enrolled.update(OWN, removal=False)
    assert (enrolled.member, enrolled.waiting, enrolled.error) == (True, False, "")


def test_another_machine_that_joined_after_the_granted_join_supersedes_it(enrolled: Membership) -> None:
    enrolled.update(peer(0, machine_id=OTHERS), removal=False)
    assert enrolled.superseded


@pytest.mark.parametrize("has_user", [True, False], ids=["by its own user", "after its user was deleted"])
@pytest.mark.parametrize(("state", "then"), [("removed", ""), ("absent", JOIN)])
def test_a_node_that_its_first_snapshot_lacks_asks_before_it_joins(
    enrolled: Membership, has_user: bool, state: str, then: str
) -> None:
    """An operator removed it right after its join, or Redis lost its record."""
    if has_user:
        enrolled.update(None, removal=False)
    else:
        enrolled.enrol(0.0)
    assert op_of(enrolled) == CHECK
    send(enrolled)
    enrolled.handle_reply(Reply(ok=True, state=state), None, 0.0)
    assert (op_of(enrolled), enrolled.removed) == (then, state == "removed")


def test_a_check_names_the_last_record_or_the_granted_join(enrolled: Membership) -> None:
    granted = enrolled.last_seq
    assert granted > 0
    enrolled.update(OWN._replace(seq=granted + 7), removal=False)
    enrolled.update(None, removal=False)
    assert enrolled.last_seq == granted + 7


def test_a_superseded_node_whose_user_is_deleted_does_not_join(member: Membership) -> None:
    member.update(peer(0, machine_id=OTHERS), removal=False)
    assert member.superseded
    member.enrol(0.0)
    assert op_of(member) == CHECK


def test_the_first_refusal_is_raised_and_a_later_one_keeps_the_lease_and_is_repeated(
    membership: Membership,
) -> None:
    send(membership)
    with pytest.raises(RequestRefused, match=r"10\.20\.0\.9 belongs to node1"):
        membership.handle_reply(REFUSED, None, 0.0)
    membership.start(OWN)
    send(membership)
    membership.handle_reply(REFUSED, OWN, 100.0)
    assert membership.member
    assert membership.error == "the zone refused a request: 10.20.0.9 belongs to node1"
    assert membership.outstanding == OutstandingRequest(JOIN, next_send=160.0)


def test_an_unanswered_request_is_an_error_from_its_second_try_on(membership: Membership) -> None:
    send(membership)
    assert membership.error == ""
    membership.sent(2.0)
    assert membership.error == "no supervisor of zone zone-blue has answered yet; the request waits"
    membership.handle_reply(GRANTED, OWN, 3.0)
    assert membership.error == ""


def test_a_removal_ends_the_membership_until_a_restart(member: Membership) -> None:
    member.update(None, removal=True)
    assert member.removed
    assert member.ended
    assert not member.member
    assert op_of(member) == CHECK
    assert "was removed from zone zone-blue; restart the agent" in member.error
    member.start(None)
    assert op_of(member) == JOIN


def test_a_removed_node_learns_from_any_reply_whether_it_is_blocked(member: Membership) -> None:
    member.update(None, removal=True)
    send(member)
    member.handle_reply(Reply(ok=True), None, 0.0)
    assert not member.waiting
    member.start_request(CHECK)
    send(member)
    member.handle_reply(BLOCKED_REPLY, None, 0.0)
    assert member.ended
    assert member.error == "removed and blocked: the key is blocked"


def test_a_new_node_waits_for_an_approval_and_asks_again_each_minute() -> None:
    membership = Membership("zone-blue", OWN.key, OURS)
    membership.start(None)
    for now in (0.0, LONGEST_REPEAT_SECONDS):
        assert membership.outstanding is not None and membership.outstanding.due(now)
        send(membership)
        membership.handle_reply(Reply.refused("approval-needed", "ask an operator"), None, now)
        assert membership.error == "waiting for an operator's approval: ask an operator"
        assert membership.outstanding is not None and not membership.outstanding.due(now + 59)
    send(membership)
    membership.granted()
    assert membership.error == ""


def test_a_blocked_node_stands_down_and_joins_once_it_is_allowed_again(member: Membership) -> None:
    member.start_request(JOIN)
    send(member)
    member.handle_reply(BLOCKED_REPLY, OWN, 100.0)
    assert member.blocked
    assert member.outstanding == OutstandingRequest(JOIN, next_send=160.0)
    send(member)
    member.handle_reply(GRANTED, OWN, 160.0)
    member.update(OWN, removal=True)
    assert (member.member, member.ended, member.error) == (True, False, "")


def test_a_node_whose_record_was_lost_joins_again_with_what_it_had(member: Membership) -> None:
    member.update(None, removal=False)
    assert not member.removed
    assert op_of(member) == JOIN
    assert (member.former_addresses, member.former_name) == (OWN.addresses, "")


def test_a_numbered_name_is_requested_again(member: Membership) -> None:
    member.update(OWN._replace(name="node0-2", requested_name="node0"), removal=True)
    assert member.former_name == "node0-2"


@pytest.mark.parametrize("sent", [False, True])
def test_a_removal_from_before_a_join_ends_with_that_join(sent: bool) -> None:
    started = Membership("zone-blue", OWN.key, OURS)
    started.start(OWN)
    if sent:
        send(started)
    started.update(None, removal=True)
    assert not started.removed
    assert op_of(started) == JOIN


def test_a_removal_ends_a_join_that_was_not_sent_yet(member: Membership) -> None:
    member.start_request(JOIN)
    member.update(None, removal=True)
    assert member.removed
    assert op_of(member) == CHECK


def test_a_record_of_another_machine_supersedes_this_one(
    member: Membership, caplog: pytest.LogCaptureFixture
) -> None:
    member.update(OWN._replace(machine_id=OTHERS, endpoint="192.0.2.20:51820"), removal=True)
    assert member.superseded
    assert not member.member
    assert "from another machine, node0 at 192.0.2.20:51820; give this node a key" in member.error
    assert caplog.text.count("standing down") == 1
    member.update(None, removal=True)
    assert not member.removed, "what happens to the record is the other machine's"


def test_a_join_takes_the_membership_back_from_another_machine() -> None:
    restarted = Membership("zone-blue", OWN.key, OURS)
    restarted.start(OWN._replace(machine_id=OTHERS))
    restarted.update(OWN._replace(machine_id=OTHERS), removal=True)
    assert not restarted.superseded
    send(restarted)
    restarted.handle_reply(GRANTED, OWN, 0.0)
    assert restarted.member


def test_a_join_that_another_machine_overtook_supersedes_this_one(membership: Membership) -> None:
    send(membership)
    membership.handle_reply(GRANTED, OWN._replace(machine_id=OTHERS), 0.0)
    assert membership.superseded


def test_a_refusal_as_superseded_ends_the_membership(member: Membership) -> None:
    member.start_request(ENDPOINT_UPDATE)
    send(member)
    member.handle_reply(Reply.refused("superseded", "another machine has this key"), OWN, 0.0)
    assert member.superseded
    assert not member.waiting


def test_a_new_connection_builds_the_outstanding_request_anew(member: Membership) -> None:
    member.connection_error = "the controller cannot be reached"
    member.start_request(ENDPOINT_UPDATE)
    send(member)
    member.connected()
    assert member.outstanding == OutstandingRequest(ENDPOINT_UPDATE)
    assert member.error, "it is well only once the request is answered"
    member.outstanding = None
    member.connected()
    assert member.error == ""


def test_an_endpoint_is_reported_once(member: Membership) -> None:
    assert not member.endpoint_changed(request(ENDPOINT_UPDATE))
    assert not member.endpoint_changed(request(ENDPOINT_UPDATE, endpoint=""))
    assert member.endpoint_changed(request(ENDPOINT_UPDATE, local=["192.168.1.1"]))
    moved = request(ENDPOINT_UPDATE, endpoint="192.0.2.11:51820")
    assert member.endpoint_changed(moved)
    member.outstanding = OutstandingRequest(ENDPOINT_UPDATE, moved)
    member.handle_reply(GRANTED, OWN, 0.0)
    assert not member.endpoint_changed(moved)


def test_what_an_operator_granted_since_is_requested(member: Membership) -> None:
    """The zone left it out of the record when this node joined, and an operator grants it later."""
    offered = request(ENDPOINT_UPDATE, relay=51821, fixed=True)
    assert not member.endpoint_changed(offered)
    for granted in ("relay", "endpoint"):
        member.own = OWN._replace(grants=("lease", granted))
        assert member.endpoint_changed(offered)
    member.own = OWN._replace(grants=("relay", "endpoint"), relay=51821, fixed=True)
    assert not member.endpoint_changed(offered)


def test_a_controller_without_memory_is_the_error_before_all_others(member: Membership) -> None:
    member.connection_error, member.memory_error = "unreachable", "no memory"
    assert member.error == "no memory"
