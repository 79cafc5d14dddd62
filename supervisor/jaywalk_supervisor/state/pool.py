# SPDX-License-Identifier: GPL-3.0-or-later
"""One address pool in memory: which addresses are held and by whom, and which is the lowest free one."""

from __future__ import annotations

import heapq
import logging
import socket
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from ipaddress import ip_network
from typing import Literal

from netaddr import IPAddress, IPNetwork, IPSet

from jaywalk.core.ip import integer_of, own_addresses, version_of

log = logging.getLogger(__name__)

NEARLY_FULL = 0.8
"""The share of a pool from which on operators are warned."""


class Pool:
    """The addresses of one network, as integers; a /8 or a /64 costs no more than what is held in it.

    All addresses at or above the mark were never handed out in turn; those below it that came back wait in
    a heap.  Heap and mark are tidied when the lowest free address is asked for, so that holding and
    dropping need no search and can be undone in any order.
    """

    def __init__(self, cidr: str, excluded: Sequence[str] = ()) -> None:
        network = IPNetwork(cidr)
        self.cidr = cidr
        self.version: Literal[4, 6] = network.version
        self.first: int = network.first
        self.last: int = network.last
        self.own = own_addresses(ip_network(cidr))
        self.ranges = _ranges(network, self.own, excluded)
        self._starts = [first for first, _ in self.ranges]
        self.owners: dict[int, str] = {}
        self._mark = self.first
        self._freed: list[int] = []
        self._queued: set[int] = set()

    def __contains__(self, address: str) -> bool:
        return version_of(address) == self.version and self.first <= integer_of(address) <= self.last

    @property
    def capacity(self) -> int:
        """How many addresses peers can have."""
        return self.last - self.first + 1 - sum(last - first + 1 for first, last in self.ranges)

    def warning(self) -> str:
        """A sentence from 80 % on, else nothing; released leases count, since they hold their addresses."""
        if len(self.owners) < NEARLY_FULL * self.capacity:
            return ""
        share = len(self.owners) / max(self.capacity, 1)
        return (
            f"the pool {self.cidr} is {share:.0%} full ({len(self.owners)} of {self.capacity}): "
            "release leases that nobody uses, or give the zone a larger pool"
        )

    def text(self, number: int) -> str:
        """The address with the integer value ``number``."""
        family, size = (socket.AF_INET6, 16) if self.version == 6 else (socket.AF_INET, 4)
        return socket.inet_ntop(family, number.to_bytes(size, "big"))

    def owner_of(self, address: str) -> str | None:
        """The key that holds ``address``, or None."""
        return self.owners.get(integer_of(address))

    def is_reserved(self, address: str) -> bool:
        """Whether no peer may have ``address``: the network's own, or one that the operator excludes."""
        return self._end_of_range(integer_of(address)) is not None

    def allocate(self, address: str, key: str) -> None:
        """Notes that ``key`` holds ``address``."""
        self.owners[integer_of(address)] = key

    def free(self, address: str, key: str) -> None:
        """Frees ``address`` if ``key`` holds it."""
        number = integer_of(address)
        if self.owners.get(number) != key:
            return
        del self.owners[number]
        if number < self._mark and number not in self._queued:
            heapq.heappush(self._freed, number)
            self._queued.add(number)

    def lowest_free(self) -> str | None:
        """The lowest address that nobody holds, or None; amortised O(log n) in what was ever held."""
        while self._freed and self._freed[0] in self.owners:
            self._queued.discard(heapq.heappop(self._freed))
        if self._freed:
            return self.text(self._freed[0])
        while True:
            if (end := self._end_of_range(self._mark)) is not None:
                self._mark = end + 1
            elif self._mark in self.owners:
                self._mark += 1
            else:
                return self.text(self._mark) if self._mark <= self.last else None

    def _end_of_range(self, number: int) -> int | None:
        """The last address of the reserved range that ``number`` lies in, or None."""
        index = bisect_right(self._starts, number) - 1
        return self.ranges[index][1] if index >= 0 and number <= self.ranges[index][1] else None


class PoolFillLog:
    """Logs each time that a pool gets nearly full, and not at each join into one that is."""

    def __init__(self) -> None:
        self._full: set[tuple[str, str]] = set()

    def look(self, zone: str, pools: Iterable[Pool]) -> None:
        """Looks at the pools of one zone."""
        for pool in pools:
            warning, place = pool.warning(), (zone, pool.cidr)
            if warning and place not in self._full:
                log.warning("zone %s: %s", zone, warning)
                self._full.add(place)
            elif not warning:
                self._full.discard(place)


def _ranges(network: IPNetwork, own: frozenset[int], excluded: Sequence[str]) -> list[tuple[int, int]]:
    """What no peer gets, as disjoint ranges in order: the network's own addresses, and ``excluded`` ones."""
    kept = IPSet([IPNetwork(each) for each in excluded]) & IPSet([network])
    for number in own:
        kept.add(IPAddress(number, network.version))
    return [(each.first, each.last) for each in kept.iter_ipranges()]
