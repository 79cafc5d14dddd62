# SPDX-License-Identifier: GPL-3.0-or-later
"""The health of a committer for other threads: its errors, and its counters since it started."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..state.unreadable import Unreadable

# Limit of a zone's unreadable records in ``/healthz``; ``zone show`` lists all.
MAX_SHOWN = 20


@dataclass
class Health:
    """Written by the committer alone; ``error`` is empty while Redis answers.

    ``commits`` counts requests that changed a zone, by operation; ``refusals`` counts refused requests, by
    code; ``bad`` counts entries that do not parse, by reason; ``drops`` counts requests without an answer, by
    reason.  ``clock_skew`` is the number of seconds by which this machine's clock is ahead of the
    controller's; ``clock_error`` is set if it is too large, ``memory_error`` while Redis has no memory left,
    ``certificate_error`` while its certificate is about to expire, ``key_error`` while the supervisors' key
    file cannot be read.
    ``unreadable`` holds the records of zones that do not parse.
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
    # Set while Redis uses most of its memory; joins go on.
    memory_warning: str = ""
    # Who floods the inbox of a zone.
    floods: dict[str, str] = field(default_factory=dict)
    # Set while the controller has many connections; joins go on.
    crowd_warning: str = ""
    key_error: str = ""
    certificate_error: str = ""
    led: frozenset[str] = frozenset()
    broken_zones: dict[str, str] = field(default_factory=dict)
    # Zones that lost their agents' password, with the remedy; they are served for agents that are connected.
    locked_zones: dict[str, str] = field(default_factory=dict)
    # Zones of an older version that permit their members more than a new zone, with the remedy.
    undeclared_zones: dict[str, str] = field(default_factory=dict)
    unreadable: dict[str, Sequence[Unreadable]] = field(default_factory=dict)

    def unreadable_records(self) -> dict[str, list[dict[str, Any]]]:
        """Returns the first unreadable records of each zone that has any, as JSON values."""
        marks = dict(self.unreadable)
        return {zone: [mark.to_json(zone) for mark in marks[zone][:MAX_SHOWN]] for zone in marks}

    @property
    def failing_zones(self) -> dict[str, str]:
        """The zones that need an operator, with the reason."""
        return {**self.locked_zones, **self.broken_zones}

    @property
    def reasons(self) -> list[str]:
        """The reasons why the supervisor does not handle joins as it should, one sentence each."""
        records = [record["error"] for shown in self.unreadable_records().values() for record in shown]
        errors = [
            self.error,
            self.memory_error,
            self.clock_error,
            self.key_error,
            self.certificate_error,
        ]
        return [reason for reason in (*errors, *self.failing_zones.values(), *records) if reason]

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
        """Requests that were refused."""
        return self.refusals.total()

    @property
    def dropped(self) -> int:
        """Requests that got no answer."""
        return self.drops.total()
