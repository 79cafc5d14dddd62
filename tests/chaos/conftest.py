# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of the chaos tests: duration, seed, and kind of Redis."""

from __future__ import annotations

import pytest

from .conditions import ALSO
from .topologies import KINDS


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("chaos")
    group.addoption("--minutes", type=float, default=0.0, help="rounds of chaos for so long; else one round")
    group.addoption("--kind", choices=tuple(KINDS), help="what rounds are played on, whatever the seed says")
    group.addoption("--also", default="", help=f"faults to play in each round, of {', '.join(ALSO)}")
    group.addoption("--seed", type=int, default=None, help="the seed of a round, to run it again")
