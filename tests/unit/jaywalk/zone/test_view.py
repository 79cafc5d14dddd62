# SPDX-License-Identifier: GPL-3.0-or-later
"""A reader of the log: it follows, it notices gaps, and it never believes an older word over a newer one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaywalk.core.errors import InvalidValue
from jaywalk.zone.events import Change, Event, Gap
from jaywalk.zone.models import Peer, Zone
from jaywalk.zone.redis_keys import ZoneKeys
from jaywalk.zone.view import ZoneView
from tests import strategies as mesh

ZONE = Zone.validated("zone-blue", ["10.20.0.0/20"])


def peer(number: int, rev: int, address: int | None = None) -> Peer:
    host = f"10.20.0.{number if address is None else address}"
    return Peer(mesh.key(number), f"node{number}", (host,), rev=rev)


def plus(record: Peer) -> Change:
    return Change("+", record.key, record.to_wire())


def view(*peers: Peer, epoch: int = 1, rev: int = 10) -> ZoneView:
    return ZoneView(ZONE, epoch, rev, {each.key: each for each in peers})


def test_all_keys_of_a_zone_lie_in_one_slot() -> None:
    keys = ZoneKeys("zone-blue")
    names = [
        keys.meta,
        keys.peers,
        keys.events,
        keys.leases,
        keys.inbox,
        keys.operator_inbox,
        keys.credentials,
    ]
    assert all(name.startswith("{zone-blue}:") for name in [*names, keys.reply("00")])
    assert len(set(names)) == len(names)


def test_entry_that_follows_is_taken_in() -> None:
    mine = view(peer(1, rev=3))
    assert mine.stream_id == "1-10"
    changed = mine.apply(Event(1, 11, (plus(peer(2, rev=11)), Change("-", mesh.key(1))), wait_ms=250))
    assert changed == {mesh.key(1), mesh.key(2)}
    assert set(mine.peers) == {mesh.key(2)}
    assert (mine.stream_id, mine.wait_ms) == ("1-11", 250)


@pytest.mark.parametrize(
    "event", [Event(1, 12), Event(1, 10), Event(1, 9), Event(2, 11), Event(2, 12, previous_epoch=1)]
)
def test_anything_else_is_a_gap_and_changes_nothing(event: Event) -> None:
    mine = view(peer(1, rev=3))
    with pytest.raises(Gap, match="1-10"):
        mine.apply(event)
    assert mine == view(peer(1, rev=3))


def test_bump_of_the_epoch_is_followed_by_who_stands_at_its_end() -> None:
    mine = view(peer(1, rev=3))
    assert mine.apply(Event(2, 11, previous_epoch=1)) == set()
    assert mine.stream_id == "2-11"
    ahead = view(rev=12)  # the log lost its tail, this reader saw it
    with pytest.raises(Gap):
        ahead.apply(Event(2, 11, previous_epoch=1))
    elsewhere = view(epoch=3)
    with pytest.raises(Gap):
        elsewhere.apply(Event(5, 11, previous_epoch=4))


def test_lease_alone_changes_no_peer() -> None:
    mine = view(peer(1, rev=3))
    assert mine.apply(Event(1, 11, (Change("=", mesh.key(1)),))) == set()


def test_record_newer_than_its_event_stays() -> None:
    """A snapshot amid commits holds what later events will say again."""
    newer = peer(1, rev=12, address=77)
    mine = view(newer)
    assert mine.apply(Event(1, 11, (plus(peer(1, rev=11)),))) == set()
    assert mine.peers[newer.key] == newer
    assert mine.apply(Event(1, 12, (plus(newer),))) == set()


def test_leave_older_than_the_record_is_of_an_earlier_life() -> None:
    mine = view(peer(1, rev=12))
    assert mine.apply(Event(1, 11, (Change("-", mesh.key(1)),))) == set()
    assert mesh.key(1) in mine.peers
    mine.rev = 12
    assert mine.apply(Event(1, 13, (Change("-", mesh.key(1)),))) == {mesh.key(1)}


@given(
    st.lists(st.tuples(st.integers(1, 4), st.booleans()), min_size=1, max_size=20),
    st.data(),
)
def test_snapshot_amid_commits_ends_where_the_log_ends(commits: list[tuple[int, bool]], data: Any) -> None:
    """Each record is read at a moment of its own, somewhere between the position and the log's end."""
    history: list[dict[str, Peer]] = [{}]
    events = []
    for rev, (number, stays) in enumerate(commits, start=1):
        state = dict(history[-1])
        record = peer(number, rev=rev, address=rev)
        state.pop(record.key, None)
        if stays:
            state[record.key] = record
        history.append(state)
        events.append(Event(1, rev, (plus(record) if stays else Change("-", record.key),)))
    start = data.draw(st.integers(0, len(commits)))
    mine = view(rev=start)
    for number in range(1, 5):
        parse_last_seen = data.draw(st.integers(start, len(commits)))
        record_then = history[parse_last_seen].get(mesh.key(number))
        if record_then is not None:
            mine.put(record_then.key, record_then.to_wire())
    for event in events[start:]:
        mine.apply(event)
    assert mine.peers == history[-1]


