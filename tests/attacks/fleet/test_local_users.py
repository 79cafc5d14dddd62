# SPDX-License-Identifier: GPL-3.0-or-later
"""An ordinary user of a machine of the mesh: no key, password, snapshot, status or socket is its to read."""

from __future__ import annotations

import pytest

from tests.fleet.fleet import MEMBERS, ZONE, Fleet

MACHINES = ("control", MEMBERS[0])
# Everything of ours but programs and units, and what WireGuard in userspace listens on.
OURS = "/etc/jaywalk* /var/lib/jaywalk* /run/jaywalk* /var/log/jaywalk* /run/wireguard"
NOBODY = "setpriv --reuid=nobody --regid=nogroup --clear-groups"
# Root lists them, since names are no secret: a folder that cannot be listed hides nothing.
OPEN_TO_NOBODY = (
    f"find {OURS} 2>/dev/null | {NOBODY} sh -c 'while read -r file; do "
    """[ -w "$file" ] || { [ ! -d "$file" ] && [ -r "$file" ]; } && echo "$file"; done'"""
)
PROCESSES_OPEN_TO_NOBODY = (
    "for each in $(pgrep -f 'jaywalk|redis-server'); do "
    f"{NOBODY} cat /proc/$each/environ /proc/$each/mem /proc/$each/root/etc/hostname 2>/dev/null; done"
)


def is_certificate(text: str) -> bool:
    return text.startswith("-----BEGIN CERTIFICATE-----") and "PRIVATE" not in text


@pytest.fixture(scope="module")
def private_key(fleet: Fleet) -> str:
    return fleet["node1"].run(f"cat /etc/jaywalk/{ZONE}.key").stdout.strip()


@pytest.mark.parametrize("machine", MACHINES)
def test_an_ordinary_user_opens_no_file_and_no_socket_of_the_mesh(fleet: Fleet, machine: str) -> None:
    there = fleet[machine].run(f"find {OURS} ! -type d 2>/dev/null", check=False).stdout.split()
    assert len(there) > 4, "these are the files"
    opened = fleet[machine].run(OPEN_TO_NOBODY, check=False).stdout.split()
    # Certificates are public; each private key is in a file of its own.
    texts = {name: fleet[machine].run(f"cat {name}").stdout for name in opened}
    assert [name for name, text in texts.items() if not is_certificate(text)] == []


@pytest.mark.parametrize("machine", MACHINES)
def test_an_ordinary_user_reads_no_process_of_the_mesh(fleet: Fleet, machine: str) -> None:
    assert fleet[machine].run(PROCESSES_OPEN_TO_NOBODY, check=False).stdout == ""


COMMANDS = {
    "the interface's keys": ("node1", "wg show all dump"),
    "the status": ("node1", "jaywalk status"),
    "the report of a defect": ("node1", f"jaywalk bugreport --zone {ZONE}"),
    "the journal": ("node1", "journalctl --quiet -u 'jaywalk*' -n 5"),
    "the zones": ("control", "jaywalk-supervisor zone list"),
    "the tokens": ("control", "jaywalk-supervisor token list"),
    "Redis without a password": ("control", "redis-cli --tls --insecure -p 6380 INFO server"),
}


@pytest.mark.parametrize("what", COMMANDS)
def test_an_ordinary_user_is_shown_nothing_by_a_command(fleet: Fleet, private_key: str, what: str) -> None:
    machine, command = COMMANDS[what]
    done = fleet[machine].run(f'cd / && {NOBODY} sh -c "{command}" 2>&1', check=False)
    assert private_key not in done.stdout
    assert "10.20." not in done.stdout and "zone-red" not in done.stdout, done.stdout
    assert "redis_version" not in done.stdout
    assert "Traceback" not in done.stdout, done.stdout
