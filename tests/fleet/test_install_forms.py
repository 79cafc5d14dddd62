# SPDX-License-Identifier: GPL-3.0-or-later
"""Both forms of the agent on machines without any role, by the commands of docs/install.md."""

from __future__ import annotations

import base64
import dataclasses
import io
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import base_tree
from lab.node import Node
from tests.fleet.fleet import ROOT, ZONE, Fleet, eventually
from tests.fleet.page import Page

commands = Page(ROOT / "docs" / "install.md").commands
TREES = {suite: dataclasses.replace(base_tree.MACHINE, suite=suite) for suite in ("bookworm", "trixie")}
PYTHONS = {"bookworm": "Python 3.11", "trixie": "Python 3.13"}
UNITS = [
    ROOT / "roles/agent/files" / name
    for name in (
        "jaywalk-agent@.service",
        "jaywalk-userspace.socket",
        "jaywalk-userspace@.service",
        "jaywalk-wireguard.conf",
    )
]


@pytest.fixture(scope="module", params=TREES)
def bare(request: pytest.FixtureRequest, fleet: Fleet) -> Iterator[Node]:
    """A machine with Python and WireGuard's tools, and nothing of the mesh."""
    name = f"bare-{request.param}"
    fleet.lab.up([name], recipe=TREES[request.param])
    node = fleet.lab.node(name)
    assert node.run("python3 --version").stdout.startswith(PYTHONS[request.param])
    yield node
    fleet.lab.remove(name)


@pytest.fixture(scope="module")
def zipapp() -> Path:
    made = subprocess.run([ROOT / "scripts/zipapp"], check=True, capture_output=True, text=True)
    return Path(made.stdout.strip())


def send(node: Node, *paths: Path) -> None:
    """Copy files and folders into /root."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path in paths:
            archive.add(path, path.name)
    node.run("base64 -d | tar -x -C /root", stdin=base64.b64encode(packed.getvalue()).decode())


@pytest.mark.parametrize("form", ["wheel", "zipapp"])
def test_the_agent_joins_as_a_service_and_reaches_a_member(
    fleet: Fleet, bare: Node, zipapp: Path, form: str
) -> None:
    send(bare, *UNITS, zipapp if form == "zipapp" else ROOT / "build/wheelhouse")
    zones = fleet.secrets["jaywalk_zones"]
    password = next(zone["agent_password"] for zone in zones if zone["name"] == ZONE)
    bare.run("umask 077; cat > /root/agents.password", stdin=password)
    authority = fleet.controller.run("cat /etc/jaywalk-ca/ca.pem").stdout
    bare.run("cat > /root/controller-ca.pem", stdin=authority)
    before = bare.run("ls -R /etc /usr/local /opt").stdout
    bare.run(commands(form), timeout=120)

    shown = bare.run(commands("service", CONTROLLER_ADDRESS=fleet.controller.address), timeout=120).stdout
    own = bare.run("ip -4 -o addr show dev wg0").stdout.split()[3].partition("/")[0]
    assert own in shown
    eventually(lambda: bare.name in fleet.peers_of("node1"), f"node1 has the peer {bare.name}")
    fleet["node1"].run(f"ping -c 3 -i 0.2 -W 5 -I wg0 {own}")
    bare.run(f"ping -c 3 -i 0.2 -W 5 -I wg0 {fleet.address('node1')}")

    bare.run(commands("remove"), timeout=60)
    eventually(lambda: bare.name not in fleet.peers_of("node1"), f"node1 has removed {bare.name}")
    assert "wg0" not in bare.run("ip -br link").stdout
    assert bare.run("ls -R /etc /usr/local /opt").stdout == before
