# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node tells of its peers' endpoints, when, and when it keeps silent."""

from __future__ import annotations

import time
from collections.abc import Mapping

import pytest

from jaywalk.mesh.endpoints import observers
from jaywalk.wireguard.interface import ObservedPeer
from jaywalk.zone.models import Peer
from jaywalk.zone.requests import REPORT_SECONDS
from jaywalk_agent.paths.endpoint_reporter import AGAIN, EndpointReporter
from tests.agent_support import peer
from tests.strategies import key

SEEN = "203.0.113.7:4711"


class Zone:
    """Open nodes 0 to 9 and node 20 behind a NAT, which speaks to all of them."""

    def __init__(self) -> None:
        nodes = [peer(number, endpoint=f"192.0.2.{number + 1}:51820") for number in range(10)]
        self.spoke = peer(20, endpoint="192.168.1.2:51820")
        self.records = {each.key: each for each in (*nodes, self.spoke)}
        chosen = observers(self.records.values(), self.spoke.key)
        self.first = self.records[chosen[0]]
        self.last = next(each for each in nodes if each.key not in chosen)
        self.told: list[Mapping[str, str]] = []
        self.free = True

    def observer(self) -> EndpointReporter:
        def tell(observed: Mapping[str, str]) -> bool:
            if self.free:
                self.told.append(observed)
            return self.free

        return EndpointReporter(tell)

    def seen_at(self, endpoint: str, age: float = 1) -> dict[str, ObservedPeer]:
        spoke = ObservedPeer(self.spoke.key, endpoint=endpoint, handshake=int(time.time() - age))
        return {spoke.key: spoke}


@pytest.fixture
def zone() -> Zone:
    return Zone()


def test_news_of_a_peer_is_told_at_once_and_once_more_for_a_zone_that_had_changed_just_then(
    zone: Zone,
) -> None:
    observer = zone.observer()
    for now in (100.0, 100.2, 100.0 + AGAIN - 0.2, 100.0 + AGAIN, 100.0 + 3 * AGAIN):
        observer.look(zone.records, zone.first, zone.seen_at(SEEN), now)
    assert zone.told == [{zone.spoke.key: SEEN}] * 2
    observer.look(zone.records, zone.first, zone.seen_at("203.0.113.8:1"), 120.0)
    assert zone.told[2:] == [{zone.spoke.key: "203.0.113.8:1"}]


def test_what_the_zone_does_not_believe_is_said_again_a_minute_later(zone: Zone) -> None:
    observer = zone.observer()
    for now in (100.0, 100.0 + AGAIN, 101.0 + REPORT_SECONDS, 102.0 + AGAIN + REPORT_SECONDS):
        observer.look(zone.records, zone.first, zone.seen_at(SEEN), now)
    assert len(zone.told) == 3


def test_a_word_that_could_not_be_sent_is_sent_at_the_next_look(zone: Zone) -> None:
    observer = zone.observer()
    zone.free = False
    observer.look(zone.records, zone.first, zone.seen_at(SEEN), 100.0)
    zone.free = True
    observer.look(zone.records, zone.first, zone.seen_at(SEEN), 100.2)
    assert len(zone.told) == 1


def test_who_is_not_among_the_chosen_tells_it_in_the_report_of_the_minute(zone: Zone) -> None:
    observer = zone.observer()
    observer.look(zone.records, zone.last, zone.seen_at(SEEN), 100.0)
    assert zone.told == []
    assert observer.observed() == {zone.spoke.key: SEEN}


@pytest.mark.parametrize(
    ("endpoint", "age"), [("192.168.1.2:51820", 1), (SEEN, 200), ("", 1), ("[fe80::1%eth0]:51820", 1)]
)
def test_no_news(zone: Zone, endpoint: str, age: float) -> None:
    observer = zone.observer()
    observer.look(zone.records, zone.first, zone.seen_at(endpoint, age), 100.0)
    assert observer.observed() == {}
    assert zone.told == []


def test_behind_a_nat_of_its_own_a_node_says_nothing(zone: Zone) -> None:
    observer = zone.observer()
    inside = Peer(key(0), "node0", ("10.20.0.1",), endpoint="192.168.1.3:51820", observed="203.0.113.7:1")
    observer.look(zone.records, inside, zone.seen_at("192.168.1.77:51820"), 100.0)
    assert observer.observed() == {}
