# SPDX-License-Identifier: GPL-3.0-or-later
"""A supervisor stores what an operator signed, and it stays with the key whatever the node does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from jaywalk.trust.lock_keys import LockKey
from jaywalk.trust.statements import NodeStatement, Signed, ZoneStatement
from jaywalk.zone.models import lease_of
from jaywalk.zone.requests import AGENT_OPS, OPERATOR_OPS, Reply, Request
from jaywalk_supervisor.decisions.agent_requests import decide
from jaywalk_supervisor.state.zone_state import ZoneState
from tests.supervisor_support import join, key_of

NOW = 1_800_000_000.0
LOCK_KEY = LockKey.generate()


def carry_out(state: ZoneState, request: Request) -> Reply:
    """Decides and applies the request as it comes out of an inbox."""
    ops = (*AGENT_OPS, *OPERATOR_OPS)
    decision = decide(state, Request.from_wire(request.to_wire(), "zone-blue", ops), NOW)
    for change in decision.changes:
        state.apply(change)
    state.rev += bool(decision.changes)
    return decision.reply


def ask(op: str, number: int, **fields: Any) -> Request:
    return Request.validated(op, "zone-blue", key_of(number), **fields)


def signed(number: int = 1, serial: int = 5, zone: str = "zone-blue") -> Signed:
    return LOCK_KEY.sign(NodeStatement(zone, key_of(number), f"node{number}", serial=serial))


def sign(state: ZoneState, number: int = 1, statement: Signed | None = None) -> Reply:
    return carry_out(state, ask("sign", number, signed=statement or signed(number)))


def test_a_statement_is_stored_with_the_record_and_its_lease_and_a_repetition_changes_nothing(
    blue: ZoneState,
) -> None:
    carry_out(blue, join("zone-blue", 1))
    assert sign(blue).changed
    peer = blue.peers[key_of(1)]
    assert peer.signed == signed()
    assert lease_of(peer) == blue.leases[key_of(1)]
    assert not sign(blue).changed


def test_a_statement_outlives_what_happens_to_the_lease(blue: ZoneState) -> None:
    """Join, another address, leave and return, a reservation, a release of prefixes, a rekey to this key."""
    carry_out(blue, ask("reserve", 1, name="node1"))
    assert sign(blue).changed
    for request in (
        join("zone-blue", 1),
        join("zone-blue", 1, request_ip=["10.20.0.4"], endpoint="192.0.2.1:51820"),
        ask("endpoint", 1, endpoint="192.0.2.2:51820"),
        ask("reserve", 1, request_ip=["10.20.0.5"], child_prefixes=["172.20.1.0/24"]),
        ask("release", 1, child_prefixes=["172.20.1.0/24"]),
        ask("leave", 1),
        join("zone-blue", 1),
    ):
        assert carry_out(blue, request).ok
        assert blue.leases[key_of(1)].signed == signed(), request.op
    carry_out(blue, join("zone-blue", 2, request_ip=["10.20.0.5"]))
    assert blue.peers[key_of(1)].signed == signed()


def test_a_rekey_keeps_the_statement_of_the_new_key_and_not_that_of_the_old(blue: ZoneState) -> None:
    for number in (1, 2):
        carry_out(blue, join("zone-blue", number, name=f"db{number}"))
        sign(blue, number)
    carry_out(blue, ask("rekey", 2, name="db1"))
    assert blue.leases[key_of(2)].signed == signed(2)
    assert key_of(1) not in blue.leases


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        (signed(1, 4), "older-statement"),
        (signed(2), "statement"),
        (signed(1, 9, zone="zone-red"), "statement"),
        (LOCK_KEY.sign(ZoneStatement("zone-blue", ("10.20.0.0/29",), (LOCK_KEY.public,))), "statement"),
    ],
)
def test_what_is_no_newer_statement_about_the_key_is_refused(
    blue: ZoneState, statement: Signed, code: str
) -> None:
    carry_out(blue, join("zone-blue", 1))
    sign(blue)
    reply = sign(blue, 1, statement)
    assert (reply.ok, reply.code) == (False, code)
    assert blue.peers[key_of(1)].signed == signed()


def test_a_key_without_a_lease_is_not_signed(blue: ZoneState) -> None:
    assert sign(blue).code == "no-lease"
    carry_out(blue, join("zone-blue", 1))
    assert carry_out(blue, ask("sign", 1)).code == "statement"


def test_a_node_brings_its_statement_to_a_zone_that_lost_it(blue: ZoneState) -> None:
    carry_out(blue, replace(join("zone-blue", 1), signed=signed()))
    assert blue.peers[key_of(1)].signed == signed()
    carry_out(blue, replace(join("zone-blue", 1), signed=signed(serial=4)))
    assert blue.peers[key_of(1)].signed == signed()
    carry_out(blue, replace(join("zone-blue", 1), signed=signed(serial=6)))
    assert blue.peers[key_of(1)].signed == signed(serial=6)
    assert carry_out(blue, replace(join("zone-blue", 2), signed=signed(1, 9))).ok
    assert blue.peers[key_of(2)].signed is None
