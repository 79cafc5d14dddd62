# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's NAT sites: each router treats packets as its description says, and the internet delays them."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import Lab, LabError, Node
from lab.deadline import slowness
from lab.nat_sites import NatSites
from lab.topology import Topology
from tests.fleet import datagrams
from tests.fleet.fleet import ROOT
from tests.fleet.labs import leftovers, new_lab
from tests.waiting import eventually

SCRIPT = "/root/datagrams.py"
PORT = 51820
SERVER = 9000


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """The shipped NAT sites, with two servers on the internet and two machines that the tests move."""
    made = new_lab()
    topology = Topology.parse((ROOT / "lab" / "nat_sites.yml").read_text())
    try:
        made.up(["relay1", "relay2", "anna", "ben"], topology=topology)
        for node in made.nodes:
            node.run(f"cat > {SCRIPT}", stdin=Path(datagrams.__file__).read_text())
        for name in ("relay1", "relay2"):
            serve(made.node(name), SERVER)
        made.nat_sites.delay(0)
        yield made
    finally:
        made.down()


@pytest.fixture
def nat_sites(lab: Lab) -> NatSites:
    return lab.nat_sites


@pytest.fixture
def one(lab: Lab) -> str:
    """A server on the internet."""
    return f"{lab.node('relay1').address}:{SERVER}"


@pytest.fixture
def other(lab: Lab) -> str:
    """Another server on the internet."""
    return f"{lab.node('relay2').address}:{SERVER}"


def serve(node: Node, port: int) -> None:
    node.run(f"systemd-run --quiet --collect --unit=serve-{port} python3 {SCRIPT} serve {port}")
    eventually(lambda: f":{port}" in node.run("ss -Hlun").stdout, f"{node.name} listens")


def ask(node: Node, *words: str, port: int = PORT) -> list[str]:
    """Send from one port of a machine to each server, and return the replies in order."""
    return node.run(["python3", SCRIPT, "ask", str(port), *words]).stdout.split()


def move(lab: Lab, name: str, site: str) -> Node:
    lab.move(name, site)
    return lab.node(name)


@pytest.mark.parametrize("site", ["cone1", "forward1", "hotel"])
def test_a_cone_maps_a_source_to_one_public_port(lab: Lab, one: str, other: str, site: str) -> None:
    replies = ask(move(lab, "anna", site), one, other)
    assert replies == [f"{lab.nat_sites.topology.site(site).wan}:{PORT}"] * 2


def test_a_symmetric_nat_maps_a_source_to_a_port_per_server(lab: Lab, one: str, other: str) -> None:
    first, second = ask(move(lab, "anna", "symmetric1"), one, other)
    wan = lab.nat_sites.topology.site("symmetric1").wan
    assert first.startswith(f"{wan}:") and second.startswith(f"{wan}:")
    assert first != second


def test_a_firewall_does_not_change_a_public_address(lab: Lab, one: str) -> None:
    anna = move(lab, "anna", "firewall1")
    assert anna.address == "203.0.113.202"
    assert ask(anna, one) == [f"203.0.113.202:{PORT}"]


@pytest.mark.parametrize("site", ["cone1", "symmetric1", "firewall1"])
def test_only_the_exact_destination_port_may_reply(lab: Lab, one: str, site: str) -> None:
    anna = move(lab, "anna", site)
    assert "silence" not in ask(anna, one)
    assert ask(anna, one, "from=9001") == ["silence"]


@pytest.mark.parametrize("site", ["cone1", "firewall1", "forward1"])
def test_unsolicited_packets_pass_only_by_a_forwarded_port(lab: Lab, one: str, site: str) -> None:
    anna = move(lab, "anna", site)
    target = ask(anna, one)[0]
    serve(anna, PORT)
    try:
        unsolicited = ask(lab.node("relay2"), target)
    finally:
        anna.run(f"systemctl stop serve-{PORT}")
    assert unsolicited == ([f"{lab.node('relay2').address}:{PORT}"] if site == "forward1" else ["silence"])


def test_two_machines_of_one_site_have_different_ports_and_reach_each_other(lab: Lab, one: str) -> None:
    anna, ben = move(lab, "anna", "cone1"), move(lab, "ben", "cone1")
    assert anna.address != ben.address
    first, second = ask(anna, one)[0], ask(ben, one)[0]
    assert first.split(":")[0] == second.split(":")[0]
    assert first != second
    anna.run(f"ping -c 1 -W 2 {ben.address}")


