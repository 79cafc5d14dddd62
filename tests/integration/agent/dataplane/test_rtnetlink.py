# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel tells of links, addresses and routes, and whether an interface suffers from it."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable

import pytest

from jaywalk.core.runner import SubprocessRunner, in_namespace
from jaywalk.wireguard.interface import Interface
from jaywalk_agent.dataplane.rtnetlink import AddressEvent, Event, LinkEvent, Monitor, RouteEvent, differs
from tests.netns import Namespace

WG0 = Interface(
    "wg0", "key", "/key", addresses=("10.20.0.1/20", "fd20::1/64"), routes=frozenset({"172.20.1.0/24"})
)


@pytest.mark.parametrize(
    ("event", "wanted"),
    [
        (LinkEvent(7, "wg0", up=True, mtu=1420), False),
        (LinkEvent(7, "wg0", up=False, mtu=1420), True),
        (LinkEvent(7, "wg0", up=True, mtu=1420, gone=True), True),
        (LinkEvent(8, "wg0", up=True, mtu=1420), True),
        (LinkEvent(7, "other", up=True, mtu=1420), True),
        (LinkEvent(9, "other", up=False, mtu=1420), False),
        (LinkEvent(9, "other", up=False, mtu=1420, gone=True), False),
        (AddressEvent(7, "10.20.0.1/20", gone=True), True),
        (AddressEvent(7, "fd20::1/64", gone=True), True),
        (AddressEvent(7, "10.20.0.1/20"), False),
        (AddressEvent(7, "10.20.0.9/20", gone=True), False),
        (AddressEvent(9, "10.20.0.1/20", gone=True), False),
        (RouteEvent(7, "172.20.1.0/24", gone=True), True),
        (RouteEvent(7, "10.20.0.0/20", gone=True), True),
        (RouteEvent(7, "fd20::/64", gone=True), True),
        (RouteEvent(7, "172.20.2.0/24", gone=True), False),
        (RouteEvent(7, "10.20.0.1/32", gone=True), True),
        (RouteEvent(7, "fd20::1/128", gone=True), True),
        (AddressEvent(7, "fe80::1/64"), False),
        (RouteEvent(9, "172.20.1.0/24", gone=True), False),
        (RouteEvent(9, "172.20.1.0/24"), False),
        (RouteEvent(9, "172.20.1.0/24", replaces=True), True),
        (RouteEvent(7, "172.20.1.0/24", replaces=True), False),
    ],
)
def test_only_what_takes_something_of_ours_away_asks_for_a_look(event: Event, wanted: bool) -> None:
    assert differs([event], WG0, 7) is wanted


def test_an_ipv6_address_is_news_where_the_kernel_took_none() -> None:
    assert differs([AddressEvent(7, "fe80::1/64")], WG0.without_ipv6(), 7)
    assert not differs([AddressEvent(9, "fe80::1/64")], WG0.without_ipv6(), 7)
    assert not differs([AddressEvent(7, "10.20.0.1/20")], WG0.without_ipv6(), 7)


def test_the_last_word_about_a_link_counts() -> None:
    down, up = LinkEvent(7, "wg0", up=False, mtu=1420), LinkEvent(7, "wg0", up=True, mtu=1420)
    assert not differs([down, up], WG0, 7)
    assert differs([up, down], WG0, 7)
    before = LinkEvent(6, "wg0", up=True, mtu=1420, gone=True)
    assert not differs([before, down, up], WG0, 7), "one that was made anew has taken its place"


def test_an_mtu_is_ours_where_we_were_told_one() -> None:
    told = Interface("wg0", "key", "/key", mtu=1380)
    assert differs([LinkEvent(7, "wg0", up=True, mtu=1300)], told, 7)
    assert not differs([LinkEvent(7, "wg0", up=True, mtu=1380)], told, 7)


def received(monitor: Monitor, wanted: Callable[[list[Event]], bool]) -> list[Event]:
    events: list[Event] = []
    deadline = time.monotonic() + 20
    while not wanted(events):
        assert time.monotonic() < deadline, events
        select.select([monitor.socket], [], [], 1)
        events += monitor.receive() or []
    return events


@pytest.mark.wireguard
def test_the_kernel_is_understood(namespace: Callable[[str], Namespace]) -> None:
    inside = namespace("jwu-monitor")
    monitor = Monitor(in_namespace(SubprocessRunner(), inside.name))
    for line in (
        "link add jwumo type veth peer name jwump",
        "link set jwumo mtu 1300",
        "link set jwumo up",
        "addr add 10.20.0.1/20 dev jwumo",
        "addr add fd20::1/64 dev jwumo nodad",
        "route add 172.20.1.0/24 dev jwumo",
        "route add default dev jwumo metric 7",
        "route add 172.20.2.0/24 dev jwumo",
        "route replace 172.20.2.0/24 dev lo",
        "route del 172.20.1.0/24",
        "addr del 10.20.0.1/20 dev jwumo",
        "link set jwumo down",
        "link set jwumo name jwumi",
        "link del jwumi",
    ):
        inside.run(["ip", *line.split()])
    events = received(monitor, lambda events: any(isinstance(e, LinkEvent) and e.gone for e in events))
    index = next(e.index for e in events if isinstance(e, LinkEvent) and e.name == "jwumo")
    for wanted in (
        LinkEvent(index, "jwumo", up=True, mtu=1300),
        AddressEvent(index, "10.20.0.1/20"),
        AddressEvent(index, "fd20::1/64"),
        AddressEvent(index, "10.20.0.1/20", gone=True),
        RouteEvent(index, "172.20.1.0/24"),
        RouteEvent(index, "172.20.1.0/24", gone=True),
        RouteEvent(index, "0.0.0.0/0"),
        RouteEvent(1, "172.20.2.0/24", replaces=True),
        LinkEvent(index, "jwumo", up=False, mtu=1300),
        LinkEvent(index, "jwumi", up=False, mtu=1300, gone=True),
    ):
        assert wanted in events
    monitor.close()


@pytest.mark.wireguard
def test_more_than_the_kernel_keeps_is_no_silence(namespace: Callable[[str], Namespace]) -> None:
    inside = namespace("jwu-flood")
    monitor = Monitor(in_namespace(SubprocessRunner(), inside.name))
    monitor.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    lines = "".join(f"addr add 10.20.0.{number}/32 dev lo\n" for number in range(1, 100))
    inside.run(["ip", "-batch", "-"], lines)
    assert monitor.receive() is None
    while monitor.receive() is None:
        pass
    inside.run(["ip", "addr", "del", "10.20.0.1/32", "dev", "lo"])
    assert AddressEvent(1, "10.20.0.1/32", gone=True) in received(monitor, bool)
    monitor.close()
