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

SHIPPED = Path(topology.__file__).with_name("nat_sites.yml")


def described(**sites: Any) -> Topology:
    return Topology.from_record({"sites": sites})


def test_the_shipped_description_has_a_site_of_each_kind() -> None:
    shipped = Topology.parse(SHIPPED.read_text())
    assert {site.nat for site in shipped.sites.values()} == set(topology.NAT_KINDS)
    assert shipped.delay_ms == 60
    assert shipped.machines["control"] == INTERNET


def test_a_site_needs_only_a_name() -> None:
    site = Topology.parse("sites: {home: }").site("home")
    assert (site.nat, site.wan, site.lan) == ("cone", "203.0.113.100", "192.168.1.0/24")
    assert site.features == []


def test_a_description_may_call_its_sites_streets_as_older_ones_do() -> None:
    assert Topology.parse("streets: {home: }") == Topology.parse("sites: {home: }")
    with pytest.raises(LabError, match="has streets: it may have sites"):
        Topology.parse("{streets: {home: }, sites: {shop: }}")


def test_a_description_is_read_as_it_was_written() -> None:
    written = Topology.parse(SHIPPED.read_text()).renumbered("cone1")
    assert Topology.from_record(json.loads(json.dumps(written.as_record()))) == written


def test_each_router_has_its_own_public_address_and_sites_may_have_the_same_lan() -> None:
    made = described(home={}, shop={}, office={"nat": "symmetric"})
    assert [site.wan for site in made.sites.values()] == [f"203.0.113.{n}" for n in (100, 101, 102)]
    assert made.site("home").network == made.site("shop").network


def test_a_new_public_address_is_one_that_no_router_has() -> None:
    made = described(home={}, shop={})
    assert made.renumbered("home").site("home").wan == "203.0.113.102"
    assert made.renumbered("home", "203.0.113.77").site("home").wan == "203.0.113.77"
    assert made.site("home").wan == "203.0.113.100"
    assert made.renumbered("home").has_same_description(made)
    assert not made.has_same_description(described(home={"nat": "symmetric"}, shop={}))
    with pytest.raises(LabError, match=r"'home' and 'shop' both have 203\.0\.113\.100"):
        made.renumbered("shop", "203.0.113.100")


def test_an_unknown_site_is_named_with_the_known_ones() -> None:
    with pytest.raises(LabError, match="no NAT site 'shop' in the lab: there are home"):
        described(home={}).site("shop")


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("sites: [", "not YAML"),
        ("[]", "must be a mapping"),
        ("site: {}", "has site: it may have sites"),
        ("sites: [home]", "must each be a mapping"),
        ("sites: {Home: }", "'Home'"),
        ("sites: {internet: }", "cannot have the name 'internet'"),
        ("sites: {home: {nat: full}}", "nat is 'full'"),
        ("sites: {home: {colour: red}}", "has colour"),
        ("sites: {home: {lan: 192.168.1.1/24}}", "host bits set"),
        ("sites: {home: {lan: 192.168.1.0/29}}", "too small"),
        ("sites: {home: {lan: 203.0.113.192/28}}", "with nat none, and only then"),
        ("sites: {home: {nat: none}}", "with nat none, and only then"),
        ("sites: {home: {wan: 192.0.2.1}}", "192.0.2.1 is not in"),
        ("sites: {home: {wan: next}}", "'next'"),
        ("sites: {home: {forward: 70000}}", "forwards 70000"),
        ("sites: {home: {forward: [a]}}", "forwards 'a'"),
        ("sites: {home: {hairpin: often}}", "hairpin is true or false, not 'often'"),
        ("sites: {home: {lan6: 2001:db8::/64}}", "not its first"),
        ("sites: {home: {lan6: fd00::/64}}", "of 2001:db8::/32"),
        ("sites: {home: {lan6: home}}", "'home'"),
        ("sites: {a: {lan6: 2001:db8:1::/64}, b: {lan6: 2001:db8:1::/64}}", "both have 2001:db8:1::/64"),
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


def test_two_sites_without_nat_share_no_public_address() -> None:
    one, other = ({"nat": "none", "lan": lan} for lan in ("203.0.113.192/28", "203.0.113.192/27"))
    with pytest.raises(LabError, match="'one' and 'other' both have"):
        described(one=one, other=other)
