# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests and answers come back from the wire as they went; a wrong one is refused with its value."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaywalk.core.errors import InvalidValue, RequestRefused
from jaywalk.zone.models import Lease
from jaywalk.zone.requests import (
    AGENT_OPS,
    MAX_OBSERVED,
    MAX_REQUEST_BYTES,
    REPORT,
    Reply,
    Request,
    readable_reply_to,
)
from tests import strategies as mesh


@given(mesh.requests)
def test_request_comes_back_as_it_went(request: Request) -> None:
    assert Request.from_wire(request.to_wire(), "zone-blue", AGENT_OPS) == request
    assert readable_reply_to(request.to_wire()) == request.reply_to == (request.nonce, True)


@given(mesh.reports)
def test_report_comes_back_without_a_nonce(report: Request) -> None:
    assert Request.from_wire(report.to_wire(), "zone-blue", AGENT_OPS) == report
    assert readable_reply_to(report.to_wire()) is report.reply_to is None
    assert Request.validated(REPORT, "zone-blue", report.key).nonce == ""


def test_report_has_room_for_as_many_endpoints_as_it_may_hold() -> None:
    longest = "[2001:db8:1111:2222:3333:4444:5555:6666]:51820"
    seen = {mesh.key(number): longest for number in range(MAX_OBSERVED)}
    text = Request.validated(REPORT, "zone-blue", mesh.key(1), machine_id="000000aa", observed=seen).to_wire()
    assert len(Request.from_wire(text, "zone-blue", AGENT_OPS).observed) == MAX_OBSERVED


@given(mesh.leases, st.booleans())
def test_reply_comes_back_as_it_went(lease: Lease, changed: bool) -> None:
    granted = Reply.granted(lease, changed)
    assert Reply.from_wire(granted.to_wire()) == granted
    assert granted.lease_or_raise() is granted


def test_refusal_comes_back_as_the_supervisors_words() -> None:
    refused = Reply.refused("pool_full", "the pool 10.20.0.0/20 has no address left: add a pool")
    assert Reply.from_wire(refused.to_wire()) == refused
    with pytest.raises(RequestRefused, match="no address left") as caught:
        refused.lease_or_raise()
    assert caught.value.code == "pool_full"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"zone": "zone-red"}, "'zone-red'"),
        ({"op": "reserve"}, "'reserve' is unknown here"),
        ({"op": ["join"]}, "unknown here"),
        ({"v": 2}, "version '2'"),
        ({"v": True}, "version 'True'"),
        ({"key": "short"}, "'short' is no WireGuard public key"),
        ({"seq": True}, "'True' is no natural number"),
        ({"seq": 2**53}, "no natural number"),
        ({"seq": -1}, "no natural number"),
        ({"nonce": "xyz"}, "nonce"),
        ({"nonce": "A" * 32}, "nonce"),
        ({"request_ip": "10.20.0.1"}, "no list"),
        ({"request_ip": [f"10.20.0.{n}" for n in range(1, 10)]}, "9 requested addresses"),
        ({"former_ip": ["10.20.0.300"]}, "'10.20.0.300' is no IP address"),
        ({"former_ip": "10.20.0.1"}, "no list"),
        ({"child_prefixes": [f"172.20.{n}.0/24" for n in range(65)]}, "65 child prefixes"),
        ({"child_prefixes": ["0.0.0.0/0"]}, "default route"),
        ({"endpoint": "127.0.0.1:1"}, "loopback"),
        ({"endpoint": "192.0.2.1:1", "relay": 70000}, "relay's port '70000'"),
        ({"endpoint": "192.0.2.1:1", "relay": -1}, "no natural number"),
        ({"endpoint": "192.0.2.1:1", "relay": "51821"}, "no natural number"),
        ({"name": "Node_1"}, "'Node_1' is no DNS label"),
        ({"op": REPORT}, "a report has a nonce"),
        ({"observed": {"short": "192.0.2.1:1"}}, "'short' is no WireGuard public key"),
        ({"observed": {mesh.key(1): "127.0.0.1:1"}}, "loopback"),
        ({"observed": {mesh.key(1): None}}, "does not parse"),
        ({"observed": "{}"}, "no JSON object"),
        ({"observed": {mesh.key(n): "192.0.2.1:1" for n in range(129)}}, "129 observed endpoints"),
    ],
)
def test_wrong_request_is_refused_with_its_value(change: dict[str, Any], words: str) -> None:
    request = Request.validated("join", "zone-blue", mesh.key(1), "node1")
    data = {**json.loads(request.to_wire()), **change}
    with pytest.raises(InvalidValue, match=words):
        Request.from_wire(json.dumps(data), "zone-blue", AGENT_OPS)


def test_huge_request_is_refused_before_it_is_read() -> None:
    text = '{"name":"' + "x" * MAX_REQUEST_BYTES + '"}'
    with pytest.raises(InvalidValue, match="send at most 16384"):
        Request.from_wire(text, "zone-blue", AGENT_OPS)


def test_each_request_has_a_nonce_of_its_own_and_a_growing_number() -> None:
    made = [Request.validated("join", "zone-blue", mesh.key(1)) for _ in range(50)]
    assert len({request.nonce for request in made}) == 50
    assert [request.seq for request in made] == sorted(request.seq for request in made)
