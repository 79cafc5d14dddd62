# SPDX-License-Identifier: GPL-3.0-or-later
"""Which observed endpoints a node reports, and when."""

from __future__ import annotations

import time
from collections.abc import Mapping

import pytest

from jaywalk.mesh.endpoints import observers
from jaywalk.wireguard.interface import ObservedPeer
from jaywalk.zone.models import Peer
from jaywalk.zone.requests import REPORT_SECONDS
from jaywalk_agent.paths.endpoint_reporter import REPEAT_SECONDS, EndpointReporter
from tests.agent_support import peer
from tests.strategies import key

OBSERVED = "203.0.113.7:4711"


class Zone:
    """Open nodes 0 to 9, and node 20 behind a NAT with a session to each of them."""

    def __init__(self) -> None:
        nodes = [peer(number, endpoint=f"192.0.2.{number + 1}:51820") for number in range(10)]
        self.spoke = peer(20, endpoint="192.168.1.2:51820")
        self.records = {node.key: node for node in (*nodes, self.spoke)}
        chosen = observers(self.records.values(), self.spoke.key)
        self.assigned = self.records[chosen[0]]
        self.unassigned = next(node for node in nodes if node.key not in chosen)
        self.reports: list[Mapping[str, str]] = []
        self.accepts = True

    def reporter(self) -> EndpointReporter:
        def send(observed: Mapping[str, str]) -> bool:
            if self.accepts:
                self.reports.append(observed)
            return self.accepts

        return EndpointReporter(send)

    def observed_at(self, endpoint: str, age: float = 1) -> dict[str, ObservedPeer]:
        spoke = ObservedPeer(self.spoke.key, endpoint=endpoint, handshake=int(time.time() - age))
        return {spoke.key: spoke}


@pytest.fixture
def zone() -> Zone:
    return Zone()


def test_a_new_endpoint_is_reported_at_once_and_repeated_once(zone: Zone) -> None:
    """The zone ignores the first report if the record changed within the last 5 s."""
    reporter = zone.reporter()
    for now in (
        100.0,
        100.2,
        100.0 + REPEAT_SECONDS - 0.2,
        100.0 + REPEAT_SECONDS,
        100.0 + 3 * REPEAT_SECONDS,
    ):
        reporter.observe(zone.records, zone.assigned, zone.observed_at(OBSERVED), now)
    assert zone.reports == [{zone.spoke.key: OBSERVED}] * 2
    reporter.observe(zone.records, zone.assigned, zone.observed_at("203.0.113.8:1"), 120.0)
    assert zone.reports[2:] == [{zone.spoke.key: "203.0.113.8:1"}]


def test_an_endpoint_that_the_zone_does_not_accept_is_reported_again_a_minute_later(zone: Zone) -> None:
    reporter = zone.reporter()
    for now in (
        100.0,
        100.0 + REPEAT_SECONDS,
        101.0 + REPORT_SECONDS,
        102.0 + REPEAT_SECONDS + REPORT_SECONDS,
    ):
        reporter.observe(zone.records, zone.assigned, zone.observed_at(OBSERVED), now)
    assert len(zone.reports) == 3


def test_a_report_that_could_not_be_sent_is_sent_after_the_next_observation(zone: Zone) -> None:
    reporter = zone.reporter()
    zone.accepts = False
    reporter.observe(zone.records, zone.assigned, zone.observed_at(OBSERVED), 100.0)
    zone.accepts = True
    reporter.observe(zone.records, zone.assigned, zone.observed_at(OBSERVED), 100.2)
    assert len(zone.reports) == 1


def test_a_node_that_is_not_assigned_reports_in_its_periodic_report_only(zone: Zone) -> None:
    reporter = zone.reporter()
    reporter.observe(zone.records, zone.unassigned, zone.observed_at(OBSERVED), 100.0)
    assert zone.reports == []
    assert reporter.observed_endpoints() == {zone.spoke.key: OBSERVED}


@pytest.mark.parametrize(
    ("endpoint", "age"), [("192.168.1.2:51820", 1), (OBSERVED, 200), ("", 1), ("[fe80::1%eth0]:51820", 1)]
)
def test_known_stale_and_unusable_endpoints_are_not_reported(zone: Zone, endpoint: str, age: float) -> None:
    reporter = zone.reporter()
    reporter.observe(zone.records, zone.assigned, zone.observed_at(endpoint, age), 100.0)
    assert reporter.observed_endpoints() == {}
    assert zone.reports == []


def test_a_node_behind_a_nat_reports_nothing(zone: Zone) -> None:
    reporter = zone.reporter()
    inside = Peer(key(0), "node0", ("10.20.0.1",), endpoint="192.168.1.3:51820", observed="203.0.113.7:1")
    reporter.observe(zone.records, inside, zone.observed_at("192.168.1.77:51820"), 100.0)
    assert reporter.observed_endpoints() == {}
