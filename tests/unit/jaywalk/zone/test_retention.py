# SPDX-License-Identifier: GPL-3.0-or-later
"""What a controller lost stays in force, and what somebody removed does not."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from jaywalk.zone import retention
from jaywalk.zone.events import Change, Event
from jaywalk.zone.models import Peer, Zone
from jaywalk.zone.retention import RETAIN_SECONDS, Merged, Shared, departed, shared_by
from jaywalk.zone.view import Retained, ZoneView
from tests import strategies as mesh

ZONE = Zone.validated("zone-blue", ["10.20.0.0/20"])
OWN = mesh.key(0)
NOW = 1_800_000_000.0


def peer(number: int, rev: int, address: int = 0, prefixes: tuple[str, ...] = ()) -> Peer:
    return Peer(mesh.key(number), f"node{number}", (f"10.20.0.{address or number + 1}",), prefixes, rev=rev)


def view(*peers: Peer, epoch: int = 1, rev: int = 10, **fields: Any) -> ZoneView:
    return ZoneView(ZONE, epoch, rev, {each.key: each for each in peers}, **fields)


def merge(mine: ZoneView, before: ZoneView, *log: Event) -> Merged:
    """The merge with a controller whose log holds ``log``."""
    marks = {(event.epoch, event.rev): event.mark for event in log}
    shared = shared_by(mine, before, lambda place: marks.get(place, ""))
    since = [event for event in log if (event.epoch, event.rev) > shared.least]
    return retention.merge(mine, before, shared, departed(since, before, shared), OWN, NOW)


def relisted(mine: ZoneView, before: ZoneView) -> set[str]:
    return retention.relisted(mine, before, shared_by(mine, before))


def plus(record: Peer) -> Change:
    return Change("+", record.key, record.to_wire())


@dataclass
class Controller:
    """A zone's log in a Redis that can be put back to any state that it had.  A step takes a second."""

    epoch: int = 1
    rev: int = 0
    history: tuple[tuple[int, int], ...] = ()
    peers: dict[str, Peer] = field(default_factory=dict)
    seqs: dict[str, int] = field(default_factory=dict)
    log: list[Event] = field(default_factory=list)
    marks: dict[tuple[int, int], str] = field(default_factory=lambda: {(1, 0): "00000000"})

    def commit(self, now: int, number: int, what: str) -> None:
        record = peer(number, self.rev + 1)._replace(seq=now * 1_000_000)
        if what == "joins":
            change = plus(record)
            self.peers[record.key] = record
        else:
            # An operator's release has the seq of what it ends.
            seq = record.seq if what == "leaves" else self.seqs.get(record.key, 0)
            change = Change("-", record.key, {"t": now + 0.5, "s": seq})
            self.peers.pop(record.key, None)
        self.seqs[record.key] = record.seq if what != "is released" else self.seqs.get(record.key, 0)
        self._append(now, Event(self.epoch, self.rev + 1, (change,)))

    def bump(self, now: int) -> None:
        self.history = (*self.history, (self.epoch, self.rev))
        before, self.epoch = self.epoch, now
        self._append(now, Event(self.epoch, self.rev + 1, previous_epoch=before))

    def _append(self, now: int, event: Event) -> None:
        """Each commit is of another moment, so that the moment is its mark."""
        mark, before = f"{now:08x}", self.marks[max(self.marks)]
        self.log.append(event._replace(mark=mark, previous_mark=before))
        self.rev, self.marks[event.epoch, event.rev] = event.rev, mark

    def view(self, known: int) -> ZoneView:
        """A copy of one who knows the last ``known`` marks."""
        marks = {place: self.marks[place] for place in sorted(self.marks)[-known:]}
        return ZoneView(ZONE, self.epoch, self.rev, dict(self.peers), history=self.history, marks=marks)


commits = st.tuples(
    st.just("commit"), st.integers(0, 4), st.sampled_from(["joins", "joins", "leaves", "is released"])
)
steps = st.one_of(
    commits, commits, st.tuples(st.sampled_from(["read", "put back", "restart", "empty"]), st.integers(0, 30))
)


def run(script: list[tuple[Any, ...]]) -> tuple[Controller, Controller]:
    """Carries ``script`` out; returns the controller as it was last read, and as it is in the end."""
    controller, read, backups = Controller(), Controller(), [Controller()]
    for now, (what, *words) in enumerate(script, start=2):
        if what == "commit":
            controller.commit(now, *words)
        elif what == "read":
            read = copy.deepcopy(controller)
        elif what == "empty":
            controller = Controller(epoch=now, marks={(now, 0): f"{now:08x}"})
        else:
            controller = copy.deepcopy(backups[words[0] % len(backups)])
            if what == "restart":  # of which somebody takes notice before the next commit
                controller.bump(now)
        backups.append(copy.deepcopy(controller))
    return read, controller


