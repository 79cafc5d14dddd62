# SPDX-License-Identifier: GPL-3.0-or-later
"""IPv4 networks and addresses of a lab. Pure: nothing here reads the state of this host."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from lab.errors import LabError

# A lab without a given network takes the first free /24 of these.
CANDIDATE_NETWORKS = (ipaddress.IPv4Network("10.99.0.0/16"), ipaddress.IPv4Network("172.31.0.0/16"))

# Host numbers in a lab network: its bridge, this host's own interface, the first machine.
GATEWAY_NUMBER, HOST_NUMBER, FIRST_MACHINE_NUMBER = 1, 2, 10


def parse_network(text: str) -> ipaddress.IPv4Network:
    """Parse a lab network of /16 to /28; raise LabError with the reason if it is not one."""
    try:
        network = ipaddress.IPv4Network(text)
    except ValueError as error:
        raise LabError(f"lab network {text!r}: {error}; give an IPv4 network such as 10.99.0.0/24") from error
    if not 16 <= network.prefixlen <= 28:
        raise LabError(f"lab network {text!r}: its length must be /16 to /28, such as 10.99.0.0/24")
    return network


def host_address(network: ipaddress.IPv4Network, number: int) -> ipaddress.IPv4Interface:
    """Return the address with this host number and the network's prefix length; LabError past its end."""
    if number >= network.num_addresses - 1:
        room = max(0, network.num_addresses - 1 - FIRST_MACHINE_NUMBER)
        raise LabError(
            f"lab network {network} has room for {room} machines: set a larger JAYWALK_LAB_NETWORK"
        )
    return ipaddress.IPv4Interface((int(network.network_address) + number, network.prefixlen))


def free_host_number(network: ipaddress.IPv4Network, taken: Iterable[ipaddress.IPv4Address]) -> int:
    """Return the first host number for a machine whose address is not in `taken`."""
    used = {int(address) - int(network.network_address) for address in taken}
    number = FIRST_MACHINE_NUMBER
    while number in used:
        number += 1
    return number


def overlapping(
    network: ipaddress.IPv4Network, taken: Iterable[ipaddress.IPv4Network]
) -> ipaddress.IPv4Network | None:
    """Return the first of `taken` that shares addresses with the network; default routes do not count."""
    return next((other for other in taken if other.prefixlen and network.overlaps(other)), None)


def free_network(taken: Iterable[ipaddress.IPv4Network]) -> ipaddress.IPv4Network:
    """Return the first candidate that overlaps no network of `taken`; LabError if none is free."""
    taken = list(taken)
    for candidates in CANDIDATE_NETWORKS:
        for candidate in candidates.subnets(new_prefix=24):
            if overlapping(candidate, taken) is None:
                return candidate
    ranges = " and ".join(map(str, CANDIDATE_NETWORKS))
    raise LabError(f"no /24 of {ranges} is free on this host: set JAYWALK_LAB_NETWORK to one that is")
