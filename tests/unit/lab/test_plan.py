# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import ipaddress
import re
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import plan
from lab.errors import LabError

names = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,11}[a-z0-9])?", fullmatch=True)
prefixes = st.from_regex(r"[a-z][a-z0-9]{0,7}", fullmatch=True)


@given(prefixes, names, st.sampled_from((0, 1)))
def test_every_interface_name_fits_the_kernel(prefix: str, name: str, leg: int) -> None:
    assert len(plan.bridge_port(plan.check_name(name), leg)) <= 15
    assert len(plan.router_port(name)) <= 15
    assert len(plan.host_leg(plan.check_prefix(prefix))) <= 15


@given(prefixes, names)
def test_no_machine_takes_the_labs_own_namespace(prefix: str, name: str) -> None:
    own = {plan.lab_netns(prefix), plan.internet_netns(prefix), plan.router_netns(prefix, name)}
    assert plan.machine_netns(prefix, name) not in own
    assert len(own) == 3


@pytest.mark.parametrize("name", ["", "Node1", "node_1", "-node", "node-", "a" * 14, "node1\n", "../x"])
def test_a_bad_machine_name_is_refused_and_named(name: str) -> None:
    with pytest.raises(LabError, match=re.escape(repr(name))):
        plan.check_name(name)


@pytest.mark.parametrize("prefix", ["", "1a", "ninechars", "a-b", "a_b", "A"])
def test_a_bad_prefix_is_refused_and_named(prefix: str) -> None:
    with pytest.raises(LabError, match=repr(prefix)):
        plan.check_prefix(prefix)


@pytest.mark.parametrize(
    "text", ["10.99.0.1/24", "10.99.0.0/30", "10.0.0.0/8", "fd00::/64", "lab", "10.99.0.0/33"]
)
def test_a_bad_network_is_refused_and_named(text: str) -> None:
    with pytest.raises(LabError, match=re.escape(repr(text))):
        plan.parse_network(text)


@given(prefixes, names)
def test_a_mac_is_one_machines_own_unicast_address(prefix: str, name: str) -> None:
    mac = plan.mac(prefix, name, 0)
    first = int(mac.split(":")[0], 16)
    assert re.fullmatch(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", mac)
    assert first & 0b11 == 0b10, "locally administered, not multicast"
    assert mac == plan.mac(prefix, name, 0)
    assert mac != plan.mac(prefix, name, 1)


@given(prefixes, names)
def test_a_machine_id_is_what_systemd_takes(prefix: str, name: str) -> None:
    assert re.fullmatch(r"[0-9a-f]{32}", plan.machine_id(prefix, name))


def test_places_follow_each_other_and_gaps_are_filled() -> None:
    network = IPv4Network("10.99.0.0/24")
    assert str(plan.place(network, plan.GATEWAY)) == "10.99.0.1/24"
    assert plan.free_place(network, []) == 10
    assert plan.free_place(network, [IPv4Address("10.99.0.10"), IPv4Address("10.99.0.12")]) == 11


def test_a_full_network_says_how_many_it_holds() -> None:
    network = IPv4Network("10.99.0.0/28")
    assert str(plan.place(network, 14)) == "10.99.0.14/28"
    with pytest.raises(LabError, match="room for 5 machines"):
        plan.place(network, 15)


@given(st.lists(st.integers(0, 255), max_size=20))
def test_a_free_network_overlaps_no_route(taken: list[int]) -> None:
    routes = [ipaddress.IPv4Network(f"10.99.{number}.128/25") for number in taken]
    default = IPv4Network("0.0.0.0/0")
    found = plan.free_network([default, *routes])
    assert not any(found.overlaps(route) for route in routes)


def test_no_free_network_is_an_error_with_the_remedy() -> None:
    vpn = IPv4Network("10.0.0.0/8")
    assert plan.free_network([vpn]) == IPv4Network("172.31.0.0/24")
    with pytest.raises(LabError, match="JAYWALK_LAB_NETWORK"):
        plan.free_network([vpn, IPv4Network("172.16.0.0/12")])


def test_what_overlaps_is_named_and_a_default_route_does_not() -> None:
    asked = IPv4Network("192.0.2.0/25")
    wider = IPv4Network("192.0.2.0/24")
    assert plan.overlapping(asked, [IPv4Network("0.0.0.0/0"), IPv4Network("192.0.2.128/25"), wider]) == wider


def test_default_names() -> None:
    assert list(plan.default_names(3)) == ["control", "node1", "node2"]
    assert list(plan.default_names(3, plain=True)) == ["node1", "node2", "node3"]
    with pytest.raises(LabError, match="at least 1"):
        list(plan.default_names(0))
