# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies that a supervisor of commit 7b62cc7 wrote: they go back into a Redis that lost them."""

from __future__ import annotations

import json

from jaywalk.zone.models import Lease
from jaywalk_supervisor.recovery.copies import SharedCopy, ZoneCopy

KEY = "7bEHbn6g9DFjcmS29QvRTJ0I8CJ9+xkAGrAadowP+gk="
ZONE = r"""{"format":"jaywalk-supervisor-copy","schema":1,"zone":"zone-blue","position":[1795982860911,22],
"saved":1795982862,"pools":"[\"10.20.0.0/20\"]","description":"Tenancy Zone Blue","policy":
"{\"takeover\": \"always\", \"quarantine\": 3600, \"stale_after\": 900, \"forget_after\": 2592000}",
"digest":"88159937d3d1a898fc794848e40c00f9d7e822a9a40eff0d1455c10b899aae87","leases":
{"7bEHbn6g9DFjcmS29QvRTJ0I8CJ9+xkAGrAadowP+gk=":{"n":"node2","a":["10.20.0.2"],"s":1795981616906431,
"p":["192.168.78.0/24"],"i":1795981616,"k":["192.168.78.0/24"]}}}"""
SHARED = r"""{"format":"jaywalk-supervisor-copy","schema":1,"declared":true,
"removed":{"zone-old":1795982184000},
"generation":1795982184009,"tokens":{"ci":"{\"role\": \"admin\", \"zone\": \"\", \"digest\":
\"0ce216a2e31852bacdcb2ea8a938405ea9c1bb2ff42bc89231998b3225613061\", \"created\": 1795982184}"}}"""


def test_zone_of_the_version_before() -> None:
    copy = ZoneCopy.from_text("zone-blue", ZONE)
    assert (copy.position, copy.saved, copy.zone.pools) == (
        (1795982860911, 22),
        1795982862,
        ("10.20.0.0/20",),
    )
    prefixes = ("192.168.78.0/24",)
    assert copy.leases == {
        KEY: Lease(
            KEY,
            "node2",
            ("10.20.0.2",),
            prefixes,
            seq=1795981616906431,
            since=1795981616,
            reserved_prefixes=prefixes,
        )
    }
    written, before = json.loads(copy.to_text()), json.loads(ZONE)
    for document in (written, before):
        document["policy"] = json.loads(document["policy"])
    assert written == before


def test_tokens_and_removed_zones_of_the_version_before() -> None:
    text = SHARED.replace("\n", "")
    copy = SharedCopy.from_text(text)
    assert copy.declared
    assert (copy.removed, copy.generation) == ({"zone-old": 1795982184000}, 1795982184009)
    assert list(copy.tokens) == ["ci"]
    assert json.loads(copy.to_text()) == json.loads(text)
