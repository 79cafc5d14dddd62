# SPDX-License-Identifier: GPL-3.0-or-later
"""An operator's plays: first and repeated rollouts, on all and on single machines."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from lab import reachability
from tests.fleet.fleet import INTERFACE, MEMBERS, UNIT, ZONE, Fleet, eventually


def invocations(fleet: Fleet) -> dict[str, str]:
    """Return the invocation id of each member's agent."""
    return {name: fleet[name].run(f"systemctl show -P InvocationID {UNIT}").stdout for name in MEMBERS}


def test_every_member_reaches_every_other_over_the_tunnel(fleet: Fleet) -> None:
    nodes = {name: fleet[name] for name in MEMBERS}
    matrix = reachability.measure(nodes, {name: fleet.address(name) for name in MEMBERS}, INTERFACE)
    assert reachability.summary(matrix) == "6/6 pairs reachable over the tunnel", reachability.table(matrix)


def test_the_packets_between_members_are_encrypted(fleet: Fleet) -> None:
    """Only WireGuard's UDP is on the wire; the ping itself is visible only inside the tunnel."""
    capture = fleet["node2"].start_background("timeout 60 tcpdump -n -i eth0 -c 200 'udp port 51820 or icmp'")
    with fleet.ping("node1", "node2"):
        captured = capture.wait(90).stdout
    assert "UDP" in captured
    assert "ICMP" not in captured


def test_status_of_a_member_is_in_order(fleet: Fleet) -> None:
    status = fleet.status("node1")
    assert status["zone"] == ZONE
    assert status["differences"] == []
    assert status["agent"]["running"]
    assert status["agent"]["trouble"] == ""
    assert {peer["name"] for peer in status["peers"]} == {"node2", "node3"}


def test_the_commands_of_a_member_report_no_fault_and_no_secret(fleet: Fleet) -> None:
    node = fleet["node1"]
    fleet.wait_until_in_order("node1")
    assert node.run("jaywalk status").stdout.startswith("2 of 2 peers connected, in order\n")
    doctor = node.run("jaywalk doctor", check=False, timeout=60)
    assert doctor.rc == 0, doctor.stdout
    assert "2 of 2 peers answer now" in doctor.stdout
    node.run("jaywalk bugreport --output /root/report.tar.gz", timeout=120)
    report = node.run("tar -xzOf /root/report.tar.gz; rm /root/report.tar.gz").stdout
    assert f"Started {UNIT}" in report
    assert "2 of 2 peers answer now" in report
    for file in ("key", "password"):
        assert node.run(f"cat /etc/jaywalk/{ZONE}.{file}").stdout.strip() not in report
    for command in ("status", "doctor", "bugreport", "down"):
        tried = node.run(f"setpriv --reuid 65534 --clear-groups jaywalk {command}", check=False)
        assert (tried.rc, tried.stderr) == (1, f"jaywalk: 'jaywalk {command}' needs root: run it with sudo\n")


def test_the_rest_api_has_the_originals_shape(fleet: Fleet) -> None:
    peers = json.loads(fleet.controller.run("curl -sS http://localhost:8080/peers").stdout)
    mine = [peer for peer in peers if peer["Zone"] == ZONE]
    assert {peer["AllowedIPs"] for peer in mine} >= {f"{fleet.address(name)}/32" for name in MEMBERS}
    for peer in mine:
        assert peer["EndpointIP"].endswith(":51820")
        url = f"http://localhost:8080/peers/{peer['PublicKey']}"
        alone = json.loads(fleet.controller.run(["curl", "-sS", url]).stdout)
        assert alone["LastSeen"] >= peer["LastSeen"], "it may have reported meanwhile"
        assert alone | {"LastSeen": peer["LastSeen"]} == peer