def test_machines_of_an_isolated_site_do_not_reach_each_other(lab: Lab, one: str) -> None:
    anna, ben = move(lab, "anna", "hotel"), move(lab, "ben", "hotel")
    assert "silence" not in ask(anna, one) + ask(ben, one)
    assert anna.run(f"ping -c 1 -W 1 {ben.address}", check=False).rc != 0


@pytest.mark.parametrize(("site", "hairpin"), [("campus", True), ("forward1", False)])
def test_a_hairpin_reaches_a_forwarded_port_of_the_same_site(lab: Lab, site: str, hairpin: bool) -> None:
    move(lab, "ben", "cone2")
    anna, ben = move(lab, "anna", site), move(lab, "ben", site)
    wan = lab.nat_sites.topology.site(site).wan
    serve(anna, PORT)
    try:
        answers = ask(ben, f"{wan}:{PORT}", port=4000)
    finally:
        anna.run(f"systemctl stop serve-{PORT}")
    assert answers == ([f"{wan}:4000"] if hairpin else ["silence"])


def test_two_sites_with_the_same_network_reach_the_same_server(lab: Lab, one: str) -> None:
    anna, ben = move(lab, "anna", "cone1"), move(lab, "ben", "cone2")
    assert anna.address == ben.address == "192.168.1.10"
    assert ask(anna, one) != ask(ben, one)
    assert anna.run("uname -n").stdout + ben.run("uname -n").stdout == "anna\nben\n"


def test_a_renumbered_site_sends_from_its_new_address(lab: Lab, nat_sites: NatSites, one: str) -> None:
    anna = move(lab, "anna", "cone1")
    old = ask(anna, one)[0]
    new = nat_sites.renumber("cone1")
    assert ask(anna, one) == [f"{new}:{PORT}"] != [old]
    assert nat_sites.topology.site("cone1").wan == str(new)


@pytest.mark.parametrize(("forgets", "replies"), [(False, 2), (True, 1)])
def test_a_router_without_its_mappings_drops_a_late_reply(
    lab: Lab, nat_sites: NatSites, one: str, forgets: bool, replies: int
) -> None:
    anna = move(lab, "anna", "cone1")
    delay = 1.5 * slowness()
    asking = anna.start_background(f"python3 {SCRIPT} ask {PORT} {one} again={delay}")
    eventually(lambda: asking.stdout.count("\n") == 1, "the first reply")
    if forgets:
        nat_sites.forget("cone1")
    answers = asking.wait().stdout.split()
    assert len([answer for answer in answers if answer != "silence"]) == replies


@pytest.mark.parametrize(("both", "heard"), [(False, "silence"), (True, "heard")])
def test_ipv6_passes_firewalls_that_both_sides_have_opened(lab: Lab, both: bool, heard: str) -> None:
    nodes = move(lab, "anna", "dual1"), move(lab, "ben", "dual2")
    anna, ben = (str(node.machine.spec.interfaces[0].address6).partition("/")[0] for node in nodes)
    listening = nodes[1].start_background(f"python3 {SCRIPT} punch {PORT} {anna if both else ''}")
    nodes[0].run(f"python3 {SCRIPT} punch {PORT} {ben}")
    assert listening.wait().stdout.split() == [heard]


def test_the_internet_has_a_delay_and_a_site_has_none(lab: Lab, nat_sites: NatSites) -> None:
    anna, ben = move(lab, "anna", "cone1"), move(lab, "ben", "cone1")
    nat_sites.delay(300)
    try:
        assert least_round_trip_ms(anna, lab.node("relay1").address) >= 300
        assert least_round_trip_ms(lab.node("relay2"), lab.node("relay1").address) >= 300
        assert least_round_trip_ms(anna, ben.address) < 300
    finally:
        nat_sites.delay(0)
    assert least_round_trip_ms(anna, lab.node("relay1").address) < 300


def least_round_trip_ms(node: Node, address: str) -> float:
    match = re.search(r"= ([0-9.]+)/", node.run(f"ping -n -q -c 5 -i 0.1 {address}").stdout)
    assert match
    return float(match.group(1))


def test_only_packets_of_a_blocked_pair_are_lost(lab: Lab, one: str, other: str) -> None:
    anna = move(lab, "anna", "cone1")
    lab.block("anna", "relay1")
    try:
        assert ask(anna, one, other)[0] == "silence"
        assert "silence" not in ask(anna, other) + ask(lab.node("relay2"), one)
    finally:
        lab.block("cone1", "relay1", blocked=False)
    assert "silence" not in ask(anna, one)


