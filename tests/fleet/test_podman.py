# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers of podman on two nodes with forwarding by the role, and a third node without containers."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import base_tree
from tests.fleet.fleet import Fleet, eventually

NETWORKS = {"pod1": "172.24.0", "pod2": "172.28.0"}
STORAGE = """\
# A lab machine's disk is overlayfs, which podman's default driver does not support.
[storage]
driver = "vfs"
runroot = "/run/containers/storage"
graphroot = "/var/lib/containers/storage"
"""
CONTAINERS = """\
# It has no cgroups to delegate and no keyring.
[containers]
cgroups = "disabled"
keyring = false
[engine]
events_logger = "file"
[network]
network_backend = "netavark"
"""
ENGINE = dataclasses.replace(
    base_tree.MACHINE,
    packages=(*base_tree.MACHINE.packages, "podman", "netavark", "iptables", "busybox-static"),
    files={
        **base_tree.MACHINE.files,
        "etc/containers/storage.conf": STORAGE,
        "etc/containers/containers.conf": CONTAINERS,
    },
)
SERVE = """
mkdir -p /srv/box/bin /srv/box/www && cp /bin/busybox /srv/box/bin && echo hello > /srv/box/www/page
podman network create --subnet {network}.0/24 net1
podman run --detach --name box --network net1 --cap-add NET_RAW \
    --rootfs /srv/box /bin/busybox httpd -f -vv -h /www
"""
BOX = "podman exec box /bin/busybox"


def succeeds(fleet: Fleet, name: str, command: str, output: str | None = None) -> None:
    """Wait until a command succeeds on a machine and, if given, prints exactly ``output``."""
    eventually(
        lambda: (done := fleet[name].run(command, check=False)).rc == 0 and output in (None, done.stdout),
        f"{name}: {command}",
    )


@pytest.fixture
def engines(fleet: Fleet, tmp_path: Path) -> Iterator[Fleet]:
    """The fleet with two more machines, each with a container network and a container in it."""
    fleet.lab.up(NETWORKS, recipe=ENGINE)
    larger = Fleet(fleet.lab, fleet.lab.write_inventory(tmp_path / "inventory", variables=fleet.secrets))
    for name, network in NETWORKS.items():
        variables = {"jaywalk_forward": True, "jaywalk_child_prefixes": [f"{network}.0/24"]}
        larger.play("--limit", name, "-e", json.dumps(variables))
        larger[name].run(SERVE.format(network=network), timeout=60)
    yield larger
    for name in NETWORKS:
        fleet.lab.remove(name)


def test_containers_reach_each_other_without_a_published_port(engines: Fleet) -> None:
    for name, other in (("pod1", "pod2"), ("pod2", "pod1")):
        succeeds(engines, name, f"{BOX} ping -c 1 -W 2 {NETWORKS[other]}.2")
    page = f"http://{NETWORKS['pod2']}.2/page"
    assert engines["pod1"].run(f"{BOX} wget -q -O - {page}").stdout == "hello\n"
    # The server received the request from the container's address, not its node's.
    assert f"{NETWORKS['pod1']}.2" in engines["pod2"].run("podman logs box 2>&1").stdout
    for network in NETWORKS.values():
        succeeds(engines, "node3", f"curl -sSf --max-time 5 http://{network}.2/page", "hello\n")

    for name in NETWORKS:
        assert "jaywalk" in engines[name].run("nft list ruleset").stdout
    engines.play("--limit", "pod1,pod2", playbook="leave.yml")
    for name in NETWORKS:
        rules = engines[name].run("nft list ruleset").stdout
        assert "jaywalk" not in rules
        assert "NETAVARK" in rules
    eventually(lambda: not NETWORKS.keys() & engines.peers_of("node3"), "the zone has released them")
