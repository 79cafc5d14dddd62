# SPDX-License-Identifier: GPL-3.0-or-later
"""What a controller lost stays in force, and what somebody removed does not."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from jaywalk import retention
from jaywalk.models import Peer, Zone
from jaywalk.retention import RETAIN_SECONDS, merge
from jaywalk.zonelog import Change, Event, Retained, ZoneView

from . import strategies as mesh

ZONE = Zone.checked("zone-blue", ["10.20.0.0/20"])
OWN = mesh.key(0)
NOW = 1_800_000_000.0


def peer(number: int, rev: int, address: int = 0, prefixes: tuple[str, ...] = ()) -> Peer:
    return Peer(mesh.key(number), f"node{number}", (f"10.20.0.{address or number + 1}",), prefixes, rev=rev)


def view(*peers: Peer, epoch: int = 1, rev: int = 10, **fields: Any) -> ZoneView:
    return ZoneView(ZONE, epoch, rev, {each.key: each for each in peers}, **fields)


def plus(record: Peer) -> Change:
    return Change("+", record.key, record.to_wire())


@dataclass
class Controller:
    """A zone's log in a Redis that can be put back to any state that it had."""

    epoch: int = 1
    rev: int = 0
    clock: int = 1
    history: tuple[tuple[int, int], ...] = ()
    peers: dict[str, Peer] = field(default_factory=dict)
    log: list[Event] = field(default_factory=list)

    def commit(self, number: int, stays: bool) -> None:
        self.rev += 1
        record = peer(number, self.rev)
        change = plus(record) if stays else Change("-", record.key)
        self.peers.pop(record.key, None)
        if stays:
            self.peers[record.key] = record
        self.log.append(Event(self.epoch, self.rev, (change,)))

    def bump(self, clock: int) -> None:
        self.history = (*self.history, (self.epoch, self.rev))
        before, self.epoch, self.rev, self.clock = self.epoch, clock, self.rev + 1, clock
        self.log.append(Event(self.epoch, self.rev, previous_epoch=before))

    def view(self) -> ZoneView:
        return ZoneView(ZONE, self.epoch, self.rev, dict(self.peers), history=self.history)


commits = st.tuples(st.just("commit"), st.integers(0, 4), st.booleans())
steps = st.one_of(
    commits, commits, st.tuples(st.sampled_from(["read", "restore", "empty"]), st.integers(0, 30))
)


def run(script: list[tuple[Any, ...]]) -> Iterator[tuple[Controller, Controller]]:
    """Carries ``script`` out; yields the controller as it was last read, and as it is, at each loss."""
    controller, read, backups, clock = Controller(), Controller(), [Controller()], 1
    for what, *words in script:
        if what == "commit":
            controller.commit(*words)
            backups.append(copy.deepcopy(controller))
        elif what == "read":
            read = copy.deepcopy(controller)
        else:
            clock += 1
            backup = (
                backups[words[0] % len(backups)]
                if what == "restore"
                else Controller(epoch=clock, clock=clock)
            )
            controller = copy.deepcopy(backup)
            if what == "restore":
                controller.bump(clock)
            backups.append(copy.deepcopy(controller))
    yield read, controller


@given(st.lists(steps, max_size=40))
def test_a_peer_stays_if_and_only_if_nobody_removed_it_in_the_log_that_is_left(
    script: list[tuple[Any, ...]],
) -> None:
    for read, controller in run(script):
        shared = 0
        while read.log[shared : shared + 1] == controller.log[shared : shared + 1] != []:
            shared += 1
        since = controller.log[shared:]
        told = {change.key: change.sign for event in since for change in event.changes}
        known = {change.key for event in read.log[:shared] for change in event.changes}
        last = {change.key: event in read.log[:shared] for event in read.log for change in event.changes}
        mine = controller.view()
        merged = merge(mine, read.view(), retention.departed(since), OWN, NOW)
        for key in read.peers.keys() - controller.peers.keys():
            removed = told.get(key) == "-" or (key in known and last[key])
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
    merged = merge(mine, before, (), OWN, NOW)
    assert merged == retention.Merged(frozenset({mesh.key(1)}), own_removed=False)
    assert mine.peers == {mesh.key(1): peer(1, 2), mesh.key(2): peer(2, 1)}
    assert mine.retained == {mesh.key(1): Retained(5, NOW)}


