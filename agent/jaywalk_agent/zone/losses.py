# SPDX-License-Identifier: GPL-3.0-or-later
"""What the log says of a controller that came back with less than this node knows, and the end of that."""

from __future__ import annotations

import logging
from collections.abc import Collection

from jaywalk.zone.retention import RETAIN_SECONDS, Merged, expired, redate, relisted
from jaywalk.zone.view import ZoneView

from ..host.wall_clock import WallClock

log = logging.getLogger(__name__)

NAMED = 3
"""Peers that a line of the log names."""


def tell(view: ZoneView, before: ZoneView, merged: Merged) -> None:
    """Says what of ``before`` the snapshot ``view`` lacks, and what it lists again."""
    if lost := merged.retained - before.retained.keys():
        log.warning(
            "the controller lost %d peers of zone %s that this node knows from epoch %d: they stay in "
            "force until they join again, an operator releases them, or %g hours are over",
            len(lost),
            view.zone.name,
            before.epoch,
            RETAIN_SECONDS / 3600,
        )
    if again := relisted(view, before, merged.shared):
        log.warning(
            "the controller of zone %s was put back to an older copy, which still lists %d peers that "
            "had left or been removed since: release again those that are not to come back: %s",
            view.zone.name,
            len(again),
            _named(view, again),
        )


def follow_clock(view: ZoneView, clock: WallClock) -> float:
    """Counts for retained peers the time that really went by; returns the time now."""
    now, jump = clock.check()
    redate(view, now, jump)
    return now


def end_retention(view: ZoneView, clock: WallClock) -> None:
    """Lets go of the peers that the controller lost and that did not come back in time."""
    if over := expired(view, follow_clock(view, clock)):
        names = _named(view, over)
        view.drop_retained(over)
        log.warning(
            "removed %d peers of zone %s that the controller lost %g hours ago and that did not join "
            "again: %s",
            len(over),
            view.zone.name,
            RETAIN_SECONDS / 3600,
            names,
        )


def _named(view: ZoneView, keys: Collection[str]) -> str:
    """The names of the first few of ``keys``."""
    names = sorted(view.peers[key].name for key in keys)
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
