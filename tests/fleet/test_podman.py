# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers of a real engine: podman on two nodes that the role lets forward, and a third without any."""

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
# A machine of the lab has overlayfs below it, which podman's usual driver does not take.
[storage]
driver = "vfs"
runroot = "/run/containers/storage"
graphroot = "/var/lib/containers/storage"
"""
CONTAINERS = """\
# And neither cgroups of its own to give away nor a keyring.
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


def will_do(fleet: Fleet, name: str, command: str, wanted: str | None = None) -> None:
    """Waits until a command succeeds on a machine and, where that counts, prints just what is wanted."""
    eventually(
        lambda: (done := fleet[name].run(command, check=False)).rc == 0 and wanted in (None, done.stdout),
        f"{name}: {command}",
    )


@pytest.fixture
def engines(fleet: Fleet, tmp_path: Path) -> Iterator[Fleet]:
    """The fleet with two machines more; each has a container network of its own, and a container in it."""
    fleet.lab.up(NETWORKS, recipe=ENGINE)
    wider = Fleet(fleet.lab, fleet.lab.write_inventory(tmp_path / "inventory", variables=fleet.secrets))
    for name, network in NETWORKS.items():
        wish = {"jaywalk_forward": True, "jaywalk_child_prefixes": [f"{network}.0/24"]}
        wider.play("--limit", name, "-e", json.dumps(wish))
        wider[name].run(SERVE.format(network=network), timeout=60)
    yield wider
    for name in NETWORKS:
        fleet.lab.remove(name)


def test_containers_reach_each_other_without_a_published_port(engines: Fleet) -> None:
    for name, other in (("pod1", "pod2"), ("pod2", "pod1")):
        will_do(engines, name, f"{BOX} ping -c 1 -W 2 {NETWORKS[other]}.2")
    page = f"http://{NETWORKS['pod2']}.2/page"
    assert engines["pod1"].run(f"{BOX} wget -q -O - {page}").stdout == "hello\n"
    # The server saw the container itself, and not its node.
    assert f"{NETWORKS['pod1']}.2" in engines["pod2"].run("podman logs box 2>&1").stdout
    for network in NETWORKS.values():
        will_do(engines, "node3", f"curl -sSf --max-time 5 http://{network}.2/page", "hello\n")

    for name in NETWORKS:
        assert "jaywalk" in engines[name].run("nft list ruleset").stdout
    engines.play("--limit", "pod1,pod2", playbook="leave.yml")
    for name in NETWORKS:
        rules = engines[name].run("nft list ruleset").stdout
        assert "jaywalk" not in rules
        assert "NETAVARK" in rules
    eventually(lambda: not NETWORKS.keys() & engines.peers_of("node3"), "the zone lets them go")
