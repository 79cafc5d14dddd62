# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at Redis, at REST and at interfaces are judged: what differs is found, and what fails is counted."""

from __future__ import annotations

from unittest import mock

import pytest
import redis

from tests.chaos import real_agents

from . import rest
from .history import History
from .looks import MOST_IN_A_ROW, Looks
from .picture import Picture
from .rest import Rest
from .tap import Tap

A, B = ("A" * 43 + "=", "B" * 43 + "=")
PEERS = {
    A: {"n": "one", "a": ["10.30.0.1"], "s": 1, "r": 1, "e": "192.0.2.1:51820"},
    B: {"n": "two", "a": ["10.30.0.2"], "s": 1, "r": 2, "p": ["172.20.0.0/24"]},
}
PICTURE = Picture({"pools": '["10.30.0.0/30"]'}, PEERS, PEERS, [], {A: 1_700_000_000})
TOLD = {
    A: {
        "PublicKey": A,
        "Zone": "zone-one",
        "Name": "one",
        "NodeAddress": "10.30.0.1",
        "ChildPrefix": "",
        "EndpointIP": "192.0.2.1:51820",
        "LastSeen": "2023-11-14T22:13:20Z",
    },
    B: {
        "PublicKey": B,
        "Zone": "zone-one",
        "Name": "two",
        "NodeAddress": "10.30.0.2",
        "ChildPrefix": "172.20.0.0/24",
        "EndpointIP": "",
        "LastSeen": "",
    },
}
POOL = {
    "Cidr": "10.30.0.0/30",
    "IPs": dict.fromkeys(("10.30.0.0", "10.30.0.1", "10.30.0.2", "10.30.0.3"), True),
}


def test_rest_that_says_what_redis_says_is_well() -> None:
    assert list(rest.unlike("zone-one", TOLD, PICTURE)) == []
    assert list(rest.held_otherwise([POOL], PICTURE)) == []


def test_rest_that_says_something_else_is_found() -> None:
    for key, field in (
        (A, "NodeAddress"),
        (A, "Name"),
        (A, "EndpointIP"),
        (B, "ChildPrefix"),
        (A, "LastSeen"),
    ):
        told = {**TOLD, key: {**TOLD[key], field: "" if field == "LastSeen" else "other"}}
        assert len(list(rest.unlike("zone-one", told, PICTURE))) == 1, field
    assert len(list(rest.unlike("zone-one", {A: TOLD[A]}, PICTURE))) == 1
    fewer = {**POOL, "IPs": {"10.30.0.1": True}}
    assert "10.30.0.2" in next(rest.held_otherwise([fewer], PICTURE))
    assert "its pools are" in next(rest.held_otherwise([], PICTURE))


def test_rest_that_tells_of_what_no_log_told_is_found() -> None:
    tap = Tap(mock.Mock(), "zone-one", History())
    tap.take(tap.begin(0), [("7-1", {"o": f'[["+","{A}",{{"a":["10.30.0.1"]}}]]'})], 1.0, 2.0)
    asked = Rest([])
    asked.told([TOLD[A]])
    assert list(asked.invented({"zone-one": tap})) == []
    asked.told([TOLD[B]])
    assert "REST told of" in next(asked.invented({"zone-one": tap}))


def test_an_interface_that_is_not_as_the_zone_says_is_found() -> None:
    allowed = {B: frozenset(("10.30.0.2/32", "172.20.0.0/24"))}
    assert list(real_agents.unlike(A, {"10.30.0.1"}, allowed, PICTURE)) == []
    assert "in Redis ['10.30.0.1']" in next(real_agents.unlike(A, {"10.30.0.9"}, allowed, PICTURE))
    assert "sends to" in next(real_agents.unlike(A, {"10.30.0.1"}, {}, PICTURE))
    wider = {B: allowed[B] | {"10.30.0.9/32"}}
    assert "sends to" in next(real_agents.unlike(A, {"10.30.0.1"}, wider, PICTURE))


def test_looks_that_fail_are_counted_and_may_not_go_on_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.chaos.judge.looks.pace", lambda: 1.0)
    topology = mock.Mock()
    topology.server_of.side_effect = redis.ConnectionError("away")
    looks = Looks(topology, {"zone-one": Tap(mock.Mock(), "zone-one", History())}, [])
    for _ in range(MOST_IN_A_ROW - 1):
        assert looks.look() == []
    assert looks.look() == [f"zone-one: {MOST_IN_A_ROW} looks in a row failed: away"]
    assert (looks.taken, looks.failed) == (MOST_IN_A_ROW, MOST_IN_A_ROW)
