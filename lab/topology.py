# SPDX-License-Identifier: GPL-3.0-or-later
"""The NAT sites of a lab: routers, the networks behind them, and the machines in each. Pure.

delay_ms: 60
sites:
  home: {nat: cone}
  office: {nat: symmetric}
machines: {control: internet, anna: home, ben: office}
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from lab import addressing, naming
from lab.errors import LabError

# The place of a machine with a public address and no router in front of it.
INTERNET = "internet"

# The emulated internet (RFC 5737). Host numbers: 1 gateway, from 10 machines, from 100 routers.
NETWORK = ipaddress.IPv4Network("203.0.113.0/24")
FIRST_ROUTER_NUMBER = 100

# All of IPv6 (RFC 3849). Its first /64 connects the gateway and the routers with IPv6.
NETWORK6 = ipaddress.IPv6Network("2001:db8::/32")

NAT_KINDS = ("cone", "symmetric", "none")
MAX_DELAY_MS = 10_000

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Site:
    """A router and the network behind it.

    wan: the router's public address.
    nat: cone: one mapping per source, filtered by address and port. symmetric: another mapping for each
    destination. none: public addresses behind a firewall that accepts replies only.
    lan: the network behind the router. Sites may have the same one; without NAT it is a part of the
    internet's network.
    lan6: the site's IPv6 network, routed and behind the firewall only; empty without IPv6.
    forward: UDP ports forwarded from outside: the first to the first machine, and so on.
    hairpin: whether machines behind the router reach its forwarded ports by its public address.
    isolated: whether the router separates the machines behind it from each other (client isolation).
    """

    name: str
    wan: str
    nat: str = "cone"
    lan: str = "192.168.1.0/24"
    lan6: str = ""
    forward: tuple[int, ...] = ()
    hairpin: bool = False
    isolated: bool = False

    @property
    def features(self) -> list[str]:
        """The options other than the kind of NAT, in words for a table."""
        flags = {self.lan6: bool(self.lan6), "hairpin": self.hairpin, "isolated": self.isolated}
        return [
            *(f"port {port}" for port in self.forward),
            *(name for name, is_set in flags.items() if is_set),
        ]

    @property
    def wan6(self) -> ipaddress.IPv6Interface:
        """The router's IPv6 address; it has the same host number as its IPv4 address."""
        return _link6(int(ipaddress.IPv4Address(self.wan)) - int(NETWORK.network_address))

    @property
    def network(self) -> ipaddress.IPv4Network:
        """The network behind the router."""
        return ipaddress.IPv4Network(self.lan)


@dataclass(frozen=True)
class Topology:
    """All sites, and the initial place of each machine.

    machines: machine -> site or `INTERNET`.
    delay_ms: the round trip between any two public addresses.
    """

    sites: dict[str, Site] = field(default_factory=dict)
    machines: dict[str, str] = field(default_factory=dict)
    delay_ms: float = 60.0

    @classmethod
    def parse(cls, text: str) -> Topology:
        """Read a description in YAML; raise LabError with the reason if it is invalid."""
        try:
            content = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise LabError(f"the description of the NAT sites is not YAML: {error}") from error
        return cls.from_record(content)

    @classmethod
    def from_record(cls, content: Any) -> Topology:
        """Check a description; raise LabError with the reason if it is invalid."""
        if isinstance(content, Mapping) and "streets" in content and "sites" not in content:
            # The key that descriptions had before `sites`.
            content = {"sites" if key == "streets" else key: value for key, value in content.items()}
        fields = _check_fields(content, ("sites", "machines", "delay_ms"), "the description of the NAT sites")
        delay = fields.get("delay_ms", cls.delay_ms)
        check_delay(delay)
        descriptions = fields.get("sites") or {}
        machines = fields.get("machines") or {}
        if not isinstance(descriptions, Mapping) or not isinstance(machines, Mapping):
            raise LabError("'sites' and 'machines' must each be a mapping from names")
        sites = {
            name: _parse_site(
                name, addressing.host_address(NETWORK, FIRST_ROUTER_NUMBER + number), options or {}
            )
            for number, (name, options) in enumerate(descriptions.items())
        }
        _check_public(sites.values())
        for machine, site in machines.items():
            naming.check_name(str(machine))
            if site != INTERNET and site not in sites:
                raise LabError(
                    f"machine {machine!r} is in {site!r}: there are {', '.join([INTERNET, *sites])}"
                )
        return cls(sites, dict(machines), float(delay))

    def as_record(self) -> dict[str, Any]:
        """Return the description that `from_record` accepts."""
        record = dataclasses.asdict(self)
        for site in record["sites"].values():
            del site["name"]
        return record

    def has_same_description(self, other: Topology) -> bool:
        """Return whether both have the same sites and machines, whatever public addresses they have now."""

        def without_wan(topology: Topology) -> Topology:
            sites = {name: dataclasses.replace(site, wan="") for name, site in topology.sites.items()}
            return dataclasses.replace(topology, sites=sites)

        return without_wan(self) == without_wan(other)

    def site(self, name: str) -> Site:
        """Return the site of that name; LabError if there is none."""
        if name not in self.sites:
            raise LabError(f"no NAT site {name!r} in the lab: there are {', '.join(self.sites) or 'none'}")
        return self.sites[name]

    def renumbered(self, name: str, address: str | None = None) -> Topology:
        """Return it with another public address for a site's router; by default one that no router has."""
        site = self.site(name)
        taken = [ipaddress.IPv4Address(site.wan) for site in self.sites.values()]
        wan = address or str(max(taken) + 1)
        default = addressing.host_address(NETWORK, FIRST_ROUTER_NUMBER)
        sites = self.sites | {name: _parse_site(name, default, {**_options(site), "wan": wan})}
        _check_public(sites.values())
        return dataclasses.replace(self, sites=sites)


