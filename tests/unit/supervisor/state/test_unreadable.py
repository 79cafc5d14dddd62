# SPDX-License-Identifier: GPL-3.0-or-later
"""Records that do not parse: nothing that such a record contains is granted to another key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from jaywalk.core.errors import RequestRefused
from jaywalk.zone import codec
from jaywalk.zone.models import Lease, Peer, Zone, lease_of, reservation_key
from jaywalk.zone.requests import Reply, Request
from jaywalk_supervisor.admin import go_ipam_import
from jaywalk_supervisor.decisions.agent_requests import decide
from jaywalk_supervisor.state.zone_state import ZoneState
from jaywalk_supervisor.store.commit_args import commit_args
from jaywalk_supervisor.store.store import new_mark
from tests.supervisor_support import join, key_of

NOW = 1_000_000.0
ZONE = Zone.validated("zone-blue", ["10.20.0.0/28", "fd00:20::/64"])
META = {**ZONE.to_wire(), "epoch": "1000", "rev": "7", "wait_ms": "100"}
HELD = Peer(
    key_of(1),
    "node1",
    ("10.20.0.12", "fd00:20::c"),
    ("172.20.1.0/24",),
    endpoint="192.0.2.1:51820",
    seq=5,
    rev=6,
)
PEER, LEASE = codec.compact(HELD.to_wire()), codec.compact(lease_of(HELD).to_wire())


def loaded(peers: Mapping[str, str], leases: Mapping[str, str], zone: Zone = ZONE) -> ZoneState:
    return ZoneState.load("zone-blue", {**META, **zone.to_wire()}, peers, leases)


def both_spoilt(text: str, zone: Zone = ZONE) -> ZoneState:
    return loaded({key_of(1): text}, {key_of(1): text}, zone)


def ask(state: ZoneState, request: Request) -> Reply:
    """Decides and applies, as a commit of this one request does."""
    decision = decide(state, request, NOW)
    for change in decision.changes:
        state.apply(change, decision.peer)
    state.rev += bool(decision.changes)
    return decision.reply


@pytest.mark.parametrize("spoilt", ["", "{", "[]", "7", "null", '{"n": 5}', PEER[:10], '{"a": []}'])
def test_what_one_record_lost_the_keys_other_record_still_says(spoilt: str) -> None:
    for state in (
        loaded({key_of(1): spoilt}, {key_of(1): LEASE}),
        loaded({key_of(1): PEER}, {key_of(1): spoilt}),
    ):
        mark = state.unreadable[key_of(1)]
        assert set(mark.held) == set(HELD.addresses)
        assert not mark.blocks
        assert state.leases[key_of(1)].prefixes == HELD.prefixes
        granted = ask(state, join("zone-blue", 2))
        assert granted.addresses == ("10.20.0.1", "fd00:20::1")
        assert (
            ask(state, join("zone-blue", 2, request_ip=["10.20.0.12"])).code in ("unreadable", "")
            or mark.covered
        )


def test_a_peer_with_a_good_record_stays_when_its_lease_is_spoilt() -> None:
    state = loaded({key_of(1): PEER}, {key_of(1): "{"})
    assert state.peers[key_of(1)] == HELD
    assert ask(state, Request.validated("endpoint", "zone-blue", key_of(1), endpoint="192.0.2.9:1")).ok
    assert not state.unreadable, "the change writes the lease anew"


@pytest.mark.parametrize(
    "text",
    [
        PEER.replace('"node1"', "7"),
        PEER.replace('"s":5', '"s":"five"'),
        PEER[:-1],
        PEER.replace('"', "'"),
        PEER + "}",
        "10.20.0.12 fd00:20::c",
    ],
)
def test_addresses_that_stand_in_a_spoilt_record_are_held(text: str) -> None:
    state = both_spoilt(text)
    assert set(state.unreadable[key_of(1)].held) == set(HELD.addresses)
    assert not state.unreadable[key_of(1)].unknown
    assert ask(state, join("zone-blue", 2)).addresses == ("10.20.0.1", "fd00:20::1")
    for wished in HELD.addresses:
        refused = ask(state, join("zone-blue", 3, request_ip=[wished]))
        assert refused.code == "unreadable", "also under takeover always"
        assert key_of(1) in refused.error
        assert "{zone-blue}:peers and {zone-blue}:leases" in refused.error
        assert "release" in refused.error


@pytest.mark.parametrize("text", ["", "{", "spoilt", "[1, 2]", '{"n":"node1","a":["10.20.0.1'])
def test_a_zone_gives_no_new_address_while_one_may_be_an_unreadable_records(text: str) -> None:
    state = loaded({key_of(1): text, key_of(2): codec.compact(_neighbour().to_wire())}, {})
    refused = ask(state, join("zone-blue", 3))
    assert refused.code == "unreadable"
    assert "IPv4" in refused.error
    assert ask(state, join("zone-blue", 2, name="node2")).addresses == ("10.20.0.3", "fd00:20::3")
    reserve = Request.validated("reserve", "zone-blue", key_of(4), request_ip=["10.20.0.9"])
    assert ask(state, reserve).code == "unreadable"
    with pytest.raises(RequestRefused):
        go_ipam_import.plan(state, [("10.20.0.0/28", ["10.20.0.7"])], NOW)


def _neighbour() -> Peer:
    return HELD._replace(
        key=key_of(2), name="node2", addresses=("10.20.0.3", "fd00:20::3"), prefixes=(), seq=1
    )


def test_only_the_ip_version_that_is_not_known_is_blocked() -> None:
    four = Zone.validated("zone-blue", ["10.20.0.0/28"])
    text = "10.20.0.12 and something"
    assert both_spoilt(text).unreadable[key_of(1)].unknown == {6}
    state = both_spoilt(text, four)
    assert ask(state, join("zone-blue", 2)).addresses == ("10.20.0.1",)


def test_a_prefix_that_may_be_an_unreadable_records_is_not_taken() -> None:
    known = both_spoilt(PEER.replace('"s":5', '"s":-5'))
    assert ask(known, join("zone-blue", 2, child_prefixes=["172.20.0.0/16"])).code == "unreadable"
    assert ask(known, join("zone-blue", 2, child_prefixes=["172.21.0.0/16"])).ok
    unknown = both_spoilt('{"a":["10.20.0.12","fd00:20::c"], spoilt')
    assert ask(unknown, join("zone-blue", 2, child_prefixes=["172.21.0.0/16"])).code == "unreadable"
    assert ask(unknown, join("zone-blue", 2)).ok


def test_a_reservation_that_cannot_be_read_waits_for_its_host_and_is_given_to_nobody() -> None:
    key = reservation_key("db1")
    reserved = Lease(key, "db1", ("10.20.0.9", "fd00:20::9"), released=0, host="db1")
    state = loaded({}, {key: codec.compact(reserved.to_wire())[:-1]})
    refused = ask(state, join("zone-blue", 1, name="db1"))
    assert refused.code == "unreadable"
    assert ask(state, join("zone-blue", 2)).addresses == ("10.20.0.1", "fd00:20::1")
    assert ask(state, Request.validated("release", "zone-blue", "", name="db1")).ok
    assert not state.unreadable
    assert ask(state, join("zone-blue", 1, name="db1")).ok


def test_the_join_of_the_key_itself_mends_its_record() -> None:
    state = both_spoilt(PEER[:-1])
    assert ask(state, join("zone-blue", 1)).addresses == HELD.addresses
    assert not state.unreadable
    hopeless = both_spoilt("{")
    former = join("zone-blue", 1, former_ip=["10.20.0.12", "fd00:20::c"])
    assert ask(hopeless, former).addresses == HELD.addresses, "what the node itself remembers"
    assert ask(hopeless, join("zone-blue", 2)).ok, "the zone grows again"


@pytest.mark.parametrize("op", ["leave", "release"])
def test_a_leave_and_a_release_of_the_key_mend_its_record(op: str) -> None:
    for text in ("{", PEER[:-1]):
        state = both_spoilt(text)
        decision = decide(state, Request.validated(op, "zone-blue", key_of(1)), NOW)
        for change in decision.changes:
            state.apply(change)
        assert decision.changes[0].sign == "-", "nodes drop the peer"
        assert not state.unreadable
        assert (key_of(1) in state.leases) == (op == "leave")
        arguments = commit_args(state, decision.changes, {}, new_mark()).arguments
        assert key_of(1) in arguments, "both records are written anew or removed"


@pytest.mark.parametrize(
    "order",
    [
        Request.validated("reserve", "zone-blue", key_of(1), request_ip=["10.20.0.12"]),
        Request.validated("rekey", "zone-blue", key_of(2), name="node1"),
        Request.validated("release", "zone-blue", key_of(1), child_prefixes=["172.20.1.0/24"]),
    ],
)
def test_no_other_order_overwrites_what_it_cannot_read(order: Request) -> None:
    state = both_spoilt(PEER.replace('"s":5', '"s":-5'))
    assert ask(state, order).code == "unreadable"
    assert key_of(1) in state.unreadable


def test_a_mark_comes_back_with_an_undo() -> None:
    state = both_spoilt(PEER[:-1])
    decision = decide(state, join("zone-blue", 1), NOW)
    undos = [state.apply(change) for change in decision.changes]
    assert not state.unreadable
    state.undo(undos)
    assert state.unreadable[key_of(1)].held == HELD.addresses
    assert ask(state, join("zone-blue", 2, request_ip=["10.20.0.12"])).code == "unreadable"


def test_what_an_unreadable_record_holds_stays_held_when_a_readable_one_gives_it_up() -> None:
    twin = codec.compact(HELD._replace(key=key_of(2), name="node2", prefixes=()).to_wire())
    state = loaded({key_of(1): PEER[:-1], key_of(2): twin}, {})
    assert ask(state, Request.validated("release", "zone-blue", key_of(2))).ok
    assert ask(state, join("zone-blue", 3, request_ip=["10.20.0.12"])).code == "unreadable"


def test_fields_of_a_newer_version_are_read_over() -> None:
    newer = json.dumps({**HELD.to_wire(), "zz": {"new": [1]}, "vv": 9})
    state = loaded({key_of(1): newer}, {key_of(1): json.dumps({**lease_of(HELD).to_wire(), "zz": 1})})
    assert not state.unreadable
    assert state.peers[key_of(1)] == HELD


def cut(text: str, data: st.DataObject) -> str:
    """Returns the text with a part removed, replaced or added, as by hand or by a faulty disk."""
    first = data.draw(st.integers(0, len(text)))
    last = data.draw(st.integers(first, len(text)))
    put = data.draw(st.sampled_from(["", "}", "]", "\x00", "\ufffd", '"', "7", "null"]))
    return text[:first] + put + text[last:]


def _is_readable(key: str, text: str) -> bool:
    state = loaded({key: text}, {})
    return not state.unreadable


@settings(max_examples=400, deadline=None)
@given(data=st.data(), number=st.integers(1, 13), two=st.booleans(), wish=st.booleans())
def test_an_address_that_any_unreadable_record_holds_is_never_granted(
    data: st.DataObject, number: int, two: bool, wish: bool
) -> None:
    """Whatever is cut out of a record, later joins never get what it contained."""
    addresses = (f"10.20.0.{number}", f"fd00:20::{number:x}")
    pools = data.draw(st.sampled_from([ZONE.pools, ZONE.pools[:1], ZONE.pools[1:]]))
    zone = replace(ZONE, pools=tuple(pools))
    held = HELD._replace(addresses=tuple(each for each in addresses if zone.contains(each)))
    texts = codec.compact(held.to_wire()), codec.compact(lease_of(held).to_wire())
    peer = cut(texts[0], data)
    lease = cut(texts[1], data) if two else texts[1]
    assume(not _is_readable(key_of(1), peer))
    state = loaded({key_of(1): peer}, {key_of(1): lease}, zone)
    assume(key_of(1) in state.unreadable)
    if len(state.unreadable[key_of(1)].hashes) == 1 and two:
        assume(lease == texts[1])  # a lease that still parses and says something else is not unreadable
    granted: set[str] = set()
    for other in range(2, 20):
        wished = [data.draw(st.sampled_from(held.addresses))] if wish and other == 2 else []
        former = list(held.addresses) if data.draw(st.booleans()) else []
        reply = ask(state, join("zone-blue", other, request_ip=wished, former_ip=former))
        granted |= set(reply.addresses)
    assert not granted & set(held.addresses)
