# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes behind NAT reach each other: directly wherever possible, else by a relay, and they say which."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleet.fleet import UNIT, eventually
from tests.fleet.labs import lab_of_this_run
from tests.fleet.nat import PAIRS, RELAYS, SPOKES, Pair, Town, town

ANNA, BEN = SPOKES


@pytest.fixture(scope="module")
def streets() -> Iterator[Town]:
    """A controller, two relays and two spokes, rolled out once."""
    directory = Path(os.environ.get("JAYWALK_NAT_TEST_DIR", "/var/tmp/jaywalk-nat-test"))
    prefix = os.environ.get("JAYWALK_NAT_TEST_PREFIX", "jn")
    with town(lab_of_this_run(directory, prefix)) as made:
        yield made


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_a_pair_meets_directly_where_it_can_and_by_a_relay_where_not(streets: Town, pair: Pair) -> None:
    peer = streets.meet(pair).peer
    if pair.direct:
        assert (peer["path"], peer["via"]) == ("direct", None)
    else:
        assert peer["path"] == "relayed"
        assert peer["via"] in RELAYS


def test_two_sites_of_one_network_do_not_take_each_other_for_a_neighbour(streets: Town) -> None:
    """Both have 192.168.1.10: what one calls the other's local address is its own."""
    streets.together("cone1", "cone2", "direct")
    assert streets[ANNA].address == streets[BEN].address
    public = streets.lab.streets.topology.street("cone1").wan
    assert streets.peer(BEN, ANNA)["endpoint"].startswith(f"{public}:")


def test_neighbours_speak_by_their_own_network(streets: Town) -> None:
    streets.together("cone1", "cone1", "direct")
    assert streets.peer(BEN, ANNA)["endpoint"] == f"{streets[ANNA].address}:51820"


def test_spokes_reach_the_open_nodes_directly(streets: Town) -> None:
    streets.together("symmetric1", "cone2", "relayed")
    for spoke in SPOKES:
        for relay in RELAYS:
            ping = f"ping -n -c 1 -W 2 {streets.address(relay)}"
            eventually(
                lambda ping=ping, spoke=spoke, relay=relay: (
                    streets[spoke].run(ping, check=False).rc == 0 and streets.path(spoke, relay) == "direct"
                ),
                f"{spoke} reaches {relay} directly",
                60,
            )


def test_a_street_that_is_renumbered_comes_back_directly(streets: Town) -> None:
    streets.together("cone1", "cone2", "direct")
    with streets.ping(BEN, ANNA) as count:
        new = streets.lab.streets.renumber("cone1")
        eventually(
            lambda: streets.peer(BEN, ANNA)["endpoint"].startswith(f"{new}:"), "ben learns the new address"
        )
        streets.wait_path("direct")
    assert count.recovered


@pytest.mark.parametrize("street", ["cone1", "symmetric1"])
def test_a_router_that_forgets_its_mappings_does_no_lasting_harm(streets: Town, street: str) -> None:
    streets.together(street, "forward2", "direct")
    with streets.ping(BEN, ANNA) as count:
        streets.lab.streets.forget(street)
        streets[ANNA].run("sleep 10")
        streets.wait_path("direct")
    assert count.recovered


def test_a_spoke_that_moves_mid_ping_is_found_again(streets: Town) -> None:
    streets.together("cone1", "cone2", "direct")
    with streets.ping(BEN, ANNA) as count:
        streets.lab.move(ANNA, "forward1")
        wan = streets.lab.streets.topology.street("forward1").wan
        eventually(lambda: streets.peer(BEN, ANNA)["endpoint"].startswith(f"{wan}:"), "ben finds anna", 60)
        streets.wait_path("direct")
    assert count.recovered


def test_a_relay_steps_in_where_the_direct_path_dies_and_steps_back_without_loss(streets: Town) -> None:
    streets.together("cone1", "cone2", "direct")
    streets.lab.block("cone1", "cone2")
    try:
        with streets.ping(BEN, ANNA):
            streets.wait_path("relayed")
    finally:
        with streets.ping(BEN, ANNA) as healing:
            streets.lab.block("cone1", "cone2", blocked=False)
            streets.wait_path("direct", 120)
    assert healing.lost == 0


def test_a_dead_relay_is_replaced_by_another(streets: Town) -> None:
    streets.together("symmetric1", "cone2", "relayed")
    relay = streets.peer(BEN, ANNA)["via"]
    others = {each for each in RELAYS if each != relay}
    streets[relay].crash()
    try:
        eventually(lambda: streets.peer(BEN, ANNA)["via"] in others, "ben takes another relay", 60)
        address = streets.address(ANNA)
        eventually(
            lambda: streets[BEN].run(f"ping -n -c 1 -W 1 {address}", check=False).rc == 0, "anna answers", 60
        )
    finally:
        streets[relay].boot()
    eventually(
        lambda: streets[relay].run(f"systemctl is-active {UNIT}", check=False).rc == 0, "it is back", 60
    )


def test_a_relayed_pair_needs_neither_controller_nor_supervisor(streets: Town) -> None:
    streets.together("symmetric1", "symmetric2", "relayed")
    with streets.ping(BEN, ANNA) as count:
        streets.controller.run("systemctl stop jaywalk-supervisor jaywalk-redis")
        streets[BEN].run("sleep 5")
        streets.controller.run("systemctl start jaywalk-redis jaywalk-supervisor")
    assert count.lost == 0
