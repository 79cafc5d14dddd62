# SPDX-License-Identifier: GPL-3.0-or-later
"""The streets of a lab: routers with the networks behind them, and who lives where. Pure.

delay_ms: 60
streets:
  home: {nat: cone}
  office: {nat: symmetric}
machines: {control: internet, anna: home, ben: office}
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from lab import plan
from lab.errors import LabError

INTERNET = "internet"
"""Where a machine lives that has a public address and no router before it."""

NETWORK = ipaddress.IPv4Network("203.0.113.0/24")
"""The internet, as large as it is here (RFC 5737). Its places: 1 gateway, 10 machines, 100 routers."""

NETWORK6 = ipaddress.IPv6Network("2001:db8::/32")
"""All of IPv6 (RFC 3849); its first /64 joins the gateway and the routers that have IPv6."""

FIRST_ROUTER = 100
NATS = ("cone", "symmetric", "none")
MAX_DELAY_MS = 10_000

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Street:
    """A router and the network behind it."""

    name: str
    wan: str
    """The router's public address."""
    nat: str = "cone"
    """cone: one mapping a source, filtered by address and port. symmetric: another mapping for each
    destination. none: public addresses behind a firewall that lets answers in and nothing else."""
    lan: str = "192.168.1.0/24"
    """Any two streets may have the same; without NAT it is a part of the internet's network."""
    lan6: str = ""
    """Its IPv6 network, routed and behind the firewall alone; empty where it has no IPv6."""
    forward: tuple[int, ...] = ()
    """UDP ports that lead in: the first to the machine that came first, and so on."""
    hairpin: bool = False
    """Whether machines behind it reach its forwarded ports by its public address."""
    isolated: bool = False
    """Whether machines behind it hear nothing of each other (client isolation)."""

    @property
    def features(self) -> list[str]:
        """What it has beyond its kind of NAT, for a person."""
        named = {self.lan6: bool(self.lan6), "hairpin": self.hairpin, "isolated": self.isolated}
        return [*(f"port {port}" for port in self.forward), *(name for name, has in named.items() if has)]

    @property
    def wan6(self) -> ipaddress.IPv6Interface:
        """The router's IPv6 address, which ends as its IPv4 address does."""
        return _link6(int(ipaddress.IPv4Address(self.wan)) - int(NETWORK.network_address))

    @property
    def network(self) -> ipaddress.IPv4Network:
        """What lies behind the router."""
        return ipaddress.IPv4Network(self.lan)


@dataclass(frozen=True)
class Topology:
    """All streets, and where each machine lives at the start."""

    streets: dict[str, Street] = field(default_factory=dict)
    machines: dict[str, str] = field(default_factory=dict)
    """Machine -> street or `INTERNET`."""
    delay_ms: float = 60.0
    """Round trip between any two public addresses."""

    @classmethod
    def parse(cls, text: str) -> Topology:
        """Read a description in YAML; LabError names what is wrong with it."""
        try:
            content = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise LabError(f"the streets' description is not YAML: {error}") from error
        return cls.of(content)

    @classmethod
    def of(cls, content: Any) -> Topology:
        """Check a description; LabError names what is wrong with it."""
        known = _fields(content, ("streets", "machines", "delay_ms"), "the streets' description")
        delay = known.get("delay_ms", cls.delay_ms)
        check_delay(delay)
        streets = known.get("streets") or {}
        machines = known.get("machines") or {}
        if not isinstance(streets, Mapping) or not isinstance(machines, Mapping):
            raise LabError("'streets' and 'machines' must each be a mapping from names")
        made = {
            name: _street(name, plan.place(NETWORK, FIRST_ROUTER + number), options or {})
            for number, (name, options) in enumerate(streets.items())
        }
        _check_public(made.values())
        for name, street in machines.items():
            plan.check_name(str(name))
            if street != INTERNET and street not in made:
                raise LabError(
                    f"machine {name!r} lives in {street!r}: there are {', '.join([INTERNET, *made])}"
                )
        return cls(made, dict(machines), float(delay))

    def as_record(self) -> dict[str, Any]:
        """What `of` reads back."""
        record = dataclasses.asdict(self)
        for street in record["streets"].values():
            del street["name"]
        return record

    def alike(self, other: Topology) -> bool:
        """Whether both describe the same streets and machines, whatever public addresses they have by now."""

        def lasting(each: Topology) -> Topology:
            streets = {name: dataclasses.replace(street, wan="") for name, street in each.streets.items()}
            return dataclasses.replace(each, streets=streets)

        return lasting(self) == lasting(other)

    def street(self, name: str) -> Street:
        """The street of that name; LabError if there is none."""
        if name not in self.streets:
            raise LabError(f"no street {name!r} in the lab: there are {', '.join(self.streets) or 'none'}")
        return self.streets[name]

    def renumbered(self, name: str, address: str | None = None) -> Topology:
        """With another public address for a street's router; by default one that no router had before it."""
        old = self.street(name)
        taken = [ipaddress.IPv4Address(street.wan) for street in self.streets.values()]
        wan = address or str(max(taken) + 1)
        changed = _street(name, plan.place(NETWORK, FIRST_ROUTER), {**_options(old), "wan": wan})
        streets = self.streets | {name: changed}
        _check_public(streets.values())
        return dataclasses.replace(self, streets=streets)


