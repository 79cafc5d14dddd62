# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab itself: its machines behave like real ones, keep their disks, and leave nothing behind."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from lab import CommandFailed, Lab, LabError, Node, Unreachable, playbook_variables
from lab.settings import ROOT
from lab.ssh import Client
from tests.fleet.labs import leftovers, new_lab
from tests.nested_run import NestedRun
from tests.waiting import eventually


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    made = new_lab()
    try:
        made.up(["one", "two"])
        yield made
    finally:
        made.down()


@pytest.fixture
def one(lab: Lab) -> Node:
    return lab.node("one")


@pytest.fixture
def two(lab: Lab) -> Node:
    return lab.node("two")


def test_a_machine_boots_without_failed_units_and_with_its_own_name(one: Node) -> None:
    assert one.run("systemctl is-system-running --wait", check=False).stdout.strip() == "running"
    assert one.run("cat /proc/1/comm; uname -n").stdout.split() == ["systemd", "one"]
    assert one.run("systemctl is-enabled redis-server", check=False).stdout.strip() == "disabled"
    assert one.run("cat /etc/machine-id").stdout != ""


def test_machines_reach_each_other_and_nothing_outside_the_lab(one: Node, two: Node) -> None:
    one.run(f"ping -c 1 -W 2 {two.address}")
    refused = one.run("ping -c 1 -W 2 198.51.100.1", check=False)
    assert "Unreachable" in refused.stdout


def test_a_command_returns_its_output_and_exit_code_or_raises(one: Node) -> None:
    assert one.run(["printf", "%s|", "a b", "$HOME"]).stdout == "a b|$HOME|"
    assert one.run("cat", stdin="sent").stdout == "sent"
    failed = one.run("echo out; echo err >&2; exit 7", check=False)
    assert (failed.rc, failed.stdout, failed.stderr) == (7, "out\n", "err\n")
    with pytest.raises(CommandFailed, match=r"one: .* ended with 7: why"):
        one.run("echo why >&2; exit 7")
    with pytest.raises(Unreachable, match="no end of 'sleep 600' within"):
        one.run("sleep 600", timeout=1)
    assert (
        len(one.run("head -c 3000000 /dev/zero | tr '\\0' x; head -c 3000000 /dev/zero >&2").stdout)
        == 3000000
    )


def test_a_background_command_returns_its_result_when_stopped(one: Node, two: Node) -> None:
    ping = one.start_background(f"ping -n -i 0.05 {two.address}")
    eventually(lambda: "icmp_seq=10" in ping.stdout, "ten are answered")
    assert ping.running
    result = ping.stop()
    assert result.rc == 0
    assert " packet loss" in result.stdout
    assert one.start_background("echo done; exit 3").wait().rc == 3


def test_an_unknown_host_key_is_refused(lab: Lab, one: Node, tmp_path: Path) -> None:
    empty = tmp_path / "known_hosts"
    empty.touch()
    with pytest.raises(Unreachable, match="not found in known_hosts"):
        Client("one", one.connect, lab.key, empty).run("true")


def test_a_reboot_keeps_the_disk_and_nothing_else(one: Node) -> None:
    before = one.run("cat /proc/sys/kernel/random/boot_id").stdout
    one.run("echo kept > /root/file; echo lost > /run/file; ip addr add 192.0.2.9/32 dev lo")
    one.run("systemd-run --quiet --unit=stays sleep 1000")
    one.reboot()
    assert one.run("cat /root/file").stdout == "kept\n"
    assert one.run("test -e /run/file", check=False).rc == 1
    assert one.run("systemctl is-active stays", check=False).rc != 0
    assert "192.0.2.9" not in one.run("ip addr").stdout
    assert one.run("journalctl --list-boots --quiet | wc -l").stdout.strip() == "2"
    assert before != ""


def test_a_crash_keeps_the_disk(one: Node, two: Node) -> None:
    one.run("echo kept > /root/crashed")
    one.crash()
    assert one.machine.state == "off"
    with pytest.raises(Unreachable, match="one is off"):
        one.run("true", timeout=1)
    assert "100% packet loss" in two.run(f"ping -c 1 -W 1 {one.address}", check=False).stdout
    one.boot()
    assert one.run("cat /root/crashed").stdout == "kept\n"
    with pytest.raises(LabError, match="is on already"):
        one.machine.start()


def test_a_frozen_machine_does_nothing_until_thawed_and_can_crash(one: Node) -> None:
    one.start_background("while :; do date +%s%N > /root/tick; sleep 0.05; done")
    tick = one.machine.folder / "root/root/tick"
    eventually(tick.exists, "the first tick")
    one.freeze()
    frozen = tick.read_text()
    time.sleep(0.5)
    assert tick.read_text() == frozen
    with pytest.raises(Unreachable, match="one is frozen"):
        one.run("true", timeout=1)
    one.thaw()
    eventually(lambda: tick.read_text() not in ("", frozen), "another tick")
    one.freeze()
    one.crash()
    one.boot()


