# SPDX-License-Identifier: GPL-3.0-or-later
"""A zone state's handling of records and events from elsewhere."""

from __future__ import annotations

import json

import pytest

from jaywalk.core.errors import InvalidValue
from jaywalk.zone.events import Change, Event, Gap
from jaywalk.zone.models import Peer
from jaywalk_supervisor.state.zone_state import ZoneState
from tests.supervisor_support import key_of

META = {"epoch": "1000", "rev": "7", "wait_ms": "100", "pools": '["10.20.0.0/29"]', "description": ""}
RECORD = Peer(key_of(1), "node1", ("10.20.0.1",), rev=8).to_wire()


def test_a_record_that_does_not_parse_is_no_peer_and_is_marked() -> None:
    peers = {key_of(1): json.dumps(RECORD), key_of(2): "{", "no-key": json.dumps(RECORD)}
    state = ZoneState.load("zone-blue", META, peers, {})
    assert list(state.peers) == [key_of(1)]
    assert state.leases[key_of(1)].addresses == ("10.20.0.1",)
    assert state.unreadable.keys() == {key_of(2), "no-key"}


@pytest.mark.parametrize("field", ["epoch", "rev", "wait_ms", "pools"])
def test_meta_that_does_not_parse_is_an_error(field: str) -> None:
    for broken in ({**META, field: "x"}, {name: value for name, value in META.items() if name != field}):
        with pytest.raises(InvalidValue):
            ZoneState.load("zone-blue", broken, {}, {})


@pytest.mark.parametrize(
    "event",
    [
        Event(1000, 9),
        Event(1000, 7),
        Event(2000, 8),
        Event(2000, 8, previous_epoch=999),
        Event(1000, 8, (Change("+", key_of(1), {**RECORD, "a": ["192.0.2.1"]}),)),
        Event(1000, 8, (Change("-", key_of(1), {"t": 1.0, "s": 1}),)),
    ],
)
def test_what_does_not_follow_is_a_gap(event: Event) -> None:
    state = ZoneState.load("zone-blue", META, {}, {})
    with pytest.raises(Gap):
        state.apply_event(event)


def test_the_release_of_a_key_without_a_lease_changes_nothing_here() -> None:
    state = ZoneState.load("zone-blue", META, {}, {})
    state.apply_event(Event(1000, 8, (Change("-", key_of(1)),)))
    assert not state.leases
    assert not state.peers


def test_a_new_epoch_that_follows_is_taken_up() -> None:
    state = ZoneState.load("zone-blue", META, {}, {})
    state.apply_event(Event(2000, 8, previous_epoch=1000))
    state.apply_event(Event(2000, 9, (Change("+", key_of(1), RECORD),), wait_ms=150))
    assert (state.stream_id, state.wait_ms, list(state.peers)) == ("2000-9", 150, [key_of(1)])
