# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaywalk.core.errors import InvalidValue
from jaywalk.core.key_format import default_name
from jaywalk.zone.models import Zone
from jaywalk.zone.options import QUARANTINE_SECONDS
from jaywalk.zone.policy import Policy
from jaywalk.zone.requests import AGENT_OPS, CHECK, REMOVED, Reply, Request
from jaywalk_supervisor.admin import go_ipam_import
from jaywalk_supervisor.decisions.agent_requests import decide
from jaywalk_supervisor.decisions.last_seen import partition_senders
from jaywalk_supervisor.state.zone_state import ZoneState
from tests.supervisor_support import join, key_of

NOW = 1_000_000.0


def carry_out(state: ZoneState, request: Request, now: float = NOW) -> Reply:
    """Decides and applies, as a commit of this one request does."""
    decision = decide(state, request, now)
    for change in decision.changes:
        state.apply(change)
    state.rev += bool(decision.changes)
    return decision.reply


def ask(op: str, number: int, **fields: Any) -> Request:
    return Request.validated(op, "zone-blue", key_of(number), **fields)


def test_join_gives_the_lowest_address_of_each_version(blue: ZoneState) -> None:
    assert carry_out(blue, join("zone-blue", 1)).addresses == ("10.20.0.1", "fd00:20::1")
    assert carry_out(blue, join("zone-blue", 2)).addresses == ("10.20.0.2", "fd00:20::2")


def test_repeated_join_changes_nothing(blue: ZoneState) -> None:
    request = join("zone-blue", 1, endpoint="192.0.2.1:51820", child_prefixes=["172.20.1.7/24"])
    first = carry_out(blue, request)
    later = replace(request, seq=request.seq + 5, nonce="0" * 32)
    assert first.changed
    assert first.prefixes == ("172.20.1.0/24",)
    for again in (request, later):
        decision = decide(blue, again, NOW)
        assert not decision.changes
        assert decision.reply == replace(first, changed=False)


def test_a_check_tells_a_removal_from_a_loss(blue: ZoneState) -> None:
    """Redis lost the second join of a key whose first lease an operator ended."""
    first = join("zone-blue", 1)
    carry_out(blue, first)
    carry_out(blue, ask("release", 1))
    assert carry_out(blue, ask(CHECK, 1)).state == REMOVED, "an agent of an older version"
    assert carry_out(blue, ask(CHECK, 1, last_seq=first.seq)).state == REMOVED
    assert carry_out(blue, ask(CHECK, 1, last_seq=first.seq + 1)).state == "absent"
    assert carry_out(blue, ask(CHECK, 2)).state == "absent"


def test_requested_address(blue: ZoneState) -> None:
    reply = carry_out(blue, join("zone-blue", 1, request_ip=["10.20.0.5"]))
    assert reply.addresses == ("10.20.0.5", "fd00:20::1")
    moved = carry_out(blue, join("zone-blue", 1, request_ip=["10.20.0.6", "fd00:20::99"]))
    assert moved.addresses == ("10.20.0.6", "fd00:20::99")
    assert carry_out(blue, join("zone-blue", 2, request_ip=["10.20.0.5"])).ok


@pytest.mark.parametrize(
    ("addresses", "code", "words"),
    [
        (["192.0.2.9"], "address-outside", "192.0.2.9 lies outside the pools of zone zone-blue"),
        (["10.20.0.0"], "address-reserved", "10.20.0.0 is the network's own"),
        (["10.20.0.7"], "address-reserved", "10.20.0.7"),
        (["fd00:20::"], "address-reserved", "fd00:20::"),
        (["10.20.0.1"], "address-taken", "belongs to node1 (active since 1970-01-12T13:46:40Z, "),
        (["10.20.0.3", "10.20.0.4"], "address", "request one IPv4 address"),
    ],
)
def test_address_refused(blue: ZoneState, addresses: list[str], code: str, words: str) -> None:
    blue.zone = replace(blue.zone, policy=Policy("never"))
    carry_out(blue, join("zone-blue", 1))
    reply = carry_out(blue, join("zone-blue", 2, request_ip=addresses))
    assert (reply.ok, reply.code) == (False, code)
    assert words in reply.error
    assert ": " in reply.error
    assert key_of(2) not in blue.leases


def test_lease_is_sticky_over_leave_and_return(blue: ZoneState) -> None:
    carry_out(blue, join("zone-blue", 1))
    carry_out(blue, join("zone-blue", 2))
    left = carry_out(blue, ask("leave", 1))
    assert (left.state, left.changed) == ("released", True)
    assert key_of(1) not in blue.peers
    assert not carry_out(blue, ask("leave", 1)).changed
    assert carry_out(blue, join("zone-blue", 3)).addresses[0] == "10.20.0.3"
    assert carry_out(blue, join("zone-blue", 1)).addresses[0] == "10.20.0.1"


