# SPDX-License-Identifier: GPL-3.0-or-later
"""The original's way, by hand: nothing runs as a service here, each command comes from docs/original.md."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fleet.fleet import Fleet
from tests.fleet.original.hand import Hand


@pytest.fixture(scope="package")
def by_hand(fleet: Fleet) -> Iterator[Hand]:
    """The machines of the fleet, their services stopped and put aside until the last test of this folder."""
    hand = Hand(fleet)
    try:
        hand.take_over()
        yield hand
    finally:
        hand.give_back()


@pytest.fixture
def hand(by_hand: Hand) -> Iterator[Hand]:
    """A controller and a supervisor that were started by hand, and nodes that have joined nothing yet."""
    yield by_hand
    by_hand.clear_nodes()
    by_hand.clear_zones()
