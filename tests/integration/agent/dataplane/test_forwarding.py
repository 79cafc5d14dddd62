# SPDX-License-Identifier: GPL-3.0-or-later
"""Forwarding to the networks behind a node, in a real network namespace: on, off again, and no further."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import time
from collections.abc import Callable

import pytest

from jaywalk_agent.dataplane.forwarding import Forwarding, forwards_ipv6
from tests.netns import Namespace, connect

pytestmark = [
    pytest.mark.wireguard,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(shutil.which("nft") is None, reason="needs nft"),
]
DEVICES = {"jwt": "10.20.0.1/20", "jwbr": "172.24.0.1/24", "jwlan": "192.0.2.1/24"}
PREFIX = "172.24.0.0/24"


@pytest.fixture
def machine(namespace: Callable[[str], Namespace]) -> Namespace:
    """A machine with the interface, a network to announce, and another one; it forwards nothing."""
    made = namespace("jwfo")
    for name, address in DEVICES.items():
        made.run(["ip", "link", "add", name, "type", "bridge"])
        made.run(["ip", "addr", "add", address, "dev", name])
        made.run(["ip", "link", "set", name, "up"])
    made.run(["sysctl", "-qw", "net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=0"])
    return made


def forwarding(machine: Namespace) -> list[str]:
    """The devices that packets may come from to be forwarded."""
    flag = "net.ipv4.conf.{}.forwarding"
    return [each for each in DEVICES if machine.run(["sysctl", "-n", flag.format(each)]) == "1\n"]


def test_only_the_devices_on_the_way_forward_and_only_for_so_long(machine: Namespace) -> None:
    forward = Forwarding(machine.runner, "jwt", enabled=True)
    assert forward.reconcile((PREFIX,)) != []
    assert forwarding(machine) == ["jwt", "jwbr"]
    assert forward.reconcile((PREFIX,)) == []
    machine.run(["ip", "link", "delete", "jwt"])
    # A command that the operator types later knows nothing of the wish.
    assert Forwarding(machine.runner, "jwt", enabled=False).remove() != []
    assert machine.run(["sysctl", "-n", "net.ipv4.conf.jwbr.forwarding"]) == "0\n"
    assert "jaywalk" not in machine.run(["nft", "list", "ruleset"])


def test_what_is_missing_is_told_without_a_change(machine: Namespace) -> None:
    forward = Forwarding(machine.runner, "jwt", enabled=True)
    before = machine.run(["nft", "list", "ruleset"]), forwarding(machine)
    lines = forward.missing((PREFIX,))
    assert "net/ipv4/conf/jwbr/forwarding=1" in lines
    assert (machine.run(["nft", "list", "ruleset"]), forwarding(machine)) == before
    assert forward.reconcile((PREFIX,)) == lines
    assert forward.missing((PREFIX,)) == []
    machine.run(["nft", "flush", "ruleset"])
    assert any("insert rule" in line for line in forward.missing((PREFIX,)))
    assert Forwarding(machine.runner, "jwt", enabled=False).missing((PREFIX,)) == []


def test_rules_and_settings_that_somebody_flushed_are_restored_and_told_of(
    machine: Namespace, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    forward = Forwarding(machine.runner, "jwt", enabled=True)
    forward.restore()
    assert forwarding(machine) == [], "nothing was wished for yet"
    forward.apply((PREFIX,))
    assert forwarding(machine) == ["jwt", "jwbr"]
    assert not any("restored" in each for each in caplog.messages)
    machine.run(["nft", "flush", "ruleset"])
    machine.run(["sysctl", "-qw", "net.ipv4.conf.jwbr.forwarding=0"])
    forward.apply((PREFIX,))
    assert forwarding(machine) == ["jwt", "jwbr"]
    assert "table inet jaywalk_jwt" in machine.run(["nft", "list", "ruleset"])
    assert "forwarding: this was gone, restored: net/ipv4/conf/jwbr/forwarding=1" in caplog.messages
    assert any("restored: insert rule" in each for each in caplog.messages)
    forward.apply(())
    forward.restore()
    assert "jaywalk" not in machine.run(["nft", "list", "ruleset"])


def test_nothing_is_touched_without_the_wish(machine: Namespace) -> None:
    assert Forwarding(machine.runner, "jwt", enabled=False).reconcile((PREFIX,)) == []
    assert forwarding(machine) == []
    assert machine.run(["nft", "list", "ruleset"]) == ""


def test_what_an_earlier_start_left_goes_when_the_wish_is_gone(machine: Namespace) -> None:
    Forwarding(machine.runner, "jwt", enabled=True).reconcile((PREFIX,))
    assert Forwarding(machine.runner, "jwt", enabled=False).reconcile((PREFIX,)) != []
    assert machine.run(["nft", "list", "ruleset"]) == ""


def test_a_machine_that_forwards_anyway_goes_on(machine: Namespace) -> None:
    machine.run(["sysctl", "-qw", "net.ipv4.ip_forward=1"])
    forward = Forwarding(machine.runner, "jwt", enabled=True)
    forward.reconcile((PREFIX,))
    forward.remove()
    assert forwarding(machine) == ["jwt", "jwbr", "jwlan"]


ADVERTISEMENT = """
import socket, struct
link = socket.if_nametoindex("jwup")
raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
# Type 134, the kernel's checksum, 64 hops, a router for half an hour (RFC 4861, 4.2).
raw.sendto(struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0), ("ff02::1", 0, 0, link))
"""


@pytest.fixture
def provider(machine: Namespace, namespace: Callable[[str], Namespace]) -> Namespace:
    """The router at which the machine hangs, and knows that the machine leads to fd20:1::/64."""
    made = namespace("jwfo-up")
    made.run(["sysctl", "-qw", "net.ipv6.conf.all.forwarding=1"])
    connect(machine, made, "fd00:a::1/64", "fd00:a::2/64", link="jwup")
    made.run(["ip", "route", "add", "fd20:1::/64", "via", "fd00:a::1"])
    return made


@pytest.fixture
def container(machine: Namespace, namespace: Callable[[str], Namespace]) -> Namespace:
    made = namespace("jwfo-in")
    connect(machine, made, "fd20:1::1/64", "fd20:1::2/64", link="jwin")
    made.run(["ip", "route", "add", "default", "via", "fd20:1::1"])
    return made


def hears(machine: Namespace, provider: Namespace) -> bool:
    """Whether the machine takes its provider's advertisement for a default route, within some seconds."""
    for _ in range(50):
        # Before the provider's own address is sure nothing leaves it.
        provider.runner.run([sys.executable, "-c", ADVERTISEMENT])
        if "proto ra" in machine.run(["ip", "-6", "route", "show", "default"]):
            return True
        time.sleep(0.1)
    return False


