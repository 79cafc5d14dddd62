# SPDX-License-Identifier: GPL-3.0-or-later
"""The attacks on the machines of the lab: they share the fleet of ``tests/fleet``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fleet.labs import mark_fleet_tests


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests of this folder."""
    mark_fleet_tests(items, Path(__file__).parent)
