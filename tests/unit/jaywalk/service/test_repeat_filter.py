# SPDX-License-Identifier: GPL-3.0-or-later
"""A sentence is logged at once, and again after an hour with how often it came."""

from __future__ import annotations

from jaywalk.service.repeat_filter import MAX_REMEMBERED, PERIOD_SECONDS, RepeatFilter


def test_what_repeats_is_logged_once_an_hour_with_a_count() -> None:
    repeats = RepeatFilter()
    assert repeats.news(["peer x", "peer y"], 0.0) == ["peer x", "peer y"]
    for minute in range(1, 60):
        assert repeats.news(["peer x"], minute * 60.0) == []
    assert repeats.news(["peer x", "peer y"], PERIOD_SECONDS) == [
        "peer x (59 more times since the last such line)",
        "peer y",
    ]
    assert repeats.news(["peer x"], PERIOD_SECONDS + 60) == []


def test_it_remembers_a_bounded_number() -> None:
    repeats = RepeatFilter()
    repeats.news([str(number) for number in range(MAX_REMEMBERED + 1)], 0.0)
    assert repeats.news(["0", str(MAX_REMEMBERED)], 1.0) == ["0"]


def test_what_came_longest_ago_is_forgotten_first() -> None:
    repeats = RepeatFilter(max_remembered=3)
    assert [repeats.suppressed_count(subject, "no", 0.0) for subject in (1, 2, 3, 4)] == [0, 0, 0, 0]
    assert [repeats.suppressed_count(subject, "no", 0.0) for subject in (4, 3, 2, 1)] == [None, None, None, 0]
