# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes behind NAT reach each other directly or by a relay, and their status shows which."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleet.fleet import UNIT, eventually
from tests.fleet.labs import lab_of_this_run
from tests.fleet.nat import PAIRS, RELAYS, SPOKES, NatFleet, Pair, nat_fleet

ANNA, BEN = SPOKES


@pytest.fixture(scope="module")
def fleet() -> Iterator[NatFleet]:
    """A controller, two relays and two spokes, rolled out once."""
    directory = Path(os.environ.get("JAYWALK_NAT_TEST_DIR", "/var/tmp/jaywalk-nat-test"))
    prefix = os.environ.get("JAYWALK_NAT_TEST_PREFIX", "jn")
    with nat_fleet(lab_of_this_run(directory, prefix)) as rolled_out:
        yield rolled_out


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_a_pair_connects_directly_where_it_can_and_by_a_relay_otherwise(fleet: NatFleet, pair: Pair) -> None:
    peer = fleet.meet(pair).peer
    if pair.direct:
        assert (peer["path"], peer["via"]) == ("direct", None)
    else:
        assert peer["path"] == "relayed"
        assert peer["via"] in RELAYS


def test_machines_of_two_sites_with_the_same_network_do_not_use_local_endpoints(fleet: NatFleet) -> None:
    """Both have 192.168.1.10: the other machine's local address is also the own one."""
    fleet.together("cone1", "cone2", "direct")
    assert fleet[ANNA].address == fleet[BEN].address
    public = fleet.lab.nat_sites.topology.site("cone1").wan
    assert fleet.peer(BEN, ANNA)["endpoint"].startswith(f"{public}:")


def test_machines_of_one_site_connect_by_their_own_network(fleet: NatFleet) -> None:
    fleet.together("cone1", "cone1", "direct")
    assert fleet.peer(BEN, ANNA)["endpoint"] == f"{fleet[ANNA].address}:51820"


def test_spokes_reach_public_nodes_directly(fleet: NatFleet) -> None:
    fleet.together("symmetric1", "cone2", "relayed")
    for spoke in SPOKES:
        for relay in RELAYS:
            ping = f"ping -n -c 1 -W 2 {fleet.address(relay)}"
            eventually(
                lambda ping=ping, spoke=spoke, relay=relay: (
                    fleet[spoke].run(ping, check=False).rc == 0 and fleet.path(spoke, relay) == "direct"
                ),
                f"{spoke} reaches {relay} directly",
                60,
            )


def test_a_renumbered_site_connects_directly_again(fleet: NatFleet) -> None:
    fleet.together("cone1", "cone2", "direct")
    with fleet.ping(BEN, ANNA) as count:
        new = fleet.lab.nat_sites.renumber("cone1")
        eventually(
            lambda: fleet.peer(BEN, ANNA)["endpoint"].startswith(f"{new}:"), "ben has the new endpoint"
        )
        fleet.wait_path("direct")
    assert count.recovered


@pytest.mark.parametrize("site", ["cone1", "symmetric1"])
def test_a_pair_recovers_after_a_router_loses_its_mappings(fleet: NatFleet, site: str) -> None:
    fleet.together(site, "forward2", "direct")
    with fleet.ping(BEN, ANNA) as count:
        fleet.lab.nat_sites.forget(site)
        fleet[ANNA].run("sleep 10")
        fleet.wait_path("direct")
    assert count.recovered


def test_a_pair_recovers_after_a_spoke_moves_to_another_site(fleet: NatFleet) -> None:
    fleet.together("cone1", "cone2", "direct")
    with fleet.ping(BEN, ANNA) as count:
        fleet.lab.move(ANNA, "forward1")
        wan = fleet.lab.nat_sites.topology.site("forward1").wan
        eventually(
            lambda: fleet.peer(BEN, ANNA)["endpoint"].startswith(f"{wan}:"), "ben has anna's new endpoint", 60
        )
        fleet.wait_path("direct")
    assert count.recovered


def test_a_relay_replaces_a_dead_direct_path_and_the_return_to_it_loses_nothing(fleet: NatFleet) -> None:
    fleet.together("cone1", "cone2", "direct")
    fleet.lab.block("cone1", "cone2")
    try:
        with fleet.ping(BEN, ANNA):
            fleet.wait_path("relayed")
    finally:
        with fleet.ping(BEN, ANNA) as healing:
            fleet.lab.block("cone1", "cone2", blocked=False)
            fleet.wait_path("direct", 120)
    assert healing.lost == 0


def test_a_dead_relay_is_replaced_by_another(fleet: NatFleet) -> None:
    fleet.together("symmetric1", "cone2", "relayed")
    relay = fleet.peer(BEN, ANNA)["via"]
    others = {name for name in RELAYS if name != relay}
    fleet[relay].crash()
    try:
        eventually(lambda: fleet.peer(BEN, ANNA)["via"] in others, "ben uses another relay", 60)
        address = fleet.address(ANNA)
        eventually(
            lambda: fleet[BEN].run(f"ping -n -c 1 -W 1 {address}", check=False).rc == 0, "anna answers", 60
        )
    finally:
        fleet[relay].boot()
    eventually(lambda: fleet[relay].run(f"systemctl is-active {UNIT}", check=False).rc == 0, "it is back", 60)


def test_a_relayed_pair_needs_neither_controller_nor_supervisor(fleet: NatFleet) -> None:
    fleet.together("symmetric1", "symmetric2", "relayed")
    with fleet.ping(BEN, ANNA) as count:
        fleet.controller.run("systemctl stop jaywalk-supervisor jaywalk-redis")
        fleet[BEN].run("sleep 5")
        fleet.controller.run("systemctl start jaywalk-redis jaywalk-supervisor")
    assert count.lost == 0
