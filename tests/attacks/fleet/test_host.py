# SPDX-License-Identifier: GPL-3.0-or-later
"""Who breaks into the agent has its user, its capability and its sandbox, and no more of the machine."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleet.fleet import UNIT, ZONE, Fleet

UNIT_FILE = Path(f"/run/systemd/system/jaywalk-attacker@{ZONE}.service")
SCRIPT, OUTPUT = "/run/attack.sh", "/run/attack.out"
# The agent's unit as it is, with other commands in the place of the agent.
DISGUISE = (
    f"sed -e 's|^ExecStart=.*|ExecStart=/bin/sh {SCRIPT}|' -e 's|^Type=.*|Type=oneshot|' "
    f"-e '/^WatchdogSec/d; /^Restart/d' -e '/^UMask/a StandardOutput=truncate:{OUTPUT}' "
    f"/etc/systemd/system/jaywalk-agent@.service > {UNIT_FILE}"
)
CAP_NET_ADMIN, CAP_NET_BIND_SERVICE = 1 << 12, 1 << 10


def python(text: str) -> str:
    return f"/opt/jaywalk/bin/python -c '{text}'"


def asked(line: str) -> str:
    """Return a command that sends a line to the service for userspace WireGuard; fails if that refuses it."""
    return python(
        "import socket, sys; link = socket.socket(socket.AF_UNIX); "
        'link.connect("/run/jaywalk-userspace.socket"); '
        f'link.sendall(b"{line}\\n"); sys.exit(link.makefile().read().split()[-1] != "0")'
    )


ALLOWED = {
    "read the zone's key": f"cat /etc/jaywalk/{ZONE}.key",
    "write its own state": "touch /var/lib/jaywalk/own && rm /var/lib/jaywalk/own",
    "change an interface": "ip link add jwattack type veth && ip link del jwattack",
    "change a setting of an interface": "echo 1 > /proc/sys/net/ipv4/conf/lo/forwarding",
    "have userspace WireGuard started": asked("start no wireguard-go wg9") + " && ip link del wg9",
}
REFUSED = {
    "read the passwords of users": "cat /etc/shadow",
    "read the files of root": "ls /root",
    "read the machine's SSH keys": "cat /etc/ssh/ssh_host_*_key",
    "read the journal of other services": "cat /var/log/journal/*/system.journal",
    "read the environment of process 1": "cat /proc/1/environ",
    "see the processes of others": "test -d /proc/1",
    "change its own settings": f"echo >> /etc/jaywalk/{ZONE}.env",
    "add settings, which commands of root would read": "touch /etc/jaywalk/zone-new.env",
    "replace its own program": "touch /usr/local/bin/jaywalk",
    "write a unit": "touch /etc/systemd/system/new.service",
    "write a unit for this boot": "touch /run/systemd/system/new.service",
    "start a unit as root": "systemd-run --wait true",
    "stop another service": "systemctl stop ssh.service",
    "have systemd read units": "systemctl daemon-reload",
    "load a kernel module": "modprobe dummy || test -d /lib/modules/$(uname -r)",
    "become root": python("import os; os.setuid(0)"),
    "become another user": python("import os; os.setuid(1)"),
    "change an owner": "touch /var/lib/jaywalk/own && chown root /var/lib/jaywalk/own",
    "enter a network namespace": "nsenter --net=/proc/self/ns/net true",
    "make a network namespace": "unshare --net true",
    "make a user namespace": "unshare --user true",
    "mount": "mount -t tmpfs none /mnt",
    "signal a process of root": "kill -0 1",
    "trace another process": python(
        "import ctypes, sys; sys.exit(ctypes.CDLL(None, use_errno=True).ptrace(16, 1, 0, 0) != 0)"
    ),
    "read every packet of the machine": python(
        "import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)"
    ),
    "send packets of others": python("import socket; socket.socket(socket.AF_INET, socket.SOCK_RAW, 255)"),
    "listen where other services do": python('import socket; socket.socket().bind(("", 79))'),
    "change a setting of the kernel": "cat /proc/sys/kernel/core_pattern > /proc/sys/kernel/core_pattern",
    "change the host's name": "hostname other",
    "set the clock": "date -s @1000000000",
    "read the kernel's log": "dmesg",
    "make a device": "mknod /var/lib/jaywalk/disk b 8 0",
    "have another program started": asked("start no /bin/sh wg9"),
    "have another unit stopped": asked("stop no none ../ssh"),
    "have a command run": asked("stop no none wg9.service;id"),
    "have an option read": asked("start --uid=0 wireguard-go wg9"),
}


@pytest.fixture(scope="module")
def succeeded(fleet: Fleet) -> Iterator[set[str]]:
    """What succeeds of all that code in the agent of node1 tries."""
    node = fleet["node1"]
    tried = ALLOWED | REFUSED
    lines = [f"({command}) >/dev/null 2>&1 && echo {shlex.quote(what)}" for what, command in tried.items()]
    node.run(f"cat > {SCRIPT} && chmod 755 {SCRIPT}", stdin="\n".join([*lines, "echo end", ""]))
    node.run(f"{DISGUISE} && systemctl daemon-reload && systemctl start {UNIT_FILE.name}", timeout=120)
    found = set(node.run(f"cat {OUTPUT}").stdout.splitlines())
    assert "end" in found
    yield found
    node.run(f"rm {UNIT_FILE} {SCRIPT} {OUTPUT}; systemctl daemon-reload")


@pytest.mark.parametrize("what", ALLOWED)
def test_code_in_the_agent_may_do_what_the_agent_does(succeeded: set[str], what: str) -> None:
    """Without this the next test could not fail."""
    assert what in succeeded


@pytest.mark.parametrize("what", REFUSED)
def test_code_in_the_agent_is_refused(succeeded: set[str], what: str) -> None:
    assert what not in succeeded


def test_every_process_of_a_node_runs_as_the_agents_user_with_the_capabilities_for_networks(
    fleet: Fleet,
) -> None:
    node = fleet["node1"]
    uid = node.run("id -u jaywalk").stdout.strip()
    expected = {UNIT: CAP_NET_ADMIN}
    if fleet.status("node1")["wireguard"] != "kernel":
        expected["jaywalk-wireguard-wg0"] = CAP_NET_ADMIN | CAP_NET_BIND_SERVICE
    for unit, capabilities in expected.items():
        status = node.run(f"cat /proc/$(systemctl show -P MainPID {unit})/status").stdout
        fields = dict(line.split(":\t") for line in status.splitlines())
        assert set(fields["Uid"].split()) == {uid}, unit
        for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(fields[kind], 16) == capabilities, (unit, kind)
        assert fields["NoNewPrivs"] == "1"


def test_a_link_in_the_agents_folders_leads_no_command_of_root_to_another_file(fleet: Fleet) -> None:
    node = fleet["node1"]
    names = [f"/run/jaywalk/zone-evil.{kind}" for kind in ("status", "paths", "json", "interface")]
    plant = [f"ln -s /etc/shadow {name}" for name in [*names, "/var/lib/jaywalk/zone-evil.json"]]
    plant.append("ln -s /etc/planted /run/jaywalk/zone-evil.lock")
    node.run(f"setpriv --reuid=jaywalk --regid=jaywalk --clear-groups sh -c '{'; '.join(plant)}'")
    try:
        node.run("jaywalk bugreport --zone zone-evil --output /root/evil.tar.gz", timeout=120)
        report = node.run("tar -xzOf /root/evil.tar.gz").stdout
        assert "zone-evil" in report
        assert "root:" not in report
        done = node.run("jaywalk down --zone zone-evil --interface wg7", check=False)
        assert (done.rc, "Traceback" in done.stderr) == (1, False)
        assert node.run("test -e /etc/planted", check=False).rc == 1
        assert "root:" not in done.stdout + done.stderr
    finally:
        node.run("rm -f /run/jaywalk/zone-evil.* /var/lib/jaywalk/zone-evil.* /root/evil.tar.gz")