@given(st.lists(steps, max_size=40), st.integers(1, 20))
def test_a_peer_stays_if_and_only_if_nobody_removed_it_in_the_log_that_is_left(
    script: list[tuple[Any, ...]], known: int
) -> None:
    read, controller = run(script)
    shared = 0
    while read.log[shared : shared + 1] == controller.log[shared : shared + 1] != []:
        shared += 1
    told = {change.key: change.sign for event in controller.log[shared:] for change in event.changes}
    last = {change.key: event in read.log[:shared] for event in read.log for change in event.changes}
    mine = controller.view(1)
    merged = merge(mine, read.view(known), *controller.log)
    assert merged.lost_since(read.view(known)) or read.log == controller.log[: len(read.log)]
    for key in read.peers.keys() - controller.peers.keys():
        removed = told.get(key) == "-" or last[key]
        if key == OWN:
            assert merged.own_removed == removed
            assert key not in mine.peers
        else:
            assert (key in mine.peers) == (key in mine.retained) == (not removed)
    for key, record in controller.peers.items():
        assert mine.peers[key] == record
        assert key not in mine.retained


def test_all_that_an_empty_controller_lost_stays_but_for_this_nodes_own_place() -> None:
    before = view(peer(0, 1), peer(1, 2), peer(2, 3), epoch=5)
    mine = view(peer(2, 1), epoch=9, rev=1)
    merged = merge(mine, before)
    assert merged == Merged(frozenset({mesh.key(1)}), False, Shared((0, 0), (0, 0)))
    assert mine.peers == {mesh.key(1): peer(1, 2), mesh.key(2): peer(2, 1)}
    assert mine.retained == {mesh.key(1): Retained(5, NOW)}


def test_a_removal_within_the_epoch_still_removes_at_once() -> None:
    before = view(peer(0, 1), peer(1, 2), epoch=5, rev=10)
    mine = view(peer(0, 1), epoch=5, rev=12)
    assert not merge(mine, before).retained
    assert set(mine.peers) == {OWN}


def test_an_epoch_that_went_on_where_the_node_stood_lost_nothing() -> None:
    before = view(peer(0, 1), peer(1, 2), epoch=5, rev=10)
    mine = view(peer(0, 1), epoch=6, rev=12, history=((5, 10),))
    assert not merge(mine, before).retained
    assert set(mine.peers) == {OWN}


def test_a_failover_that_lost_a_tail_keeps_the_peers_whose_joins_were_in_it() -> None:
    before = view(peer(0, 1), peer(1, 4), peer(2, 9), epoch=5, rev=10)
    mine = view(peer(0, 1), epoch=6, rev=9, history=((5, 8),))
    assert merge(mine, before).retained == {mesh.key(2)}


def test_a_running_redis_that_was_put_back_keeps_the_peers_that_came_later() -> None:
    before = view(peer(0, 1), peer(1, 4), peer(2, 9), epoch=5, rev=10)
    mine = view(peer(0, 1), epoch=5, rev=8)
    assert merge(mine, before).retained == {mesh.key(2)}
    assert mesh.key(1) not in mine.peers, "it is not listed although that copy goes back no further"


def test_a_retained_peer_that_joins_again_is_an_ordinary_one() -> None:
    mine = view(epoch=9, rev=1)
    mine.retain(peer(1, 7), Retained(5, NOW))
    assert mine.apply(Event(9, 2, (plus(peer(1, 2)),))) == {mesh.key(1)}
    assert mine.peers[mesh.key(1)] == peer(1, 2)
    assert not mine.retained


def test_a_release_in_the_new_epoch_removes_a_retained_peer() -> None:
    mine = view(epoch=9, rev=1)
    mine.retain(peer(1, 7), Retained(5, NOW))
    assert mine.apply(Event(9, 2, (Change("-", mesh.key(1)),))) == {mesh.key(1)}
    assert not mine.peers
    assert not mine.retained


def test_a_release_that_the_node_slept_through_is_found_in_the_log() -> None:
    before = view(peer(1, 7), epoch=5)
    mine = view(epoch=9, rev=3)
    log = Event(9, 1, (plus(peer(1, 1)),)), Event(9, 2, (Change("-", mesh.key(1)),))
    assert not merge(mine, before, *log).retained
    assert not mine.peers


