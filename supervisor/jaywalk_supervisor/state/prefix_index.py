# SPDX-License-Identifier: GPL-3.0-or-later
"""The child prefixes of a zone as disjoint intervals; finds the prefixes that overlap a given one."""

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
    """Intervals sorted by their first address, one list per IP version; a query is a bisection."""

    def __init__(self) -> None:
        self._intervals: dict[int, list[Interval]] = {4: [], 6: []}

    def add(self, prefix: str, key: str) -> None:
        """Adds ``prefix`` of ``key``; the caller has checked for overlaps."""
        version, interval = _interval(prefix, key)
        row = self._intervals[version]
        row.insert(bisect_left(row, interval), interval)

    def remove(self, prefix: str, key: str) -> None:
        """Removes ``prefix`` of ``key``, if it is there."""
        version, interval = _interval(prefix, key)
        row = self._intervals[version]
        index = bisect_left(row, interval)
        if index < len(row) and row[index] == interval:
            del row[index]

    def overlapping(self, prefix: str) -> Iterator[Interval]:
        """The intervals that share an address with ``prefix``."""
        version, query = _interval(prefix, "")
        row = self._intervals[version]
        index = bisect_right(row, query.first, key=lambda interval: interval.first)
        if index and row[index - 1].last >= query.first:
            index -= 1
        while index < len(row) and row[index].first <= query.last:
            yield row[index]
            index += 1


def _interval(prefix: str, key: str) -> tuple[int, Interval]:
    network = IPNetwork(prefix)
    return network.version, Interval(network.first, network.last, prefix, key)