def test_a_second_run_changes_nothing(fleet: Fleet) -> None:
    before = invocations(fleet)
    with fleet.ping("node1", "node2") as count:
        play = fleet.play()
    assert set(play.changed) >= {"control", *MEMBERS}
    assert set(play.changed.values()) == {0}, play.output[-4000:]
    assert invocations(fleet) == before
    assert count.lost == 0


def test_check_mode_on_a_rolled_out_fleet_shows_no_change(fleet: Fleet) -> None:
    play = fleet.play("--check", "--diff")
    assert set(play.changed.values()) == {0}, play.output[-4000:]


def test_a_limited_run_touches_no_other_node_and_loses_no_peer(fleet: Fleet) -> None:
    before = invocations(fleet)
    with fleet.ping("node1", "node3") as count:
        play = fleet.play("--limit", "node2")
    assert set(play.changed) <= {"node2", "localhost"}
    assert invocations(fleet) == before
    assert fleet.peers_of("node1") == {"node2", "node3"}
    assert fleet.peers_of("node3") == {"node1", "node2"}
    assert count.lost == 0


@pytest.fixture
def newcomer(fleet: Fleet) -> Iterator[str]:
    """One machine more in the lab and in the inventory; it leaves again by the uninstall playbook."""
    fleet.lab.add("node4")
    fleet.lab.write_inventory(fleet.inventory.parent)
    yield "node4"
    fleet.play("--limit", "node4", playbook="uninstall.yml")
    eventually(lambda: "node4" not in fleet.peers_of("node1"), "node1 forgets the peer that left")
    # A full run of a later test would bring it back.
    fleet.lab.remove("node4")
    fleet.lab.write_inventory(fleet.inventory.parent)


def test_one_machine_more_joins_by_a_limited_run(fleet: Fleet, newcomer: str) -> None:
    before = invocations(fleet)
    with fleet.ping("node1", "node2") as count:
        fleet.play("--limit", newcomer)
    eventually(lambda: newcomer in fleet.peers_of("node1"), "node1 has the new peer")
    nodes = {name: fleet[name] for name in (*MEMBERS, newcomer)}
    matrix = reachability.measure(nodes, {name: fleet.address(name) for name in nodes}, INTERFACE)
    assert reachability.summary(matrix) == "12/12 pairs reachable over the tunnel", reachability.table(matrix)
    assert invocations(fleet) == before
    assert count.lost == 0


def test_a_changed_variable_restarts_only_the_agent_and_breaks_no_tunnel(fleet: Fleet) -> None:
    """The operator announces a prefix behind node3; it is routed everywhere, and taken back again."""
    with fleet.ping("node1", "node3") as count:
        play = fleet.play("--limit", "node3", "-e", '{"jaywalk_child_prefixes": ["172.20.3.0/24"]}')
        assert play.changed["node3"] > 0
        fleet["node3"].run("ip addr add 172.20.3.10/32 dev lo")
        routed = "ip route show 172.20.3.0/24 dev wg0"
        eventually(lambda: fleet["node1"].run(routed).stdout != "", "the prefix is routed on node1")
        assert fleet["node1"].run("ping -n -c 3 -W 2 172.20.3.10", check=False).rc == 0
        fleet.play("--limit", "node3")
        eventually(lambda: fleet["node1"].run(routed).stdout == "", "the route on node1 is gone")
        fleet["node3"].run("ip addr del 172.20.3.10/32 dev lo")
    assert count.lost == 0


def test_a_wish_that_the_zone_refuses_fails_the_play_and_leaves_the_mesh(fleet: Fleet) -> None:
    """node3 is to have the pool's network address: the play says why not, and node3 keeps its own."""
    own = fleet.address("node3")
    with fleet.ping("node1", "node3") as count:
        play = fleet.play("--limit", "node3", "-e", "jaywalk_request_ip=10.20.0.0", check=False)
        assert play.rc != 0
        assert "refuses a reservation of node3" in play.output
        assert "10.20.0.0 is the network's own" in play.output.split("a reservation of node3")[1]
        assert fleet.address("node3") == own
        fleet.play("--limit", "node3")
    assert fleet.status("node3")["agent"]["trouble"] == ""
    assert count.lost == 0