def test_a_node_that_joined_after_a_release_of_its_key_was_not_removed_by_it() -> None:
    """It read the zone when it joined, and knows no mark of the revisions before."""
    marks = {(1, 10): "aaaaaaaa", (2, 14): "dddddddd"}
    before = view(peer(0, 14), epoch=2, rev=14, history=((1, 10),), marks=marks)
    mine = view(epoch=3, rev=13, history=((1, 10), (2, 12)), marks={(1, 10): "aaaaaaaa"})
    log = [
        Event(2, 11, previous_epoch=1, mark="bbbbbbbb"),
        Event(2, 12, (Change("-", OWN),), mark="cccccccc"),
        Event(3, 13, previous_epoch=2, mark="eeeeeeee"),
    ]
    assert not merge(mine, before, *log).own_removed
    since = Event(3, 14, (Change("-", OWN),), mark="ffffffff")
    assert merge(replace(mine, rev=14), before, *log, since).own_removed


def test_a_removed_peer_that_an_older_copy_still_lists_is_told_from_a_new_one() -> None:
    before = view(peer(0, 1), epoch=5, rev=10)
    older = view(peer(0, 1), peer(1, 4), peer(2, 9), epoch=9, rev=9, history=((5, 7),))
    assert relisted(older, before) == {mesh.key(1)}
    assert not relisted(view(peer(1, 12), epoch=5, rev=12), before)
    assert not relisted(view(peer(1, 1), epoch=9, rev=1), before)


def test_an_address_that_is_given_to_another_key_is_the_other_keys_at_once() -> None:
    mine = view(epoch=9, rev=8)
    mine.retain(peer(1, 2, address=7), Retained(5, NOW))
    assert mine.apply(Event(9, 9, (plus(peer(2, 9, address=7)),))) == {mesh.key(1), mesh.key(2)}
    holder = mine.owner_of("10.20.0.7/32")
    assert holder is not None
    assert holder.key == mesh.key(2)


def test_a_retained_prefix_yields_to_one_that_overlaps_it() -> None:
    mine = view(epoch=9, rev=8)
    mine.retain(peer(1, 2, prefixes=("172.20.5.0/24", "172.30.0.0/24")), Retained(5, NOW))
    changed = mine.apply(Event(9, 9, (plus(peer(2, 9, prefixes=("172.20.0.0/16",))),)))
    assert changed == {mesh.key(1), mesh.key(2)}
    assert mine.peers[mesh.key(1)].prefixes == ("172.30.0.0/24",)
    assert mesh.key(1) in mine.retained


def test_a_prefix_that_another_one_has_by_then_is_not_retained() -> None:
    before = view(peer(1, 2, prefixes=("172.20.5.0/24",)), epoch=5)
    mine = view(peer(2, 1, prefixes=("172.20.0.0/16",)), epoch=9, rev=1)
    merge(mine, before)
    assert mine.peers[mesh.key(1)].prefixes == ()


def test_a_loss_on_a_loss_keeps_the_first_mark() -> None:
    first = view(peer(0, 1), epoch=9, rev=1)
    first.retain(peer(1, 7), Retained(5, NOW))
    mine = view(peer(0, 1), epoch=12, rev=1)
    retention.merge(mine, first, shared_by(mine, first), (), OWN, NOW + 100)
    assert mine.retained == {mesh.key(1): Retained(5, NOW)}


def test_a_retained_peer_goes_when_its_time_is_over() -> None:
    mine = view(epoch=9, rev=1)
    mine.retain(peer(1, 7), Retained(5, NOW))
    assert retention.expired(mine, NOW + RETAIN_SECONDS - 1) == set()
    over = retention.expired(mine, NOW + RETAIN_SECONDS)
    assert mine.drop_retained(over) == {mesh.key(1)}
    assert not mine.peers
    assert mine.owner_of("10.20.0.2/32") is None


def test_a_record_that_cannot_be_believed_in_the_new_epoch_leaves_the_retained_one() -> None:
    before = view(peer(1, 7), epoch=5)
    mine = view(epoch=9, rev=1)
    mine.put(mesh.key(1), "{")
    merge(mine, before)
    assert mine.peers == {mesh.key(1): peer(1, 7)}
    assert mesh.key(1) in mine.rejected
    assert retention.expired(mine, NOW + RETAIN_SECONDS) == set()


def test_a_peer_outside_the_new_pools_is_not_retained() -> None:
    mine = ZoneView(Zone.validated("zone-blue", ["10.30.0.0/24"]), 9, 1)
    merge(mine, view(peer(1, 7), epoch=5))
    assert not mine.peers
    assert mesh.key(1) in mine.rejected
