# SPDX-License-Identifier: GPL-3.0-or-later
"""The MTU of a node's interface, on real links: it follows them, bytes get through, black holes are named."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from jaywalk.core.errors import InvalidValue
from jaywalk.wireguard.linux import Linux
from jaywalk.wireguard.mtu import PathMtu
from jaywalk_agent.config import AgentConfig
from jaywalk_agent.dataplane.interface import DataPlane
from jaywalk_agent.doctor import mtu as mtu_check
from tests.agent_support import ZONE, config_in, peer
from tests.tunnel import POOL6, End, Tunnel, drop_larger_than, tunnel

COUNT = """
import socket
server = socket.create_server(("10.20.0.2", 7777))
print("up", flush=True)
came = server.accept()[0]
count = 0
while data := came.recv(65536):
    count += len(data)
print(count)
"""
SEND = (
    "import socket; s = socket.create_connection(('10.20.0.2', 7777), 20); s.settimeout(20); "
    "s.sendall(bytes(200000)); s.close()"
)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Tunnel]:
    with tunnel(tmp_path, "jwum") as made:
        yield made


def plane(end: End) -> DataPlane:
    return DataPlane(Linux(end.where.runner), end.config.node(end.record.key))


def mtu_of(end: End) -> int:
    found = Linux(end.where.runner).observe(end.config.interface)
    assert found is not None
    return found.mtu


def small_link(pair: Tunnel) -> None:
    """The cable between the first node and the router takes 1,300 bytes."""
    pair.one.where.run(["ip", "link", "set", "dev", "link0", "mtu", "1300"])
    pair.router.run(["ip", "link", "set", "dev", "link0", "mtu", "1300"])


@pytest.mark.wireguard
def test_the_interface_follows_the_link_down_and_up_again(pair: Tunnel) -> None:
    own = plane(pair.one)
    own.apply(pair.view)
    assert mtu_of(pair.one) == 1420
    small_link(pair)
    assert "mtu 1220" in plane(pair.one).plan(pair.view)[1].diff()["after"]
    done = own.apply(pair.view)
    assert Linux(pair.one.where.runner).commands(done) == [f"ip link set dev {own.node.interface} mtu 1220"]
    assert mtu_of(pair.one) == 1220
    pair.one.where.run(["ip", "link", "set", "dev", "link0", "mtu", "1500"])
    assert not plane(pair.one).plan(pair.view)[1], "who only looks does not raise it"
    own.apply(pair.view)
    assert mtu_of(pair.one) == 1420
    assert not own.apply(pair.view)


@pytest.mark.wireguard
def test_a_link_that_shrinks_is_followed_at_once_one_that_grows_at_the_next_look(pair: Tunnel) -> None:
    own = plane(pair.one)
    assert not own.lower_mtu(), "not before it is known what the interface should be"
    own.apply(pair.view)
    assert not own.lower_mtu()
    small_link(pair)
    assert own.lower_mtu()
    assert mtu_of(pair.one) == 1220
    assert not own.apply(pair.view)
    pair.one.where.run(["ip", "link", "set", "dev", "link0", "mtu", "1500"])
    assert not own.lower_mtu()


@pytest.mark.wireguard
def test_a_route_with_an_mtu_of_its_own_counts(pair: Tunnel) -> None:
    route = ["198.51.100.0/24", "via", "192.0.2.1", "mtu", "1400"]
    pair.one.where.run(["ip", "route", "add", *route])
    plane(pair.one).apply(pair.view)
    assert mtu_of(pair.one) == 1320


@pytest.mark.wireguard
def test_what_a_router_tells_of_its_next_link_counts(pair: Tunnel) -> None:
    pair.up()
    pair.router.run(["ip", "link", "set", "dev", "link1", "mtu", "1300"])
    large = ["ping", "-c", "1", "-W", "1", "-s", "1300", "198.51.100.2"]
    deadline = time.monotonic() + 30
    while "mtu 1300" not in pair.one.where.run(["ip", "route", "get", "198.51.100.2"]):
        pair.one.where.runner.run([*large, "-M", "do"])
        assert time.monotonic() < deadline
    plane(pair.one).apply(pair.view)
    assert mtu_of(pair.one) == 1220


@pytest.mark.wireguard
def test_tcp_moves_bytes_over_a_small_link(pair: Tunnel) -> None:
    small_link(pair)
    plane(pair.other).apply(pair.view)
    plane(pair.one).apply(pair.view)
    server = pair.other.where.start(["python3", "-c", COUNT])
    assert server.stdout is not None
    server.stdout.readline()
    pair.one.where.run(["python3", "-c", SEND])
    assert server.communicate(timeout=60)[0].strip() == "200000"


@pytest.mark.wireguard
def test_an_mtu_that_was_given_stays(pair: Tunnel) -> None:
    pair.one.config = replace(pair.one.config, mtu=1300)
    plane(pair.one).apply(pair.view)
    assert mtu_of(pair.one) == 1300


@pytest.mark.wireguard
def test_a_black_hole_is_named_with_the_peer_and_the_size_that_passes(pair: Tunnel) -> None:
    pair.up()
    config, view, own = pair.one.config, pair.view, pair.one.record
    gone = peer(9)
    view.peers[gone.key] = gone
    observed = Linux(pair.one.where.runner).observe(config.interface)
    assert observed is not None
    with pair.agent(pair.other):
        assert list(mtu_check.black_holes(config, view, own, observed)) == []
        drop_larger_than(pair.router, 1300)
        sentences = list(mtu_check.black_holes(config, view, own, observed))
    assert len(sentences) == 1
    assert "node1 receives 1232" in sentences[0]
    assert "--mtu 1232" in sentences[0]
    assert gone.name not in sentences[0]


@pytest.mark.wireguard
def test_a_small_link_is_named_before_the_agent_followed_it(pair: Tunnel) -> None:
    pair.up()
    pair.one.where.run(["ping", "-c", "1", "-W", "20", "10.20.0.2"])
    hands = Linux(pair.one.where.runner)
    observed = hands.observe(pair.one.config.interface)
    assert observed is not None
    assert mtu_check.too_small_link(observed, hands) == ""
    small_link(pair)
    assert "the links to its peers carry 1220" in mtu_check.too_small_link(observed, hands)
    with_ipv6 = replace(observed, addresses=(*observed.addresses, "fd20::1/64"), mtu=1280)
    assert "in fragments" in mtu_check.too_small_link(with_ipv6, hands)


@pytest.mark.wireguard
def test_paths_are_looked_up_where_the_interface_was_made(pair: Tunnel) -> None:
    shown = Linux(pair.one.where.runner).path_mtus(["198.51.100.2", "192.0.2.1", "2001:db8::9"])
    assert shown == {"198.51.100.2": PathMtu("link0", 1500, routed=True), "192.0.2.1": PathMtu("link0", 1500)}


@pytest.mark.wireguard
def test_an_mtu_below_what_ipv6_needs_leaves_ipv6_out_and_says_why(tmp_path: Path) -> None:
    with tunnel(tmp_path, "jwul", pools=(*ZONE.pools, POOL6)) as pair:
        pair.one.config = replace(pair.one.config, mtu=1200)
        own = plane(pair.one)
        own.apply(pair.view)
        assert "its MTU is 1200, and IPv6 needs 1280 bytes" in own.without_ipv6
        assert mtu_of(pair.one) == 1200
        pair.one.config = replace(pair.one.config, mtu=None)
        other = plane(pair.one)
        for _ in range(2):  # the kernel takes IPv6 once the MTU is large enough
            other.apply(pair.view)
        assert other.without_ipv6 == ""
        assert mtu_of(pair.one) == 1420


@pytest.mark.parametrize("text", ["575", "65536", "large", "-1"])
def test_an_mtu_out_of_range_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="576 to 65535"):
        config_in(tmp_path, mtu=text)
    assert AgentConfig.read({"mtu": "", "name": "node0"}).mtu is None
