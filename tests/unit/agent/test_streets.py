# SPDX-License-Identifier: GPL-3.0-or-later
"""Agents behind real NATs on real WireGuard: direct where that is possible, by a relay where it is not."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns import Namespace
from tests.streets import CONTROLLER6, NETWORK, NETWORK6, Agent, Internet, block, eventually, mute, unblock

pytestmark = [pytest.mark.wireguard, pytest.mark.timeout(300)]

DIRECT = ("direct", None)


@pytest.fixture
def internet(tmp_path: Path) -> Iterator[Internet]:
    with Internet(tmp_path, f"jwst-{os.getpid()}") as made:
        yield made


class Ping:
    """A ping that runs while something happens."""

    def __init__(self, where: Namespace, host: str) -> None:
        self._process = where.start(["ping", "-i", "0.1", host])

    def lost(self) -> int:
        """Ends it and returns how many of its packets nobody answered; the last one may be on its way."""
        self._process.send_signal(signal.SIGINT)
        said, _ = self._process.communicate(timeout=20)
        sent, came = map(int, re.search(r"(\d+) packets transmitted, (\d+) received", said).groups())  # type: ignore[union-attr]
        assert sent > 10
        return max(0, sent - came - 1)


def reached(one: Agent, other: Agent) -> bool:
    return one.where.runner.run(["ping", "-c", "1", "-W", "1", other.address()]).returncode == 0


def test_two_cones_meet_by_what_an_open_peer_sees(internet: Internet) -> None:
    open_node = internet.node(internet.hub, "jwst0")
    one = internet.node(internet.behind_nat("one", f"{NETWORK}.11", "192.168.1")[0], "jwst1")
    other = internet.node(internet.behind_nat("other", f"{NETWORK}.12", "192.168.1")[0], "jwst2")
    eventually(DIRECT, lambda: one.path("other"))
    eventually(DIRECT, lambda: other.path("one"))
    assert {open_node.path("one"), open_node.path("other")} == {DIRECT}
    assert reached(one, other)


def test_a_relay_carries_what_cannot_be_direct_and_another_takes_its_place(internet: Internet) -> None:
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


def test_a_blocked_path_goes_by_the_relay_and_comes_back_without_loss(internet: Internet) -> None:
    internet.node(internet.hub, "jwsb0", "--relay")
    place, router = internet.behind_nat("one", f"{NETWORK}.11", "192.168.1")
    one = internet.node(place, "jwsb1")
    other = internet.node(internet.behind_nat("other", f"{NETWORK}.12", "192.168.2")[0], "jwsb2")
    for each, peer in ((one, "other"), (other, "one")):
        eventually(DIRECT, lambda each=each, peer=peer: each.path(peer))
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


def test_a_relay_carries_between_nodes_that_share_no_ip_version(internet: Internet) -> None:
    """The relay calls itself by its IPv4 address, which the node with IPv6 alone cannot reach."""
    internet.node(internet.hub, "jwsv0", "--relay")
    four = internet.node(internet.public("four", f"{NETWORK}.4"), "jwsv4")
    place = internet.public("six", f"{NETWORK6}:6")
    six = internet.node(place, "jwsv6", "--controller", f"[{CONTROLLER6}]:6379")
    eventually(DIRECT, lambda: six.path("hub"))
    eventually(("relayed", "hub"), lambda: six.path("four"))
    eventually(("relayed", "hub"), lambda: four.path("six"))
    eventually(True, lambda: reached(six, four))


def test_symmetric_nats_are_passed_by_over_ipv6(internet: Internet) -> None:
    internet.node(internet.hub, "jwsx0", "--relay")
    nodes = {}
    for name, number in (("one", 11), ("other", 12)):
        place, _ = internet.behind_nat(name, f"{NETWORK}.{number}", f"192.168.{number}", random=True)
        internet.open(place, f"{NETWORK6}:{number}", "six")
        nodes[name] = internet.node(place, f"jwsx{number}")
    eventually(DIRECT, lambda: nodes["one"].path("other"))
    eventually(DIRECT, lambda: nodes["other"].path("one"))
    assert reached(nodes["one"], nodes["other"])


def test_a_network_without_udp_is_told_so_and_joins_in_once_it_has_some(internet: Internet) -> None:
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
    assert "lets no UDP" in findings
    assert [one.path(name) for name in ("hub", "other")] == [("none", None)] * 2
    assert other.path("hub") == DIRECT
    unblock(router)
    eventually(DIRECT, lambda: one.path("hub"), 60)
    eventually(DIRECT, lambda: one.path("other"), 60)
    assert "2 of 2 peers answer" in one.command("doctor")[1]
    assert ping.lost() == 0
