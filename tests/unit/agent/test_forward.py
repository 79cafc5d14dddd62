# SPDX-License-Identifier: GPL-3.0-or-later
"""Forwarding to the networks behind a node, in a real network namespace: on, off again, and no further."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

import pytest

from jaywalk.errors import InvalidValue
from jaywalk_agent.forward import Forwarding
from tests.netns import Namespace

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
    forward = Forwarding(machine.runner, "jwt", wanted=True)
    assert forward.bring((PREFIX,)) != []
    assert forwarding(machine) == ["jwt", "jwbr"]
    assert forward.bring((PREFIX,)) == []
    machine.run(["ip", "link", "delete", "jwt"])
    # A command that the operator types later knows nothing of the wish.
    assert Forwarding(machine.runner, "jwt", wanted=False).remove() != []
    assert machine.run(["sysctl", "-n", "net.ipv4.conf.jwbr.forwarding"]) == "0\n"
    assert "jaywalk" not in machine.run(["nft", "list", "ruleset"])


def test_nothing_is_touched_without_the_wish(machine: Namespace) -> None:
    assert Forwarding(machine.runner, "jwt", wanted=False).bring((PREFIX,)) == []
    assert forwarding(machine) == []
    assert machine.run(["nft", "list", "ruleset"]) == ""


def test_what_an_earlier_start_left_goes_when_the_wish_is_gone(machine: Namespace) -> None:
    Forwarding(machine.runner, "jwt", wanted=True).bring((PREFIX,))
    assert Forwarding(machine.runner, "jwt", wanted=False).bring((PREFIX,)) != []
    assert machine.run(["nft", "list", "ruleset"]) == ""


def test_a_machine_that_forwards_anyway_goes_on(machine: Namespace) -> None:
    machine.run(["sysctl", "-qw", "net.ipv4.ip_forward=1"])
    forward = Forwarding(machine.runner, "jwt", wanted=True)
    forward.bring((PREFIX,))
    forward.remove()
    assert forwarding(machine) == ["jwt", "jwbr", "jwlan"]


def test_ipv6_is_the_operators_decision_and_ipv4_works_meanwhile(machine: Namespace) -> None:
    forward = Forwarding(machine.runner, "jwt", wanted=True)
    with pytest.raises(InvalidValue, match=r"net\.ipv6\.conf\.all\.forwarding=1"):
        forward.bring((PREFIX, "fd20:1::/64"))
    assert forwarding(machine) == ["jwt", "jwbr"]
    machine.run(["sysctl", "-qw", "net.ipv6.conf.all.forwarding=1"])
    assert forward.bring((PREFIX, "fd20:1::/64")) == []
