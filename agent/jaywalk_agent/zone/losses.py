# SPDX-License-Identifier: GPL-3.0-or-later
"""Logs that a controller lost records that this node has, and ends their retention."""

from __future__ import annotations

import logging
from collections.abc import Collection

from jaywalk.zone.retention import RETAIN_SECONDS, Merged, expired, redate, relisted
from jaywalk.zone.view import ZoneView

from ..host.wall_clock import WallClock

log = logging.getLogger(__name__)

# Peers that a log line names.
MAX_NAMES = 3


def log_losses(view: ZoneView, before: ZoneView, merged: Merged) -> None:
    """Logs which peers of ``before`` the snapshot ``view`` lacks, and which it lists again."""
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
    """Corrects when peers were lost if the wall clock was set; returns the time now."""
    now, jump = clock.check()
    redate(view, now, jump)
    return now


def end_retention(view: ZoneView, clock: WallClock) -> None:
    """Removes the peers that the controller lost and that did not join again in time."""
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


def end_unsigned(view: ZoneView, own_key: str) -> None:
    """Removes the peers whose signed statements ended meanwhile; the update log says why."""
    if ended := view.drop_unsigned(own_key):
        log.warning("what the lock key of zone %s signed ended for %d peers", view.zone.name, len(ended))


def _named(view: ZoneView, keys: Collection[str]) -> str:
    """The names of the first few of ``keys``."""
    names = sorted(view.peers[key].name for key in keys)
    return ", ".join(names[:MAX_NAMES]) + (", ..." if len(names) > MAX_NAMES else "")
