# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from lab import topology
from lab.errors import LabError
from lab.topology import INTERNET, Topology

SHIPPED = Path(topology.__file__).with_name("streets.yml")


def described(**streets: Any) -> Topology:
    return Topology.of({"streets": streets})


def test_the_shipped_description_has_a_street_of_each_kind() -> None:
    shipped = Topology.parse(SHIPPED.read_text())
    assert {street.nat for street in shipped.streets.values()} == set(topology.NATS)
    assert shipped.delay_ms == 60
    assert shipped.machines["control"] == INTERNET


def test_a_street_needs_nothing_but_a_name() -> None:
    street = Topology.parse("streets: {home: }").street("home")
    assert (street.nat, street.wan, street.lan) == ("cone", "203.0.113.100", "192.168.1.0/24")
    assert street.features == []


def test_a_description_is_read_as_it_was_written() -> None:
    known = Topology.parse(SHIPPED.read_text()).renumbered("cone1")
    assert Topology.of(json.loads(json.dumps(known.as_record()))) == known


def test_routers_have_public_addresses_of_their_own_and_streets_may_look_alike() -> None:
    made = described(home={}, shop={}, office={"nat": "symmetric"})
    assert [street.wan for street in made.streets.values()] == [f"203.0.113.{n}" for n in (100, 101, 102)]
    assert made.street("home").network == made.street("shop").network


def test_a_new_public_address_is_one_that_no_router_has() -> None:
    made = described(home={}, shop={})
    assert made.renumbered("home").street("home").wan == "203.0.113.102"
    assert made.renumbered("home", "203.0.113.77").street("home").wan == "203.0.113.77"
    assert made.street("home").wan == "203.0.113.100"
    assert made.renumbered("home").alike(made)
    assert not made.alike(described(home={"nat": "symmetric"}, shop={}))
    with pytest.raises(LabError, match=r"'home' and 'shop' both have 203\.0\.113\.100"):
        made.renumbered("shop", "203.0.113.100")


def test_a_street_that_is_not_there_is_named_beside_those_that_are() -> None:
    with pytest.raises(LabError, match="no street 'shop' in the lab: there are home"):
        described(home={}).street("shop")


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("streets: [", "not YAML"),
        ("[]", "must be a mapping"),
        ("street: {}", "has street: it may have streets"),
        ("streets: [home]", "must each be a mapping"),
        ("streets: {Home: }", "'Home'"),
        ("streets: {internet: }", "cannot be called 'internet'"),
        ("streets: {home: {nat: full}}", "nat is 'full'"),
        ("streets: {home: {colour: red}}", "has colour"),
        ("streets: {home: {lan: 192.168.1.1/24}}", "host bits set"),
        ("streets: {home: {lan: 192.168.1.0/29}}", "too small"),
        ("streets: {home: {lan: 203.0.113.192/28}}", "with nat none, and only then"),
        ("streets: {home: {nat: none}}", "with nat none, and only then"),
        ("streets: {home: {wan: 192.0.2.1}}", "192.0.2.1 is not in"),
        ("streets: {home: {wan: next}}", "'next'"),
        ("streets: {home: {forward: 70000}}", "forwards 70000"),
        ("streets: {home: {forward: [a]}}", "forwards 'a'"),
        ("streets: {home: {hairpin: often}}", "hairpin is true or false, not 'often'"),
        ("streets: {home: {lan6: 2001:db8::/64}}", "not its first"),
        ("streets: {home: {lan6: fd00::/64}}", "of 2001:db8::/32"),
        ("streets: {home: {lan6: home}}", "'home'"),
        ("streets: {a: {lan6: 2001:db8:1::/64}, b: {lan6: 2001:db8:1::/64}}", "both have 2001:db8:1::/64"),
        ("machines: {anna: home}", "'home': there are internet"),
        ("machines: {Anna: internet}", "'Anna'"),
        ("delay_ms: long", "'long'"),
        ("delay_ms: true", "True"),
        ("delay_ms: -1", "give 0 to 10000"),
    ],
)
def test_a_wrong_description_is_one_sentence(content: str, named: str) -> None:
    with pytest.raises(LabError, match=re.escape(named)):
        Topology.parse(content)


def test_two_firewalled_streets_share_no_public_address() -> None:
    one, other = ({"nat": "none", "lan": lan} for lan in ("203.0.113.192/28", "203.0.113.192/27"))
    with pytest.raises(LabError, match="'one' and 'other' both have"):
        described(one=one, other=other)
