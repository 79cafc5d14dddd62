# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's streets: each router does to packets what its description says, and the way takes its time."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab import Lab, LabError, Node
from lab.patience import slowness
from lab.streets import Streets
from lab.topology import Topology
from tests.fleet import datagrams
from tests.fleet.fleet import ROOT
from tests.fleet.labs import leftovers, new_lab
from tests.waiting import eventually

SCRIPT = "/root/datagrams.py"
PORT = 51820
SERVER = 9000
Ask = Callable[..., list[str]]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """The streets that ship with the lab, with two servers on the internet and two machines that move."""
    made = new_lab()
    topology = Topology.parse((ROOT / "lab" / "streets.yml").read_text())
    try:
        made.up(["relay1", "relay2", "anna", "ben"], topology=topology)
        for node in made.nodes:
            node.run(f"cat > {SCRIPT}", stdin=Path(datagrams.__file__).read_text())
        for name in ("relay1", "relay2"):
            serve(made.node(name), SERVER)
        made.streets.delay(0)
        yield made
    finally:
        made.down()


@pytest.fixture
def streets(lab: Lab) -> Streets:
    return lab.streets


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
    eventually(lambda: f":{port}" in node.run("ss -Hlun").stdout, f"{node.name} serves")


def ask(node: Node, *words: str, port: int = PORT) -> list[str]:
    """What came back to one port of a machine, answer by answer."""
    return node.run(["python3", SCRIPT, "ask", str(port), *words]).stdout.split()


def place(lab: Lab, name: str, street: str) -> Node:
    lab.move(name, street)
    return lab.node(name)


@pytest.mark.parametrize("street", ["cone1", "forward1", "hotel"])
def test_a_cone_shows_every_server_the_same_public_port(lab: Lab, one: str, other: str, street: str) -> None:
    seen = ask(place(lab, "anna", street), one, other)
    assert seen == [f"{lab.streets.topology.street(street).wan}:{PORT}"] * 2


def test_a_symmetric_nat_shows_each_server_another_public_port(lab: Lab, one: str, other: str) -> None:
    first, second = ask(place(lab, "anna", "symmetric1"), one, other)
    wan = lab.streets.topology.street("symmetric1").wan
    assert first.startswith(f"{wan}:") and second.startswith(f"{wan}:")
    assert first != second


def test_a_firewall_leaves_a_public_address_as_it_is(lab: Lab, one: str) -> None:
    anna = place(lab, "anna", "firewall1")
    assert anna.address == "203.0.113.202"
    assert ask(anna, one) == [f"203.0.113.202:{PORT}"]


@pytest.mark.parametrize("street", ["cone1", "symmetric1", "firewall1"])
def test_only_the_very_port_that_was_asked_may_answer(lab: Lab, one: str, street: str) -> None:
    anna = place(lab, "anna", street)
    assert "silence" not in ask(anna, one)
    assert ask(anna, one, "from=9001") == ["silence"]


@pytest.mark.parametrize("street", ["cone1", "firewall1", "forward1"])
def test_a_stranger_gets_in_by_a_forwarded_port_alone(lab: Lab, one: str, street: str) -> None:
    anna = place(lab, "anna", street)
    target = ask(anna, one)[0]
    serve(anna, PORT)
    try:
        stranger = ask(lab.node("relay2"), target)
    finally:
        anna.run(f"systemctl stop serve-{PORT}")
    assert stranger == ([f"{lab.node('relay2').address}:{PORT}"] if street == "forward1" else ["silence"])


def test_two_machines_of_one_street_get_ports_of_their_own_and_hear_each_other(lab: Lab, one: str) -> None:
    anna, ben = place(lab, "anna", "cone1"), place(lab, "ben", "cone1")
    assert anna.address != ben.address
    first, second = ask(anna, one)[0], ask(ben, one)[0]
    assert first.split(":")[0] == second.split(":")[0]
    assert first != second
    anna.run(f"ping -c 1 -W 2 {ben.address}")


def test_guests_of_a_hotel_hear_nothing_of_each_other(lab: Lab, one: str) -> None:
    anna, ben = place(lab, "anna", "hotel"), place(lab, "ben", "hotel")
    assert "silence" not in ask(anna, one) + ask(ben, one)
    assert anna.run(f"ping -c 1 -W 1 {ben.address}", check=False).rc != 0


