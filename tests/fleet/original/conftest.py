# SPDX-License-Identifier: GPL-3.0-or-later
"""The original's usage by hand: without services, by the commands of docs/original.md."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fleet.fleet import Fleet
from tests.fleet.original.manual_operator import ManualOperator


@pytest.fixture(scope="package")
def operator_session(fleet: Fleet) -> Iterator[ManualOperator]:
    """The fleet's machines, with their services stopped until the last test of this folder."""
    operator = ManualOperator(fleet)
    try:
        operator.stop_services()
        yield operator
    finally:
        operator.restore_services()


@pytest.fixture
def operator(operator_session: ManualOperator) -> Iterator[ManualOperator]:
    """A controller and a supervisor started by hand, and nodes that are in no zone yet."""
    yield operator_session
    operator_session.clear_nodes()
    operator_session.clear_zones()
