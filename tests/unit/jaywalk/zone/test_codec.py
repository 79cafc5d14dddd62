# SPDX-License-Identifier: GPL-3.0-or-later
"""Text from a stranger: every reader takes it whole or refuses it in one printable sentence."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jaywalk.core.errors import InvalidValue
from jaywalk.zone.models import Lease, Peer, Zone
from jaywalk.zone.requests import AGENT_OPS, Reply, Request, readable_reply_to
from tests import strategies as mesh

ZONE = Zone.validated("zone-blue", ["10.20.0.0/20", "fd20::/64"], "Tenancy Zone Blue")


DEEP = "[" * 100_000
HUGE = "9" * 5000
NASTY = [
    "",
    "null",
    "[]",
    "NaN",
    '"text"',
    "{",
    DEEP,
    '{"a":' * 50_000,
    HUGE,
    f'{{"v":1,"seq":{HUGE}}}',
    f'{{"seq":-{HUGE}}}',
    '{"v":true}',
    '{"n":"\\ud800","a":["10.20.0.1"]}',
    '{"n":"node1","a":["10.20.0.1"],"s":true}',
    '{"n":"node1","a":["10.20.0.1"],"r":1e400}',
    '{"n":"node1","a":["10.20.0.1"],"t":NaN}',
    '{"n":"node1","a":{"10.20.0.1":1}}',
    '{"n":"node1","a":"10.20.0.1"}',
    '{"n":"node1","a":[["10.20.0.1"]]}',
    '{"n":"node1","a":[]}',
    '{"n":"node1","a":["10.20.0.1"],"p":["0.0.0.0/0"]}',
    '{"n":"node1","a":["10.20.0.1"],"e":{"host":"192.0.2.1"}}',
    '{"ok":true,"addresses":[null]}',
    '{"ok":true,"name":"\\n"}',
    '{"ok":false,"error":"\\ud800"}',
]

fields = ["v", "op", "zone", "key", "name", "request_ip", "child_prefixes", "endpoint", "nonce", "seq"]
fields += [
    "n",
    "a",
    "p",
    "e",
    "s",
    "r",
    "t",
    "ok",
    "code",
    "error",
    "state",
    "addresses",
    "prefixes",
    "changed",
]
objects = st.dictionaries(st.sampled_from(fields), mesh.json_values, max_size=10)


def believe(text: str) -> None:
    """Gives ``text`` to every reader there is; each takes it whole or says ``InvalidValue``."""
    good = mesh.key(1)
    readers: list[Any] = [
        lambda: Peer.from_wire(good, text, ZONE).to_wire(),
        lambda: Lease.from_wire(good, text).to_wire(),
        lambda: Request.from_wire(text, "zone-blue", AGENT_OPS).to_wire(),
        lambda: Reply.from_wire(text).to_wire(),
        lambda: Zone.from_wire("zone-blue", {"pools": text}).to_wire(),
    ]
    sentences = []
    for reader in readers:
        try:
            written = reader()
        except InvalidValue as refused:
            sentences.append(str(refused))
        else:
            json.dumps(written, allow_nan=False).encode("utf-8")
    assert all(sentence.isprintable() and len(sentence) < 500 for sentence in sentences)
    readable_reply_to(text)


@pytest.mark.parametrize("number", range(len(NASTY)))
def test_nasty_text_is_refused_by_all_readers(number: int) -> None:
    believe(NASTY[number])


@given(st.text())
def test_any_text_is_taken_whole_or_refused(text: str) -> None:
    believe(text)


@given(objects)
@example({"v": True, "op": "join", "zone": "zone-blue", "key": mesh.key(1), "seq": 1, "nonce": "0" * 32})
def test_any_object_is_taken_whole_or_refused(data: dict[str, Any]) -> None:
    believe(json.dumps(data))


@given(mesh.requests, st.sampled_from(fields), mesh.json_values)
def test_request_with_one_odd_field_is_taken_whole_or_refused(
    request: Request, field: str, value: Any
) -> None:
    data = json.loads(request.to_wire())
    data[field] = value
    believe(json.dumps(data))