def gateway6() -> ipaddress.IPv6Interface:
    """The internet's gateway, by which streets with IPv6 reach each other."""
    return _link6(plan.GATEWAY)


def place6(lan6: str, number: int) -> ipaddress.IPv6Interface:
    """The address at a place of a street's IPv6 network."""
    network = ipaddress.IPv6Network(lan6)
    return ipaddress.IPv6Interface((int(network.network_address) + number, network.prefixlen))


def _link6(number: int) -> ipaddress.IPv6Interface:
    return place6(f"{NETWORK6.network_address}/64", number)


def check_delay(delay_ms: object) -> None:
    """A round trip of 0 to 10 s, or a LabError."""
    if isinstance(delay_ms, bool) or not isinstance(delay_ms, int | float):
        raise LabError(f"delay_ms {delay_ms!r}: give a number of milliseconds")
    if not 0 <= delay_ms <= MAX_DELAY_MS:
        raise LabError(f"delay_ms {delay_ms}: give 0 to {MAX_DELAY_MS} milliseconds")


def _options(street: Street) -> dict[str, Any]:
    options = dataclasses.asdict(street)
    del options["name"]
    return options


def _fields(content: Any, known: tuple[str, ...], what: str) -> Mapping[str, Any]:
    if not isinstance(content, Mapping):
        raise LabError(f"{what} must be a mapping with {', '.join(known)}")
    if unknown := [str(key) for key in content if key not in known]:
        raise LabError(f"{what} has {', '.join(unknown)}: it may have {', '.join(known)}")
    return content


def _street(name: Any, wan: ipaddress.IPv4Interface, content: Any) -> Street:
    plan.check_name(str(name))
    if name == INTERNET:
        raise LabError(f"a street cannot be called {INTERNET!r}")
    known = tuple(each.name for each in dataclasses.fields(Street) if each.name != "name")
    options = dict(_fields(content, known, f"street {name!r}"))
    options["forward"] = _ports(name, options.get("forward", ()))
    for option in ("hairpin", "isolated"):
        if not isinstance(options.get(option, False), bool):
            raise LabError(f"street {name!r}: {option} is true or false, not {options[option]!r}")
    street = Street(**{"name": name, "wan": str(wan.ip), **options})
    if street.nat not in NATS:
        raise LabError(f"street {name!r}: nat is {street.nat!r}, it may be {', '.join(NATS)}")
    _check_lan(street)
    return street


def _ports(name: str, asked: Any) -> tuple[int, ...]:
    ports = tuple(asked) if isinstance(asked, list | tuple) else (asked,)
    for port in ports:
        if not isinstance(port, int) or not 0 < port < 65536:
            raise LabError(f"street {name!r} forwards {port!r}: give UDP ports from 1 to 65535")
    return ports


def _check_lan(street: Street) -> None:
    try:
        network, wan = street.network, ipaddress.IPv4Address(street.wan)
    except ValueError as error:
        raise LabError(f"street {street.name!r}: {error}") from error
    if wan not in NETWORK:
        raise LabError(f"street {street.name!r}: its public address {wan} is not in {NETWORK}")
    if network.prefixlen > 28:
        raise LabError(f"street {street.name!r}: {network} is too small, give a /28 or larger")
    if street.lan6:
        _check_lan6(street)
    if (street.nat == "none") != network.subnet_of(NETWORK):
        raise LabError(
            f"street {street.name!r}: lan must be a part of {NETWORK} with nat none, and only then"
        )


def _check_lan6(street: Street) -> None:
    try:
        network = ipaddress.IPv6Network(street.lan6)
    except ValueError as error:
        raise LabError(f"street {street.name!r}: {error}") from error
    if network.prefixlen > 64 or not network.subnet_of(NETWORK6) or gateway6() in network:
        raise LabError(f"street {street.name!r}: lan6 must be a /64 or larger of {NETWORK6}, not its first")


def _check_public(streets: Any) -> None:
    """No two public addresses or networks may be the same: this is one internet."""
    seen: list[tuple[str, Network]] = []
    for street in streets:
        mine: list[Network] = [ipaddress.IPv4Network(street.wan)]
        mine += [street.network] if street.nat == "none" else []
        mine += [ipaddress.IPv6Network(street.lan6)] if street.lan6 else []
        for network in mine:
            alike = [(name, taken) for name, taken in seen if taken.version == network.version]
            if other := next((name for name, taken in alike if taken.overlaps(network)), None):
                raise LabError(f"streets {other!r} and {street.name!r} both have {network}")
        seen += [(street.name, network) for network in mine]
