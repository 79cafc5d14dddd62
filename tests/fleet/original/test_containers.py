# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers across nodes: networks behind two nodes reach each other, and a third node reaches both.

A network namespace on a bridge stands for a container, with the rules of a container engine.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fleet.fleet import eventually
from tests.fleet.original.manual_operator import ManualOperator

NETWORKS = {"node1": "172.24.0", "node2": "172.28.0"}
ENGINE = """
ip link add net1 type bridge && ip addr add {network}.1/24 dev net1 && ip link set net1 up
ip netns add box && ip link add box0 type veth peer name eth0 netns box
ip link set box0 master net1 up && ip -n box addr add {network}.2/24 dev eth0
ip -n box link set eth0 up && ip -n box link set lo up && ip -n box route add default via {network}.1
nft -f - <<'RULES'
table ip engine {{
    chain postrouting {{
        type nat hook postrouting priority srcnat; ip saddr {network}.0/24 oifname != "net1" masquerade
    }}
}}
{firewall}
RULES
"""
FIREWALLS = {
    # As Docker's: drop all packets that no rule accepts; users' rules come first.
    "node1": """
        table ip filter {
            chain DOCKER-USER { }
            chain FORWARD {
                type filter hook forward priority filter; policy drop; jump DOCKER-USER
                ct state established,related accept
                iifname "net1" accept
            }
        }""",
    # An operator's own.
    "node2": """
        table inet firewall {
            chain forward {
                type filter hook forward priority filter; policy drop; ct state established accept
            }
        }""",
}
REMOVE = """
ip netns delete box; ip link delete net1; rm -rf /tmp/served
for table in 'ip engine' 'ip filter' 'inet firewall'; do nft delete table $table 2>/dev/null; done; true
"""
SERVE = "mkdir -p /tmp/served; cd /tmp/served; echo hello > page; ip netns exec box python3 -m http.server"


@pytest.fixture
def engines(operator: ManualOperator) -> Iterator[None]:
    """Two nodes with a container network each, and a container in it."""
    for name, network in NETWORKS.items():
        operator[name].run(ENGINE.format(network=network, firewall=FIREWALLS[name]))
    yield
    for name in NETWORKS:
        operator[name].run(REMOVE)


def test_containers_of_two_nodes_and_a_third_node_reach_each_other(
    operator: ManualOperator, engines: None
) -> None:
    keys = {name: operator.make_key(name) for name in NETWORKS}
    agents = {
        name: operator.start(name, "containers", CONTAINER_NETWORK=f"{network}.0/24", **keys[name])
        for name, network in NETWORKS.items()
    }
    operator.start("node3", "join with files")
    for name in ("node1", "node2", "node3"):
        operator.joined(name)
    box = "ip netns exec box"
    ping = "ping -n -q -c 2 -i 0.2 -W 2"
    for name, other in (("node1", "node2"), ("node2", "node1")):
        answer = f"{box} {ping} {NETWORKS[other]}.2"
        eventually(
            lambda name=name, answer=answer: operator[name].run(answer, check=False).rc == 0,
            f"{name}'s container pings",
        )
    for network in NETWORKS.values():
        operator.will_reach("node3", f"{network}.2")

    server = operator["node2"].start_background(SERVE)
    download = f"curl -sSf --max-time 5 http://{NETWORKS['node2']}.2:8000/page"
    eventually(
        lambda: operator["node1"].run(f"{box} {download}", check=False).stdout == "hello\n", "a download"
    )
    assert operator["node3"].run(download).stdout == "hello\n"
    # The server received the request from the container's address, not its node's.
    assert f"{NETWORKS['node1']}.2 - -" in server.stop().stderr

    forwards = "sysctl -n net.ipv4.conf.net1.forwarding"
    for name, agent in agents.items():
        assert "jaywalk wg0" in operator[name].run("nft list ruleset").stdout
        assert operator[name].run(forwards).stdout == "1\n"
        agent.stop()
        operator.run(name, "down")
        assert "jaywalk" not in operator[name].run("nft list ruleset").stdout
        assert operator[name].run(forwards).stdout == "0\n"
