# SPDX-License-Identifier: GPL-3.0-or-later
"""Peers that a controller lost stay in force: the pure merge of a fresh snapshot with the copy before it.

A Redis that was emptied or put back to an older state lists fewer peers than the node knows.  Which of the
others were removed on purpose, and which were lost, follows from the histories of the two copies: up to the
last revision that both share nothing was lost, so that a peer of that part that is not listed was removed.
A peer that came later was lost, unless the log says since then that it left.  That revision is not always
known exactly (see :mod:`.marks`); an earlier one only has more of the log read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from ..core import ip
from .events import Change, Event
from .marks import Position, agree
from .models import Peer
from .view import Retained, ZoneView

# How long a peer that the zone lost stays in force. A day gives whoever is on call time to start its agent or
# to restore the controller, and bounds how long a machine that nobody lists has a tunnel.
RETAIN_SECONDS = 86_400.0

# The start of 2025, before there was this program: a clock that shows less was not set yet.
UNSET_BEFORE = 1_735_689_600.0

# How long after the start of an epoch the release of a key that the zone does not list goes into the log all
# the same, for nodes that retain it; longer than such a peer stays, since a node may have been off.
RELEASE_SECONDS = 7 * RETAIN_SECONDS


class Shared(NamedTuple):
    """How far two histories are one: ``least`` is of both, with all that came before it, and what comes after
    ``most`` is not.  The same where it is known exactly.
    """

    least: Position
    most: Position


@dataclass(frozen=True)
class Merged:
    """What :func:`merge` came to: the keys that are ``retained`` from now on, whether this node's own record
    is gone because somebody removed it, and how far both histories are ``shared``.
    """

    retained: frozenset[str]
    own_removed: bool
    shared: Shared

    def lost_since(self, before: ZoneView) -> bool:
        """Whether the controller lost something that ``before`` has."""
        return self.shared.least[1] < before.rev


def _unknown(_place: Position) -> str:
    return ""


def shared_by(view: ZoneView, before: ZoneView, mark_at: Callable[[Position], str] = _unknown) -> Shared:
    """How far the histories of two copies are one; least is (0, 0) where nothing is known to be shared.

    ``mark_at`` returns the mark at a position of the log behind ``view``; empty where the log does not go
    back as far, or where an older version wrote it.
    """
    ours = dict(view.history) | {view.epoch: view.rev}
    theirs = dict(before.history) | {before.epoch: before.rev}
    epoch = max(ours.keys() & theirs.keys(), default=None)
    if epoch is None:
        return Shared((0, 0), (0, 0))
    most = epoch, min(ours[epoch], theirs[epoch])
    if not before.marks:  # of an older version
        return Shared(most, most)
    known = sorted(position for position in before.marks if position <= most)
    mark = cache(lambda position: view.marks.get(position) or mark_at(position))
    if most == before.head.position and not (known and mark(known[-1])):
        return Shared(most, most)  # the log was trimmed beyond it, and nothing says that Redis went back
    return _narrowed(Shared((0, 0), most), before.marks, known, mark)


def _narrowed(
    shared: Shared, marks: Mapping[Position, str], known: Sequence[Position], mark: Callable[[Position], str]
) -> Shared:
    """``shared`` by the marks at the places ``known``: two histories differ from some position on."""
    low, high, middle = 0, len(known), len(known) - 1
    while low < high:
        position = known[middle]
        if mark(position) == marks[position]:
            shared = shared._replace(least=position)
        if agree(mark(position), marks[position]):
            low = middle + 1
        else:
            high, shared = middle, shared._replace(most=(position[0], position[1] - 1))
        middle = (low + high) // 2
    return shared


def missing(view: ZoneView, before: ZoneView, shared: Shared) -> set[str]:
    """The keys of ``before`` that ``view`` does not list, and may have lost."""
    rev = shared.least[1]
    return {
        key
        for key, peer in before.peers.items()
        if key not in view.peers and (peer.rev > rev or key in before.retained or key in view.rejected)
    }


def relisted(view: ZoneView, before: ZoneView, shared: Shared) -> set[str]:
    """The keys that were removed as ``before`` knows, and that ``view``, an older copy, still lists."""
    gone = view.peers.keys() - before.peers.keys() - before.rejected.keys()
    return {key for key in gone if view.peers[key].rev <= shared.least[1] < before.rev}


def may_be_retained(epoch: int, now: float) -> bool:
    """Whether nodes may still retain a key that the zone does not list; ``epoch`` is in milliseconds."""
    return now - epoch / 1000 < RELEASE_SECONDS


def departed(events: Iterable[Event], before: ZoneView, shared: Shared) -> set[str]:
    """The keys that left last, and did not come back, in the part of a log after ``shared.least``.

    A departure that both histories may have, before ``before``'s record of the key was made, is none.
    """
    last: dict[str, tuple[Change, Position]] = {}
    for event in events:
        position = event.epoch, event.rev
        last.update((change.key, (change, position)) for change in event.changes if change.sign != "=")
    return {
        key
        for key, (change, position) in last.items()
        if change.sign == "-"
        and (position > shared.most or not _was_before(change, position, before.peers.get(key)))
    }


def _was_before(departure: Change, position: Position, peer: Peer | None) -> bool:
    """Whether a key left, at ``position`` of the log, before its ``peer`` asked for its lease.

    By the order of its requests, and by the clock, since an operator's release has the seq of what it ends.
    The release of a key that the zone did not list then has neither, and goes by the position.
    """
    if peer is None:
        return False
    if departure.record is None:
        return position[1] < peer.rev
    left, seq = departure.record.get("t"), departure.record.get("s")
    if not isinstance(left, (int, float)) or not isinstance(seq, int):
        return False
    return seq < peer.seq and left < peer.seq / 1e6


def merge(
    view: ZoneView, before: ZoneView, shared: Shared, left: Collection[str], own_key: str, now: float
) -> Merged:
    """Takes into the snapshot ``view`` what ``before`` knows and the controller lost.

    ``left`` are keys that left since, as the log says.  This node's own record is never retained: it asks for
    its lease again.
    """
    if shared.least[1] >= before.rev:
        view.keep(before)
    lost = missing(view, before, shared) - set(left)
    own = before.peers.get(own_key)
    own_removed = own is not None and own_key not in view.peers and own_key not in lost
    taken = ip.networks(prefix for peer in view.peers.values() for prefix in peer.prefixes)
    for key in lost - {own_key}:
        peer = before.peers[key]
        free = tuple(each for each in peer.prefixes if ip.overlapping(taken, each) is None)
        view.retain(peer._replace(prefixes=free), before.retained.get(key) or Retained(before.epoch, now))
    return Merged(frozenset(lost & view.retained.keys()), own_removed, shared)


def redate(view: ZoneView, now: float, jump: float) -> None:
    """Has the marks of retained peers agree with the node's clock, which was just set by ``jump`` seconds."""
    for key, mark in view.retained.items():
        view.retained[key] = mark._replace(since=redated(mark.since, now, jump))


def redated(since: float, now: float, jump: float) -> float:
    """When a peer was missed, by the clock as it goes ``now``, after it was set by ``jump`` seconds.

    What was counted by a clock that nobody had set yet, or by one that was ahead, counts from now; as long as
    the clock is not set nothing is said about what an earlier start of the machine wrote.
    """
    before = now - jump
    of_this_clock = since <= before and (since >= UNSET_BEFORE or before < UNSET_BEFORE)
    if of_this_clock:
        return since + jump
    return since if now < UNSET_BEFORE or UNSET_BEFORE <= since <= now else now


def expired(view: ZoneView, now: float) -> set[str]:
    """The retained peers whose time is over.

    One that the zone lists with a record that cannot be believed stays, as it does without a loss.
    """
    return {
        key
        for key, mark in view.retained.items()
        if now - mark.since >= RETAIN_SECONDS and key not in view.rejected
    }
