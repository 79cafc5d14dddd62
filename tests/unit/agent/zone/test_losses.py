# SPDX-License-Identifier: GPL-3.0-or-later
"""How long lost peers stay on a node whose clock is set meanwhile, or was never set."""

from __future__ import annotations

import pytest

from jaywalk.zone.retention import RETAIN_SECONDS
from jaywalk.zone.view import Retained, ZoneView
from jaywalk_agent.host.wall_clock import WallClock
from jaywalk_agent.zone.losses import end_retention
from tests.agent_support import peer, view_of

DAY = 86_400.0
NOON = 1_800_000_000.0


class Machine:
    """A node's two clocks: ``wall`` is set by people and NTP, ``up`` only goes on."""

    def __init__(self, wall: float) -> None:
        self.wall, self.up = wall, 100.0
        self.clock = WallClock(lambda: self.wall, lambda: self.up)

    def passes(self, seconds: float) -> None:
        self.wall, self.up = self.wall + seconds, self.up + seconds

    def keeps(self, view: ZoneView) -> bool:
        end_retention(view, self.clock)
        return bool(view.retained)


def missed_at(since: float) -> ZoneView:
    view = view_of(peer(1))
    view.retained[peer(1).key] = Retained(7, since)
    return view


@pytest.mark.parametrize("jump", [0.0, DAY, -DAY, 30 * DAY, -NOON])
def test_a_lost_peer_stays_for_a_day_however_the_clock_is_set(jump: float) -> None:
    machine = Machine(NOON)
    view = missed_at(NOON)
    machine.passes(RETAIN_SECONDS / 2)
    assert machine.keeps(view)
    machine.wall += jump
    assert machine.keeps(view)
    machine.passes(RETAIN_SECONDS / 2 - 60)
    assert machine.keeps(view)
    machine.passes(61)
    assert not machine.keeps(view)


def test_a_board_that_starts_in_1970_goes_by_its_old_mark_once_its_clock_is_set() -> None:
    view = missed_at(NOON)
    machine = Machine(30.0)
    machine.passes(60)
    assert machine.keeps(view)
    machine.wall = NOON + DAY / 2
    assert machine.keeps(view)
    machine.passes(DAY / 2 + 1)
    assert not machine.keeps(view)


def test_a_peer_that_was_missed_before_the_clock_was_set_stays_for_a_day_after_it() -> None:
    view = missed_at(50.0)
    machine = Machine(90.0)
    assert machine.keeps(view)
    machine.wall = NOON
    machine.passes(DAY - 60)
    assert machine.keeps(view)
    machine.passes(61)
    assert not machine.keeps(view)


@pytest.mark.parametrize("since", [50.0, NOON + 300 * DAY])
def test_a_mark_that_no_right_clock_wrote_counts_from_the_start(since: float) -> None:
    view = missed_at(since)
    machine = Machine(NOON)
    assert machine.keeps(view)
    machine.passes(DAY - 1)
    assert machine.keeps(view)
    machine.passes(2)
    assert not machine.keeps(view)
