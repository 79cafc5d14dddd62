# SPDX-License-Identifier: GPL-3.0-or-later
"""The child prefixes of a zone as disjoint intervals: who announces what overlaps a given prefix."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from netaddr import IPNetwork


class Interval(NamedTuple):
    """A prefix from its first to its last address, and the key that announces it."""

    first: int
    last: int
    prefix: str
    key: str


class PrefixIndex:
    """Intervals sorted by their start, one list an IP version; a query is a bisection."""

    def __init__(self) -> None:
        self._intervals: dict[int, list[Interval]] = {4: [], 6: []}

    def add(self, prefix: str, key: str) -> None:
        """Notes that ``key`` announces ``prefix``; the caller has asked for overlaps before."""
        version, interval = _interval(prefix, key)
        row = self._intervals[version]
        row.insert(bisect_left(row, interval), interval)

    def remove(self, prefix: str, key: str) -> None:
        """Forgets that ``key`` announces ``prefix``."""
        version, interval = _interval(prefix, key)
        row = self._intervals[version]
        place = bisect_left(row, interval)
        if place < len(row) and row[place] == interval:
            del row[place]

    def overlapping(self, prefix: str) -> Iterator[Interval]:
        """The intervals that share an address with ``prefix``."""
        version, wanted = _interval(prefix, "")
        row = self._intervals[version]
        place = bisect_right(row, wanted.first, key=lambda each: each.first)
        if place and row[place - 1].last >= wanted.first:
            place -= 1
        while place < len(row) and row[place].first <= wanted.last:
            yield row[place]
            place += 1


def _interval(prefix: str, key: str) -> tuple[int, Interval]:
    network = IPNetwork(prefix)
    return network.version, Interval(network.first, network.last, prefix, key)
