# SPDX-License-Identifier: GPL-3.0-or-later
"""The clock that all supervisors share, with readings set by the test instead of real clocks."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import pytest

from jaywalk_supervisor.monitoring import clock as clock_module
from jaywalk_supervisor.monitoring.clock import GAP_SECONDS, SharedClock, Timekeeper
from jaywalk_supervisor.monitoring.health import Health

REDIS_EPOCH = 1_700_000_000.0


@dataclass
class Clocks:
    """Readings of a machine's clocks and of Redis's; ``delay`` is the duration of Redis's answer."""

    carrier: float = 500.0
    wall: float = REDIS_EPOCH
    redis: float = REDIS_EPOCH
    delay: float = 0.0

    def pass_time(self, seconds: float) -> None:
        self.carrier += seconds
        self.wall += seconds
        self.redis += seconds

    def redis_time(self) -> float:
        told = self.redis
        self.pass_time(self.delay)
        return told

    def shared(self) -> SharedClock:
        return SharedClock(lambda: self.carrier, lambda: self.wall)


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


def test_it_goes_on_between_two_looks_whatever_the_wall_clock_does(clocks: Clocks) -> None:
    clock = clocks.shared()
    assert clock.update(clocks.redis_time) == 0
    clocks.pass_time(10)
    clocks.wall += 86_400
    assert clock.now() == REDIS_EPOCH + 10
    assert clock.update(clocks.redis_time) == 0
    assert clock.skew == 86_400


def test_drift_is_followed_and_never_puts_it_back(clocks: Clocks) -> None:
    clock = clocks.shared()
    clock.update(clocks.redis_time)
    latest = clock.now()
    for drift in (1.5, -0.5, -2.0, 0.1):
        clocks.redis += drift
        assert clock.update(clocks.redis_time) == 0
        assert clock.now() >= latest
        clocks.pass_time(1)
        assert clock.now() == pytest.approx(max(latest, clocks.redis))
        latest = clock.now()


@pytest.mark.parametrize("jump", [86_400.0, -2 * 86_400.0, 6.0, -6.0])
def test_a_jump_of_redis_is_noticed_once_and_followed_at_once(clocks: Clocks, jump: float) -> None:
    clock = clocks.shared()
    clock.update(clocks.redis_time)
    clock.now()
    clocks.redis += jump
    assert clock.update(clocks.redis_time) == pytest.approx(jump)
    assert clock.now() == pytest.approx(clocks.redis)
    assert clock.update(clocks.redis_time) == 0


def test_an_answer_that_takes_long_is_no_jump(clocks: Clocks) -> None:
    clock = clocks.shared()
    clock.update(clocks.redis_time)
    clocks.delay = 20.0
    assert clock.update(clocks.redis_time) == 0
    assert clock.now() == pytest.approx(clocks.redis)
    clocks.redis += 100.0
    assert clock.update(clocks.redis_time) >= 100 - clocks.delay


def timekeeper(clocks: Clocks, health: Health) -> Timekeeper:
    return Timekeeper(health, clocks.shared())


def test_a_wall_clock_that_is_off_is_said_once_and_when_it_is_right_again(
    clocks: Clocks, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    health = Health()
    keeper = timekeeper(clocks, health)
    clocks.wall += 59
    keeper.update(clocks.redis_time)
    assert not keeper.is_off
    clocks.wall -= 59 + 3600
    for _ in range(3):
        keeper.update(clocks.redis_time)
        assert keeper.is_off
    assert health.clock_error.startswith("this machine's clock is 3600 seconds behind the controller's")
    assert health.clock_skew == -3600
    clocks.wall += 3600
    keeper.update(clocks.redis_time)
    assert (health.clock_error, keeper.is_off) == ("", False)
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


def test_a_halt_is_noticed_once_and_not_across_sessions(
    clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock_module, "elapsed", lambda: clocks.carrier)
    keeper = timekeeper(clocks, Health())
    keeper.start_session()
    assert not keeper.was_suspended()
    clocks.pass_time(GAP_SECONDS - 1)
    assert not keeper.was_suspended()
    clocks.pass_time(GAP_SECONDS + 1)
    assert keeper.was_suspended()
    assert not keeper.was_suspended()
    clocks.pass_time(3600)
    keeper.start_session()
    assert not keeper.was_suspended()
