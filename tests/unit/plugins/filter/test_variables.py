# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters report invalid variables of an operator before any change."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.jaywalking.mesh.plugins.filter import variables

PASSWORD = "0123456789abcdef"


def zone(**fields: Any) -> dict[str, Any]:
    return {"name": "zone-a", "cidr": "10.20.0.0/20", "agent_password": PASSWORD, **fields}


GOOD: dict[str, tuple[str, list[Any]]] = {
    "a boolean": ("bool", [True, False, "false", "Yes", "0", 1]),
    "a port": ("port", [6379, "6379"]),
    "a controller": (
        "controller",
        [
            *("192.0.2.1", "control.example", "2001:db8::1", "cluster://192.0.2.1,[2001:db8::1]:7000"),
            "sentinel://192.0.2.1:26379,b/main",
            "rediss+sentinel://192.0.2.1:26379,b/main",
            "rediss+cluster://192.0.2.1,[2001:db8::1]:6380",
            "rediss://redis.example:6380",
        ],
    ),
    "a password": ("password", [PASSWORD, f"{PASSWORD}\n"]),
    "listen addresses": (
        "listen_addresses",
        ["127.0.0.1", "127.0.0.1, 192.0.2.1", ["::1"], ["0.0.0.0"], ["::"]],
    ),
    "zones": (
        "zones",
        [
            [zone()],
            [zone(cidr=None, cidr6="fd20::/64")],
            [zone(cidr="10.20.0.0/20,10.21.0.0/24"), zone(name="zone-b", cidr=["10.20.0.0/20"])],
            [zone(takeover="stale", stale_after="60", quarantine=0, exclude="10.20.0.1, 10.20.0.2")],
            [zone(exclude=["none"], description=None)],
        ],
    ),
}


@pytest.mark.parametrize("what", GOOD)
def test_valid_values_pass(what: str) -> None:
    kind, given = GOOD[what]
    for value in given:
        assert variables.problems({"x": value}, {"x": kind}) == [], value


BAD = [
    ("bool", "maybe", "x is 'maybe': use true or false"),
    ("bool", 7, "x is '7': use true or false"),
    ("port", 70000, "'70000' is out of range"),
    ("port", "x", "the x 'x' is out of range"),
    ("port", True, "out of range"),
    ("password", 1234567890123456, "x is a number, not text: quote it"),
    ("password", "short", "x has 5 characters and needs at least 16"),
    ("controller", "192.0.2.1:6379", "give an address or a name without a port"),
    ("controller", "redis://192.0.2.1", "give an address or a name"),
    ("controller", "sentinel://192.0.2.1", "give an address or a name"),
    ("state", "gone", "use one of present, absent"),
    ("listen_addresses", "here", "the x: value 'here' is no IP address"),
    ("listen_addresses", ["192.0.2.1", "224.0.0.1"], "'224.0.0.1' is no host's address"),
    ("listen_addresses", {"a": "b"}, "x is a dictionary: give a list"),
    ("zones", "zone-a", "x is no list of zones"),
    ("zones", [zone(cidr="10.20.0.0/33")], "x: zone zone-a: the cidr '10.20.0.0/33' is no prefix"),
    ("zones", [zone(cidr6="10.9.0.0/24")], "the cidr6 '10.9.0.0/24' is not IPv6"),
    ("zones", [zone(cidr="fd00::/64")], "the cidr 'fd00::/64' is not IPv4"),
    ("zones", [zone(cidr=["10.20.0.0/20", "10.20.1.0/24"])], "overlap"),
    ("zones", [zone(cidr=None)], "it has no pool: give cidr, cidr6 or both"),
    ("zones", [zone(quarantine="soon")], "the quarantine 'soon' is out of range"),
    ("zones", [zone(takeover="seldom")], "the takeover policy 'seldom' is unknown"),
    ("zones", [zone(exclude=["192.0.2.1"])], "lies in no pool"),
    ("zones", [zone(name="Zone A")], "'Zone A' is no DNS label"),
    ("zones", [zone(name="controller")], "stores the controller's own password under this name"),
    ("zones", [zone(), zone()], "zone zone-a is declared twice"),
    ("zones", [zone(agent_password=12345678901234567890)], "quote it"),
    ("zones", [zone(agent_password=None)], "has 0 characters"),
    ("zones", [zone(cdir="10.0.0.0/8")], "cdir is unknown"),
]


@pytest.mark.parametrize(("kind", "value", "message"), BAD)
def test_an_invalid_value_is_reported(kind: str, value: object, message: str) -> None:
    found = variables.problems({"x": value}, {"x": kind})
    assert len(found) == 1
    assert message in found[0]
    assert PASSWORD not in found[0]


def test_the_problems_of_all_zones_are_reported_at_once() -> None:
    (found,) = variables.problems({"x": [zone(cidr="no"), zone(name="b", quarantine=-1)]}, {"x": "zones"})
    assert "zone zone-a: " in found
    assert "zone b: " in found


def test_an_omitted_variable_is_no_problem() -> None:
    assert variables.problems({"x": None}, {"x": "port", "y": "bool"}) == []


def test_an_unknown_kind_is_an_error_of_the_role() -> None:
    with pytest.raises(AnsibleFilterError, match="no kind of variable"):
        variables.problems({"x": 1}, {"x": "ports"})


def test_zones_are_declared_without_their_passwords() -> None:
    zones = [zone(cidr="10.1.0.0/24,10.2.0.0/24", exclude=None, quarantine=60), zone(name="zone-b")]
    text = variables.declaration(zones, "/etc/x", ["control"])
    assert PASSWORD not in text
    declared = json.loads(text)
    assert declared["supervisors"] == ["control"]
    assert declared["zones"][0] == {
        "name": "zone-a",
        "cidr": ["10.1.0.0/24", "10.2.0.0/24"],
        "quarantine": 60,
        "agent_password_file": "/etc/x/zone-a.password",
    }
    assert declared["defaults"]["takeover"] == "never"
    assert "close" not in declared
    assert json.loads(variables.declaration(zones, "/etc/x", [], close=True))["close"] is True


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        (None, []),
        ("", []),
        ("192.0.2.1", ["192.0.2.1"]),
        ("127.0.0.1, 192.0.2.1,", ["127.0.0.1", "192.0.2.1"]),
        (["a", "b"], ["a", "b"]),
    ],
)
def test_text_is_split_at_its_commas(value: object, parts: list[str]) -> None:
    assert variables.FilterModule().filters()["as_list"](value) == parts


@pytest.mark.parametrize(
    ("given", "zones", "prefixes", "expected"),
    [
        ([], [], [], ""),
        ([], [zone(cidr="10.1.0.0/24")], [["172.20.1.0/24"], "192.168.1.0/24"], ""),
        ([], [zone(cidr="44.1.0.0/24")], [[], None], "default,44.1.0.0/24"),
        ([], [], ["8.8.8.9/24, 10.1.1.0/24", ["2600::/32"]], "default,2600::/32,8.8.8.0/24"),
        ("10.0.0.0/8", [zone(cidr="10.1.0.0/24")], [["172.20.1.0/24"]], "10.0.0.0/8,172.20.1.0/24"),
        (["any"], [zone(cidr="44.1.0.0/24")], [], "any"),
    ],
)
def test_what_the_inventory_gives_is_accepted(
    given: object, zones: list[dict[str, object]], prefixes: object, expected: str
) -> None:
    assert variables.accepted_networks(given, zones, prefixes) == expected