def pings(provider: Namespace) -> bool:
    return provider.runner.run(["ping", "-c", "1", "-W", "2", "fd20:1::2"]).returncode == 0


def test_ipv6_is_forwarded_and_the_default_route_of_a_router_stays(
    machine: Namespace, provider: Namespace, container: Namespace
) -> None:
    forward = Forwarding(machine.runner, "jwt", enabled=True)
    assert hears(machine, provider)
    assert not pings(provider)
    done = forward.reconcile((PREFIX, "fd20:1::/64"))
    assert pings(provider)
    assert "proto ra" in machine.run(["ip", "-6", "route", "show", "default"])
    machine.run(["ip", "-6", "route", "delete", "default"])
    assert hears(machine, provider), "also what its router says from now on"
    assert done[-1] == "net/ipv6/conf/all/forwarding=1"
    assert forward.reconcile((PREFIX, "fd20:1::/64")) == []


def test_a_device_that_was_to_be_deaf_stays_so(machine: Namespace) -> None:
    machine.run(["sysctl", "-qw", "net.ipv6.conf.jwlan.accept_ra=0", "net.ipv6.conf.jwbr.forwarding=1"])
    done = Forwarding(machine.runner, "jwt", enabled=True).reconcile(("fd20:1::/64",))
    assert {each for each in done if "/jw" in each and "accept_ra" in each} == {
        "net/ipv6/conf/jwt/accept_ra=2"
    }


def test_without_ipv6_prefixes_ipv6_is_left_alone(machine: Namespace) -> None:
    Forwarding(machine.runner, "jwt", enabled=True).reconcile((PREFIX,))
    assert not forwards_ipv6(machine.runner)
