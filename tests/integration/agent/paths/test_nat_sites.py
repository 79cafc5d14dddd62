# SPDX-License-Identifier: GPL-3.0-or-later
"""Agents behind real NATs on real WireGuard: direct paths if possible, and relays otherwise."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jaywalk.wireguard.linux import Linux
from tests.nat_namespaces import (
    CONTROLLER,
    CONTROLLER6,
    HUB,
    NETWORK,
    NETWORK6,
    Agent,
    EmulatedInternet,
    block,
    eventually,
    mute,
    unblock,
)
from tests.netns import Namespace

pytestmark = [pytest.mark.wireguard, pytest.mark.timeout(300)]

DIRECT = ("direct", None)
TAKE_PORT = (
    "import socket, time; s = socket.socket(type=socket.SOCK_DGRAM); s.bind(('', 51999)); time.sleep(600)"
)


@pytest.fixture
def internet(tmp_path: Path) -> Iterator[EmulatedInternet]:
    with EmulatedInternet(tmp_path, f"jwst-{os.getpid()}") as made:
        yield made


class Ping:
    """A ping that runs in the background."""

    def __init__(self, where: Namespace, host: str) -> None:
        self._process = where.start(["ping", "-i", "0.1", host])
        self._enough = time.monotonic() + 3

    def lost(self) -> int:
        """Ends the ping; returns the number of lost packets without the last one, which may be in flight."""
        time.sleep(max(0.0, self._enough - time.monotonic()))
        self._process.send_signal(signal.SIGINT)
        output, _ = self._process.communicate(timeout=60)
        sent, received = map(int, re.search(r"(\d+) packets transmitted, (\d+) received", output).groups())  # type: ignore[union-attr]
        assert sent > 10
        return max(0, sent - received - 1)


def reached(one: Agent, other: Agent) -> bool:
    return one.where.runner.run(["ping", "-c", "1", "-W", "1", other.address()]).returncode == 0


def test_two_cones_connect_by_the_endpoints_that_an_open_peer_observes(internet: EmulatedInternet) -> None:
    open_node = internet.node(internet.hub, "jwst0")
    one = internet.node(internet.behind_nat("one", f"{NETWORK}.11", "192.168.1")[0], "jwst1")
    other = internet.node(internet.behind_nat("other", f"{NETWORK}.12", "192.168.1")[0], "jwst2")
    eventually(DIRECT, lambda: one.path("other"))
    eventually(DIRECT, lambda: other.path("one"))
    assert {open_node.path("one"), open_node.path("other")} == {DIRECT}
    assert reached(one, other)


def test_a_relay_carries_a_pair_without_a_direct_path_and_another_replaces_it(
    internet: EmulatedInternet,
) -> None:
    relays = {
        name: internet.node(internet.public(name, f"{NETWORK}.{number}"), f"jwsr{number}", "--relay")
        for number, name in ((2, "relay2"), (3, "relay3"))
    }
    cone = internet.node(internet.behind_nat("cone", f"{NETWORK}.11", "192.168.1")[0], "jwsr11")
    behind = internet.behind_nat("symm", f"{NETWORK}.12", "192.168.2", random=True)[0]
    symmetric = internet.node(behind, "jwsr12")
    eventually("relayed", lambda: cone.path("symm")[0])
    eventually("relayed", lambda: symmetric.path("cone")[0])
    eventually(True, lambda: reached(cone, symmetric))
    used = cone.path("symm")[1]
    spare = next(name for name in relays if name != used)
    assert used is not None
    relays[used].stop(signal.SIGKILL)
    relays[used].where.run(["ip", "link", "set", "dev", "wan", "down"])
    eventually(("relayed", spare), lambda: cone.path("symm"))
    eventually(True, lambda: reached(cone, symmetric))


def test_a_blocked_pair_uses_the_relay_and_becomes_direct_without_loss(
    internet: EmulatedInternet,
) -> None:
    internet.node(internet.hub, "jwsb0", "--relay")
    place, router = internet.behind_nat("one", f"{NETWORK}.11", "192.168.1")
    one = internet.node(place, "jwsb1")
    other = internet.node(internet.behind_nat("other", f"{NETWORK}.12", "192.168.2")[0], "jwsb2")
    for node, peer in ((one, "other"), (other, "one")):
        eventually(DIRECT, lambda node=node, peer=peer: node.path(peer))
    ping = Ping(place, other.address())
    block(router, "192.168.1.2", f"{NETWORK}.12")
    eventually(("relayed", "hub"), lambda: one.path("other"))
    eventually(("relayed", "hub"), lambda: other.path("one"))
    ping.lost()
    ping = Ping(place, other.address())
    unblock(router)
    eventually(DIRECT, lambda: one.path("other"), 90)
    eventually(DIRECT, lambda: other.path("one"), 90)
    assert ping.lost() == 0


def test_a_relay_carries_between_nodes_that_share_no_ip_version(internet: EmulatedInternet) -> None:
    """The relay reports its IPv4 endpoint, which the node with IPv6 alone cannot reach."""
    internet.node(internet.hub, "jwsv0", "--relay")
    four = internet.node(internet.public("four", f"{NETWORK}.4"), "jwsv4")
    place = internet.public("six", f"{NETWORK6}:6")
    six = internet.node(place, "jwsv6", "--controller", f"[{CONTROLLER6}]:6379")
    eventually(DIRECT, lambda: six.path("hub"))
    eventually(("relayed", "hub"), lambda: six.path("four"))
    eventually(("relayed", "hub"), lambda: four.path("six"))
    eventually(True, lambda: reached(six, four))


def test_an_endpoint_is_tried_once_the_node_has_an_address_of_its_ip_version(
    internet: EmulatedInternet,
) -> None:
    place = internet.public("dual", f"{NETWORK6}:6", f"{NETWORK}.6")
    dual = internet.node(place, "jwsw6", "--controller", f"[{CONTROLLER6}]:6379")
    eventually(True, lambda: bool(dual.status()))
    four_place = internet.public("four", f"{NETWORK}.4")
    four = internet.node(four_place, "jwsw4")
    eventually(DIRECT, lambda: four.path("dual"))
    eventually(True, lambda: reached(four, dual))
    assert f"endpoint [{NETWORK6}" not in internet.log(four_place)
    assert f"endpoint {NETWORK}.6:51820" in internet.log(four_place)
    four.stop()
    assert four.command("down")[0] == 0
    internet.open(four_place, f"{NETWORK6}:4", "six")
    four.start()
    eventually(True, lambda: f"endpoint [{NETWORK6}:6]:51820" in internet.log(four_place))
    eventually(True, lambda: reached(four, dual))


def test_two_nodes_behind_symmetric_nats_connect_over_ipv6(internet: EmulatedInternet) -> None:
    internet.node(internet.hub, "jwsx0", "--relay")
    nodes = {}
    for name, number in (("one", 11), ("other", 12)):
        place, _ = internet.behind_nat(name, f"{NETWORK}.{number}", f"192.168.{number}", random=True)
        internet.open(place, f"{NETWORK6}:{number}", "six")
        nodes[name] = internet.node(place, f"jwsx{number}")
    eventually(DIRECT, lambda: nodes["one"].path("other"))
    eventually(DIRECT, lambda: nodes["other"].path("one"))
    assert reached(nodes["one"], nodes["other"])


def test_a_node_in_a_network_without_udp_connects_once_udp_passes(internet: EmulatedInternet) -> None:
    internet.node(internet.hub, "jwsm0", "--relay")
    other = internet.node(internet.public("other", f"{NETWORK}.2"), "jwsm2")
    place, router = internet.behind_nat("mute", f"{NETWORK}.11", "192.168.1")
    eventually(DIRECT, lambda: other.path("hub"))
    mute(router)
    ping = Ping(other.where, "10.20.0.1")
    one = internet.node(place, "jwsm1")
    eventually(True, lambda: "none of 2 peers answers" in one.command("doctor")[1])
    code, findings = one.command("doctor")
    assert code == 1
    assert "a supervisor answers" in findings
    assert "a firewall drops UDP" in findings
    assert [one.path(name) for name in ("hub", "other")] == [("none", None)] * 2
    assert other.path("hub") == DIRECT
    unblock(router)
    eventually(DIRECT, lambda: one.path("hub"), 60)
    eventually(DIRECT, lambda: one.path("other"), 60)
    assert "2 of 2 peers answer now" in one.command("doctor")[1]
    assert ping.lost() == 0


def test_an_interface_in_another_namespace_has_the_same_paths(internet: EmulatedInternet) -> None:
    """Encrypted packets leave from the agent's namespace; probes, relays and routes are in the other one."""
    internet.node(internet.hub, "jwsn0", "--relay")
    cone = internet.node(internet.behind_nat("cone", f"{NETWORK}.11", "192.168.1")[0], "jwsn11")
    inner = internet.namespace("inner")
    place, router = internet.behind_nat("symm", f"{NETWORK}.12", "192.168.2", random=True)
    symmetric = internet.node(place, "jwsn12", "--netns", inner.name)
    internet.node(internet.public("open", f"{NETWORK}.2"), "jwsn2")
    eventually(("relayed", "hub"), lambda: symmetric.path("cone"))
    eventually(("relayed", "hub"), lambda: cone.path("symm"))
    eventually(DIRECT, lambda: symmetric.path("open"))
    assert Ping(inner, cone.address()).lost() == 0
    code, findings = symmetric.command("doctor")
    assert code == 0, findings
    block(router, "192.168.2.2", f"{NETWORK}.2")
    eventually(("relayed", "hub"), lambda: symmetric.path("open"))
    symmetric.stop()
    assert symmetric.command("down")[0] == 0
    assert [link["ifname"] for link in json.loads(inner.run(["ip", "-json", "link", "show"]))] == ["lo"]


