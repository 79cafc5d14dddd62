# SPDX-License-Identifier: GPL-3.0-or-later
"""What a committer says about itself to other threads: how it is, and what it counted since it started."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..state.unreadable import Unreadable

# Unreadable records of a zone that ``/healthz`` describes; ``zone show`` has them all.
SHOWN = 20


@dataclass
class Health:
    """Written by the committer alone; ``error`` is empty while Redis answers.

    ``commits`` counts by operation what changed a zone, ``refusals`` by code what was answered with a no,
    ``bad`` by reason what was no request at all, ``drops`` by reason what nobody could be told about.
    ``clock_skew`` are the seconds by which this machine's clock is ahead of the controller's, and
    ``clock_error`` says so where they are too many; ``memory_error`` does while Redis has no memory left.
    ``unreadable`` are the records of zones that do not parse.
    """

    error: str = "not connected yet"
    last_turn: float = field(default_factory=time.monotonic)
    commits: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    bad: Counter[str] = field(default_factory=Counter)
    drops: Counter[str] = field(default_factory=Counter)
    conflicts: int = 0
    clock_skew: float = 0.0
    clock_error: str = ""
    memory_error: str = ""
    led: frozenset[str] = frozenset()
    broken_zones: dict[str, str] = field(default_factory=dict)
    # Zones that lost their agents' password, with the remedy; served for the agents that are in.
    locked_zones: dict[str, str] = field(default_factory=dict)
    unreadable: dict[str, Sequence[Unreadable]] = field(default_factory=dict)

    def unreadable_records(self) -> dict[str, list[dict[str, Any]]]:
        """The first unreadable records of each zone that has some, in plain values."""
        marks = dict(self.unreadable)
        return {zone: [each.to_json(zone) for each in marks[zone][:SHOWN]] for zone in marks}

    @property
    def failing_zones(self) -> dict[str, str]:
        """The zones that somebody has to look after, with the reason."""
        return {**self.locked_zones, **self.broken_zones}

    @property
    def reasons(self) -> list[str]:
        """Why the supervisor does not decide on joins as it should, a sentence each; empty while it does."""
        records = [each["error"] for shown in self.unreadable_records().values() for each in shown]
        errors = [self.error, self.memory_error, self.clock_error]
        return [each for each in (*errors, *self.failing_zones.values(), *records) if each]

    @property
    def summary(self) -> str:
        """One line for ``systemctl status``."""
        first, *others = self.reasons or ["serving"]
        return f"{first} (and {len(others)} more: see /healthz)" if others else first

    @property
    def committed(self) -> int:
        """Requests that changed a zone."""
        return self.commits.total()

    @property
    def refused(self) -> int:
        """Requests that were answered with a refusal."""
        return self.refusals.total()

    @property
    def dropped(self) -> int:
        """Requests that went without an answer."""
        return self.drops.total()
