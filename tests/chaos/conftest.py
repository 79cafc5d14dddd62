# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of the chaos tests: duration, seed, and kind of Redis."""

from __future__ import annotations

import pytest

from .conditions import ADDITIONAL_FAULTS
from .topologies import KINDS


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("chaos")
    group.addoption("--minutes", type=float, default=0.0, help="the minutes of chaos; by default one round")
    group.addoption("--kind", choices=tuple(KINDS), help="the kind of Redis, instead of the seed's")
    group.addoption("--also", default="", help=f"faults in each round, of {', '.join(ADDITIONAL_FAULTS)}")
    group.addoption("--seed", type=int, default=None, help="the seed of a round, to run it again")