def test_unusable_relays_are_findings_of_the_doctor_and_are_not_used(internet: EmulatedInternet) -> None:
    """One relay is behind a NAT, and another program has the port of the other one."""
    internet.node(internet.hub, "jwsu0", "--relay")
    hidden = internet.node(internet.behind_nat("hidden", f"{NETWORK}.3", "192.168.3")[0], "jwsu3", "--relay")
    taken = internet.public("taken", f"{NETWORK}.4")
    internet.start(taken, sys.executable, "-c", TAKE_PORT)
    taken_relay = internet.node(taken, "jwsu4", "--relay", "--relay-port", "51999")
    cone = internet.node(internet.behind_nat("cone", f"{NETWORK}.11", "192.168.1")[0], "jwsu11")
    place, _ = internet.behind_nat("symm", f"{NETWORK}.12", "192.168.2", random=True)
    symmetric = internet.node(place, "jwsu12")
    eventually(("relayed", "hub"), lambda: cone.path("symm"), 60)
    eventually(("relayed", "hub"), lambda: symmetric.path("cone"), 60)
    assert reached(cone, symmetric)
    eventually(True, lambda: "Forward UDP 51820 and 51821 to it" in hidden.command("doctor")[1])
    eventually(True, lambda: "does not listen on UDP 51999" in taken_relay.command("doctor")[1])
    assert taken_relay.path("hub") == DIRECT


