# SPDX-License-Identifier: GPL-3.0-or-later
"""Which observers of a peer's endpoint count, and how little a lying one achieves."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from jaywalk.zone.models import Peer
from jaywalk.zone.requests import Reply
from jaywalk_supervisor.state.endpoint_observations import (
    MIN_CHANGE_INTERVAL_SECONDS,
    OBSERVATION_TTL_SECONDS,
)
from jaywalk_supervisor.state.zone_state import ZoneState
from tests.supervisor_support import BLUE, join, key_of
from tests.unit.supervisor.decisions.test_agent_requests import NOW, ask, carry_out

SPOKE = 9
SEEN, LIE = "203.0.113.7:4711", "203.0.113.66:666"


def street(blue: ZoneState, **fields: Any) -> None:
    """Nodes 1 to 4 are open; node 9 is behind a NAT."""
    for number in (1, 2, 3, 4):
        carry_out(blue, join("zone-blue", number, endpoint=f"192.0.2.{number}:51820"))
    carry_out(blue, join("zone-blue", SPOKE, endpoint="192.168.1.9:51820", **fields))


def report(blue: ZoneState, observer: int, endpoint: str, now: float = NOW, about: int = SPOKE) -> Reply:
    return carry_out(blue, ask("report", observer, observed={key_of(about): endpoint}), now)


def spoke(blue: ZoneState) -> Peer:
    return blue.peers[key_of(SPOKE)]


def test_where_an_open_peer_sees_a_node_goes_into_its_record_once(blue: ZoneState) -> None:
    street(blue)
    assert report(blue, 1, SEEN).changed
    assert spoke(blue).observed == SEEN
    rev = blue.rev
    for observer in (1, 2, 3):
        assert not report(blue, observer, SEEN, NOW + 60).changed
    assert blue.rev == rev


def test_an_endpoint_that_the_node_names_itself_is_no_news(blue: ZoneState) -> None:
    street(blue)
    assert not report(blue, 1, "192.168.1.9:51820").changed


def test_the_operators_word_stays(blue: ZoneState) -> None:
    street(blue, fixed=True)
    assert not report(blue, 1, SEEN).changed


def test_a_node_that_roams_is_followed_but_not_at_any_speed(blue: ZoneState) -> None:
    street(blue)
    report(blue, 1, SEEN)
    assert not report(blue, 1, "203.0.113.8:1", NOW + MIN_CHANGE_INTERVAL_SECONDS / 2).changed
    assert report(blue, 1, "203.0.113.8:1", NOW + MIN_CHANGE_INTERVAL_SECONDS).changed
    assert spoke(blue).observed == "203.0.113.8:1"


def test_what_others_still_see_one_observer_does_not_change(blue: ZoneState) -> None:
    street(blue)
    report(blue, 1, SEEN)
    assert not report(blue, 2, LIE, NOW + 60).changed
    assert spoke(blue).observed == SEEN


def test_relays_and_fixed_endpoints_outweigh_others(blue: ZoneState) -> None:
    street(blue)
    carry_out(blue, join("zone-blue", 5, endpoint="192.0.2.5:51820", relay=51821))
    report(blue, 1, LIE)
    assert report(blue, 5, SEEN, NOW + 10).changed
    assert not report(blue, 1, LIE, NOW + 20).changed
    assert spoke(blue).observed == SEEN


def test_an_old_word_no_longer_counts(blue: ZoneState) -> None:
    street(blue)
    report(blue, 1, SEEN)
    assert report(blue, 2, "203.0.113.8:1", NOW + OBSERVATION_TTL_SECONDS + 1).changed


def test_who_is_behind_a_nat_is_not_heard(blue: ZoneState) -> None:
    street(blue)
    carry_out(blue, join("zone-blue", 8, endpoint="192.168.1.8:51820"))
    report(blue, 1, "203.0.113.7:1", about=8)
    assert not report(blue, 8, LIE).changed


def test_an_endpoint_inside_the_mesh_is_not_believed(blue: ZoneState) -> None:
    street(blue)
    assert not report(blue, 1, "10.20.0.1:51820").changed


def test_two_ports_of_one_nat_are_a_symmetric_one(blue: ZoneState) -> None:
    street(blue)
    report(blue, 1, "203.0.113.7:4711")
    assert not spoke(blue).symmetric
    report(blue, 2, "203.0.113.7:4712", NOW + 10)
    assert (spoke(blue).observed, spoke(blue).symmetric) == ("203.0.113.7:4711", True)


def test_a_stranger_and_a_word_about_a_stranger_change_nothing(blue: ZoneState) -> None:
    street(blue)
    assert not report(blue, 77, SEEN).changed
    assert not report(blue, 1, SEEN, about=78).changed


def test_a_new_word_of_the_node_itself_ends_what_was_seen(blue: ZoneState) -> None:
    street(blue)
    report(blue, 1, SEEN)
    carry_out(blue, ask("endpoint", SPOKE, endpoint="192.168.1.9:51820"), NOW + 10)
    assert spoke(blue).observed == SEEN
    carry_out(blue, ask("endpoint", SPOKE, endpoint="192.168.5.9:51820"), NOW + 20)
    assert spoke(blue).observed == ""
    report(blue, 2, "203.0.113.8:1", NOW + 30)
    assert spoke(blue).observed == "203.0.113.8:1", "what was seen before it moved does not count"


def test_a_node_that_left_and_came_back_is_seen_at_once(blue: ZoneState) -> None:
    street(blue)
    report(blue, 1, SEEN)
    carry_out(blue, ask("leave", SPOKE), NOW + 1)
    carry_out(blue, join("zone-blue", SPOKE, endpoint="192.168.1.9:51820"), NOW + 2)
    assert report(blue, 1, SEEN, NOW + 3).changed


def test_a_rejoin_from_the_same_place_keeps_what_was_seen(blue: ZoneState) -> None:
    street(blue)
    report(blue, 1, SEEN)
    carry_out(blue, join("zone-blue", SPOKE, endpoint="192.168.1.9:51820", local=["fd00::9"]), NOW + 10)
    assert (spoke(blue).observed, spoke(blue).local) == (SEEN, ("fd00::9",))


def test_a_relay_without_an_endpoint_is_refused(blue: ZoneState) -> None:
    reply = carry_out(blue, join("zone-blue", 1, relay=51821))
    assert (reply.ok, reply.code) == (False, "relay-unreachable")


@given(words=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3), st.floats(0, 30)), max_size=30))
def test_however_observers_disagree_a_record_settles_between_changes(
    words: list[tuple[int, int, float]],
) -> None:
    blue, now, changes = ZoneState(BLUE, 1, 0), NOW, []
    street(blue)
    for observer, host, pause in words:
        now += pause
        if report(blue, observer, f"203.0.113.{host}:1", now).changed:
            changes.append(now)
    gaps = [later - earlier for earlier, later in zip(changes, changes[1:], strict=False)]
    assert all(gap >= MIN_CHANGE_INTERVAL_SECONDS for gap in gaps)


def test_all_of_a_report_is_one_decision(blue: ZoneState) -> None:
    street(blue)
    carry_out(blue, join("zone-blue", 8, endpoint="192.168.1.8:51820"))
    rev = blue.rev
    seen = {key_of(8): "203.0.113.7:1", key_of(SPOKE): SEEN}
    assert carry_out(blue, ask("report", 1, observed=seen)).changed
    assert blue.rev == rev + 1
    assert {each.rev for each in (spoke(blue), blue.peers[key_of(8)])} == {rev + 1}