def test_a_zone_that_cannot_be_made_fails_the_play_with_its_reason(fleet: Fleet) -> None:
    zones = [
        *fleet.secrets["jaywalk_zones"],
        {"name": "zone-odd", "cidr": "10.20.0.0/33", "agent_password": "x" * 16},
    ]
    play = fleet.play("--limit", "control", "-e", json.dumps({"jaywalk_zones": zones}), check=False)
    assert play.rc != 0
    assert "10.20.0.0/33" in play.output
    assert "is no prefix" in play.output


def zones_with(fleet: Fleet, **policy: object) -> str:
    """The operator's zones as a variable, with that policy for the fleet's own."""
    zones = [zone | (policy if zone["name"] == ZONE else {}) for zone in fleet.secrets["jaywalk_zones"]]
    return json.dumps({"jaywalk_zones": zones})


def test_a_zones_policy_follows_the_inventory(fleet: Fleet) -> None:
    def policy() -> dict[str, object]:
        shown = fleet.controller.run(f"jaywalk-supervisor zone show {ZONE} --json").stdout
        return dict(json.loads(shown)["policy"])

    before = policy()
    expected = {"takeover": "stale", "stale_after": 600, "quarantine": 60, "forget_after": 86400}
    wanted = zones_with(fleet, **expected, exclude=["10.20.15.1"])
    try:
        play = fleet.play("--limit", "control", "--check", "--diff", "-e", wanted)
        assert play.changed["control"] == 1
        assert f"- zone {ZONE} takeover {before['takeover']}" in play.output
        assert f"+ zone {ZONE} takeover stale" in play.output
        assert policy() == before
        assert fleet.play("--limit", "control", "-e", wanted).changed["control"] == 1
        assert policy() == {**before, **expected, "excluded": ["10.20.15.1/32"]}
        assert fleet.play("--limit", "control", "-e", wanted).changed["control"] == 0
    finally:
        kept = {name: value for name, value in before.items() if name != "excluded"}
        back = zones_with(fleet, **kept, exclude=["none"])
        fleet.play("--limit", "control", "-e", back)
    assert policy() == before


def test_an_address_of_the_controller_in_no_known_form_fails_the_play(fleet: Fleet) -> None:
    for address in ("redis://192.0.2.10", "sentinel://192.0.2.10", "192.0.2.10:6380"):
        play = fleet.play("--limit", "node1", "-e", f"jaywalk_controller_address={address}", check=False)
        assert play.rc != 0
        assert f"jaywalk_controller_address is '{address}': give an address" in play.output


def test_the_play_repairs_what_it_installed_and_applies_what_is_written(fleet: Fleet) -> None:
    """Three ways to break the programs, and settings that a run wrote before it was interrupted."""
    address = fleet.address("node2")
    fleet["node1"].run("rm -r /opt/jaywalk/lib/python3*/site-packages/redis /usr/local/bin/jaywalk")
    fleet["node2"].run(
        "ln -sfn /usr/bin/python3.99 /opt/jaywalk/bin/python3; chmod -R go-rwx /opt/jaywalk; "
        "printf '[global]\nuser = true\nrequire-hashes = true\n' > /etc/pip.conf"
    )
    fleet["node3"].run(
        f"chmod -R go-rwx /opt/jaywalk; systemctl disable {UNIT}; touch /etc/jaywalk/{ZONE}.env"
    )
    before = invocations(fleet)
    with fleet.ping_address("node1", address) as count:
        fleet.play("--limit", "agents")
    for name in MEMBERS:
        fleet[name].run("setpriv --reuid=65534 --regid=65534 --clear-groups /usr/local/bin/jaywalk --version")
        assert fleet[name].run(f"systemctl is-enabled {UNIT}").stdout == "enabled\n"
    after = invocations(fleet)
    assert all(before[name] != after[name] for name in MEMBERS)
    assert count.lost == 0
    fleet["node2"].run("rm /etc/pip.conf")