def gateway6() -> ipaddress.IPv6Interface:
    """Return the address of the internet's gateway, which routes between the sites with IPv6."""
    return _link6(addressing.GATEWAY_NUMBER)


def host_address6(lan6: str, number: int) -> ipaddress.IPv6Interface:
    """Return the address with this host number in a site's IPv6 network."""
    network = ipaddress.IPv6Network(lan6)
    return ipaddress.IPv6Interface((int(network.network_address) + number, network.prefixlen))


def _link6(number: int) -> ipaddress.IPv6Interface:
    return host_address6(f"{NETWORK6.network_address}/64", number)


def check_delay(delay_ms: object) -> None:
    """Check a round trip of 0 to 10 s; raise LabError otherwise."""
    if isinstance(delay_ms, bool) or not isinstance(delay_ms, int | float):
        raise LabError(f"delay_ms {delay_ms!r}: give a number of milliseconds")
    if not 0 <= delay_ms <= MAX_DELAY_MS:
        raise LabError(f"delay_ms {delay_ms}: give 0 to {MAX_DELAY_MS} milliseconds")


def _options(site: Site) -> dict[str, Any]:
    options = dataclasses.asdict(site)
    del options["name"]
    return options


def _check_fields(content: Any, known: tuple[str, ...], what: str) -> Mapping[str, Any]:
    if not isinstance(content, Mapping):
        raise LabError(f"{what} must be a mapping with {', '.join(known)}")
    if unknown := [str(key) for key in content if key not in known]:
        raise LabError(f"{what} has {', '.join(unknown)}: it may have {', '.join(known)}")
    return content


def _parse_site(name: Any, wan: ipaddress.IPv4Interface, content: Any) -> Site:
    naming.check_name(str(name))
    if name == INTERNET:
        raise LabError(f"a NAT site cannot have the name {INTERNET!r}")
    known = tuple(option.name for option in dataclasses.fields(Site) if option.name != "name")
    options = dict(_check_fields(content, known, f"site {name!r}"))
    options["forward"] = _parse_ports(name, options.get("forward", ()))
    for option in ("hairpin", "isolated"):
        if not isinstance(options.get(option, False), bool):
            raise LabError(f"site {name!r}: {option} is true or false, not {options[option]!r}")
    site = Site(**{"name": name, "wan": str(wan.ip), **options})
    if site.nat not in NAT_KINDS:
        raise LabError(f"site {name!r}: nat is {site.nat!r}, it may be {', '.join(NAT_KINDS)}")
    _check_lan(site)
    return site


def _parse_ports(name: str, value: Any) -> tuple[int, ...]:
    ports = tuple(value) if isinstance(value, list | tuple) else (value,)
    for port in ports:
        if not isinstance(port, int) or not 0 < port < 65536:
            raise LabError(f"site {name!r} forwards {port!r}: give UDP ports from 1 to 65535")
    return ports


def _check_lan(site: Site) -> None:
    try:
        network, wan = site.network, ipaddress.IPv4Address(site.wan)
    except ValueError as error:
        raise LabError(f"site {site.name!r}: {error}") from error
    if wan not in NETWORK:
        raise LabError(f"site {site.name!r}: its public address {wan} is not in {NETWORK}")
    if network.prefixlen > 28:
        raise LabError(f"site {site.name!r}: {network} is too small, give a /28 or larger")
    if site.lan6:
        _check_lan6(site)
    if (site.nat == "none") != network.subnet_of(NETWORK):
        raise LabError(f"site {site.name!r}: lan must be a part of {NETWORK} with nat none, and only then")


def _check_lan6(site: Site) -> None:
    try:
        network = ipaddress.IPv6Network(site.lan6)
    except ValueError as error:
        raise LabError(f"site {site.name!r}: {error}") from error
    if network.prefixlen > 64 or not network.subnet_of(NETWORK6) or gateway6() in network:
        raise LabError(f"site {site.name!r}: lan6 must be a /64 or larger of {NETWORK6}, not its first")


def _check_public(sites: Iterable[Site]) -> None:
    """Check that no two public addresses or networks overlap: all sites share one internet."""
    used: list[tuple[str, Network]] = []
    for site in sites:
        public: list[Network] = [ipaddress.IPv4Network(site.wan)]
        public += [site.network] if site.nat == "none" else []
        public += [ipaddress.IPv6Network(site.lan6)] if site.lan6 else []
        for network in public:
            same_version = [(name, other) for name, other in used if other.version == network.version]
            if clash := next((name for name, other in same_version if other.overlaps(network)), None):
                raise LabError(f"sites {clash!r} and {site.name!r} both have {network}")
        used += [(site.name, network) for network in public]
