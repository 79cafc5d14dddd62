# SPDX-License-Identifier: GPL-3.0-or-later
"""Marks tell two histories apart, and what has none is taken as it always was."""

from __future__ import annotations

import pytest

from jaywalk.core.errors import InvalidValue
from jaywalk.zone.marks import MAX_MARKS, Head, agree, marks_of, readable, remember

ONE, OTHER = "0123456789ab", "ba9876543210"


def test_what_is_no_mark_is_unknown_and_equals_all() -> None:
    assert [readable(text) for text in (ONE, None, "", "xyz", "abc", ONE * 4)] == [ONE, "", "", "", "", ""]
    assert agree(ONE, ONE) and agree(ONE, "") and agree("", OTHER)
    assert not agree(ONE, OTHER)


@pytest.mark.parametrize(
    ("head", "before"),
    [
        (Head(5, 10, ONE), False),
        (Head(5, 10), False),
        (Head(5, 11, OTHER), False),
        (Head(6, 1, OTHER), False),
        (Head(5, 10, OTHER), True),
        (Head(5, 9, ONE), True),
        (Head(4, 99), True),
    ],
)
def test_a_history_went_back_where_it_lacks_what_is_known(head: Head, before: bool) -> None:
    assert head.is_before(Head(5, 10, ONE)) == before


def test_a_reader_remembers_old_marks_ever_more_sparsely() -> None:
    marks: dict[tuple[int, int], str] = {}
    for rev in range(1, 20_000):
        remember(marks, (7, rev), f"{rev:012x}")
        assert len(marks) <= MAX_MARKS
    known = {rev for _, rev in marks}
    assert known >= set(range(19_936, 20_000))
    assert known >= {16_384, 12_288, 8_192, 4_096}
    assert all(mark == f"{rev:012x}" for (_, rev), mark in marks.items())


def test_an_unknown_mark_is_not_remembered() -> None:
    marks: dict[tuple[int, int], str] = {}
    remember(marks, (7, 1), "")
    assert not marks


def test_the_marks_of_epochs_before_are_read_as_far_as_they_parse() -> None:
    assert marks_of(f"5-{ONE} 6-x nothing 7-{OTHER}") == {5: ONE, 7: OTHER}


@pytest.mark.parametrize("fields", [("x", "1"), ("1", ""), ("1", "1.5")])
def test_a_position_that_does_not_parse_is_an_error(fields: tuple[str, str]) -> None:
    with pytest.raises(InvalidValue):
        Head.from_fields(*fields, ONE)
