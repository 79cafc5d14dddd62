# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import ipaddress
import re
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import addressing
from lab.errors import LabError


@pytest.mark.parametrize(
    "text", ["10.99.0.1/24", "10.99.0.0/30", "10.0.0.0/8", "fd00::/64", "lab", "10.99.0.0/33"]
)
def test_a_bad_network_is_refused_and_named(text: str) -> None:
    with pytest.raises(LabError, match=re.escape(repr(text))):
        addressing.parse_network(text)


def test_host_numbers_follow_each_other_and_gaps_are_filled() -> None:
    network = IPv4Network("10.99.0.0/24")
    assert str(addressing.host_address(network, addressing.GATEWAY_NUMBER)) == "10.99.0.1/24"
    assert addressing.free_host_number(network, []) == 10
    assert addressing.free_host_number(network, [IPv4Address("10.99.0.10"), IPv4Address("10.99.0.12")]) == 11


def test_a_full_network_names_its_number_of_machines() -> None:
    network = IPv4Network("10.99.0.0/28")
    assert str(addressing.host_address(network, 14)) == "10.99.0.14/28"
    with pytest.raises(LabError, match="room for 5 machines"):
        addressing.host_address(network, 15)


@given(st.lists(st.integers(0, 255), max_size=20))
def test_a_free_network_overlaps_no_route(taken: list[int]) -> None:
    routes = [ipaddress.IPv4Network(f"10.99.{number}.128/25") for number in taken]
    default = IPv4Network("0.0.0.0/0")
    found = addressing.free_network([default, *routes])
    assert not any(found.overlaps(route) for route in routes)


def test_no_free_network_is_an_error_with_the_remedy() -> None:
    vpn = IPv4Network("10.0.0.0/8")
    assert addressing.free_network([vpn]) == IPv4Network("172.31.0.0/24")
    with pytest.raises(LabError, match="JAYWALK_LAB_NETWORK"):
        addressing.free_network([vpn, IPv4Network("172.16.0.0/12")])


def test_an_overlapping_network_is_found_and_a_default_route_does_not_overlap() -> None:
    asked = IPv4Network("192.0.2.0/25")
    wider = IPv4Network("192.0.2.0/24")
    assert (
        addressing.overlapping(asked, [IPv4Network("0.0.0.0/0"), IPv4Network("192.0.2.128/25"), wider])
        == wider
    )
