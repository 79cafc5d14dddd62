# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of a record's fields agrees with the models, with itself and with the documentation."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaywalk.core.errors import InvalidValue
from jaywalk.zone import models
from jaywalk.zone.models import Lease, Peer, Zone
from jaywalk.zone.record_fields import FIELDS, RecordCodec
from tests import strategies as mesh

ROOT = Path(__file__).parents[4]
ZONE = Zone.validated("zone-blue", ["10.20.0.0/20", "fd20::/64"])
PEER = RecordCodec(Peer._fields, Peer._field_defaults)
LEASE_NAMES = list(Lease.__dataclass_fields__)
FULL_PEER: dict[str, Any] = {
    "n": "node1",
    "a": ["10.20.0.1"],
    "s": 5,
    "r": 7,
    "p": ["172.20.1.0/24"],
    "e": "192.0.2.1:51820",
    "m": "0123abcd",
    "f": 1,
    "l": ["10.1.1.1"],
    "o": "192.0.2.7:4444",
    "y": 1,
    "x": 51821,
    "i": 1_700_000_000,
    "h": "node1",
    "k": ["172.20.1.0/24"],
    "q": "node",
    "z": {"s": "[]", "g": base64.b64encode(bytes(64)).decode()},
    "g": ["lease", "relay"],
    "v": 1,
}


def test_each_attribute_but_the_key_has_one_row_and_each_letter_one_meaning() -> None:
    names, letters = [field.name for field in FIELDS], [field.letter for field in FIELDS]
    assert len(set(names)) == len(names)
    assert len(set(letters)) == len(letters)
    assert set(names) == {*Peer._fields, *LEASE_NAMES} - {"key"}
    assert set(letters) == {*FULL_PEER, "t"}


def test_record_with_every_field_comes_back_as_it_went() -> None:
    peer = Peer.from_wire(mesh.key(1), json.dumps(FULL_PEER), ZONE)
    assert all(peer), "a field is still at its default"
    assert list(peer.to_wire().items()) == list(FULL_PEER.items())


def test_record_holds_only_the_fields_that_differ_from_their_default() -> None:
    bare = Peer(mesh.key(1), "node1", ("10.20.0.1",))
    assert bare.to_wire() == {"n": "node1", "a": ["10.20.0.1"], "s": 0, "r": 0}
    assert Lease(mesh.key(1), "node1", ("10.20.0.1",), released=0).to_wire() == {
        "n": "node1",
        "a": ["10.20.0.1"],
        "s": 0,
        "t": 0,
    }


def test_reader_ignores_the_fields_of_a_newer_version() -> None:
    newer = {**FULL_PEER, "Z": {"anything": [1]}, "zz": None}
    assert Peer.from_wire(mesh.key(1), newer, ZONE) == Peer.from_wire(mesh.key(1), FULL_PEER, ZONE)


@pytest.mark.parametrize("letter", ["n", "a"])
def test_reader_needs_a_name_and_addresses_and_nothing_else(letter: str) -> None:
    with pytest.raises(InvalidValue):
        Peer.from_wire(mesh.key(1), {k: v for k, v in FULL_PEER.items() if k != letter}, ZONE)
    Peer.from_wire(mesh.key(1), {"n": "node1", "a": ["10.20.0.1"]}, ZONE)


@given(st.sampled_from([field.letter for field in PEER.fields]), mesh.json_values)
def test_value_of_another_kind_in_any_field_is_refused_and_never_crashes(letter: str, value: object) -> None:
    try:
        peer = Peer.from_wire(mesh.key(1), {**FULL_PEER, letter: value}, ZONE)
    except InvalidValue:
        return
    assert Peer.from_wire(mesh.key(1), peer.to_wire(), ZONE) == peer


def test_valid_fields_of_a_damaged_record_are_read_one_by_one() -> None:
    damaged = {"n": "No Label", "a": ["10.20.0.1"], "p": "172.20.1.0/24", "s": 5, "h": "node1"}
    assert dict(Lease.valid_fields(damaged)) == {
        "addresses": ("10.20.0.1",),
        "seq": 5,
        "released": None,
        "since": 0,
        "host": "node1",
        "reserved_prefixes": (),
        "requested_name": "",
        "signed": None,
        "grants": (),
        "proven": False,
    }


@pytest.mark.parametrize(("key", "model"), [("peers", "_PEER"), ("leases", "_LEASE")])
def test_documentation_lists_the_fields_of_each_record(key: str, model: str) -> None:
    page = (ROOT / "docs/how-it-works.md").read_text(encoding="utf-8")
    cell = next(line for line in page.splitlines() if line.startswith(f"| `{{z}}:{key}` |"))
    documented = {letter: meaning for meaning, letter in re.findall(r"[:,] ([a-z- A-Z]+) `([a-z])`", cell)}
    assert documented == {field.letter: field.meaning for field in getattr(models, model).fields}