def test_a_relay_carries_nothing_for_a_node_outside_its_zone(internet: EmulatedInternet) -> None:
    """A node with the relay's key, port and addresses that is no member gets no reply."""
    hub = internet.node(internet.hub, "jwsz0", "--relay")
    other = internet.node(internet.public("other", f"{NETWORK}.2"), "jwsz2")
    eventually(DIRECT, lambda: other.path("hub"))
    ping = Ping(other.where, hub.address())
    outsider = internet.public("outsider", f"{NETWORK}.3")
    make(outsider, "jwsz3", hub.status()["public_key"], f"{HUB}:51821")
    assert outsider.runner.run(["ping", "-c", "3", "-i", "0.5", "-W", "1", other.address()]).returncode != 0
    handshake = outsider.run(["wg", "show", "jwsz3", "latest-handshakes"]).split()[1]
    assert handshake == "0"
    assert int(outsider.run(["wg", "show", "jwsz3", "transfer"]).split()[2]) > 0, "it sent initiations"
    assert ping.lost() == 0


def make(where: Namespace, name: str, peer: str, endpoint: str) -> None:
    """Creates a WireGuard interface by hand, with a key of no zone and an address that another node has."""
    Linux(where.runner).create(name)
    where.run(["wg", "set", name, "private-key", "/dev/stdin"], where.run(["wg", "genkey"]))
    where.run(["wg", "set", name, "peer", peer, "endpoint", endpoint, "allowed-ips", "10.20.0.0/20"])
    where.run(["ip", "addr", "add", "10.20.0.9/20", "dev", name])
    where.run(["ip", "link", "set", "dev", name, "up"])


