# SPDX-License-Identifier: GPL-3.0-or-later
"""Names and addresses of a lab. Pure: nothing here looks at the machine."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Iterator

from lab.errors import LabError

CONTROL = "control"
"""The machine for the controller; not called like its group, which Ansible would warn of."""

CANDIDATES = (ipaddress.IPv4Network("10.99.0.0/16"), ipaddress.IPv4Network("172.31.0.0/16"))
"""Cut in /24: where a lab finds a network if none is asked for."""

GATEWAY, HOST, FIRST_MACHINE = 1, 2, 10
"""Places in a lab network: its bridge, the operator's leg, the first machine."""

UPLINK = "uplink"
"""In the internet's namespace: the leg of its gateway, which is no port of the switch."""

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,11}[a-z0-9])?")
_PREFIX = re.compile(r"[a-z][a-z0-9]{0,7}")


def check_name(name: str) -> str:
    """A machine's name: a DNS label of at most 13 characters, so that `m-NAME` fits IFNAMSIZ (15)."""
    if not _NAME.fullmatch(name):
        raise LabError(
            f"machine name {name!r}: use 1 to 13 lower-case letters, digits and inner hyphens, such as node1"
        )
    return name


def check_prefix(prefix: str) -> str:
    """A lab's prefix: at most 8 characters, so that `PREFIX_host` fits IFNAMSIZ (15)."""
    if not _PREFIX.fullmatch(prefix):
        raise LabError(f"lab prefix {prefix!r}: use 1 to 8 lower-case letters and digits, a letter first")
    return prefix


def prefixes() -> Iterator[str]:
    """What labs are called that nobody named."""
    yield "jw"
    yield from (f"jw{number}" for number in range(2, 100))


def parse_network(text: str) -> ipaddress.IPv4Network:
    """A lab network of /16 to /28, or a LabError that says what is wrong with it."""
    try:
        network = ipaddress.IPv4Network(text)
    except ValueError as error:
        raise LabError(f"lab network {text!r}: {error}; give an IPv4 network such as 10.99.0.0/24") from error
    if not 16 <= network.prefixlen <= 28:
        raise LabError(f"lab network {text!r}: its length must be /16 to /28, such as 10.99.0.0/24")
    return network


def lab_netns(prefix: str) -> str:
    """The namespace of the lab's bridges. The underscore keeps it apart from every machine's."""
    return f"{prefix}_lab"


def host_leg(prefix: str) -> str:
    """The interface by which this host reaches the lab."""
    return f"{prefix}_host"


def machine_netns(prefix: str, name: str) -> str:
    """The namespace that a machine boots in; also its name for systemd-nspawn."""
    return f"{prefix}-{name}"


def internet_netns(prefix: str) -> str:
    """The namespace that stands for the internet, where the lab has streets."""
    return f"{prefix}_net"


def router_netns(prefix: str, street: str) -> str:
    """The namespace of a street's router. The underscore keeps it apart from every machine's."""
    return f"{prefix}_r-{street}"


def router_port(street: str) -> str:
    """The internet's end of a router's cable."""
    return f"w-{street}"


def bridge_port(name: str, leg: int) -> str:
    """The lab's end of a machine's cable; leg 0 is the machine's eth0."""
    return f"{'mn'[leg]}-{name}"


def mac(prefix: str, name: str, leg: int) -> str:
    """A locally administered address that a machine keeps over reboots."""
    digest = hashlib.sha256(f"{prefix} {name} {leg}".encode()).digest()
    return ":".join(f"{byte:02x}" for byte in (0x02, *digest[:5]))


def machine_id(prefix: str, name: str) -> str:
    """What machine-id(5) wants: 32 hex digits, the same at every boot."""
    return hashlib.sha256(f"{prefix} {name} machine-id".encode()).hexdigest()[:32]


def place(network: ipaddress.IPv4Network, number: int) -> ipaddress.IPv4Interface:
    """The address at a place of the network, with the network's length; LabError past its end."""
    if number >= network.num_addresses - 1:
        room = max(0, network.num_addresses - 1 - FIRST_MACHINE)
        raise LabError(
            f"lab network {network} has room for {room} machines: set a larger JAYWALK_LAB_NETWORK"
        )
    return ipaddress.IPv4Interface((int(network.network_address) + number, network.prefixlen))


def free_place(network: ipaddress.IPv4Network, taken: Iterable[ipaddress.IPv4Address]) -> int:
    """The first place for a machine that none of `taken` has."""
    used = {int(address) - int(network.network_address) for address in taken}
    number = FIRST_MACHINE
    while number in used:
        number += 1
    return number


def overlapping(
    network: ipaddress.IPv4Network, taken: Iterable[ipaddress.IPv4Network]
) -> ipaddress.IPv4Network | None:
    """The first of `taken` that shares addresses with the network; default routes do not count."""
    return next((other for other in taken if other.prefixlen and network.overlaps(other)), None)


def free_network(taken: Iterable[ipaddress.IPv4Network]) -> ipaddress.IPv4Network:
    """The first candidate that overlaps no network of `taken`."""
    taken = list(taken)
    for candidates in CANDIDATES:
        for candidate in candidates.subnets(new_prefix=24):
            if overlapping(candidate, taken) is None:
                return candidate
    ranges = " and ".join(map(str, CANDIDATES))
    raise LabError(f"no /24 of {ranges} is free on this host: set JAYWALK_LAB_NETWORK to one that is")


def default_names(count: int, *, plain: bool = False) -> Iterator[str]:
    """The machines of `up N`: a machine for the controller and N-1 nodes, or N nodes if plain."""
    if count < 1:
        raise LabError(f"a lab of {count} machines: ask for at least 1")
    if not plain:
        yield CONTROL
    yield from (f"node{number}" for number in range(1, count + int(plain)))
