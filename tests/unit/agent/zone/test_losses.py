# SPDX-License-Identifier: GPL-3.0-or-later
"""How long lost peers are retained on a node whose clock is set meanwhile, or was never set."""

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
    """A node's two clocks: people and NTP set ``wall``, and ``up`` is monotonic."""

    def __init__(self, wall: float) -> None:
        self.wall, self.up = wall, 100.0
        self.clock = WallClock(lambda: self.wall, lambda: self.up)

    def wait(self, seconds: float) -> None:
        self.wall, self.up = self.wall + seconds, self.up + seconds

    def retains(self, view: ZoneView) -> bool:
        end_retention(view, self.clock)
        return bool(view.retained)


def lost_at(since: float) -> ZoneView:
    view = view_of(peer(1))
    view.retained[peer(1).key] = Retained(7, since)
    return view


@pytest.mark.parametrize("jump", [0.0, DAY, -DAY, 30 * DAY, -NOON])
def test_a_lost_peer_is_retained_for_a_day_however_the_clock_is_set(jump: float) -> None:
    machine = Machine(NOON)
    view = lost_at(NOON)
    machine.wait(RETAIN_SECONDS / 2)
    assert machine.retains(view)
    machine.wall += jump
    assert machine.retains(view)
    machine.wait(RETAIN_SECONDS / 2 - 60)
    assert machine.retains(view)
    machine.wait(61)
    assert not machine.retains(view)


def test_on_a_board_that_starts_in_1970_the_time_of_the_loss_counts_once_its_clock_is_set() -> None:
    view = lost_at(NOON)
    machine = Machine(30.0)
    machine.wait(60)
    assert machine.retains(view)
    machine.wall = NOON + DAY / 2
    assert machine.retains(view)
    machine.wait(DAY / 2 + 1)
    assert not machine.retains(view)


def test_a_peer_that_was_lost_before_the_clock_was_set_is_retained_for_a_day_after_that() -> None:
    view = lost_at(50.0)
    machine = Machine(90.0)
    assert machine.retains(view)
    machine.wall = NOON
    machine.wait(DAY - 60)
    assert machine.retains(view)
    machine.wait(61)
    assert not machine.retains(view)


@pytest.mark.parametrize("since", [50.0, NOON + 300 * DAY])
def test_a_time_that_no_correct_clock_wrote_counts_from_the_start(since: float) -> None:
    view = lost_at(since)
    machine = Machine(NOON)
    assert machine.retains(view)
    machine.wait(DAY - 1)
    assert machine.retains(view)
    machine.wait(2)
    assert not machine.retains(view)