@pytest.mark.parametrize("op", ["leave", "release"])
def test_nodes_that_retain_a_peer_hear_that_it_goes_also_where_only_its_lease_is_known(
    blue: ZoneState, op: str
) -> None:
    blue.epoch = int(NOW * 1000)
    carry_out(blue, ask("reserve", 1, request_ip=["10.20.0.3"]))
    decision = decide(blue, ask(op, 1), NOW)
    assert decision.reply.ok
    assert (decision.changes[0].sign, decision.changes[0].key) == ("-", key_of(1))
    carry_out(blue, ask(op, 1))
    assert key_of(1) not in blue.peers
    assert {lease.state for lease in blue.leases.values()} == ({"reserved"} if op == "leave" else set())


def test_leave_of_an_unknown_key_is_no_error(blue: ZoneState) -> None:
    reply = carry_out(blue, ask("leave", 9))
    assert (reply.ok, reply.state, reply.changed) == (True, "absent", False)


def test_full_pool_is_an_error_with_its_fill(blue: ZoneState) -> None:
    for number in range(6):
        assert carry_out(blue, join("zone-blue", number)).ok
    reply = carry_out(blue, join("zone-blue", 6))
    assert reply.code == "exhausted"
    assert "10.20.0.0/29 holds 6 of 6" in reply.error


def test_full_pool_takes_the_longest_released_lease_out_of_quarantine(blue: ZoneState) -> None:
    for number in range(6):
        carry_out(blue, join("zone-blue", number))
    carry_out(blue, ask("leave", 4), NOW)
    carry_out(blue, ask("leave", 2), NOW + 1)
    assert carry_out(blue, join("zone-blue", 7), NOW + QUARANTINE_SECONDS - 1).code == "exhausted"
    assert carry_out(blue, join("zone-blue", 7), NOW + QUARANTINE_SECONDS + 10).addresses[0] == "10.20.0.5"
    assert key_of(4) not in blue.leases
    assert carry_out(blue, join("zone-blue", 2), NOW + QUARANTINE_SECONDS + 10).addresses[0] == "10.20.0.3"


def test_a_node_that_came_back_loses_nothing_to_a_full_pool(blue: ZoneState) -> None:
    for number in range(6):
        carry_out(blue, join("zone-blue", number))
    carry_out(blue, ask("leave", 1))
    carry_out(blue, join("zone-blue", 1), NOW + 1)
    assert carry_out(blue, join("zone-blue", 7), NOW + 2 * QUARANTINE_SECONDS).code == "exhausted"
    assert key_of(1) in blue.peers


def test_who_left_keeps_its_address_while_others_are_free(blue: ZoneState) -> None:
    for number in range(3):
        carry_out(blue, join("zone-blue", number))
    carry_out(blue, ask("leave", 1))
    much_later = NOW + 100 * QUARANTINE_SECONDS
    assert carry_out(blue, join("zone-blue", 7), much_later).addresses[0] == "10.20.0.4"
    assert carry_out(blue, join("zone-blue", 1), much_later).addresses[0] == "10.20.0.2"


def test_reservation_is_never_reused(blue: ZoneState) -> None:
    carry_out(blue, ask("reserve", 50, request_ip=["10.20.0.4"]))
    for number in range(5):
        assert carry_out(blue, join("zone-blue", number)).ok
    assert carry_out(blue, join("zone-blue", 6), NOW * 2).code == "exhausted"
    assert carry_out(blue, join("zone-blue", 50)).addresses[0] == "10.20.0.4"


def test_child_prefixes_are_unique_with_containment(blue: ZoneState) -> None:
    carry_out(blue, join("zone-blue", 1, child_prefixes=["172.20.0.0/16", "fd99::/48"]))
    for prefix in ("172.20.0.0/16", "172.20.9.0/24", "172.16.0.0/12", "fd99:0:0:7::/64"):
        reply = carry_out(blue, join("zone-blue", 2, child_prefixes=[prefix]))
        assert reply.code == "prefix-taken"
        assert "node1" in reply.error
    assert carry_out(blue, join("zone-blue", 2, child_prefixes=["172.21.0.0/16"])).ok


@pytest.mark.parametrize(
    ("prefixes", "code"),
    [
        (["10.20.0.0/24"], "prefix-in-pool"),
        (["10.0.0.0/8"], "prefix-in-pool"),
        (["172.20.0.0/16", "172.20.3.0/24"], "prefix-twice"),
    ],
)
def test_child_prefix_refused(blue: ZoneState, prefixes: list[str], code: str) -> None:
    assert carry_out(blue, join("zone-blue", 1, child_prefixes=prefixes)).code == code


