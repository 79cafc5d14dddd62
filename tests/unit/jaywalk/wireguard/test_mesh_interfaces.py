# SPDX-License-Identifier: GPL-3.0-or-later
"""What is the mesh's on a machine is known by its agents' records and settings, and left to them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from jaywalk.core.errors import InvalidValue
from jaywalk.wireguard.interface import client_name, server_name
from jaywalk.wireguard.mesh_interfaces import check_not_mesh, check_outside_mesh, zones_by_interface
from jaywalk.wireguard.routes import Route

ZONES = {"wg0": "zone-blue"}


@pytest.fixture
def known(tmp_path: Path) -> Callable[[], dict[str, str]]:
    (tmp_path / "etc").mkdir()
    (tmp_path / "run").mkdir()
    return lambda: zones_by_interface(str(tmp_path / "run"), str(tmp_path / "etc"))


def test_interfaces_are_known_by_settings_and_by_records(
    tmp_path: Path, known: Callable[[], dict[str, str]]
) -> None:
    assert known() == {}
    (tmp_path / "etc/zone-blue.env").write_text("JAYWALK_ZONE=zone-blue\nJAYWALK_INTERFACE=wg3\n")
    (tmp_path / "etc/zone-green.env").write_text("JAYWALK_LOG_LEVEL=debug\n")
    (tmp_path / "etc/zone-red.env").write_text("JAYWALK_INTERFACE=wg4\nJAYWALK_NETNS=red\n")
    assert known() == {"wg3": "zone-blue", "wg0": "zone-green"}
    record = {"name": "wg7", "public_key": "x", "netns": ""}
    (tmp_path / "run/zone-old.interface").write_text(json.dumps(record))
    (tmp_path / "run/zone-red.interface").write_text(json.dumps({**record, "name": "wg4", "netns": "red"}))
    (tmp_path / "run/zone-odd.interface").write_text("{")
    assert known() == {"wg3": "zone-blue", "wg0": "zone-green", "wg7": "zone-old"}


@pytest.mark.parametrize("name", ["wg0", server_name("wg0"), client_name("wg0", "a relay's key")])
def test_an_interface_of_the_mesh_is_refused_by_its_zone(name: str) -> None:
    with pytest.raises(InvalidValue, match=f"the interface {name} is the mesh's, of zone zone-blue"):
        check_not_mesh(name, ZONES)


def test_other_interfaces_pass() -> None:
    for name in ("wg1", "wg00", "office"):
        check_not_mesh(name, ZONES)


TAKEN = [Route("10.20.0.0/20", "wg0"), Route("172.20.1.0/24", "wg0"), Route("192.0.2.0/24", "eth0")]


@pytest.mark.parametrize(
    ("addresses", "routes", "message"),
    [
        (["10.20.0.9/32"], [], "the address 10.20.0.9/32 lies in 10.20.0.0/20, which is the mesh's"),
        (["10.20.1.1/24"], [], "the address 10.20.1.1/24 lies in"),
        ([], ["10.20.0.5/32"], "the route 10.20.0.5/32 lies in 10.20.0.0/20"),
        ([], ["10.20.0.0/20"], "the route 10.20.0.0/20 lies in"),
        ([], ["172.20.1.128/25"], "the route 172.20.1.128/25 lies in 172.20.1.0/24"),
    ],
)
def test_what_would_take_traffic_from_the_mesh_is_refused(
    addresses: list[str], routes: list[str], message: str
) -> None:
    with pytest.raises(InvalidValue, match=message):
        check_outside_mesh(addresses, routes, TAKEN, ZONES)


def test_what_lies_beside_the_mesh_or_around_it_passes() -> None:
    check_outside_mesh(["10.50.0.1/24"], ["0.0.0.0/0", "10.0.0.0/8", "192.0.2.128/25"], TAKEN, ZONES)
    check_outside_mesh(["10.20.0.9/32"], ["10.20.0.0/20"], TAKEN, {})
