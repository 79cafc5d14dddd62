# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ipaddress import IPv4Network

from lab import naming, network
from lab.records import Interface, MachineSpec

FIRST = Interface("br1", "10.99.0.10/24", "10.99.0.1")
SECOND = Interface("br2", "10.99.1.10/24")


def machine(*, cut: bool = False) -> MachineSpec:
    return MachineSpec("node1", "jw", "/base", (FIRST, SECOND), cut)


def test_a_port_joins_its_interfaces_bridge() -> None:
    mac = naming.mac("jw", "node1", 1)
    assert network.port_batch(machine(), 1) == [
        f"link add n-node1 type veth peer name eth1 address {mac} netns jw-node1",
        "link set n-node1 master br2",
        "link set n-node1 up",
    ]


def test_a_cut_machine_keeps_its_carrier_and_is_in_no_bridge() -> None:
    batch = network.port_batch(machine(cut=True), 0)
    assert not any("master" in line for line in batch)
    assert "link set m-node1 up" in batch


def test_an_interface_on_the_internet_is_in_no_bridge() -> None:
    public = MachineSpec(
        "node1", "jw", "/base", (Interface(None, "203.0.113.10/24", "203.0.113.1", "jw_net"),)
    )
    assert [line.split()[:2] for line in network.port_batch(public, 0)] == [["link", "add"], ["link", "set"]]
    assert network.peer_netns("jw", public.interfaces[0]) == "jw_net"
    assert network.peer_netns("jw", FIRST) == "jw_lab"


def test_an_isolated_interface_sets_the_option_of_its_port() -> None:
    hotel = Interface("lan", "192.168.1.10/24", "192.168.1.1", "jw_r-hotel", isolated=True)
    assert network.join_bridge_batch("m-anna", hotel) == [
        "link set m-anna master lan",
        "link set m-anna type bridge_slave isolated on",
    ]


def test_only_the_first_interface_has_a_default_route() -> None:
    assert network.interface_batch(FIRST, 0)[-1] == "route add default via 10.99.0.1"
    assert network.interface_batch(SECOND, 1) == ["addr add 10.99.1.10/24 dev eth1", "link set eth1 up"]


def test_the_host_gets_one_interface_and_no_more() -> None:
    batch = network.host_batch("jw", IPv4Network("10.99.0.0/24"))
    assert batch[1:] == ["addr add 10.99.0.2/24 dev jw_host", "link set jw_host up"]