def test_the_list_of_prefixes_replaces_the_old_one(blue: ZoneState) -> None:
    carry_out(blue, join("zone-blue", 1, child_prefixes=["172.20.0.0/16"]))
    assert carry_out(blue, join("zone-blue", 1, child_prefixes=["172.20.4.0/24"])).prefixes == (
        "172.20.4.0/24",
    )
    assert carry_out(blue, join("zone-blue", 2, child_prefixes=["172.20.5.0/24"])).ok
    carry_out(blue, ask("leave", 1))
    assert carry_out(blue, join("zone-blue", 2, child_prefixes=["172.20.0.0/16"])).ok


def test_stale_requests_are_dropped(blue: ZoneState) -> None:
    late = replace(ask("leave", 1), seq=5)
    carry_out(blue, replace(join("zone-blue", 1), seq=10))
    assert carry_out(blue, late).code == "stale"
    assert key_of(1) in blue.peers
    assert carry_out(blue, replace(late, seq=11)).ok
    assert carry_out(blue, replace(join("zone-blue", 1), seq=10)).code == "stale"


def test_endpoint(blue: ZoneState) -> None:
    assert carry_out(blue, ask("endpoint", 1, endpoint="192.0.2.1:51820")).code == "not-joined"
    carry_out(blue, join("zone-blue", 1))
    assert carry_out(blue, ask("endpoint", 1, endpoint="192.0.2.1:51820")).changed
    assert blue.peers[key_of(1)].endpoint == "192.0.2.1:51820"
    assert not carry_out(blue, ask("endpoint", 1, endpoint="192.0.2.1:51820")).changed


@pytest.mark.parametrize("number", [1, 2])
def test_a_check_is_answered_and_changes_nothing(blue: ZoneState, number: int) -> None:
    """This holds for members and others, from any machine; not even last-seen times change."""
    carry_out(blue, join("zone-blue", 1, machine_id="01234567"))
    check = Request.validated(CHECK, "zone-blue", key_of(number), machine_id="76543210")
    assert Request.from_wire(check.to_wire(), "zone-blue", AGENT_OPS) == check
    decision = decide(blue, check, NOW)
    assert decision.reply.ok
    assert not decision.changes
    assert partition_senders(blue, [check], NOW)[0] == {}


def test_operators_orders(blue: ZoneState) -> None:
    reserve = ask("reserve", 1, request_ip=["10.20.0.3"], name="db1")
    assert carry_out(blue, reserve).state == "reserved"
    assert not carry_out(blue, reserve).changed
    assert carry_out(blue, ask("show", 1)).addresses[0] == "10.20.0.3"
    carry_out(blue, join("zone-blue", 1, endpoint="192.0.2.1:1"))
    moved = carry_out(blue, ask("reserve", 1, request_ip=["10.20.0.2"]))
    assert (moved.state, moved.addresses[0]) == ("active", "10.20.0.2")
    assert blue.peers[key_of(1)].endpoint == "192.0.2.1:1"
    released = carry_out(blue, ask("release", 1))
    assert (released.state, released.changed) == ("absent", True)
    assert key_of(1) not in blue.peers
    assert key_of(1) not in blue.leases
    assert not carry_out(blue, ask("release", 1)).changed
    assert carry_out(blue, ask("show", 1)).state == "absent"


def test_a_peer_without_a_name_gets_one(blue: ZoneState) -> None:
    reply = carry_out(blue, join("zone-blue", 1, name=""))
    assert reply.name == default_name(key_of(1))
    assert reply.name.startswith("peer-")


REQUEST = st.builds(
    lambda op, number, addresses, prefixes, endpoint: ask(
        op, number, request_ip=addresses, child_prefixes=prefixes, endpoint=endpoint, name=f"n{number}"
    ),
    st.sampled_from(["join", "join", "join", "leave", "endpoint", "reserve", "release", "show"]),
    st.integers(0, 9),
    st.lists(st.sampled_from(["10.20.0.1", "10.20.0.4", "10.20.0.7", "fd00:20::3", "192.0.2.1"]), max_size=2),
    st.lists(
        st.sampled_from(["172.20.0.0/16", "172.20.1.0/24", "172.21.0.0/16", "10.20.0.0/16"]), max_size=2
    ),
    st.sampled_from(["", "192.0.2.1:51820", "[2001:db8::1]:51820"]),
)