def test_record_that_is_not_believed_leaves_the_last_good_one() -> None:
    mine = view(peer(1, rev=3))
    foreign = Peer(mesh.key(1), "node1", ("192.168.7.7",), rev=11)
    assert (
        mine.apply(Event(1, 11, (plus(foreign), Change("+", "no key", {}), Change("+", mesh.key(2)))))
        == set()
    )
    assert mine.peers[mesh.key(1)] == peer(1, rev=3)
    assert "192.168.7.7" in mine.rejected[mesh.key(1)]
    assert set(mine.rejected) == {mesh.key(1), "no key", mesh.key(2)}
    mine.apply(Event(1, 12, (plus(peer(1, rev=12)), Change("-", mesh.key(2)))))
    assert set(mine.rejected) == {"no key"}


def test_an_address_belongs_to_who_had_it_first_until_that_one_goes() -> None:
    mine = view(peer(1, rev=3, address=1))
    assert mine.apply(Event(1, 11, (plus(peer(2, rev=11, address=1)),))) == {mesh.key(1), mesh.key(2)}
    assert mine.owner_of("10.20.0.1/32") == mine.peers[mesh.key(1)]
    assert mine.apply(Event(1, 12, (Change("-", mesh.key(1)),))) == {mesh.key(1), mesh.key(2)}
    assert mine.owner_of("10.20.0.1/32") == mine.peers[mesh.key(2)]
    assert mine.apply(Event(1, 13, (plus(peer(2, rev=13, address=2)),))) == {mesh.key(2)}
    assert mine.owner_of("10.20.0.1/32") is None


def test_a_snapshot_keeps_the_good_record_of_what_it_cannot_believe() -> None:
    before, after = view(peer(1, rev=3), peer(2, rev=4), peer(3, rev=5)), view(peer(3, rev=6))
    after.put(mesh.key(1), "{")
    after.keep(before)
    assert after.peers == {mesh.key(1): peer(1, rev=3), mesh.key(3): peer(3, rev=6)}
    assert set(after.rejected) == {mesh.key(1)}


def entry(**fields: str) -> Event:
    return Event.from_entry("3-7", fields)


def test_entry_is_read_as_the_commit_wrote_it() -> None:
    changes = [plus(peer(1, rev=7)), Change("-", mesh.key(2)), Change("=", mesh.key(3))]
    wire = f"[{','.join(change.to_wire() for change in changes)}]"
    assert entry(o=wire, w="120") == Event(3, 7, tuple(changes), wait_ms=120)
    assert entry(prev="2") == Event(3, 7, previous_epoch=2)


def test_reader_cannot_be_told_to_sleep_for_ever_or_less_than_nothing() -> None:
    assert entry(w="-5").wait_ms == 0
    assert entry(w="9" * 100).wait_ms == 60_000


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[1]",
        "[[]]",
        '[["+"]]',
        '[["?","k"]]',
        '[["+",1]]',
        '[["+","k",1]]',
        '[[["+"],"k"]]',
        "[" * 99_999,
        "9" * 5000,
    ],
)
def test_entry_of_another_shape_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue):
        entry(o=text)


@given(st.text(), st.dictionaries(st.sampled_from(["o", "w", "prev"]), st.text()), mesh.json_values)
def test_any_entry_is_taken_or_refused(entry_id: str, fields: dict[str, str], value: Any) -> None:
    for candidate in (
        fields,
        {**fields, "o": json.dumps(value)},
        {"o": json.dumps([["+", mesh.key(1), value]])},
    ):
        for name in (entry_id, "1-11"):
            mine = view(peer(1, rev=3))
            try:
                mine.apply(Event.from_entry(name, candidate))
            except (InvalidValue, Gap):
                continue
