# SPDX-License-Identifier: GPL-3.0-or-later
"""The one builder of a node's requests: what each of them has, and in which order they are."""

from __future__ import annotations

import time

import pytest

from jaywalk.core.errors import InvalidValue
from jaywalk.mesh import local_addresses
from jaywalk.zone.requests import REPORT, Request
from jaywalk_agent.config import AgentConfig
from jaywalk_agent.zone.membership import Membership
from jaywalk_agent.zone.requests import NodeRequests
from tests.agent_support import peer
from tests.strategies import key

OWN = key(0)
ENDPOINT = {"local_endpoint_ip": "192.0.2.10"}


def node(**options: str) -> tuple[NodeRequests, Membership]:
    membership = Membership("zone-blue", OWN, "000000aa")
    return NodeRequests(AgentConfig.read({"name": "node0", **options}), membership), membership


def test_a_join_has_all_that_the_operator_requests_and_what_the_node_had() -> None:
    requests, membership = node(
        request_ip="10.20.0.9", child_prefix="172.20.1.0/24", relay="true", **ENDPOINT
    )
    membership.former_addresses, membership.former_name = ("10.20.0.5",), "node0-2"
    join = requests.join()
    assert (join.op, join.zone, join.key, join.machine_id) == ("join", "zone-blue", OWN, "000000aa")
    assert (join.name, join.request_ip, join.child_prefixes) == ("node0", ("10.20.0.9",), ("172.20.1.0/24",))
    assert (join.endpoint, join.fixed, join.relay) == ("192.0.2.10:51820", True, 51821)
    assert (join.former_ip, join.former_name) == (("10.20.0.5",), "node0-2")


def test_other_requests_have_no_more_than_they_need() -> None:
    requests, _ = node(request_ip="10.20.0.9", **ENDPOINT)
    update = requests.endpoint_update()
    assert (update.op, update.endpoint, update.name, update.request_ip) == (
        "endpoint",
        "192.0.2.10:51820",
        "",
        (),
    )
    report = requests.report({key(1): "192.0.2.1:51820"})
    assert (report.op, report.nonce, dict(report.observed)) == (REPORT, "", {key(1): "192.0.2.1:51820"})
    for request, op in ((requests.leave(), "leave"), (requests.check(), "check")):
        assert (request.op, request.key, request.machine_id, request.endpoint) == (op, OWN, "000000aa", "")


def test_after_a_clock_was_set_back_requests_still_follow_those_before() -> None:
    requests, membership = node(**ENDPOINT)
    later = time.time_ns() // 1000 + 3600 * 10**6
    membership.own = peer(0, seq=later)
    assert requests.join().seq == requests.endpoint_update().seq == later + 1


def test_a_name_that_has_no_address_stays_at_the_one_that_the_zone_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(local_addresses, "_usable_addresses", lambda _name: [])
    requests, membership = node(local_endpoint_ip="home.example.org:4000")
    membership.own = peer(0, endpoint="203.0.113.9:4000", fixed=True)
    assert requests.endpoint_update().endpoint == "203.0.113.9:4000"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("request_ip", "10.20.0.999"),
        ("child_prefix", "172.20.1.0/33"),
        ("local_endpoint_ip", "127.0.0.1"),
    ],
)
def test_a_value_that_no_request_can_have_is_an_error_at_once(option: str, value: str) -> None:
    requests, _ = node(**{option: value})
    with pytest.raises(InvalidValue, match=value.partition("/")[0]):
        requests.join_notes()


def test_a_check_of_the_join_resolves_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(_name: str) -> list[str]:
        raise AssertionError

    monkeypatch.setattr(local_addresses, "_usable_addresses", resolve)
    requests, _ = node(local_endpoint_ip="home.example.org", child_prefix="172.20.1.9/24")
    assert requests.join_notes() == ("the child prefix 172.20.1.9/24 is taken as its network 172.20.1.0/24",)


def test_each_request_is_another_one() -> None:
    requests, _ = node(**ENDPOINT)
    made: list[Request] = [requests.join() for _ in range(3)]
    assert len({request.nonce for request in made}) == 3