@pytest.mark.parametrize(("street", "hairpin"), [("campus", True), ("forward1", False)])
def test_a_hairpin_leads_to_the_neighbours_forwarded_port(lab: Lab, street: str, hairpin: bool) -> None:
    place(lab, "ben", "cone2")
    anna, ben = place(lab, "anna", street), place(lab, "ben", street)
    wan = lab.streets.topology.street(street).wan
    serve(anna, PORT)
    try:
        answers = ask(ben, f"{wan}:{PORT}", port=4000)
    finally:
        anna.run(f"systemctl stop serve-{PORT}")
    assert answers == ([f"{wan}:4000"] if hairpin else ["silence"])


def test_two_sites_have_the_same_network_and_meet_the_same_server(lab: Lab, one: str) -> None:
    anna, ben = place(lab, "anna", "cone1"), place(lab, "ben", "cone2")
    assert anna.address == ben.address == "192.168.1.10"
    assert ask(anna, one) != ask(ben, one)
    assert anna.run("uname -n").stdout + ben.run("uname -n").stdout == "anna\nben\n"


def test_a_renumbered_street_is_seen_at_its_new_address(lab: Lab, streets: Streets, one: str) -> None:
    anna = place(lab, "anna", "cone1")
    old = ask(anna, one)[0]
    new = streets.renumber("cone1")
    assert ask(anna, one) == [f"{new}:{PORT}"] != [old]
    assert streets.topology.street("cone1").wan == str(new)


@pytest.mark.parametrize(("forgets", "heard"), [(False, 2), (True, 1)])
def test_a_router_that_forgets_lets_no_late_answer_in(
    lab: Lab, streets: Streets, one: str, forgets: bool, heard: int
) -> None:
    anna = place(lab, "anna", "cone1")
    late = 1.5 * slowness()
    asking = anna.start_background(f"python3 {SCRIPT} ask {PORT} {one} again={late}")
    eventually(lambda: asking.stdout.count("\n") == 1, "the first answer")
    if forgets:
        streets.forget("cone1")
    answers = asking.wait().stdout.split()
    assert len([answer for answer in answers if answer != "silence"]) == heard


@pytest.mark.parametrize(("both", "heard"), [(False, "silence"), (True, "heard")])
def test_ipv6_passes_firewalls_that_both_sides_have_opened(lab: Lab, both: bool, heard: str) -> None:
    nodes = place(lab, "anna", "dual1"), place(lab, "ben", "dual2")
    anna, ben = (str(node.machine.spec.legs[0].address6).partition("/")[0] for node in nodes)
    listening = nodes[1].start_background(f"python3 {SCRIPT} punch {PORT} {anna if both else ''}")
    nodes[0].run(f"python3 {SCRIPT} punch {PORT} {ben}")
    assert listening.wait().stdout.split() == [heard]


def test_the_way_takes_its_time_and_a_street_takes_none(lab: Lab, streets: Streets) -> None:
    anna, ben = place(lab, "anna", "cone1"), place(lab, "ben", "cone1")
    streets.delay(300)
    try:
        assert least_round_trip(anna, lab.node("relay1").address) >= 300
        assert least_round_trip(lab.node("relay2"), lab.node("relay1").address) >= 300
        assert least_round_trip(anna, ben.address) < 300
    finally:
        streets.delay(0)
    assert least_round_trip(anna, lab.node("relay1").address) < 300


def least_round_trip(node: Node, address: str) -> float:
    found = re.search(r"= ([0-9.]+)/", node.run(f"ping -n -q -c 5 -i 0.1 {address}").stdout)
    assert found
    return float(found.group(1))


def test_a_blocked_pair_meets_silence_and_others_nothing(lab: Lab, one: str, other: str) -> None:
    anna = place(lab, "anna", "cone1")
    lab.block("anna", "relay1")
    try:
        assert ask(anna, one, other)[0] == "silence"
        assert "silence" not in ask(anna, other) + ask(lab.node("relay2"), one)
    finally:
        lab.block("cone1", "relay1", blocked=False)
    assert "silence" not in ask(anna, one)


