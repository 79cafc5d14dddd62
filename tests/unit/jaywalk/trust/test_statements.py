# SPDX-License-Identifier: GPL-3.0-or-later
"""Statements of a mesh lock have one text each, and what is not that text does not parse."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaywalk.core.errors import InvalidValue
from jaywalk.trust.lock_keys import LockKey
from jaywalk.trust.statements import NodeStatement, Signed, ZoneStatement, parse
from tests import strategies
from tests.strategies import key

NODE_TEXT = (
    f'["jaywalk lock v1","node","zone-blue","{key(1)}","web1",["10.20.0.5"],["172.20.1.0/24"],1,7,1800000000]'
)
ZONE_TEXT = (
    f'["jaywalk lock v1","zone","zone-blue",["10.20.0.0/20"],5,[["{key(1)}",6]],["{key(8)}"],9,1800000000]'
)

nodes = st.builds(
    NodeStatement,
    zone=st.just("zone-blue"),
    key=strategies.any_keys,
    name=strategies.labels,
    addresses=strategies.host_lists,
    prefixes=strategies.prefix_lists,
    relay=st.booleans(),
    serial=strategies.naturals,
    expires=strategies.naturals,
)
zones = st.builds(
    ZoneStatement,
    zone=st.just("zone-blue"),
    pools=st.just(("10.20.0.0/20", "fd20::/64")),
    lock_keys=st.lists(strategies.keys, min_size=1, max_size=4, unique=True).map(tuple),
    least_serial=strategies.naturals,
    revoked=st.lists(st.tuples(strategies.keys, strategies.naturals), max_size=3).map(tuple),
    serial=strategies.naturals,
    expires=strategies.naturals,
)


def test_the_texts_are_those_that_the_documentation_shows() -> None:
    node = NodeStatement(
        "zone-blue", key(1), "web1", ("10.20.0.5",), ("172.20.1.0/24",), True, 7, 1_800_000_000
    )
    assert node.text() == NODE_TEXT
    zone = ZoneStatement(
        "zone-blue", ("10.20.0.0/20",), (key(8),), 5, ((key(1), 6),), serial=9, expires=1_800_000_000
    )
    assert zone.text() == ZONE_TEXT


@given(st.one_of(nodes, zones))
def test_a_statement_is_what_its_text_says(statement: Any) -> None:
    assert parse(statement.text()) == statement


def replaced(text: str, index: int, value: object) -> str:
    fields = json.loads(text)
    fields[index] = value
    return json.dumps(fields, separators=(",", ":"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[" * 100_000,
        NODE_TEXT.replace(",", ", "),
        NODE_TEXT + " ",
        NODE_TEXT.replace("10.20.0.5", "10.20.0.05"),
        NODE_TEXT.replace("172.20.1.0/24", "172.20.1.9/24"),
        NODE_TEXT.replace("lock v1", "lock v2"),
        NODE_TEXT.replace('"web1"', '"Web1"'),
        NODE_TEXT.replace(",1,7,", ",true,7,"),
        NODE_TEXT.replace(",1,7,", ",2,7,"),
        NODE_TEXT.replace(",7,", ",-7,"),
        NODE_TEXT.replace(",7,", ",7.0,"),
        NODE_TEXT.replace(",7,", f",{2**53},"),
        replaced(NODE_TEXT, 3, "no key"),
        replaced(NODE_TEXT, 5, "10.20.0.5"),
        replaced(NODE_TEXT, 6, ["0.0.0.0/0"]),
        replaced(NODE_TEXT, 6, [f"172.20.{n}.0/24" for n in range(65)]),
        replaced(ZONE_TEXT, 3, []),
        replaced(ZONE_TEXT, 6, []),
        replaced(ZONE_TEXT, 5, [[key(1)]]),
        replaced(ZONE_TEXT, 6, [key(n) for n in range(5)]),
    ],
)
def test_another_text_is_no_statement(text: str) -> None:
    with pytest.raises(InvalidValue):
        parse(text)


@given(st.one_of(strategies.json_values, st.dictionaries(st.sampled_from("sg"), strategies.json_values)))
def test_any_value_in_a_record_is_refused_without_another_error(value: Any) -> None:
    with pytest.raises(InvalidValue):
        Signed.from_wire(value)


@given(nodes)
def test_a_signed_statement_survives_its_way_through_a_record_and_through_meta_data(
    node: NodeStatement,
) -> None:
    signed = LockKey.generate().sign(node)
    assert Signed.from_wire(signed.to_wire()) == signed == Signed.from_text(signed.to_text())


@pytest.mark.parametrize("change", ["short", "padding", "letter"])
def test_a_signature_has_one_spelling(change: str) -> None:
    statement, signature = LockKey.generate().sign(NodeStatement("zone-blue", key(1), "web1"))
    spoilt = {"short": signature[:-4], "padding": signature.rstrip("="), "letter": "!" + signature[1:]}
    with pytest.raises(InvalidValue):
        Signed.from_wire({"s": statement, "g": spoilt[change]})