def test_the_operator_still_reaches_a_public_machine_that_is_cut_off(lab: Lab, one: str) -> None:
    server = lab.node("relay1")
    server.cut()
    try:
        assert ask(lab.node("relay2"), one) == ["silence"]
        assert server.run("cat /sys/class/net/eth0/carrier").stdout == "1\n"
    finally:
        server.heal()
    assert "silence" not in ask(lab.node("relay2"), one)


def test_a_machine_stays_in_its_site_over_a_reboot(lab: Lab, one: str) -> None:
    ben = move(lab, "ben", "symmetric2")
    ben.reboot()
    assert ask(ben, one)[0].startswith(f"{lab.nat_sites.topology.site('symmetric2').wan}:")


def test_a_machine_of_the_nat_sites_has_no_other_address(lab: Lab) -> None:
    """The operator connects from inside the namespace: there is no other interface that a mesh could use."""
    for node in lab.nodes:
        links = json.loads(node.run("ip -json -4 address show scope global").stdout)
        addresses = [address["local"] for link in links if link for address in link["addr_info"]]
        assert addresses == [node.address]


def test_ansible_reaches_two_machines_with_the_same_address(lab: Lab) -> None:
    move(lab, "anna", "cone1")
    move(lab, "ben", "cone2")
    inventory = lab.write_inventory(lab.directory / "inventory", variables={})
    command = ["ansible", "-i", str(inventory), "anna,ben,relay1", "-m", "command", "-a", "uname -n"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("anna", "ben", "relay1"):
        assert f"{name} | CHANGED | rc=0 >>\n{name}\n" in done.stdout


WIREGUARD = """\
set -e
ip link del {interface} 2>/dev/null || true
wireguard-go {interface}
wg set {interface} listen-port 51820 private-key <(wg genkey | tee /root/{interface}.key)
ip addr add {address}/24 dev {interface}
ip link set {interface} up
wg show {interface} public-key
"""


@pytest.mark.parametrize(("site", "connects"), [("cone2", True), ("symmetric2", False)])
def test_plain_wireguard_connects_through_two_cones_and_not_through_a_symmetric_nat(
    lab: Lab, site: str, connects: bool
) -> None:
    """Each peer gets the endpoint that a public peer observes of the other: a mesh has no more."""
    nodes = {
        "relay1": lab.node("relay1"),
        "anna": move(lab, "anna", "cone1"),
        "ben": move(lab, "ben", site),
    }
    keys = {}
    for number, (name, node) in enumerate(nodes.items(), start=1):
        script = WIREGUARD.format(interface="wgt", address=f"10.9.0.{number}")
        keys[name] = node.run(["bash", "-c", script]).stdout.strip()
    hub = nodes["relay1"]
    for number, name in enumerate(("anna", "ben"), start=2):
        hub.run(["wg", "set", "wgt", "peer", keys[name], "allowed-ips", f"10.9.0.{number}/32"])
        set_peer(nodes[name], keys["relay1"], f"{hub.address}:51820", "10.9.0.1/32")
        nodes[name].run("ping -n -c 1 -W 3 10.9.0.1")
    endpoints = dict(line.split() for line in hub.run("wg show wgt endpoints").stdout.splitlines())
    set_peer(nodes["anna"], keys["ben"], endpoints[keys["ben"]], "10.9.0.3/32")
    time.sleep(0.5)  # simultaneous handshakes may cancel each other
    set_peer(nodes["ben"], keys["anna"], endpoints[keys["anna"]], "10.9.0.2/32")
    ping = nodes["anna"].run(f"ping -n -c 1 -w {60 if connects else 8} 10.9.0.3", timeout=90, check=False)
    for node in nodes.values():
        node.run("ip link del wgt")
    assert (ping.rc == 0) is connects, ping.stdout


def set_peer(node: Node, key: str, endpoint: str, allowed: str) -> None:
    peer = ["peer", key, "endpoint", endpoint, "allowed-ips", allowed, "persistent-keepalive", "25"]
    node.run(["wg", "set", "wgt", *peer])


def test_a_lab_refuses_other_nat_sites_and_unknown_ones(lab: Lab) -> None:
    with pytest.raises(LabError, match="other NAT sites already"):
        lab.up(["anna"], topology=Topology.from_record({"machines": {"anna": "internet"}}))
    with pytest.raises(LabError, match="no NAT site 'moon'"):
        lab.move("anna", "moon")


def test_nothing_of_the_nat_sites_is_left_after_down() -> None:
    made = new_lab()
    topology = Topology.from_record({"sites": {"home": {}}, "machines": {"anna": "home"}})
    made.up(["anna"], topology=topology)
    prefix = made.spec.prefix
    assert made.down()
    eventually(lambda: not leftovers(made, prefix), "everything is removed")