def test_a_public_machine_may_be_cut_off_and_is_reached_by_the_operator_all_the_same(
    lab: Lab, one: str
) -> None:
    server = lab.node("relay1")
    server.cut()
    try:
        assert ask(lab.node("relay2"), one) == ["silence"]
        assert server.run("cat /sys/class/net/eth0/carrier").stdout == "1\n"
    finally:
        server.heal()
    assert "silence" not in ask(lab.node("relay2"), one)


def test_a_machine_keeps_its_place_over_a_reboot(lab: Lab, one: str) -> None:
    ben = place(lab, "ben", "symmetric2")
    ben.reboot()
    assert ask(ben, one)[0].startswith(f"{lab.streets.topology.street('symmetric2').wan}:")


def test_no_machine_of_the_streets_has_an_address_beyond_its_place(lab: Lab) -> None:
    """The operator comes in by the namespace: there is no other cable that a mesh could take."""
    for node in lab.nodes:
        links = json.loads(node.run("ip -json -4 address show scope global").stdout)
        addresses = [each["local"] for link in links if link for each in link["addr_info"]]
        assert addresses == [node.address]


def test_ansible_reaches_machines_of_one_address_apart(lab: Lab) -> None:
    place(lab, "anna", "cone1")
    place(lab, "ben", "cone2")
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


@pytest.mark.parametrize(("street", "meets"), [("cone2", True), ("symmetric2", False)])
def test_plain_wireguard_gets_through_two_cones_and_not_through_a_symmetric_nat(
    lab: Lab, street: str, meets: bool
) -> None:
    """Each is given the endpoint at which a public peer sees the other: all that a mesh can know."""
    nodes = {
        "relay1": lab.node("relay1"),
        "anna": place(lab, "anna", "cone1"),
        "ben": place(lab, "ben", street),
    }
    keys = {}
    for number, (name, node) in enumerate(nodes.items(), start=1):
        script = WIREGUARD.format(interface="wgt", address=f"10.9.0.{number}")
        keys[name] = node.run(["bash", "-c", script]).stdout.strip()
    hub = nodes["relay1"]
    for number, name in enumerate(("anna", "ben"), start=2):
        hub.run(["wg", "set", "wgt", "peer", keys[name], "allowed-ips", f"10.9.0.{number}/32"])
        introduce(nodes[name], keys["relay1"], f"{hub.address}:51820", "10.9.0.1/32")
        nodes[name].run("ping -n -c 1 -W 3 10.9.0.1")
    seen = dict(line.split() for line in hub.run("wg show wgt endpoints").stdout.splitlines())
    introduce(nodes["anna"], keys["ben"], seen[keys["ben"]], "10.9.0.3/32")
    time.sleep(0.5)  # both at once, their handshakes may cancel each other
    introduce(nodes["ben"], keys["anna"], seen[keys["anna"]], "10.9.0.2/32")
    ping = nodes["anna"].run(f"ping -n -c 1 -w {60 if meets else 8} 10.9.0.3", timeout=90, check=False)
    for node in nodes.values():
        node.run("ip link del wgt")
    assert (ping.rc == 0) is meets, ping.stdout


def introduce(node: Node, key: str, endpoint: str, allowed: str) -> None:
    peer = ["peer", key, "endpoint", endpoint, "allowed-ips", allowed, "persistent-keepalive", "25"]
    node.run(["wg", "set", "wgt", *peer])


def test_a_lab_keeps_the_streets_that_it_has(lab: Lab) -> None:
    with pytest.raises(LabError, match="other streets already"):
        lab.up(["anna"], topology=Topology.of({"machines": {"anna": "internet"}}))
    with pytest.raises(LabError, match="no street 'moon'"):
        lab.move("anna", "moon")


def test_nothing_of_the_streets_is_left_after_down() -> None:
    made = new_lab()
    topology = Topology.of({"streets": {"home": {}}, "machines": {"anna": "home"}})
    made.up(["anna"], topology=topology)
    prefix = made.spec.prefix
    assert made.down()
    eventually(lambda: not leftovers(made, prefix), "all is gone")