def facts(state: ZoneState) -> tuple[object, ...]:
    held = [sorted(pool.owners.items()) for pool in state.pools]
    everything = [*state.prefixes.overlapping("0.0.0.0/0"), *state.prefixes.overlapping("::/0")]
    free = [pool.lowest_free() for pool in state.pools]
    return dict(state.peers), dict(state.leases), held, everything, free


@settings(max_examples=150)
@given(requests=st.lists(st.tuples(REQUEST, st.integers(0, 5000)), max_size=40))
def test_what_holds_after_any_requests(requests: list[tuple[Request, int]]) -> None:
    state = ZoneState(Zone.validated("zone-blue", ["10.20.0.0/29", "fd00:20::/64"]), 1000, 0)
    follower = ZoneState(state.zone, 1000, 0)
    now = NOW
    for request, seconds in requests:
        now += seconds
        before = facts(state)
        decision = decide(state, request, now)
        assert facts(state) == before, "a decision only reads"
        undos = [state.apply(change, decision.peer) for change in decision.changes]
        after = facts(state)
        state.undo(undos)
        assert facts(state) == before, "what is taken back leaves no trace"
        for change in decision.changes:
            state.apply(change)
            follower.apply(type(change).from_wire(json.loads(change.to_wire())))
        state.rev += bool(decision.changes)
        assert facts(state) == after == facts(follower), "who follows the log stands where it leads"
        again = decide(state, request, now)
        assert not again.changes, "a repeated request makes no event"
        if decision.reply.ok:
            assert again.reply == replace(decision.reply, changed=False)
        check_leases(state)


def check_leases(state: ZoneState) -> None:
    addresses = [address for lease in state.leases.values() for address in lease.addresses]
    assert len(addresses) == len(set(addresses)), "no address is given twice"
    assert all(len(lease.addresses) == 2 for lease in state.leases.values())
    assert not {"10.20.0.0", "10.20.0.7", "fd00:20::"} & set(addresses)
    for key, peer in state.peers.items():
        assert state.leases[key].addresses == peer.addresses
        assert state.leases[key].state == "active"
    loaded = ZoneState.load(
        "zone-blue",
        {"epoch": "1000", "rev": str(state.rev), "wait_ms": "100", **state.zone.to_wire()},
        {key: json.dumps(peer.to_wire()) for key, peer in state.peers.items()},
        {key: json.dumps(lease.to_wire()) for key, lease in state.leases.items()},
    )
    assert facts(loaded) == facts(state), "the records in Redis say all"


def test_a_requested_address_moves_to_who_asks(blue: ZoneState) -> None:
    carry_out(blue, join("zone-blue", 1, endpoint="192.0.2.1:51820"))
    decision = decide(blue, join("zone-blue", 2, request_ip=["10.20.0.1"]), NOW)
    assert decision.reply.addresses[0] == "10.20.0.1"
    assert [change.key for change in decision.changes] == [key_of(1), key_of(2)], (
        "one commit, the holder first"
    )
    carry_out(blue, join("zone-blue", 2, request_ip=["10.20.0.1"]))
    holder = blue.peers[key_of(1)]
    assert holder.addresses == ("10.20.0.2", "fd00:20::1")
    assert holder.endpoint == "192.0.2.1:51820"


def test_a_repeated_request_takes_nothing_back(blue: ZoneState) -> None:
    first = join("zone-blue", 1, request_ip=["10.20.0.1"])
    carry_out(blue, first)
    carry_out(blue, join("zone-blue", 2, request_ip=["10.20.0.1"]))
    assert not carry_out(blue, replace(first, nonce="0" * 32)).changed
    assert blue.peers[key_of(2)].addresses[0] == "10.20.0.1"


def test_in_a_full_pool_the_two_swap(blue: ZoneState) -> None:
    for number in range(6):
        carry_out(blue, join("zone-blue", number))
    assert carry_out(blue, join("zone-blue", 5, request_ip=["10.20.0.1"])).addresses[0] == "10.20.0.1"
    assert blue.peers[key_of(0)].addresses[0] == "10.20.0.6"
    refused = carry_out(blue, join("zone-blue", 6, request_ip=["10.20.0.1"]))
    assert refused.code == "exhausted"


def test_what_an_operator_reserved_is_never_taken(blue: ZoneState) -> None:
    carry_out(blue, ask("reserve", 1, request_ip=["10.20.0.4"], name="db1"))
    reply = carry_out(blue, join("zone-blue", 2, request_ip=["10.20.0.4"]))
    assert reply.code == "address-taken"
    assert "belongs to db1 (reserved since 1970-01-12T13:46:40Z" in reply.error


