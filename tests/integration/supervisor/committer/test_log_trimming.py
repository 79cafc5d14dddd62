# SPDX-License-Identifier: GPL-3.0-or-later
"""The log of a zone on a real Redis: trimmed by its memory and by its age."""

from __future__ import annotations

import pytest

from jaywalk.zone.redis_keys import ZoneKeys
from jaywalk_supervisor.committer import log_trimming
from jaywalk_supervisor.committer.log_trimming import LOG_SECONDS, MARK_SECONDS, LogTrimmer
from jaywalk_supervisor.state.zone_state import ZoneState
from jaywalk_supervisor.store.store import Store
from tests.supervisor_support import BLUE

KEYS = ZoneKeys("zone-blue")


@pytest.fixture
def state(store: Store) -> ZoneState:
    store.create(BLUE)
    return store.load("zone-blue")


def commit(store: Store, state: ZoneState, size: int) -> None:
    """Adds an entry of about ``size`` bytes as a commit does."""
    state.rev += 1
    store.redis.xadd(KEYS.events, {"o": "x" * size}, id=state.stream_id)


def test_a_log_of_large_commits_is_cut_to_its_bytes_and_keeps_the_newest(
    store: Store, state: ZoneState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_trimming, "LOG_BYTES", 1_000_000)
    bound = LogTrimmer()
    for size in (200, 20_000, 500):
        for _ in range(100):
            commit(store, state, size)
            bound.record_written("zone-blue", size)
            bound.trim(store.redis, [state], 0.0)
            assert store.redis.memory_usage(KEYS.events, samples=0) < 1_200_000
        assert store.redis.xrevrange(KEYS.events, count=1)[0][0] == state.stream_id
    assert store.redis.xlen(KEYS.events) > 100, "small ones stay in greater number"


def test_a_small_log_is_not_even_measured(store: Store, state: ZoneState) -> None:
    bound = LogTrimmer()
    bound.trim(store.redis, [state], 0.0)
    store.redis.config_resetstat()
    for second in range(20):
        bound.record_written("zone-blue", 100)
        bound.trim(store.redis, [state], float(second))
    assert "cmdstat_memory|usage" not in store.redis.info("commandstats")


def test_events_go_when_their_time_is_over(store: Store, state: ZoneState) -> None:
    bound = LogTrimmer()
    for number in range(300):
        commit(store, state, 100)
        if number == 199:
            bound.trim(store.redis, [state], 0.0)
    bound.trim(store.redis, [state], MARK_SECONDS)
    bound.trim(store.redis, [state], LOG_SECONDS - 1)
    assert store.redis.xlen(KEYS.events) == 300
    bound.trim(store.redis, [state], LOG_SECONDS + 1)
    assert store.redis.xlen(KEYS.events) == 100
    bound.trim(store.redis, [state], LOG_SECONDS + MARK_SECONDS + 1)
    assert store.redis.xlen(KEYS.events) == 0
    store.redis.config_resetstat()
    bound.trim(store.redis, [state], 9 * LOG_SECONDS)
    assert "cmdstat_xtrim" not in store.redis.info("commandstats"), "an idle zone costs nothing"


def test_a_follower_behind_a_cut_log_reads_the_zone_anew(store: Store, state: ZoneState) -> None:
    behind = store.load("zone-blue")
    commit(store, state, 100)
    commit(store, state, 100)
    store.redis.hset(KEYS.meta, "rev", state.rev)
    store.redis.xtrim(KEYS.events, maxlen=0, approximate=False)
    assert store.catch_up(behind).stream_id == state.stream_id
