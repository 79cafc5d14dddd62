# SPDX-License-Identifier: GPL-3.0-or-later
"""Retains peers that a controller lost: the pure merge of a new snapshot with the copy before it.

A Redis that was emptied or put back to an older state lists fewer peers than the node knows.  The histories
of the two copies show which of the others were removed and which were lost: nothing was lost up to the last
shared revision, so an unlisted peer of that part was removed.  A later peer was lost, unless the log has its
leave.  The last shared revision is not always known exactly (see :mod:`.marks`); with an earlier one the node
only reads more of the log.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from ..core import ip
from ..core.times import UNSET_BEFORE
from .events import Change, Event
from .marks import Position, agree
from .models import Peer
from .view import Retained, ZoneView

# How long a lost peer stays. A day gives the operator time to start its agent or to restore the controller,
# and limits how long an unlisted machine has a tunnel.
RETAIN_SECONDS = 86_400.0

# How long after the start of an epoch the log also gets the release of a key that the zone does not list, for
# nodes that retain it; longer than RETAIN_SECONDS, since a node may have been off.
RELEASE_SECONDS = 7 * RETAIN_SECONDS


class Shared(NamedTuple):
    """The shared part of two histories: it reaches ``least`` at least and ``most`` at most; both are equal if
    its end is known exactly.
    """

    least: Position
    most: Position


@dataclass(frozen=True)
class Merged:
    """The result of :func:`merge`: the keys that are ``retained`` now, whether somebody removed this node's
    own record, and the ``shared`` part of both histories.
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
    """The shared part of the histories of two copies; least is (0, 0) if nothing is known to be shared.

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
    """``shared``, narrowed by a binary search over the marks at the positions ``known``."""
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
    """The keys of ``before`` that ``view`` does not list, which the controller may have lost."""
    rev = shared.least[1]
    return {
        key
        for key, peer in before.peers.items()
        if key not in view.peers and (peer.rev > rev or key in before.retained or key in view.rejected)
    }


def relisted(view: ZoneView, before: ZoneView, shared: Shared) -> set[str]:
    """The keys that were removed before ``before``, and that ``view``, an older copy, still lists."""
    gone = view.peers.keys() - before.peers.keys() - before.rejected.keys()
    return {key for key in gone if view.peers[key].rev <= shared.least[1] < before.rev}


def may_be_retained(epoch: int, now: float) -> bool:
    """Whether nodes may still retain a key that the zone does not list; ``epoch`` is in milliseconds."""
    return now - epoch / 1000 < RELEASE_SECONDS


def departed(events: Iterable[Event], before: ZoneView, shared: Shared) -> set[str]:
    """The keys that left, and did not come back, in the part of a log after ``shared.least``.

    Ignores a leave that both histories may have, from before ``before``'s record of the key.
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
    """Adds to the snapshot ``view`` the peers of ``before`` that the controller lost.

    ``left`` are the keys that left since, according to the log.  This node's own record is never retained: it
    requests its lease again.
    """
    if shared.least[1] >= before.rev:
        view.keep(before)
    lost = missing(view, before, shared) - set(left)
    own = before.peers.get(own_key)
    own_removed = own is not None and own_key not in view.peers and own_key not in lost
    taken = ip.networks(prefix for peer in view.peers.values() for prefix in peer.prefixes)
    for key in lost - {own_key}:
        peer = before.peers[key]
        free = tuple(prefix for prefix in peer.prefixes if ip.overlapping(taken, prefix) is None)
        view.retain(peer._replace(prefixes=free), before.retained.get(key) or Retained(before.epoch, now))
    return Merged(frozenset(lost & view.retained.keys()), own_removed, shared)


def redate(view: ZoneView, now: float, jump: float) -> None:
    """Adjusts the times of retained peers after the node's clock was set by ``jump`` seconds."""
    for key, mark in view.retained.items():
        view.retained[key] = mark._replace(since=redated(mark.since, now, jump))


def redated(since: float, now: float, jump: float) -> float:
    """When a peer was missed, by the clock ``now``, after it was set by ``jump`` seconds.

    A time of a clock that was not set yet, or that was ahead, becomes now; as long as the clock is not set,
    times of an earlier boot of the machine stay.
    """
    before = now - jump
    of_this_clock = since <= before and (since >= UNSET_BEFORE or before < UNSET_BEFORE)
    if of_this_clock:
        return since + jump
    return since if now < UNSET_BEFORE or UNSET_BEFORE <= since <= now else now


def expired(view: ZoneView, now: float) -> set[str]:
    """The retained peers whose time is over.

    A peer that the zone lists with an invalid record stays, as it does without a loss.
    """
    return {
        key
        for key, mark in view.retained.items()
        if now - mark.since >= RETAIN_SECONDS and key not in view.rejected
    }
