# SPDX-License-Identifier: GPL-3.0-or-later
"""How long and with which seed; and waits short enough for a round."""

from __future__ import annotations

import pytest
from redis.backoff import FullJitterBackoff

from jaywalk_agent import follow

from .stages import KINDS


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("chaos")
    group.addoption("--minutes", type=float, default=0.0, help="rounds of chaos for so long; else one round")
    group.addoption("--kind", choices=tuple(KINDS), help="what rounds are played on, whatever the seed says")
    group.addoption("--seed", type=int, default=None, help="the seed of a round, to run it again")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent's longest waits, 30 and 60 s, become 1 s; their order stays."""
    monkeypatch.setattr(follow, "RECONNECT", FullJitterBackoff(cap=1.0, base=0.1))
    monkeypatch.setattr(follow, "RESYNC", FullJitterBackoff(cap=1.0, base=0.1))
    monkeypatch.setattr(follow, "LONGEST_REPEAT", 1.0)
    monkeypatch.setattr(follow, "TICK", 2.0)
