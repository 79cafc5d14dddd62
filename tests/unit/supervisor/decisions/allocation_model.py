# SPDX-License-Identifier: GPL-3.0-or-later
"""A second implementation of the zone's rules, slow and simple: sets and loops over all leases.

It shares no code with the supervisor, so that an error would have to be made twice.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field


class Refused(Exception):
    """The request is refused with this code."""


@dataclass
class Held:
    """The lease of one key; ``left`` is the time of leaving, ``heard`` of its last request."""

    name: str = ""
    addresses: dict[int, str] = field(default_factory=dict)
    announced: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    host: str = ""
    state: str = "active"
    left: float = 0
    heard: float = 0

    @property
    def prefixes(self) -> list[str]:
        return self.kept + self.announced


def waiting(name: str) -> str:
    """Returns the key under which the model stores a reservation by name."""
    return f"waiting for {name}"


class Model:
    """One zone."""

    def __init__(
        self, pools: list[str], takeover: str, quarantine: int, excluded: list[str], stale_after: int
    ) -> None:
        self.pools = [ipaddress.ip_network(pool) for pool in pools]
        self.excluded = [ipaddress.ip_network(each) for each in excluded]
        self.takeover = takeover
        self.quarantine = quarantine
        self.stale_after = stale_after
        self.held: dict[str, Held] = {}

    def accepts(self, pools: list[str]) -> bool:
        """Whether all leases fit into ``pools``; if so, the zone gets these pools."""
        before = self.pools
        kept = [pool for pool in before if str(pool) in pools]
        self.pools = kept + [ipaddress.ip_network(each) for each in pools if each not in map(str, kept)]
        self.pools.sort(key=lambda pool: pool.version)
        if not self.all_fits():
            self.pools = before
            return False
        return True

    def all_fits(self) -> bool:
        for each in self.excluded:
            if not any(each.version == pool.version and each.subnet_of(pool) for pool in self.pools):  # type: ignore[arg-type]
                return False
        for held in self.held.values():
            if not all(self.usable(address) for address in held.addresses.values()):
                return False
            if any(self.in_a_pool(prefix) for prefix in held.prefixes):
                return False
        return True

    def in_a_pool(self, prefix: str) -> bool:
        network = ipaddress.ip_network(prefix)
        return any(network.version == pool.version and network.overlaps(pool) for pool in self.pools)

    def versions(self) -> list[int]:
        return list(dict.fromkeys(pool.version for pool in self.pools))

    def usable(self, address: str) -> bool:
        host = ipaddress.ip_address(address)
        if any(host in each for each in self.excluded):
            return False
        for pool in self.pools:
            if host.version == pool.version and host in pool:
                wide = pool.num_addresses > 2
                last = wide and pool.version == 4 and host == pool.broadcast_address
                return not (wide and host == pool.network_address) and not last
        return False

    def holder(self, address: str) -> str | None:
        for key, held in self.held.items():
            if address in held.addresses.values():
                return key
        return None

    def free(self, version: int) -> str | None:
        for pool in self.pools:
            if pool.version == version:
                for number in range(min(pool.num_addresses, 64)):
                    address = str(pool[number])
                    if self.usable(address) and self.holder(address) is None:
                        return address
        return None

    def gone_longest(self, version: int, now: float) -> str:
        gone = [(held.left, key) for key, held in self.held.items() if held.state == "released"]
        if not gone or min(gone)[0] >= now - self.quarantine:
            raise Refused("exhausted")
        key = min(gone)[1]
        if version not in self.held[key].addresses:
            raise Refused("exhausted")
        return key

    def check_addresses(self, wished: list[str], mine: set[str], taking: bool, now: float) -> None:
        seen = set()
        for address in wished:
            version = ipaddress.ip_address(address).version
            if version in seen:
                raise Refused("address")
            seen.add(version)
            if not any(ipaddress.ip_address(address) in pool for pool in self.pools):
                raise Refused("address-outside")
            if not self.usable(address):
                raise Refused("address-reserved")
            holder = self.holder(address)
            if holder is None or holder in mine:
                continue
            if not taking or self.held[holder].state == "reserved":
                raise Refused("address-taken")
            if self.held[holder].state == "released" and now < self.held[holder].left + self.quarantine:
                raise Refused("address-quarantined")
            if self.takeover == "stale" and now - self.held[holder].heard < self.stale_after:
                raise Refused("address-taken")

    def give(
        self, own: dict[int, str], wished: list[str], mine: set[str], taking: bool, now: float
    ) -> dict[int, str]:
        """Chooses addresses and applies the effects on other keys."""
        self.check_addresses(wished, mine, taking, now)
        wishes: dict[int, str] = {ipaddress.ip_address(address).version: address for address in wished}
        given: dict[int, str] = {}
        evicted: set[str] = set()
        for version in self.versions():
            address = wishes.get(version) or own.get(version) or self.free(version)
            if address is None:
                victim = self.gone_longest(version, now)
                evicted.add(victim)
                address = self.held[victim].addresses[version]
            given[version] = address
        moved: list[tuple[str, int, str]] = []
        for version, address in wishes.items():
            holder = self.holder(address)
            if holder is None or holder in mine:
                continue
            fresh = self.free(version) or own.get(version)
            if fresh is None and self.held[holder].state == "released":
                evicted.add(holder)
                continue
            if fresh is None:
                victim = self.gone_longest(version, now)
                evicted.add(victim)
                fresh = self.held[victim].addresses[version]
            moved.append((holder, version, fresh))
        self.pending = (evicted, moved, now)
        return given

    def check_prefixes(self, prefixes: list[str], mine: set[str]) -> None:
        networks = [ipaddress.ip_network(prefix) for prefix in prefixes]
        for number, network in enumerate(networks):
            if self.in_a_pool(str(network)):
                raise Refused("prefix-in-pool")
            for key, held in self.held.items():
                for each in held.prefixes:
                    other = ipaddress.ip_network(each)
                    if key not in mine and other.version == network.version and other.overlaps(network):
                        raise Refused("prefix-taken")
            for other in networks[:number]:
                if other.version == network.version and other.overlaps(network):
                    raise Refused("prefix-twice")

    def settle(self) -> None:
        evicted, moved, now = self.pending
        for holder, version, fresh in moved:
            self.held[holder].addresses[version] = fresh
            self.held[holder].heard = now
        for key in evicted:
            del self.held[key]

    def join(
        self,
        key: str,
        name: str,
        wished: list[str],
        announced: list[str],
        now: float,
        former: list[str] | None = None,
    ) -> None:
        mine, before = {key}, self.held.get(key)
        claimed = None
        if waiting(name) in self.held and not (before and before.host):
            claimed = self.held[waiting(name)]
            mine.add(waiting(name))
        source = claimed or before or Held()
        own = source.addresses
        if not claimed and not before:
            free = [each for each in former or [] if self.usable(each) and self.holder(each) is None]
            own = {ipaddress.ip_address(each).version: each for each in free}
        given = self.give(own, wished, mine, self.takeover != "never", now)
        kept = list(source.kept)
        beyond = [each for each in announced if not self.covered(each, kept)]
        self.check_prefixes(kept + beyond, mine)
        self.settle()
        if claimed:
            del self.held[waiting(name)]
        self.held[key] = Held(source.host or name, given, beyond, kept, source.host)

    def covered(self, prefix: str, kept: list[str]) -> bool:
        network = ipaddress.ip_network(prefix)
        for each in kept:
            other = ipaddress.ip_network(each)
            if other.version == network.version and network.subnet_of(other):  # type: ignore[arg-type]
                return True
        return False

    def leave(self, key: str, now: float) -> None:
        held = self.held.get(key)
        if held is not None and held.state == "active":
            held.state, held.left, held.announced = "released", now, []

    def hear(self, key: str, now: float) -> None:
        if key in self.held:
            self.held[key].heard = now

    def of_host(self, name: str) -> str | None:
        if waiting(name) in self.held:
            return waiting(name)
        for key, held in self.held.items():
            if held.host == name:
                return key
        return None

    def reserve(self, key: str, name: str, wished: list[str], prefixes: list[str], now: float) -> None:
        """``key`` or ``name`` may be empty."""
        bound = self.of_host(name) if name else None
        if key and bound not in (None, key, waiting(name)):
            raise Refused("name-reserved")
        self.bind(key, name, wished, prefixes, bound if key and bound == waiting(name) else None, now, False)

    def rekey(self, key: str, name: str, wished: list[str], prefixes: list[str], now: float) -> None:
        old = self.of_host(name)
        if old is None:
            called = [each for each, held in self.held.items() if held.name == name and each != key]
            if len(called) > 1:
                raise Refused("name-ambiguous")
            old = called[0] if called else None
        self.bind(key, name, wished, prefixes, None if old == key else old, now, True)

    def bind(
        self,
        key: str,
        name: str,
        wished: list[str],
        prefixes: list[str],
        old: str | None,
        now: float,
        is_host: bool,
    ) -> None:
        is_host = is_host or not key
        key = key or self.of_host(name) or waiting(name)
        mine = {key} | ({old} if old else set())
        before = self.held.get(key)
        source = self.held[old] if old else before
        given = self.give(source.addresses if source else {}, wished, mine, False, now)
        kept = list(prefixes or (self.held[old].kept if old else []) or (before.kept if before else []))
        beyond = [] if prefixes or before is None else before.prefixes
        beyond = [each for each in beyond if not self.covered(each, kept)]
        self.check_prefixes(kept + beyond, mine)
        host = (self.held[old].host if old else "") or (before.host if before else "")
        if name and (host or is_host):
            host = name
        self.settle()
        if old:
            del self.held[old]
        state = "active" if before and before.state == "active" else "reserved"
        name = name or (before.name if before else "")
        stays = before is not None and before.addresses == given
        heard = before.heard if before is not None and stays else now
        self.held[key] = Held(name, given, beyond, kept, host, state, heard=heard)

    def release(self, key: str, name: str, prefixes: list[str]) -> None:
        key = key or self.of_host(name) or ""
        held = self.held.get(key)
        if held is None:
            return
        if not prefixes:
            del self.held[key]
            return
        held.kept = [each for each in held.kept if each not in prefixes]
        held.announced = [each for each in held.announced if each not in prefixes]
