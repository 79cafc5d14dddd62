# SPDX-License-Identifier: GPL-3.0-or-later
"""Silence and quarantines after a committer starts or is suspended, or clocks jump."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from jaywalk.zone.patch import ZonePatch
from jaywalk.zone.policy import Policy
from jaywalk.zone.redis_keys import ZoneKeys
from jaywalk.zone.requests import Reply, Request
from jaywalk_supervisor.admin import zones
from jaywalk_supervisor.committer.committer import Committer
from jaywalk_supervisor.monitoring import clock as clock_module
from jaywalk_supervisor.monitoring.clock import SharedClock, elapsed
from jaywalk_supervisor.store.store import Store
from tests.redis_server import RedisServer
from tests.replies import read_reply
from tests.supervisor_support import BLUE, join, key_of

KEYS = ZoneKeys("zone-blue")
DAY = 86_400.0
WHILE = 2 * Policy().stale_after
# A live node, one that left a moment ago, and one that requests the addresses of both.
LIVE, GONE, GREEDY = 1, 2, 3


class Hour(Store):
    """A store whose Redis clock is a number of seconds ahead of the real one."""

    ahead = 0.0

    def time(self, zone: str = "") -> float:
        return super().time(zone) + self.ahead


def carried() -> float:
    """Returns the machine's clock as the test has set it."""
    return clock_module.elapsed()


@pytest.fixture
def hour(store: Store) -> Hour:
    """The zone has the policy 'stale'."""
    opened = Hour(store.redis, store.where)
    store.create(BLUE)
    zones.change(store, "zone-blue", ZonePatch(takeover="stale"))
    return opened


@pytest.fixture
def start(redis_server: RedisServer, hour: Hour) -> Callable[[], Committer]:
    """Starts a committer whose monotonic clock runs with Redis's clock."""

    def made() -> Committer:
        clock = SharedClock(carried)
        committer = Committer(redis_server.address, "", (), threading.Event(), clock=clock)
        committer._refresh(hour)
        committer.health.led = frozenset(["zone-blue"])
        return committer

    return made


def ask(committer: Committer, hour: Hour, request: Request) -> Reply:
    """Returns a running committer's answer; it checks for a suspension before it serves."""
    hour.redis.rpush(KEYS.inbox, request.to_wire())
    committer._serve_next(hour)
    found = read_reply(hour.redis, KEYS, request.nonce)
    assert found is not None
    return found


def populate(committer: Committer, hour: Hour) -> None:
    for number in (LIVE, GONE):
        assert ask(committer, hour, join("zone-blue", number)).ok
    assert ask(committer, hour, Request.validated("leave", "zone-blue", key_of(GONE))).ok


def refusals(committer: Committer, hour: Hour) -> list[str]:
    """Returns the refusals of the live node's address and of the address of the node that left."""
    wishes = [join("zone-blue", GREEDY, request_ip=[f"10.20.0.{number}"]) for number in (LIVE, GONE)]
    return [ask(committer, hour, wish).code for wish in wishes]


NOTHING_IS_GIVEN = ["address-taken", "address-quarantined"]


def test_a_wrong_clock_of_this_machine_ends_no_quarantine_and_silences_nobody(
    hour: Hour, start: Callable[[], Committer], monkeypatch: pytest.MonkeyPatch
) -> None:
    committer = start()
    populate(committer, hour)
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + DAY / 2)
    assert refusals(committer, hour) == NOTHING_IS_GIVEN


def test_a_clock_of_redis_that_is_set_ahead_ends_no_quarantine_and_silences_nobody(
    hour: Hour, start: Callable[[], Committer]
) -> None:
    committer = start()
    populate(committer, hour)
    hour.ahead = DAY
    committer._refresh(hour)
    assert refusals(committer, hour) == NOTHING_IS_GIVEN


def test_who_was_halted_has_heard_nobody_meanwhile(
    hour: Hour, start: Callable[[], Committer], monkeypatch: pytest.MonkeyPatch
) -> None:
    committer = start()
    populate(committer, hour)
    hour.ahead = WHILE
    monkeypatch.setattr(clock_module, "elapsed", lambda: elapsed() + WHILE)
    assert refusals(committer, hour) == NOTHING_IS_GIVEN


def test_who_starts_has_heard_nobody_before(hour: Hour, start: Callable[[], Committer]) -> None:
    populate(start(), hour)
    hour.ahead = WHILE
    assert refusals(start(), hour) == NOTHING_IS_GIVEN