def test_an_order_takes_no_address_from_a_node(blue: ZoneState) -> None:
    carry_out(blue, join("zone-blue", 1))
    assert carry_out(blue, ask("reserve", 2, request_ip=["10.20.0.1"])).code == "address-taken"


def host(op: str, name: str, **fields: Any) -> Request:
    return Request.validated(op, "zone-blue", "", name=name, **fields)


def test_a_reservation_by_name_waits_for_the_first_node_of_that_name(blue: ZoneState) -> None:
    order = host("reserve", "db1", request_ip=["10.20.0.5"], child_prefixes=["172.20.1.0/24"])
    assert carry_out(blue, order).state == "reserved"
    assert carry_out(blue, join("zone-blue", 3, name="other")).addresses[0] == "10.20.0.1"
    claimed = carry_out(blue, join("zone-blue", 1, name="db1"))
    assert (claimed.addresses[0], claimed.prefixes) == ("10.20.0.5", ("172.20.1.0/24",))
    assert carry_out(blue, join("zone-blue", 2, name="db1")).addresses[0] == "10.20.0.2"
    again = carry_out(blue, order)
    assert (again.state, again.changed) == ("active", False), "the order finds who claimed it"
    assert set(blue.leases) == {key_of(1), key_of(2), key_of(3)}


def test_reserved_prefixes_stay_whatever_the_node_announces(blue: ZoneState) -> None:
    carry_out(blue, ask("reserve", 1, child_prefixes=["172.20.0.0/16"]))
    assert carry_out(blue, join("zone-blue", 1)).prefixes == ("172.20.0.0/16",)
    more = carry_out(blue, join("zone-blue", 1, child_prefixes=["172.20.1.0/24", "172.21.0.0/24"]))
    assert more.prefixes == ("172.20.0.0/16", "172.21.0.0/24")
    assert carry_out(blue, join("zone-blue", 1)).prefixes == ("172.20.0.0/16",)
    assert carry_out(blue, ask("leave", 1)).prefixes == ("172.20.0.0/16",)
    given_back = carry_out(blue, ask("release", 1, child_prefixes=["172.20.0.0/16"]))
    assert (given_back.state, given_back.prefixes) == ("released", ())
    assert carry_out(blue, join("zone-blue", 2, child_prefixes=["172.20.0.0/16"])).ok


def test_a_reserved_prefix_stays_the_nodes_while_it_is_away(blue: ZoneState) -> None:
    carry_out(blue, ask("reserve", 1, child_prefixes=["172.20.0.0/16"]))
    carry_out(blue, join("zone-blue", 1, child_prefixes=["172.21.0.0/16"]))
    carry_out(blue, ask("leave", 1))
    assert carry_out(blue, join("zone-blue", 2, child_prefixes=["172.20.1.0/24"])).code == "prefix-taken"
    assert carry_out(blue, join("zone-blue", 2, child_prefixes=["172.21.0.0/16"])).ok
    assert carry_out(blue, join("zone-blue", 1)).prefixes == ("172.20.0.0/16",)


def test_an_operator_frees_a_prefix_of_a_node_in_the_mesh(blue: ZoneState) -> None:
    carry_out(blue, join("zone-blue", 1, child_prefixes=["172.20.1.0/24", "172.20.2.0/24"]))
    freed = carry_out(blue, ask("release", 1, child_prefixes=["172.20.1.0/24"]))
    assert (freed.state, freed.prefixes, freed.changed) == ("active", ("172.20.2.0/24",), True)
    assert not carry_out(blue, ask("release", 1, child_prefixes=["172.20.1.0/24"])).changed
    assert carry_out(blue, join("zone-blue", 2, child_prefixes=["172.20.1.0/24"])).ok


def test_a_prefix_is_normalised_and_the_answer_says_so(blue: ZoneState) -> None:
    wire = json.loads(join("zone-blue", 1).to_wire())
    wire["child_prefixes"] = ["172.20.1.9/24", "172.20.2.0/24"]
    request = Request.from_wire(json.dumps(wire), "zone-blue", ("join",))
    reply = Reply.from_wire(carry_out(blue, request).to_wire())
    assert reply.prefixes == ("172.20.1.0/24", "172.20.2.0/24")
    assert reply.notes == ("the child prefix 172.20.1.9/24 is taken as its network 172.20.1.0/24",)