def test_a_removal_within_the_epoch_still_removes_at_once() -> None:
    before = view(peer(0, 1), peer(1, 2), epoch=5, rev=10)
    mine = view(peer(0, 1), epoch=5, rev=12)
    assert not merge(mine, before, (), OWN, NOW).retained
    assert set(mine.peers) == {OWN}


def test_an_epoch_that_went_on_where_the_node_stood_lost_nothing() -> None:
    before = view(peer(0, 1), peer(1, 2), epoch=5, rev=10)
    mine = view(peer(0, 1), epoch=6, rev=12, history=((5, 10),))
    assert not merge(mine, before, (), OWN, NOW).retained
    assert set(mine.peers) == {OWN}


def test_a_failover_that_lost_a_tail_keeps_the_peers_whose_joins_were_in_it() -> None:
    before = view(peer(0, 1), peer(1, 4), peer(2, 9), epoch=5, rev=10)
    mine = view(peer(0, 1), epoch=6, rev=9, history=((5, 8),))
    assert merge(mine, before, (), OWN, NOW).retained == {mesh.key(2)}


def test_a_running_redis_that_was_put_back_keeps_the_peers_that_came_later() -> None:
    before = view(peer(0, 1), peer(1, 4), peer(2, 9), epoch=5, rev=10)
    mine = view(peer(0, 1), epoch=5, rev=8)
    assert merge(mine, before, (), OWN, NOW).retained == {mesh.key(2)}
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
    left = retention.departed([Event(9, 1, (plus(peer(1, 1)),)), Event(9, 2, (Change("-", mesh.key(1)),))])
    assert not merge(mine, before, left, OWN, NOW).retained
    assert not mine.peers


def test_a_removed_peer_that_an_older_copy_still_lists_is_told_from_a_new_one() -> None:
    before = view(peer(0, 1), epoch=5, rev=10)
    older = view(peer(0, 1), peer(1, 4), peer(2, 9), epoch=9, rev=9, history=((5, 7),))
    assert retention.relisted(older, before) == {mesh.key(1)}
    assert not retention.relisted(view(peer(1, 12), epoch=5, rev=12), before)
    assert not retention.relisted(view(peer(1, 1), epoch=9, rev=1), before)


def test_an_address_that_is_given_to_another_key_is_the_other_keys_at_once() -> None:
    mine = view(epoch=9, rev=8)
    mine.retain(peer(1, 2, address=7), Retained(5, NOW))
    assert mine.apply(Event(9, 9, (plus(peer(2, 9, address=7)),))) == {mesh.key(1), mesh.key(2)}
    holder = mine.holder("10.20.0.7/32")
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
    merge(mine, before, (), OWN, NOW)
    assert mine.peers[mesh.key(1)].prefixes == ()


def test_a_loss_on_a_loss_keeps_the_first_mark() -> None:
    first = view(peer(0, 1), epoch=9, rev=1)
    first.retain(peer(1, 7), Retained(5, NOW))
    mine = view(peer(0, 1), epoch=12, rev=1)
    merge(mine, first, (), OWN, NOW + 100)
    assert mine.retained == {mesh.key(1): Retained(5, NOW)}


def test_a_retained_peer_goes_when_its_time_is_over() -> None:
    mine = view(epoch=9, rev=1)
    mine.retain(peer(1, 7), Retained(5, NOW))
    assert retention.expired(mine, NOW + RETAIN_SECONDS - 1) == set()
    over = retention.expired(mine, NOW + RETAIN_SECONDS)
    assert mine.drop_retained(over) == {mesh.key(1)}
    assert not mine.peers
    assert mine.holder("10.20.0.2/32") is None


def test_a_record_that_cannot_be_believed_in_the_new_epoch_leaves_the_retained_one() -> None:
    before = view(peer(1, 7), epoch=5)
    mine = view(epoch=9, rev=1)
    mine.put(mesh.key(1), "{")
    merge(mine, before, (), OWN, NOW)
    assert mine.peers == {mesh.key(1): peer(1, 7)}
    assert mesh.key(1) in mine.rejected
    assert retention.expired(mine, NOW + RETAIN_SECONDS) == set()


def test_a_peer_outside_the_new_pools_is_not_retained() -> None:
    mine = ZoneView(Zone.checked("zone-blue", ["10.30.0.0/24"]), 9, 1)
    merge(mine, view(peer(1, 7), epoch=5), (), OWN, NOW)
    assert not mine.peers
    assert mesh.key(1) in mine.rejected