def test_a_cut_machine_keeps_its_carrier_and_stays_cut_over_a_reboot(one: Node, two: Node) -> None:
    two.cut()
    assert "100% packet loss" in one.run(f"ping -c 1 -W 1 {two.address}", check=False).stdout
    netns = two.machine.spec.prefix + "-two"
    link = subprocess.run(
        ["ip", "-n", netns, "link", "show", "eth0"], capture_output=True, text=True, check=True
    )
    assert "state UP" in link.stdout
    two.crash()
    boots = two.machine.boots
    two.machine.start()
    two.machine.wait_booting(boots + 1)
    with pytest.raises(Unreachable):
        two.wait_ssh(2)
    two.heal()
    two.wait_ssh()
    one.run(f"ping -c 1 -W 2 {two.address}")


def test_a_second_network_stays_over_a_reboot(lab: Lab, one: Node, two: Node) -> None:
    network = lab.second_network(["one", "two"])
    assert lab.second_network(["two"]) == network
    address = str(two.machine.spec.interfaces[1].ip)
    one.run(f"ping -c 1 -W 2 -I eth1 {address}")
    two.reboot()
    one.run(f"ping -c 1 -W 2 -I eth1 {address}")


def test_ansible_reaches_every_machine(lab: Lab) -> None:
    path = lab.write_inventory(lab.directory / "inventory", variables=playbook_variables.variables(ROOT))
    ansible = Path(sys.executable).with_name("ansible")
    done = subprocess.run(
        [ansible, "-i", path, "all", "-m", "ansible.builtin.ping"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count('"ping": "pong"') == 2
    assert (path.parent / "group_vars/all.yml").stat().st_mode & 0o777 == 0o600


def test_userspace_wireguard_runs(one: Node) -> None:
    one.run("wireguard-go wg0 && ip addr add 10.20.0.1/24 dev wg0 && ip link set wg0 up")
    assert "listening port" in one.run("wg show wg0").stdout
    one.run("ip link del wg0")


def test_two_labs_run_side_by_side(lab: Lab, one: Node) -> None:
    other = new_lab()
    try:
        other.up(["one"])
        prefix = other.spec.prefix
        assert prefix != lab.spec.prefix
        assert other.spec.network != lab.spec.network
        assert other.node("one").run("uname -n").stdout == "one\n"
        with pytest.raises(LabError, match=f"prefix '{lab.spec.prefix}' is taken"):
            Lab(other.directory.with_name("jaywalk-lab-test-none"), lab.spec.prefix).up(["one"])
        clash = IPv4Network(lab.spec.network)
        with pytest.raises(LabError, match=f"this host routes {clash} already"):
            Lab(other.directory.with_name("jaywalk-lab-test-none"), network=clash).up(["one"])
    finally:
        other.down()
    eventually(lambda: leftovers(other, prefix) == [], "the last supervisor has ended")
    assert one.run("uname -n").stdout == "one\n"


def test_a_folder_of_other_files_is_refused_and_unchanged(tmp_path: Path) -> None:
    (tmp_path / "thesis").write_text("years of work")
    with pytest.raises(LabError, match="holds files that belong to no lab"):
        Lab(tmp_path).up(["one"])
    assert not Lab(tmp_path).down()
    assert (tmp_path / "thesis").exists()


def test_down_works_after_a_killed_supervisor_and_a_failed_boot() -> None:
    broken = new_lab()
    broken.up(["good", "orphan"])
    prefix = broken.spec.prefix
    subprocess.run(["kill", "-9", str(broken.node("orphan").machine.supervisor_pid)], check=True)
    bad = broken.node("good").machine
    bad.power_off()
    dataclasses.replace(bad.spec, base="/nowhere").save(bad.folder)
    with pytest.raises(LabError, match="the base tree /nowhere is gone"):
        broken.up(["good"])
    assert broken.down()
    eventually(lambda: leftovers(broken, prefix) == [], "the last supervisor has ended")
    assert not broken.down()


LAB = """
    from tests.fleet.labs import new_lab
    made = new_lab()
    made.up(["one"])
    name = f"{made.directory} {made.spec.prefix}"
"""


@pytest.mark.parametrize("watched", [True, False], ids=["watched", "watcher-killed"])
def test_a_killed_run_of_the_tests_leaves_no_machine(tmp_path: Path, watched: bool) -> None:
    run = NestedRun(tmp_path, LAB)
    with run.start() as process:
        directory, prefix = run.name.split()
        made = Lab(Path(directory))
        if not watched:
            subprocess.run(["kill", "-9", str(run.watcher)], check=True)
        process.kill()
        process.wait()
        if not watched:
            assert made.node("one").run("uname -n").stdout == "one\n"
            assert f"removed now: the lab in {directory}" in run.run_next()
    eventually(lambda: run.left() + leftovers(made, prefix) == [], "everything is removed")
