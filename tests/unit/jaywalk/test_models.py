# SPDX-License-Identifier: GPL-3.0-or-later
"""What travels: it comes back as it went, and nothing else gets in."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jaywalk import models
from jaywalk.errors import InvalidValue, RequestRefused
from jaywalk.models import Lease, Peer, Reply, Request, Zone

from . import strategies as mesh

ZONE = Zone.checked("zone-blue", ["10.20.0.0/20", "fd20::/64"], "Tenancy Zone Blue")

host_lists = st.lists(mesh.hosts, min_size=1, max_size=4, unique=True).map(tuple)
prefix_lists = st.lists(mesh.prefixes, max_size=4, unique=True).map(tuple)
peers = st.builds(
    Peer,
    key=mesh.any_keys,
    name=mesh.labels,
    addresses=host_lists,
    prefixes=prefix_lists,
    endpoint=mesh.endpoints,
    seq=mesh.naturals,
    rev=mesh.naturals,
)
leases = st.builds(
    Lease,
    key=mesh.any_keys,
    name=mesh.labels,
    addresses=host_lists,
    prefixes=prefix_lists,
    released=st.one_of(st.none(), st.just(0), st.floats(0, 2**40)),
    seq=mesh.naturals,
)
requests = st.builds(
    Request,
    op=st.sampled_from(models.AGENT_OPS),
    zone=st.just("zone-blue"),
    key=mesh.any_keys,
    name=st.one_of(st.just(""), mesh.labels),
    request_ip=st.lists(mesh.hosts, max_size=4, unique=True).map(tuple),
    child_prefixes=prefix_lists,
    endpoint=mesh.endpoints,
    nonce=st.builds(models.new_nonce),
    seq=mesh.naturals,
)


@given(peers)
def test_peer_comes_back_as_it_went(peer: Peer) -> None:
    assert Peer.from_wire(peer.key, peer.to_wire(), ZONE) == peer
    assert Peer.from_wire(peer.key, json.dumps(peer.to_wire()), ZONE) == peer


@given(leases)
def test_lease_comes_back_as_it_went(lease: Lease) -> None:
    assert Lease.from_wire(lease.key, json.dumps(lease.to_wire())) == lease


@given(requests)
def test_request_comes_back_as_it_went(request: Request) -> None:
    assert Request.from_wire(request.to_wire(), "zone-blue", models.AGENT_OPS) == request
    assert models.readable_nonce(request.to_wire()) == request.nonce


@given(leases, st.booleans())
def test_reply_comes_back_as_it_went(lease: Lease, changed: bool) -> None:
    granted = Reply.granted(lease, changed)
    assert Reply.from_wire(granted.to_wire()) == granted
    assert granted.lease_or_raise() is granted


def test_refusal_comes_back_as_the_supervisors_words() -> None:
    refused = Reply.refused("pool_full", "the pool 10.20.0.0/20 has no address left: add a pool")
    assert Reply.from_wire(refused.to_wire()) == refused
    with pytest.raises(RequestRefused, match="no address left") as caught:
        refused.lease_or_raise()
    assert caught.value.code == "pool_full"


@given(st.sampled_from(["zone-red", "zone-blue"]), st.text(max_size=300))
def test_zone_comes_back_as_it_went(name: str, description: str) -> None:
    zone = Zone.checked(name, ["10.20.0.9/20", "fd20::/64"], description)
    assert zone.pools == ("10.20.0.0/20", "fd20::/64")
    assert Zone.from_wire(name, zone.to_wire()) == zone


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
        lambda: Request.from_wire(text, "zone-blue", models.AGENT_OPS).to_wire(),
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
    models.readable_nonce(text)


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


@given(requests, st.sampled_from(fields), mesh.json_values)
def test_request_with_one_odd_field_is_taken_whole_or_refused(
    request: Request, field: str, value: Any
) -> None:
    data = json.loads(request.to_wire())
    data[field] = value
    believe(json.dumps(data))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"zone": "zone-red"}, "'zone-red'"),
        ({"op": "reserve"}, "'reserve' is unknown here"),
        ({"op": ["join"]}, "unknown here"),
        ({"v": 2}, "version '2'"),
        ({"v": True}, "version 'True'"),
        ({"key": "short"}, "'short' is no WireGuard public key"),
        ({"seq": True}, "'True' is no natural number"),
        ({"seq": 2**53}, "no natural number"),
        ({"seq": -1}, "no natural number"),
        ({"nonce": "xyz"}, "nonce"),
        ({"nonce": "A" * 32}, "nonce"),
        ({"request_ip": "10.20.0.1"}, "no list"),
        ({"request_ip": [f"10.20.0.{n}" for n in range(1, 10)]}, "9 requested addresses"),
        ({"child_prefixes": [f"172.20.{n}.0/24" for n in range(65)]}, "65 child prefixes"),
        ({"child_prefixes": ["0.0.0.0/0"]}, "default route"),
        ({"endpoint": "127.0.0.1:1"}, "loopback"),
        ({"name": "Node_1"}, "'Node_1' is no DNS label"),
    ],
)
def test_wrong_request_is_refused_with_its_value(change: dict[str, Any], words: str) -> None:
    request = Request.checked("join", "zone-blue", mesh.key(1), "node1")
    data = {**json.loads(request.to_wire()), **change}
    with pytest.raises(InvalidValue, match=words):
        Request.from_wire(json.dumps(data), "zone-blue", models.AGENT_OPS)


def test_huge_request_is_refused_before_it_is_read() -> None:
    text = '{"name":"' + "x" * models.MAX_REQUEST_BYTES + '"}'
    with pytest.raises(InvalidValue, match="send at most 16384"):
        Request.from_wire(text, "zone-blue", models.AGENT_OPS)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"addresses": ("10.21.0.1",)}, "10.21.0.1 of peer node1 lies outside"),
        ({"addresses": ("fd21::1",)}, "fd21::1 of peer node1 lies outside"),
        ({"prefixes": ("10.20.1.0/24",)}, "10.20.1.0/24 of peer node1 overlaps"),
        ({"prefixes": ("10.0.0.0/8",)}, "overlaps the zone's pools"),
        ({"prefixes": ("fd20::/16",)}, "overlaps the zone's pools"),
        ({"addresses": ()}, "has no address"),
    ],
)
def test_node_believes_no_peer_that_reaches_beyond_its_own(change: dict[str, Any], words: str) -> None:
    peer = replace(Peer(mesh.key(1), "node1", ("10.20.0.1",)), **change)
    with pytest.raises(InvalidValue, match=words):
        Peer.from_wire(peer.key, peer.to_wire(), ZONE)


def test_zone_gives_each_address_to_one_pool() -> None:
    with pytest.raises(InvalidValue, match=r"10.20.8.0/21 and 10.20.0.0/20 overlap"):
        Zone.checked("zone-blue", ["10.20.0.0/20", "10.20.8.0/21"])
    with pytest.raises(InvalidValue, match="no pool"):
        Zone.checked("zone-blue", [])
    assert ZONE.prefix_length("10.20.3.4") == 20
    assert ZONE.prefix_length("fd20::9") == 64
    assert ZONE.prefix_length("10.21.0.1") is None


def test_lease_says_in_what_state_it_is() -> None:
    lease = Lease(mesh.key(1), "node1", ("10.20.0.1",))
    states = [replace(lease, released=when).state for when in (None, 0, 1_700_000_000.5)]
    assert states == ["active", "reserved", "released"]


def test_each_request_has_a_nonce_of_its_own_and_a_growing_number() -> None:
    made = [Request.checked("join", "zone-blue", mesh.key(1)) for _ in range(50)]
    assert len({request.nonce for request in made}) == 50
    assert [request.seq for request in made] == sorted(request.seq for request in made)
