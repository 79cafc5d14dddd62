# SPDX-License-Identifier: GPL-3.0-or-later
"""Repairs: at once for what happens now and then, ever more seldom for what somebody keeps undoing."""

from __future__ import annotations

from jaywalk_agent.dataplane.repair_backoff import CALM_SECONDS, MAX_PAUSE_SECONDS, MAX_REPAIRS, RepairBackoff

GONE = ("interface wg0 was gone",)


def undone_at_once(backoff: RepairBackoff, start: float, end: float) -> list[float]:
    """The moments of the repairs, where each is undone the moment after."""
    moments, now = [], start
    while now < end:
        moments.append(now)
        backoff.repaired("wg0", GONE, now)
        now = max(now, backoff.next)
    return moments


def test_what_is_undone_at_once_is_repaired_ever_more_seldom() -> None:
    moments = undone_at_once(RepairBackoff(), 100.0, 400.0)
    pauses = [later - earlier for earlier, later in zip(moments, moments[1:], strict=False)]
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert max(pauses) == MAX_PAUSE_SECONDS


def test_what_happens_now_and_then_is_repaired_at_once_each_time() -> None:
    backoff = RepairBackoff()
    for now in (100.0, 102.5, 105.0, 107.5, 110.0):
        assert backoff.next <= now
        backoff.repaired("wg0", GONE, now)
    assert backoff.complaint == ""


def test_one_accident_after_the_other_is_no_program_at_work() -> None:
    backoff = RepairBackoff()
    for number in range(6):
        backoff.repaired("wg0", (f"route 172.20.{number}.0/24 was gone",), 100.0 + number)
        assert backoff.next == 101.0 + number
    assert backoff.complaint == ""


def test_what_happens_again_and_again_is_complained_of_and_repaired_at_once_all_the_same() -> None:
    backoff = RepairBackoff()
    for number in range(MAX_REPAIRS):
        assert backoff.complaint == ""
        assert backoff.next <= 100.0 + 3 * number
        backoff.repaired("wg0", GONE, 100.0 + 3 * number)
    assert "20 times in 57 s" in backoff.complaint


def test_who_keeps_undoing_it_is_complained_of_in_one_sentence_that_stays_the_same() -> None:
    backoff = RepairBackoff()
    undone_at_once(backoff, 100.0, 104.0)
    assert backoff.complaint == ""
    undone_at_once(backoff, 107.0, 108.0)
    complaint = backoff.complaint
    assert "something keeps changing wg0: interface wg0 was gone, 4 times in 7 s" in complaint
    undone_at_once(backoff, 115.0, 116.0)
    assert backoff.complaint == complaint


def test_after_some_calm_all_is_forgotten() -> None:
    backoff = RepairBackoff()
    undone_at_once(backoff, 100.0, 108.0)
    assert backoff.complaint
    assert not backoff.calm(backoff.last + CALM_SECONDS - 1)
    assert backoff.calm(backoff.last + CALM_SECONDS)
    backoff.repaired("wg0", GONE, 1000.0)
    assert (backoff.count, backoff.complaint, backoff.next) == (1, "", 1001.0)


def test_a_try_that_failed_is_repeated_ever_more_seldom_and_counts_as_no_repair() -> None:
    backoff, moments, now = RepairBackoff(), [], 100.0
    for _ in range(4):
        moments.append(now)
        backoff.tried(now)
        now = backoff.next
    assert moments == [100, 101, 103, 107]
    assert backoff.count == 0
