# SPDX-License-Identifier: GPL-3.0-or-later
"""The checks of Redis, REST and interfaces find planted differences and count failed observations."""

from __future__ import annotations

from unittest import mock

import pytest
import redis

from tests.chaos import real_agents

from . import rest_api
from .history import History
from .log_reader import LogReader
from .observer import MAX_CONSECUTIVE_FAILURES, ZoneObserver
from .rest_api import RestChecker
from .snapshot import ZoneSnapshot

A, B = ("A" * 43 + "=", "B" * 43 + "=")
PEERS = {
    A: {"n": "one", "a": ["10.30.0.1"], "s": 1, "r": 1, "e": "192.0.2.1:51820"},
    B: {"n": "two", "a": ["10.30.0.2"], "s": 1, "r": 2, "p": ["172.20.0.0/24"]},
}
SNAPSHOT = ZoneSnapshot({"pools": '["10.30.0.0/30"]'}, PEERS, PEERS, [], {A: 1_700_000_000})
LISTED = {
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


def test_rest_equal_to_redis_has_no_fault() -> None:
    assert list(rest_api.peer_differences("zone-one", LISTED, SNAPSHOT)) == []
    assert list(rest_api.lease_differences([POOL], SNAPSHOT)) == []


def test_a_difference_of_rest_is_found() -> None:
    for key, field in (
        (A, "NodeAddress"),
        (A, "Name"),
        (A, "EndpointIP"),
        (B, "ChildPrefix"),
        (A, "LastSeen"),
    ):
        listed = {**LISTED, key: {**LISTED[key], field: "" if field == "LastSeen" else "other"}}
        assert len(list(rest_api.peer_differences("zone-one", listed, SNAPSHOT))) == 1, field
    assert len(list(rest_api.peer_differences("zone-one", {A: LISTED[A]}, SNAPSHOT))) == 1
    fewer = {**POOL, "IPs": {"10.30.0.1": True}}
    assert "10.30.0.2" in next(rest_api.lease_differences([fewer], SNAPSHOT))
    assert "its pools are" in next(rest_api.lease_differences([], SNAPSHOT))


def test_a_peer_of_rest_without_an_event_is_found() -> None:
    reader = LogReader(mock.Mock(), "zone-one", History())
    reader.add_entries(
        reader.begin_reading(0), [("7-1", {"o": f'[["+","{A}",{{"a":["10.30.0.1"]}}]]'})], 1.0, 2.0
    )
    checker = RestChecker([])
    checker.record([LISTED[A]])
    assert list(checker.peers_without_event({"zone-one": reader})) == []
    checker.record([LISTED[B]])
    assert "REST listed" in next(checker.peers_without_event({"zone-one": reader}))


def test_a_difference_of_an_interface_is_found() -> None:
    allowed = {B: frozenset(("10.30.0.2/32", "172.20.0.0/24"))}
    assert list(real_agents.interface_differences(A, {"10.30.0.1"}, allowed, SNAPSHOT)) == []
    assert "in Redis ['10.30.0.1']" in next(
        real_agents.interface_differences(A, {"10.30.0.9"}, allowed, SNAPSHOT)
    )
    assert "sends to" in next(real_agents.interface_differences(A, {"10.30.0.1"}, {}, SNAPSHOT))
    wider = {B: allowed[B] | {"10.30.0.9/32"}}
    assert "sends to" in next(real_agents.interface_differences(A, {"10.30.0.1"}, wider, SNAPSHOT))


def test_failed_observations_are_counted_and_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.chaos.checker.observer.pace", lambda: 1.0)
    topology = mock.Mock()
    topology.server_of.side_effect = redis.ConnectionError("away")
    observer = ZoneObserver(topology, {"zone-one": LogReader(mock.Mock(), "zone-one", History())}, [])
    for _ in range(MAX_CONSECUTIVE_FAILURES - 1):
        assert observer.observe() == []
    assert observer.observe() == [f"zone-one: {MAX_CONSECUTIVE_FAILURES} observations in a row failed: away"]
    assert (observer.observations, observer.failed) == (MAX_CONSECUTIVE_FAILURES, MAX_CONSECUTIVE_FAILURES)