def test_a_host_installed_anew_gets_back_what_it_had(blue: ZoneState) -> None:
    carry_out(blue, host("reserve", "db1", request_ip=["10.20.0.5"], child_prefixes=["172.20.1.0/24"]))
    carry_out(blue, join("zone-blue", 1, name="db1"))
    assert carry_out(blue, ask("reserve", 2, name="db1")).code == "name-reserved"
    rekey = ask("rekey", 2, name="db1")
    decision = decide(blue, rekey, NOW)
    assert [(change.sign, change.key) for change in decision.changes] == [
        ("-", key_of(1)),
        ("=", key_of(1)),
        ("=", key_of(2)),
    ]
    given = carry_out(blue, rekey)
    assert (given.name, given.addresses[0], given.prefixes) == ("db1", "10.20.0.5", ("172.20.1.0/24",))
    assert set(blue.leases) == {key_of(2)}
    assert not blue.peers
    assert not carry_out(blue, rekey).changed
    assert carry_out(blue, join("zone-blue", 2, name="db1")).addresses[0] == "10.20.0.5"


def test_rekey_of_a_node_that_joined_already_moves_it_in_the_same_commit(blue: ZoneState) -> None:
    carry_out(blue, join("zone-blue", 1, name="web", request_ip=["10.20.0.6"]))
    carry_out(blue, join("zone-blue", 2, name="web"))
    moved = carry_out(blue, ask("rekey", 2, name="web"))
    assert (moved.state, moved.addresses[0]) == ("active", "10.20.0.6")
    assert set(blue.peers) == {key_of(2)}
    for number in (3, 4):
        carry_out(blue, join("zone-blue", number, name="app"))
    assert carry_out(blue, ask("rekey", 5, name="app")).code == "name-ambiguous"


def test_a_stale_holder_loses_what_another_node_asks_for(blue: ZoneState) -> None:
    blue.zone = replace(blue.zone, policy=Policy("stale", stale_after=900))
    carry_out(blue, join("zone-blue", 1, request_ip=["10.20.0.5"]))
    wish = ["10.20.0.5"]
    blue.last_seen_at = {key_of(1): int(NOW) + 300}
    refused = carry_out(blue, join("zone-blue", 2, request_ip=wish), NOW + 1199)
    assert refused.code == "address-taken"
    assert "node1 (active since 1970-01-12T13:46:40Z, " in refused.error
    assert "last seen 1970-01-12T13:51:40Z" in refused.error
    blue.listening_since = NOW + 301
    assert not carry_out(blue, join("zone-blue", 2, request_ip=wish), NOW + 1200).ok, (
        "nobody listened so long"
    )
    assert carry_out(blue, join("zone-blue", 2, request_ip=wish), NOW + 1201).ok
    assert blue.leases[key_of(1)].addresses[0] == "10.20.0.1"


@pytest.mark.parametrize("takeover", ["always", "stale"])
def test_a_lease_in_quarantine_is_given_to_nobody_else(blue: ZoneState, takeover: str) -> None:
    blue.zone = replace(blue.zone, policy=Policy(takeover, quarantine=3600, stale_after=10))
    carry_out(blue, join("zone-blue", 1, request_ip=["10.20.0.5"]))
    carry_out(blue, ask("leave", 1))
    wish = join("zone-blue", 2, request_ip=["10.20.0.5"])
    refused = carry_out(blue, wish, NOW + 3599)
    assert refused.code == "address-quarantined"
    assert "is kept for node1 (released since 1970-01-12T13:46:40Z, " in refused.error
    assert "which left 1970-01-12T13:46:40Z, until 1970-01-12T14:46:40Z" in refused.error
    assert "have an operator release that lease" in refused.error
    assert carry_out(blue, ask("reserve", 3, request_ip=["10.20.0.5"]), NOW + 3599).code == "address-taken"
    assert carry_out(blue, join("zone-blue", 4, former_ip=["10.20.0.5"])).addresses[0] != "10.20.0.5"
    assert carry_out(blue, join("zone-blue", 1), NOW + 3599).addresses[0] == "10.20.0.5", "its own again"
    carry_out(blue, ask("leave", 1), NOW + 3599)
    assert carry_out(blue, wish, NOW + 3600).code == "address-quarantined", "it left anew"
    assert carry_out(blue, wish, NOW + 3599 + 3600).addresses[0] == "10.20.0.5"


def test_an_operators_release_ends_a_quarantine_at_once(blue: ZoneState) -> None:
    carry_out(blue, join("zone-blue", 1, request_ip=["10.20.0.5"]))
    carry_out(blue, ask("leave", 1))
    wish = join("zone-blue", 2, request_ip=["10.20.0.5"])
    assert carry_out(blue, wish).code == "address-quarantined"
    assert carry_out(blue, ask("release", 1)).changed
    assert carry_out(blue, wish).addresses[0] == "10.20.0.5"


