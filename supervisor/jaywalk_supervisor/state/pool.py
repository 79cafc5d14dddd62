# SPDX-License-Identifier: GPL-3.0-or-later
"""One address pool in memory: the owner of each allocated address, and the lowest free address."""

from __future__ import annotations

import heapq
import logging
import socket
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from ipaddress import ip_network
from typing import Literal

from netaddr import IPAddress, IPNetwork, IPSet

from jaywalk.core.ip import Network, integer_of, own_addresses, version_of

log = logging.getLogger(__name__)

# The share of allocated addresses at which operators get a warning.
NEARLY_FULL_SHARE = 0.8


class Pool:
    """The addresses of one network, as integers; memory grows with the allocated addresses alone.

    No address at or above the high-water mark was allocated in turn.  A heap holds the freed addresses below
    it.  ``lowest_free`` tidies heap and mark, so ``allocate`` and ``free`` need no search and can be undone
    in any order.
    """

    def __init__(self, cidr: str, excluded: Sequence[str] = ()) -> None:
        network = IPNetwork(cidr)
        self.cidr = cidr
        self.version: Literal[4, 6] = network.version
        self.first: int = network.first
        self.last: int = network.last
        self.network_addresses = own_addresses(ip_network(cidr))
        self.ranges = _reserved_ranges(network, self.network_addresses, excluded)
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
        """A warning from 80 % on, else an empty string; released leases count, since they keep addresses."""
        if len(self.owners) < NEARLY_FULL_SHARE * self.capacity:
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
        """The key to which ``address`` is allocated, or None."""
        return self.owners.get(integer_of(address))

    def is_reserved(self, address: str) -> bool:
        """Whether ``address`` is never allocated: a network address, or excluded by the operator."""
        return self._end_of_range(integer_of(address)) is not None

    def allocate(self, address: str, key: str) -> None:
        """Allocates ``address`` to ``key``."""
        self.owners[integer_of(address)] = key

    def free(self, address: str, key: str) -> None:
        """Frees ``address`` if it is allocated to ``key``."""
        number = integer_of(address)
        if self.owners.get(number) != key:
            return
        del self.owners[number]
        if number < self._mark and number not in self._queued:
            heapq.heappush(self._freed, number)
            self._queued.add(number)

    def lowest_free(self) -> str | None:
        """The lowest free address, or None; amortised O(log n) in the number of allocations so far."""
        while self._freed and self._freed[0] in self.owners:
            self._queued.discard(heapq.heappop(self._freed))
        if self._freed:
            return self.text(self._freed[0])
        self._mark = self._next_free(self._mark, self.last)
        return self.text(self._mark) if self._mark <= self.last else None

    def lowest_free_in(self, network: Network) -> str | None:
        """The lowest free address in ``network``, or None; O(n) in the allocated addresses of both."""
        last = min(int(network.broadcast_address), self.last)
        number = self._next_free(max(int(network.network_address), self.first), last)
        return self.text(number) if number <= last else None

    def _next_free(self, number: int, last: int) -> int:
        """The first free address from ``number`` on; greater than ``last`` if there is none until then."""
        while number <= last:
            if (end := self._end_of_range(number)) is not None:
                number = end + 1
            elif number in self.owners:
                number += 1
            else:
                break
        return number

    def _end_of_range(self, number: int) -> int | None:
        """The last address of the reserved range that contains ``number``, or None."""
        index = bisect_right(self._starts, number) - 1
        return self.ranges[index][1] if index >= 0 and number <= self.ranges[index][1] else None


class PoolFillLog:
    """Logs a warning once when a pool becomes nearly full, instead of at each join."""

    def __init__(self) -> None:
        self._full: set[tuple[str, str]] = set()

    def check(self, zone: str, pools: Iterable[Pool]) -> None:
        """Checks the pools of one zone."""
        for pool in pools:
            warning, pool_id = pool.warning(), (zone, pool.cidr)
            if warning and pool_id not in self._full:
                log.warning("zone %s: %s", zone, warning)
                self._full.add(pool_id)
            elif not warning:
                self._full.discard(pool_id)


def _reserved_ranges(
    network: IPNetwork, network_addresses: frozenset[int], excluded: Sequence[str]
) -> list[tuple[int, int]]:
    """The addresses that are never allocated, as disjoint ranges in ascending order."""
    reserved = IPSet([IPNetwork(prefix) for prefix in excluded]) & IPSet([network])
    for number in network_addresses:
        reserved.add(IPAddress(number, network.version))
    return [(found.first, found.last) for found in reserved.iter_ipranges()]
