# SPDX-License-Identifier: GPL-3.0-or-later
"""Marks of revisions: each commit has a random mark, which distinguishes two histories of one zone.

A running Redis may be put back to an older copy and continue from there, so that two commits have the same
revision.  The newest mark is in ``{zone}:meta``; each event names the mark before it and its own.  Data of an
older version has no mark: an unknown mark equals every other.  Pure.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ..core.errors import InvalidValue

MARK = re.compile(r"[0-9a-f]{8,32}")
EPOCH = re.compile(r"[0-9]{1,18}")
# An epoch or a revision in canonical spelling: scripts in Redis compare the texts, and Lua's numbers are
# exact up to 2^53.
NUMBER = re.compile(r"0|[1-9][0-9]{0,14}")
# Revisions are below this limit, which matches NUMBER.
REV_LIMIT = 10**15
# Beyond this number a reader drops some marks.
MAX_MARKS = 256
# (age in revisions, interval): up to which age a reader remembers each mark, each 64th and each 4,096th.
MARK_INTERVALS = ((64, 1), (4096, 64), (262_144, 4096))

# An epoch and a revision in it; both only grow along one history.
Position = tuple[int, int]


def readable(text: str | None) -> str:
    """A mark in Redis; empty, which means unknown, if it is invalid."""
    return text if text and MARK.fullmatch(text) else ""


def number(text: str) -> int:
    """Parses an epoch or a revision of ``{zone}:meta``; raises ``ValueError``."""
    if not NUMBER.fullmatch(text):
        raise ValueError(f"{text[:32]!r} is no number of a zone's history")
    return int(text)


def agree(one: str, other: str) -> bool:
    """Whether two marks of one revision may belong to the same history."""
    return one == other or not one or not other


def remember(marks: dict[Position, str], position: Position, mark: str) -> None:
    """Adds the newest mark, and drops older ones with increasing intervals."""
    if not mark:
        return
    marks[position] = mark
    if len(marks) > MAX_MARKS:
        for known in list(marks):
            if not _is_kept(known[1], position[1] - known[1]):
                del marks[known]


def _is_kept(rev: int, age: int) -> bool:
    return any(age < bound and rev % step == 0 for bound, step in MARK_INTERVALS)


class Head(NamedTuple):
    """The position of a zone's history, or of a reader, with its mark; ``mark`` is empty if unknown."""

    epoch: int
    rev: int
    mark: str = ""

    @classmethod
    def from_fields(cls, epoch: str, rev: str, mark: str | None) -> Head:
        """Reads fields of ``{zone}:meta``; raises ``InvalidValue``."""
        try:
            return cls(number(epoch), number(rev), readable(mark))
        except ValueError:
            raise InvalidValue("the position of the zone does not parse", "restore its meta data") from None

    @property
    def position(self) -> Position:
        return self.epoch, self.rev

    def is_before(self, known: Head) -> bool:
        """Whether a history with this head lacks ``known``: Redis went back, or the history forked."""
        return self.position < known.position or (
            self.position == known.position and not agree(self.mark, known.mark)
        )

    def __str__(self) -> str:
        return f"{self.epoch}-{self.rev}" + (f" ({self.mark})" if self.mark else "")


def marks_of(text: str) -> dict[int, str]:
    """The last mark of each epoch before, from ``meta.marks`` (words ``<epoch>-<mark>``)."""
    words = (word.partition("-") for word in text.split())
    return {int(epoch): mark for epoch, _dash, mark in words if EPOCH.fullmatch(epoch) and readable(mark)}