def test_agents_restart_in_batches_and_a_batch_that_fails_is_the_last(fleet: Fleet) -> None:
    """node1 cannot start its agent any more; the play says why, and leaves the others as they are."""
    drop_in = "/etc/systemd/system/jaywalk-agent@.service.d"
    fleet["node1"].run(
        f"mkdir {drop_in}; cat > {drop_in}/test.conf",
        stdin="[Service]\nExecStartPre=/bin/sh -c 'echo no luck; false'\n",
    )
    before = invocations(fleet)
    change = ("--limit", "agents", "-e", "jaywalk_log_level=debug jaywalk_restart_batch=1")
    try:
        play = fleet.play(*change, check=False)
        assert play.rc != 0
        assert f"{UNIT}.service did not start: no luck" in play.output
        assert "was not restarted, since node1 was" in play.output
        after = invocations(fleet)
        assert [name for name in MEMBERS if before[name] != after[name]] == ["node1"]
    finally:
        fleet["node1"].run(f"rm -r {drop_in}")
        fleet.play("--limit", "agents")
    assert not any(fleet.status(name)["agent"]["trouble"] for name in MEMBERS)


def test_a_changed_interface_takes_the_place_of_the_old_one(fleet: Fleet) -> None:
    fleet["node3"].run("ip tuntap add dev wg8 mode tun")
    refused = fleet.play("--limit", "node3", "-e", "jaywalk_interface=wg8", check=False)
    assert refused.rc != 0
    assert "node3 has an interface wg8 already" in refused.output
    fleet["node3"].run("ip link delete wg8; ip link show wg0")
    fleet.play("--limit", "node3", "-e", "jaywalk_interface=wg7")
    assert fleet.status("node3")["interface"] == "wg7"
    assert fleet["node3"].run("ip link show wg0", check=False).rc != 0
    fleet.play("--limit", "node3")
    assert fleet.status("node3")["interface"] == INTERFACE


SENTINEL = """
set -e
cat > /run/sentinel.conf <<END
port 0
tls-port 26379
tls-replication yes
tls-auth-clients no
tls-cert-file /etc/jaywalk-certificates/redis/server.pem
tls-key-file /etc/jaywalk-certificates/redis/server.pem
tls-ca-cert-file /etc/jaywalk-ca/ca.pem
bind 0.0.0.0
protected-mode no
dir /tmp
sentinel monitor mymaster ADDRESS 6380 1
sentinel auth-user mymaster supervisor
sentinel auth-pass mymaster $(cat /etc/jaywalk-supervisor/controller.password)
END
systemd-run --quiet --unit test-sentinel redis-server /run/sentinel.conf --sentinel
"""


def test_supervisor_and_agents_find_the_controller_through_a_sentinel(fleet: Fleet) -> None:
    here = fleet.controller.address
    fleet.controller.run(SENTINEL.replace("ADDRESS", here))
    address = f"rediss+sentinel://{here}/mymaster"
    ca = fleet.controller_address("", "").tls.ca
    found = f"jaywalk_controller_address={address} jaywalk_controller_ca={ca}"
    try:
        with fleet.ping("node1", "node2") as count:
            fleet.play("--limit", "control,node1", "-e", found)
            assert fleet.status("node1")["agent"]["trouble"] == ""
            for name, file in (("control", "jaywalk-supervisor/supervisor"), ("node1", f"jaywalk/{ZONE}")):
                assert f"={address}\n" in fleet[name].run(f"cat /etc/{file}.env").stdout
            used = "ss -Htn state established dport = :6380"
            assert here in fleet["node1"].run(used).stdout
        assert count.lost == 0
    finally:
        fleet.play("--limit", "control,node1")
        fleet.controller.run("systemctl stop test-sentinel; rm /run/sentinel.conf")