def test_a_rekeyed_host_has_its_address_within_the_quarantine(blue: ZoneState) -> None:
    carry_out(blue, join("zone-blue", 1, request_ip=["10.20.0.5"], name="db1"))
    carry_out(blue, ask("leave", 1))
    assert carry_out(blue, ask("rekey", 2, name="db1")).addresses[0] == "10.20.0.5"


def test_a_node_that_was_heard_before_the_clock_was_set_back_becomes_stale_in_time(blue: ZoneState) -> None:
    """A live node that reports keeps its address: reports from before the jump do not prevent that."""
    blue.zone = replace(blue.zone, policy=Policy("stale", stale_after=900))
    days = 2 * 86_400
    for number in (1, 2):
        carry_out(blue, join("zone-blue", number), NOW + days)
    blue.last_seen_at = {key_of(1): int(NOW) + days}
    blue.restart_listening(NOW, -days)
    wishes = [join("zone-blue", 3, request_ip=[f"10.20.0.{number}"]) for number in (1, 2)]
    for wish in wishes:
        assert decide(blue, wish, NOW + 899).reply.code == "address-taken"
    blue.last_seen_at = {**blue.last_seen_at, key_of(2): int(NOW) + 890}
    assert decide(blue, wishes[0], NOW + 901).reply.ok
    refused = decide(blue, wishes[1], NOW + 901).reply
    assert (refused.code, "last seen 1970-01-12T14:01:30Z" in refused.error) == ("address-taken", True)


def test_what_was_imported_needs_not_be_stale(blue: ZoneState) -> None:
    blue.zone = replace(blue.zone, policy=Policy("stale"))
    for change in go_ipam_import.plan(blue, [("10.20.0.0/29", ["10.20.0.5"])], NOW)[0]:
        blue.apply(change)
    assert carry_out(blue, join("zone-blue", 1, request_ip=["10.20.0.5"])).ok


@pytest.mark.parametrize(
    ("prefix", "words"),
    [("192.0.2.0/28", "192.0.2.7:51820, where peers reach node1"), ("198.51.100.0/24", "this node itself")],
)
def test_a_prefix_that_covers_where_a_tunnel_ends_is_refused(
    blue: ZoneState, prefix: str, words: str
) -> None:
    carry_out(blue, join("zone-blue", 1, endpoint="192.0.2.7:51820"))
    reply = carry_out(blue, join("zone-blue", 2, endpoint="198.51.100.9:51820", child_prefixes=[prefix]))
    assert (reply.ok, reply.code) == (False, "prefix-covers-endpoint")
    assert words in reply.error
    assert key_of(2) not in blue.leases


def test_a_prefix_like_the_inner_network_of_a_node_behind_nat_is_granted(blue: ZoneState) -> None:
    carry_out(blue, join("zone-blue", 1, endpoint="192.0.2.7:51820"))
    carry_out(blue, join("zone-blue", 2, endpoint="192.168.1.9:51820"))
    carry_out(blue, ask("report", 1, observed={key_of(2): "203.0.113.7:4711"}))
    assert carry_out(blue, join("zone-blue", 3, child_prefixes=["192.168.1.0/24"])).ok


def names_of(state: ZoneState) -> list[str]:
    return [state.peers[key_of(number)].name for number in range(1, 9) if key_of(number) in state.peers]


def test_a_second_node_of_a_name_gets_a_number_and_is_told(blue: ZoneState) -> None:
    carry_out(blue, join("zone-blue", 1, name="web1"))
    reply = carry_out(blue, join("zone-blue", 2, name="web1"))
    assert reply.name == "web1-2"
    assert reply.notes == (
        f"the name web1 belongs to {key_of(1)} in zone zone-blue, so this node is called web1-2",
    )
    assert carry_out(blue, join("zone-blue", 3, name="web1")).name == "web1-3"
    assert blue.peers[key_of(2)].requested_name == "web1"
    assert carry_out(blue, join("zone-blue", 1, name="web1")).notes == ()


def test_a_numbered_name_stays_while_its_node_asks_for_the_same_one(blue: ZoneState) -> None:
    for number in (1, 2):
        carry_out(blue, join("zone-blue", number, name="web1"))
    carry_out(blue, Request.validated("leave", "zone-blue", key_of(1)))
    again = carry_out(blue, join("zone-blue", 2, name="web1"))
    assert (again.name, again.changed) == ("web1-2", False)
    assert "was another node's" in again.notes[0]
    assert carry_out(blue, join("zone-blue", 1, name="web1")).name == "web1"
    assert carry_out(blue, join("zone-blue", 2, name="db1")).name == "db1"
    assert carry_out(blue, join("zone-blue", 2, name="web1")).name == "web1-2"


