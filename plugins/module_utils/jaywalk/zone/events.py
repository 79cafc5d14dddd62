# SPDX-License-Identifier: GPL-3.0-or-later
"""Events of a zone's log: entries of ``{zone}:events``, whose ids are ``<epoch>-<rev>``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from ..core.errors import InvalidValue, JaywalkError
from . import codec
from .marks import Head, agree, readable

MAX_WAIT_MS = 60_000


class Gap(JaywalkError):
    """The log does not go on where the reader stands: take a snapshot."""


class Fork(Gap):
    """Redis holds another history than the one that the reader followed: it was put back to an older copy."""


@dataclass
class Change:
    """One line of an event: ``+`` a peer is there or differs, ``-`` it left, ``=`` only its lease changed.

    Not frozen, since every node makes one of each, and that takes twice as long.
    """

    sign: str
    key: str
    record: dict[str, object] | None = None

    @cached_property
    def text(self) -> str:
        """The record as JSON, which the event and the hash of the records both hold; empty for none."""
        return "" if self.record is None else codec.compact(self.record)

    def to_wire(self) -> str:
        """The line as JSON; nothing in a key needs an escape there."""
        return f'["{self.sign}","{self.key}",{self.text}]' if self.text else f'["{self.sign}","{self.key}"]'

    @classmethod
    def from_wire(cls, line: object) -> Change:
        if isinstance(line, list) and len(line) in (2, 3) and line[0] in ("+", "-", "="):
            record = line[2] if len(line) == 3 else None
            if isinstance(line[1], str) and (record is None or isinstance(record, dict)):
                return cls(line[0], line[1], record)
        raise InvalidValue("an event of the zone holds a change that is none")


class Event(NamedTuple):
    """One entry of the log: a commit's changes, the bump to a new epoch after Redis restarted, or the
    word that the zone itself was changed, which supervisors then read anew.

    ``mark`` is its own and ``previous_mark`` that of the revision before (see :mod:`.marks`).
    """

    epoch: int
    rev: int
    changes: tuple[Change, ...] = ()
    wait_ms: int | None = None
    previous_epoch: int | None = None
    zone_changed: bool = False
    mark: str = ""
    previous_mark: str = ""

    @classmethod
    def from_entry(cls, entry_id: str, fields: Mapping[str, str]) -> Event:
        """Reads a stream entry.

        Its fields: ``o`` (JSON list of changes), ``w`` (wait_ms), ``prev`` (a bump), ``zone`` (changed),
        ``m`` (the mark before and its own).
        """
        try:
            epoch, rev = map(int, entry_id.split("-"))
            wait = wait_of(fields["w"]) if "w" in fields else None
            previous = int(fields["prev"]) if "prev" in fields else None
            changes = codec.decoded(fields.get("o", "[]"))
        except (ValueError, RecursionError):
            raise InvalidValue(f"the event {entry_id} of the zone does not parse") from None
        if not isinstance(changes, list):
            raise InvalidValue(f"the event {entry_id} of the zone holds no list of changes")
        parsed = tuple(map(Change.from_wire, changes))
        before, _blank, own = fields.get("m", "").partition(" ")
        return cls(epoch, rev, parsed, wait, previous, "zone" in fields, readable(own), readable(before))

    def is_next(self, head: Head) -> bool:
        """Whether this is the entry after ``head``: of its epoch, or the one that ended it with nothing lost.

        Raises ``Fork`` where the number follows and the mark says that the history is another one.
        """
        if head.epoch not in (self.epoch, self.previous_epoch) or self.rev != head.rev + 1:
            return False
        if not agree(head.mark, self.previous_mark):
            raise Fork(
                f"the log was followed up to {head} and goes on from another {head.rev} "
                f"({self.previous_mark}): Redis was put back to an older copy"
            )
        return True


def wait_of(text: str) -> int:
    """How long to wait between two reads, in ms, within reason; raises ``ValueError``."""
    return min(max(int(text), 0), MAX_WAIT_MS)
