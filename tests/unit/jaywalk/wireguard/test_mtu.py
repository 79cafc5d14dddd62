# SPDX-License-Identifier: GPL-3.0-or-later
"""The MTU of an interface follows the links, and does not go up and down."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jaywalk.wireguard import mtu
from jaywalk.wireguard.interface import Interface, ObservedInterface, WgPeer, client_name
from jaywalk.wireguard.mtu import LearntMtus, PathMtu
from tests.strategies import key

IPV4, BOTH = ("10.20.0.1/20",), ("10.20.0.1/20", "fd20::1/64")
HOST = "192.0.2.1"


@pytest.mark.parametrize(
    ("paths", "addresses", "size"),
    [
        ({HOST: PathMtu("eth0", 1500)}, BOTH, 1420),
        ({HOST: PathMtu("eth0", 1500), "192.0.2.2": PathMtu("ppp0", 1492)}, BOTH, 1412),
        ({HOST: PathMtu("eth0", 1300)}, IPV4, 1220),
        ({HOST: PathMtu("eth0", 1300)}, BOTH, 1280),
        ({HOST: PathMtu("slip0", 296)}, IPV4, 576),
        ({"10.1.2.3": PathMtu("eth0", 9000, routed=True)}, IPV4, 8920),
        ({"9.9.9.9": PathMtu("eth0", 9000)}, IPV4, 8920),
        ({"9.9.9.9": PathMtu("eth0", 9000, routed=True)}, IPV4, 1420),
        ({"127.0.0.1": PathMtu("lo", 65536)}, IPV4, None),
        ({HOST: PathMtu("wg0", 1280)}, IPV4, None),
        ({HOST: PathMtu(client_name("wg0", key(1)), 1280)}, IPV4, None),
        ({}, IPV4, None),
    ],
)
def test_the_smallest_link_counts_less_what_wireguard_adds(
    paths: dict[str, PathMtu], addresses: tuple[str, ...], size: int | None
) -> None:
    assert mtu.fitting(paths, "wg0", addresses) == size


def test_an_interface_is_raised_by_the_agent_alone_and_a_new_one_keeps_its_default() -> None:
    wanted, fits = Interface("wg0", key(0), "/key", addresses=IPV4), {HOST: PathMtu("eth0", 1500)}
    small = ObservedInterface("wg0", "kernel", key(0), 1, IPV4, 1220, up=True)
    assert mtu.applied(wanted, None, fits).mtu is None
    assert mtu.applied(wanted, None, {HOST: PathMtu("eth0", 1300)}).mtu == 1220
    assert mtu.applied(wanted, small, fits).mtu is None
    assert mtu.applied(wanted, small, fits, raises=True).mtu == 1420
    assert mtu.applied(replace(wanted, mtu=1300), small, fits).mtu == 1300
    assert mtu.applied(wanted, small, {}).mtu is None


def test_of_a_peer_the_endpoint_that_it_has_counts_before_the_one_that_it_should_have() -> None:
    has = {"a": WgPeer("a", endpoint="192.0.2.1:1"), "b": WgPeer("b")}
    should = {"a": WgPeer("a", endpoint="192.0.2.9:1"), "b": WgPeer("b", endpoint="[2001:db8::2]:1")}
    assert mtu.endpoint_hosts(has, should) == {"192.0.2.1", "2001:db8::2"}


def test_a_learnt_mtu_is_remembered_for_an_hour_and_for_the_same_path_only() -> None:
    memory = LearntMtus()
    learnt, forgotten = PathMtu("eth0", 1300, True, True), PathMtu("eth0", 1500, True)
    assert memory.recall({HOST: learnt}, 0.0) == {HOST: learnt}
    assert memory.recall({HOST: forgotten}, 700.0) == {HOST: learnt}
    assert memory.recall({HOST: forgotten}, 3599.0) == {HOST: learnt}
    assert memory.recall({HOST: forgotten}, 3601.0) == {HOST: forgotten}
    memory.recall({HOST: learnt}, 4000.0)
    other = PathMtu("lte0", 1400, True)
    assert memory.recall({HOST: other}, 4001.0) == {HOST: other}
    assert memory.recall({HOST: forgotten}, 4002.0) == {HOST: forgotten}
