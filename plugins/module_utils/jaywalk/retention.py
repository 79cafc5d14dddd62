# SPDX-License-Identifier: GPL-3.0-or-later
"""Peers that a controller lost stay in force: the pure merge of a fresh snapshot with the copy before it.

A Redis that was emptied or put back to an older state lists fewer peers than the node knows.  Which of the
others were removed on purpose, and which were lost, follows from the histories of the two copies: up to the
last revision that both share nothing was lost, so that a peer of that part that is not listed was removed.
A peer that came later was lost, unless the log says since then that it left.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from . import values
from .zonelog import Event, Retained, ZoneView

RETAIN_SECONDS = 86_400.0
"""How long a peer that the zone lost stays in force.  A day gives whoever is on call time to start its agent
or to restore the controller, and bounds how long a machine that nobody lists has a tunnel."""

RELEASE_SECONDS = 7 * RETAIN_SECONDS
"""How long after the start of an epoch the release of a key that the zone does not list goes into the log all
the same, for nodes that retain it; longer than such a peer stays, since a node may have been off."""

Place = tuple[int, int]
"""An epoch and a revision in it."""


@dataclass(frozen=True)
class Merged:
    """What :func:`merge` came to: the keys that are ``retained`` from now on, and whether this node's own
    record is gone because somebody removed it.
    """

    retained: frozenset[str]
    own_removed: bool


def shared_place(view: ZoneView, before: ZoneView) -> Place:
    """The last revision that both copies have, with its epoch; (0, 0) where their logs share nothing."""
    ours = dict(view.history) | {view.epoch: view.rev}
    theirs = dict(before.history) | {before.epoch: before.rev}
    shared = max(ours.keys() & theirs.keys(), default=None)
    return (0, 0) if shared is None else (shared, min(ours[shared], theirs[shared]))


def missing(view: ZoneView, before: ZoneView) -> set[str]:
    """The keys of ``before`` that ``view`` does not list, and may have lost."""
    shared = shared_place(view, before)[1]
    return {
        key
        for key, peer in before.peers.items()
        if key not in view.peers and (peer.rev > shared or key in before.retained or key in view.rejected)
    }


def relisted(view: ZoneView, before: ZoneView) -> set[str]:
    """The keys that were removed as ``before`` knows, and that ``view``, an older copy, still lists."""
    shared = shared_place(view, before)[1]
    gone = view.peers.keys() - before.peers.keys() - before.rejected.keys()
    return {key for key in gone if view.peers[key].rev <= shared < before.rev}


def may_be_retained(epoch: int, now: float) -> bool:
    """Whether nodes may still retain a key that the zone does not list; ``epoch`` is in milliseconds."""
    return now - epoch / 1000 < RELEASE_SECONDS


def departed(events: Collection[Event]) -> set[str]:
    """The keys that left last, and did not come back, in a part of a log."""
    last = {change.key: change.sign for event in events for change in event.changes if change.sign != "="}
    return {key for key, sign in last.items() if sign == "-"}


def merge(view: ZoneView, before: ZoneView, left: Collection[str], own_key: str, now: float) -> Merged:
    """Takes into the snapshot ``view`` what ``before`` knows and the controller lost.

    ``left`` are keys that left since the place that both share, as the log says.  This node's own record is
    never retained: it asks for its place again.
    """
    if shared_place(view, before)[1] >= before.rev:
        view.keep(before)
    lost = missing(view, before) - set(left)
    own = before.peers.get(own_key)
    own_removed = own is not None and own_key not in view.peers and own_key not in lost
    taken = values.networks(prefix for peer in view.peers.values() for prefix in peer.prefixes)
    for key in lost - {own_key}:
        peer = before.peers[key]
        free = tuple(each for each in peer.prefixes if values.overlapping(taken, each) is None)
        view.retain(peer._replace(prefixes=free), before.retained.get(key) or Retained(before.epoch, now))
    return Merged(frozenset(lost & view.retained.keys()), own_removed)


def expired(view: ZoneView, now: float) -> set[str]:
    """The retained peers whose time is over.

    One that the zone lists with a record that cannot be believed stays, as it does without a loss.
    """
    return {
        key
        for key, mark in view.retained.items()
        if now - mark.since >= RETAIN_SECONDS and key not in view.rejected
    }
