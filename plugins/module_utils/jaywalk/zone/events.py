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
# The sign of a change that blocks a key (with a record) or allows it again (without one).
BLOCK = "!"
# The sign of a change of a join token, whose id it has for a key; no event names it, since supervisors read
# the tokens when they need one.
ADMISSION = "*"


class Gap(JaywalkError):
    """The log does not continue from the reader's position: it needs a snapshot."""


class Fork(Gap):
    """Redis has another history than the reader followed: it was put back to an older copy."""


@dataclass
class Change:
    """One change of an event: ``+`` a peer is new or changed, ``-`` it left, ``=`` only its lease changed.

    ``!`` is for supervisors: the key is blocked, or, without a record, allowed again.  So is ``*``: a join
    token is new or changed, or, without a record, removed.

    Not frozen, since every agent makes one per change, and frozen takes twice as long.
    """

    sign: str
    key: str
    record: dict[str, object] | None = None

    @cached_property
    def text(self) -> str:
        """The record as JSON, for the event and for the hash of the records; empty for none."""
        return "" if self.record is None else codec.compact(self.record)

    def to_wire(self) -> str:
        """The change as JSON; no character of a key needs an escape."""
        return f'["{self.sign}","{self.key}",{self.text}]' if self.text else f'["{self.sign}","{self.key}"]'

    @classmethod
    def from_wire(cls, line: object) -> Change:
        if isinstance(line, list) and len(line) in (2, 3) and line[0] in ("+", "-", "="):
            record = line[2] if len(line) == 3 else None
            if isinstance(line[1], str) and (record is None or isinstance(record, dict)):
                return cls(line[0], line[1], record)
        raise InvalidValue("an event of the zone holds a change that is none")


class Event(NamedTuple):
    """One entry of the log: a commit's changes, a new epoch after a restart of Redis, or the notice that the
    zone itself changed, after which supervisors read it again.

    ``mark`` is its own mark and ``previous_mark`` that of the revision before (see :mod:`.marks`).
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
        ``b`` (JSON object: key -> whether it is blocked), ``m`` (the mark before and its own).
        """
        try:
            epoch, rev = map(int, entry_id.split("-"))
            wait = wait_of(fields["w"]) if "w" in fields else None
            previous = int(fields["prev"]) if "prev" in fields else None
            changes = codec.decoded(fields.get("o", "[]"))
            blocked = codec.decoded(fields["b"]) if "b" in fields else {}
        except (ValueError, RecursionError):
            raise InvalidValue(f"the event {entry_id} of the zone does not parse") from None
        if not isinstance(changes, list):
            raise InvalidValue(f"the event {entry_id} of the zone holds no list of changes")
        if not isinstance(blocked, dict):
            raise InvalidValue(f"the event {entry_id} of the zone holds no blocks")
        parsed = tuple(map(Change.from_wire, changes))
        if blocked:
            parsed += tuple(
                Change(BLOCK, key, {} if is_blocked else None) for key, is_blocked in blocked.items()
            )
        before, _blank, own = fields.get("m", "").partition(" ")
        return cls(epoch, rev, parsed, wait, previous, "zone" in fields, readable(own), readable(before))

    def is_next(self, head: Head) -> bool:
        """Whether this is the next entry after ``head``: of the same epoch, or the start of the next epoch if
        nothing was lost.

        Raises ``Fork`` if the revision follows but the mark belongs to another history.
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
    """The pause between two reads in ms, at most ``MAX_WAIT_MS``; raises ``ValueError``."""
    return min(max(int(text), 0), MAX_WAIT_MS)
