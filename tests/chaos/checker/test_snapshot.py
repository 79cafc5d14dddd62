# SPDX-License-Identifier: GPL-3.0-or-later
"""The invariants of one moment find each planted fault."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from .history import History
from .log_reader import LogReader
from .snapshot import ZoneSnapshot, faults

A, B, C = ("A" * 43 + "=", "B" * 43 + "=", "C" * 43 + "=")
NAMES = {"10.30.0.1": "one", "10.30.0.2": "two", "10.30.0.3": "three"}


def record(address: str, rev: int, *prefixes: str) -> dict[str, Any]:
    return {
        "n": NAMES[address],
        "a": [address],
        "s": 1,
        "r": rev,
        **({"p": list(prefixes)} if prefixes else {}),
    }


def entry(position: str, *changes: list[Any], **fields: str) -> tuple[str, dict[str, str]]:
    return position, {"o": json.dumps(changes), **fields} if changes else fields


def picture() -> ZoneSnapshot:
    """Two peers, one that left, and a Redis that started anew in between."""
    one, two = record("10.30.0.1", 1, "172.20.1.0/24"), record("10.30.0.2", 2)
    events = [
        entry("7-1", ["+", A, one]),
        entry("7-2", ["+", B, two]),
        entry("9-3", prev="7"),
        entry("9-4", ["+", C, record("10.30.0.3", 4)]),
        entry("9-5", ["-", C, {"t": 1.0, "s": 2}]),
    ]
    leases = {
        A: {"n": "one", "a": ["10.30.0.1"], "s": 1, "p": ["172.20.1.0/24"]},
        B: {"n": "two", "a": ["10.30.0.2"], "s": 1},
        C: {"n": "three", "a": ["10.30.0.3"], "s": 2, "t": 1.0},
    }
    meta = {"epoch": "9", "rev": "5", "pools": '["10.30.0.0/27"]'}
    return ZoneSnapshot(meta, {A: one, B: two}, leases, events)


Spoil = Callable[[Any], object]
SPOILT: dict[str, tuple[Spoil, str]] = {
    "twice": (lambda p: p.leases[C].update(a=["10.30.0.1"]), "is leased to"),
    "outside": (lambda p: p.leases[C].update(a=["192.0.2.1"]), "lies in no pool"),
    "network": (lambda p: p.leases[C].update(a=["10.30.0.0"]), "the network's own"),
    "broadcast": (lambda p: p.leases[C].update(a=["10.30.0.31"]), "the network's own"),
    "none": (lambda p: p.leases[C].update(a=[]), "has the addresses []"),
    "overlap": (lambda p: p.leases[C].update(p=["172.20.1.128/25"]), "overlaps"),
    "no lease": (lambda p: p.leases.pop(A), "has no lease"),
    "left": (lambda p: p.leases[A].update(t=5.0), "is in the mesh and its lease is not live"),
    "other": (lambda p: p.leases[A].update(p=[]), "and its lease"),
    "name": (lambda p: p.peers[A].update(n="two"), "2 peers are called two"),
    "other lease": (lambda p: p.leases[C].update(s=3), "does not come to the leases"),
    "kept lease": (lambda p: p.leases.update({"D": dict(p.leases[C], a=["10.30.0.9"])}), "to the leases"),
    "no peer": (lambda p: p.peers.pop(A), "is live and it is no peer"),
    "lost join": (lambda p: (p.peers.pop(A), p.leases.pop(A)), "does not come to the peers"),
    "gap": (lambda p: p.events.pop(3), "log is a gap"),
    "no end": (lambda p: p.events.pop(), "its log of 4 events ends at 9-4"),
    "no beginning": (lambda p: (p.events.clear(), p.meta.update(rev="5")), "its log of 0 events"),
    "no log": (lambda p: p.events.clear(), "its log of 0 events"),
    "epoch": (lambda p: p.events[2][1].update(prev="6"), "opens an epoch"),
    "on the way": (
        lambda p: p.events.insert(4, entry("9-4", ["+", C, record("10.30.0.2", 4)])),
        "is leased to",
    ),
}


def test_a_correct_zone_has_no_fault() -> None:
    assert faults(picture()) == []


@pytest.mark.parametrize("name", SPOILT)
def test_a_planted_fault_is_found(name: str) -> None:
    spoil, sentence = SPOILT[name]
    spoilt = copy.deepcopy(picture())
    spoil(spoilt)
    assert sentence in "\n".join(faults(spoilt))


def test_a_revision_used_twice_or_lost_is_found() -> None:
    history = History()
    reader = LogReader(lambda: pytest.fail("reads nothing here"), "zone-one", history)
    reader.add_entries(reader.begin_reading(0), [*picture().events, ("9-6", {"o": "[]"})], 1.0, 2.0)
    assert list(reader.lost_events(picture())) == ["the event 9-6 is gone although Redis lost nothing since"]
    with history.loses():
        pass
    assert not list(reader.lost_events(picture()))
    assert reader.faults == []
    reader.add_entries(reader.begin_reading(2), [("9-6", {"o": "[1]"})], 3.0, 4.0)
    assert "9-6 was used twice" in reader.faults[0]


def test_a_restored_zone_continues_without_its_old_log() -> None:
    put_back = picture()
    put_back = ZoneSnapshot({**put_back.meta, "restored": "9-5"}, {}, {C: put_back.leases[C]}, [])
    assert faults(put_back) == []
    assert faults(ZoneSnapshot(put_back.meta, {}, put_back.leases, [entry("9-4")])) != []