BLOCK_PORT = """
table inet shut {
    chain in {
        type filter hook input priority filter
        iifname "wan" udp dport 51820 drop
    }
}
"""


def test_the_log_reports_a_peer_behind_a_blocked_port_and_its_recovery(
    internet: EmulatedInternet,
) -> None:
    internet.node(internet.hub, "jwsd0")
    one_place, other_place = internet.public("one", f"{NETWORK}.2"), internet.public("other", f"{NETWORK}.3")
    one, other = internet.node(one_place, "jwsd2"), internet.node(other_place, "jwsd3")
    eventually(DIRECT, lambda: one.path("other"))
    eventually(DIRECT, lambda: other.path("one"))
    eventually(True, lambda: reached(one, other))
    other_place.run(["nft", "-f", "-"], BLOCK_PORT)
    eventually(("none", None), lambda: one.path("other"), 90)
    eventually(True, lambda: "peer other is silent since" in internet.log(one_place), 30)
    assert one.path("hub") == DIRECT
    other_place.run(["nft", "delete", "table", "inet", "shut"])
    eventually(DIRECT, lambda: one.path("other"), 90)
    eventually(True, lambda: "peer other answers again after" in internet.log(one_place), 30)
    other.stop()
    code, shown = one.command("ping", "other", "--json", "--timeout", "20")
    assert (code, json.loads(shown)["peers"][0]["agent"]) == (0, False), "the tunnel works without the agent"
    assert one.path("other") == DIRECT
    assert "peer hub is silent" not in internet.log(one_place)


def test_a_prefix_that_overlaps_a_nodes_network_or_controller_is_left_out_on_that_node(
    internet: EmulatedInternet,
) -> None:
    place, _ = internet.behind_nat("cone", f"{NETWORK}.11", "192.168.1")
    prefixes = ("192.168.0.0/16", f"{NETWORK}.0/30", "172.20.1.0/24")
    open_place = internet.public("greedy", f"{NETWORK}.9")
    greedy = internet.node(open_place, "jwsp9", "--child-prefix", ",".join(prefixes))
    eventually(True, lambda: bool(greedy.status()))
    cone = internet.node(place, "jwsp11")
    eventually(DIRECT, lambda: cone.path("greedy"))
    code, findings = cone.command("doctor")
    assert code == 0
    for prefix, own in zip(prefixes, ("192.168.1.0/24", f"{CONTROLLER}/32"), strict=False):
        assert f"{prefix} of peer greedy is left out: it overlaps {own}" in findings
    routed = json.loads(place.run(["ip", "-json", "route", "show", "dev", "jwsp11"]))
    assert {route["dst"] for route in routed} == {"10.20.0.0/20", "172.20.1.0/24"}