def test_a_numbered_name_is_passed_over_where_somebody_asked_for_it(blue: ZoneState) -> None:
    carry_out(blue, join("zone-blue", 1, name="web1-2"))
    for number in (2, 3):
        carry_out(blue, join("zone-blue", number, name="web1"))
    assert names_of(blue) == ["web1-2", "web1", "web1-3"]


def test_a_number_fits_into_a_long_name(blue: ZoneState) -> None:
    for number in (1, 2):
        carry_out(blue, join("zone-blue", number, name="a" * 63))
    assert names_of(blue) == ["a" * 63, "a" * 61 + "-2"]


def test_a_numbered_name_claims_no_reservation(blue: ZoneState) -> None:
    carry_out(blue, host("reserve", "web1-2", request_ip=["10.20.0.5"]))
    for number in (1, 2):
        carry_out(blue, join("zone-blue", number, name="web1"))
    assert names_of(blue) == ["web1", "web1-3"]
    assert carry_out(blue, join("zone-blue", 3, name="web1-2")).addresses[0] == "10.20.0.5"


def test_a_reserved_name_is_its_hosts_alone(blue: ZoneState) -> None:
    carry_out(blue, join("zone-blue", 1, name="db1"))
    carry_out(blue, host("reserve", "db1", request_ip=["10.20.0.5"]))
    assert names_of(blue) == ["db1"], "a reservation that waits renames nobody"
    assert carry_out(blue, join("zone-blue", 2, name="db1")).addresses[0] == "10.20.0.5"
    assert names_of(blue) == ["db1-2", "db1"]
    assert blue.peers[key_of(1)].requested_name == "db1"
    carry_out(blue, Request.validated("leave", "zone-blue", key_of(2)))
    assert carry_out(blue, join("zone-blue", 1, name="db1")).name == "db1-2"


def test_a_name_that_any_machine_has_is_none(blue: ZoneState) -> None:
    """An older agent may still request it."""
    fields = {**json.loads(join("zone-blue", 1, name="web1").to_wire()), "name": "localhost"}
    request = Request.from_wire(json.dumps(fields), "zone-blue", ["join"])
    assert carry_out(blue, request).name == default_name(key_of(1))
    with pytest.raises(InvalidValue, match="any machine"):
        join("zone-blue", 1, name="localhost")


def test_a_key_that_comes_from_another_machine_is_told_so(blue: ZoneState) -> None:
    first = join("zone-blue", 1, machine_id="000000aa", endpoint="192.0.2.1:51820")
    assert carry_out(blue, first).notes == ()
    reply = carry_out(blue, join("zone-blue", 1, machine_id="000000bb", endpoint="192.0.2.2:51820"))
    assert "was another machine's until now, node1 at 192.0.2.1:51820" in reply.notes[0]
    assert (
        carry_out(blue, join("zone-blue", 1, machine_id="000000bb", endpoint="192.0.2.2:51820")).notes == ()
    )


@pytest.mark.parametrize("op", ["leave", "endpoint"])
def test_a_machine_that_was_superseded_neither_moves_nor_removes_the_peer(blue: ZoneState, op: str) -> None:
    for machine_id in ("000000aa", "000000bb"):
        carry_out(blue, join("zone-blue", 1, machine_id=machine_id, endpoint="192.0.2.1:51820"))
    fields = {"endpoint": "192.0.2.9:51820"} if op == "endpoint" else {}
    assert carry_out(blue, ask(op, 1, machine_id="000000aa", **fields)).code == "superseded"
    assert blue.peers[key_of(1)].endpoint == "192.0.2.1:51820"
    assert carry_out(blue, ask(op, 1, machine_id="000000bb", **fields)).ok


def test_a_numbered_name_comes_back_after_a_loss_whoever_is_first(blue: ZoneState) -> None:
    again = carry_out(blue, replace(join("zone-blue", 2, name="web1"), former_name="web1-2"))
    assert again.name == "web1-2"
    assert "was another node's" in again.notes[0]
    assert carry_out(blue, join("zone-blue", 1, name="web1")).name == "web1"
    assert carry_out(blue, replace(join("zone-blue", 3, name="web1"), former_name="web1-2")).name == "web1-3"
    assert carry_out(blue, replace(join("zone-blue", 4, name="app"), former_name="web1-7")).name == "app"
    other = replace(join("zone-blue", 6, name="apple"), former_name="app-7")
    assert decide(blue, other, NOW).reply.name == "apple"
    carry_out(blue, host("reserve", "app-2", request_ip=["10.20.0.6"]))
    assert carry_out(blue, replace(join("zone-blue", 5, name="app"), former_name="app-2")).name == "app-3"
