# SPDX-License-Identifier: GPL-3.0-or-later
"""Which first joins the supervisor admits, and what a join token gives and takes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaywalk.core.errors import InvalidValue
from jaywalk.zone.join_tokens import JoinToken
from jaywalk.zone.models import Zone
from jaywalk.zone.policy import Policy
from jaywalk.zone.requests import ADD_TOKEN, REMOVE_TOKEN, Reply, Request
from jaywalk_supervisor.decisions.agent_requests import decide
from jaywalk_supervisor.state.zone_state import ZoneState
from tests.supervisor_support import join, key_of
from tests.unit.supervisor.decisions.test_agent_requests import NOW, ask, carry_out

HOUR = 3600


def zone_with(admission: str, **policy: Any) -> ZoneState:
    chosen = Policy.parse(admission=admission, **policy)
    return ZoneState(Zone.validated("zone-blue", ["10.20.0.0/24"], policy=chosen), 1000, 0)


def token_in(state: ZoneState, **limits: Any) -> str:
    """Adds a token as an operator does, and returns its text."""
    token, text = JoinToken.create(NOW, limits.pop("lifetime", HOUR), **limits)
    request = Request.validated(ADD_TOKEN, "zone-blue", "", token=token, token_id=token.id, by="root@admin")
    assert carry_out(state, request).changed
    return text


def with_token(number: int, text: str, **fields: Any) -> Request:
    return replace(join("zone-blue", number, **fields), join_token=text, sealed="sealed", proven=True)


def proven(number: int, **fields: Any) -> Request:
    return replace(join("zone-blue", number, **fields), proven=True)


def code(reply: Reply) -> str:
    return reply.code


def test_a_zone_that_wants_tokens_refuses_a_new_key_and_asks_no_member_again() -> None:
    state = zone_with("password")
    assert carry_out(state, proven(1)).ok
    state.zone = zone_with("token").zone
    assert carry_out(state, proven(1)).ok, "it has a lease"
    assert code(carry_out(state, proven(2))) == "token-needed"
    carry_out(state, ask("reserve", 2))
    assert carry_out(state, proven(2)).ok, "an operator reserved its lease"


def test_a_reservation_by_name_admits_no_key_without_a_token_for_that_name() -> None:
    state = zone_with("token", member_claims=True)
    carry_out(state, Request.validated("reserve", "zone-blue", "", name="node1", request_ip=["10.20.0.9"]))
    assert code(carry_out(state, proven(1))) == "token-needed"
    text = token_in(state, names=["node1"])
    assert carry_out(state, with_token(1, text)).addresses == ("10.20.0.9",)


def test_a_wrong_an_expired_a_used_up_and_a_removed_token_get_the_same_answer() -> None:
    state = zone_with("token")
    used, removed, good = token_in(state), token_in(state), token_in(state)
    assert carry_out(state, with_token(1, used)).ok
    carry_out(state, Request.validated(REMOVE_TOKEN, "zone-blue", "", token_id=removed.split("_")[1]))
    wrong = good[:-1] + ("0" if good[-1] != "0" else "1")
    answers = [
        *(carry_out(state, with_token(2, text)) for text in (used, removed, wrong, "", "jwj_00000000_")),
        carry_out(state, with_token(2, good), NOW + HOUR),
    ]
    assert {answer.code for answer in answers} == {"token-refused"}
    assert len({answer.error for answer in answers}) == 1
    assert carry_out(state, with_token(2, good), NOW + HOUR - 1).ok


def test_a_token_without_a_proof_of_the_key_admits_nobody() -> None:
    state = zone_with("token", proof="optional")
    request = replace(with_token(1, token_in(state)), proven=False)
    reply = carry_out(state, request)
    assert reply.code == "token-refused"
    assert "python3-cryptography" in reply.error
    assert all(not token.used for token in state.join_tokens.values())


def test_a_token_for_names_gives_a_node_its_name_for_good() -> None:
    state = zone_with("token")
    text = token_in(state, names=["web-*"], uses=3)
    assert "is called node1" in carry_out(state, with_token(1, text)).error
    assert carry_out(state, with_token(1, text, name="web-1")).name == "web-1"
    assert carry_out(state, with_token(2, text, name="web-1")).code == "name-taken"
    assert carry_out(state, proven(1, name="db-1")).name == "web-1", "it keeps the permitted name"


def test_a_token_for_addresses_permits_no_other_and_gives_one_of_them() -> None:
    state = zone_with("token")
    text = token_in(state, addresses=["10.20.0.64/30"], uses=9)
    other = carry_out(state, with_token(1, text, request_ip=["10.20.0.9"]))
    assert (other.code, "10.20.0.64/30" in other.error) == ("token-refused", True)
    assert carry_out(state, with_token(1, text, request_ip=["10.20.0.66"])).addresses == ("10.20.0.66",)
    given = {carry_out(state, with_token(number, text)).addresses for number in (2, 3, 4)}
    assert given == {("10.20.0.64",), ("10.20.0.65",), ("10.20.0.67",)}
    assert "are taken" in carry_out(state, with_token(5, text)).error


def test_a_token_grants_prefixes_and_words_beyond_the_policy_and_counts_for_no_quota() -> None:
    state = zone_with("token", member_prefixes=["none"], member_leases=0)
    text = token_in(state, prefixes=["172.20.0.0/16"], grants=["relay"], uses=2)
    outside = with_token(1, text, child_prefixes=["172.21.1.0/24"])
    assert carry_out(state, outside).code == "prefix-not-permitted"
    request = with_token(1, text, child_prefixes=["172.20.1.0/24"], endpoint="192.0.2.1:51820", relay=51821)
    peer = decide(state, request, NOW).peer
    assert peer is not None
    assert (peer.reserved_prefixes, peer.relay, peer.grants) == (
        ("172.20.1.0/24",),
        51821,
        ("lease", "relay"),
    )
    assert carry_out(state, request).ok
    again = carry_out(state, proven(1))
    assert again.prefixes == ("172.20.1.0/24",), "they are its own without the token"


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"uses": 0}, "for 0 nodes"),
        ({"uses": 1001}, "give 1 to 1000"),
        ({"lifetime": 0}, "lifetime of 0"),
        ({"names": ["Web"]}, "matches no name"),
        ({"prefixes": ["0.0.0.0/0"]}, "default route"),
        ({"grants": ["root"]}, "grant 'root' is unknown"),
    ],
)
def test_limits_that_are_none_are_refused(limits: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        JoinToken.create(NOW, limits.pop("lifetime", HOUR), **limits)


def test_addresses_outside_the_pools_are_refused() -> None:
    with pytest.raises(AssertionError):
        token_in(zone_with("token"), addresses=["192.0.2.0/24"])


@given(uses=st.integers(1, 4), tries=st.lists(st.tuples(st.integers(1, 8), st.booleans()), max_size=24))
def test_no_more_keys_join_with_a_token_than_it_has_uses(uses: int, tries: list[tuple[int, bool]]) -> None:
    """Nodes join, join again, and are released by operators, in any order."""
    state = zone_with("token")
    text = token_in(state, uses=uses)
    (token_id,) = state.join_tokens
    admitted = set()
    for seconds, (number, is_released) in enumerate(tries):
        # An ended lease leaves a floor of the time of its end.
        request = replace(with_token(number, text), seq=int((NOW + 2 * seconds + 1) * 1_000_000))
        if carry_out(state, request, NOW + 2 * seconds).ok:
            admitted.add(key_of(number))
        if is_released:
            carry_out(state, ask("release", number), NOW + 2 * seconds)
    token = state.join_tokens[token_id]
    assert set(token.used) == admitted
    assert token.uses - len(token.used) >= 0


def test_what_a_decision_takes_from_a_token_is_undone_with_it() -> None:
    state = zone_with("token")
    text = token_in(state)
    before = dict(state.join_tokens)
    undos = [state.apply(change) for change in decide(state, with_token(1, text), NOW).changes]
    assert state.join_tokens != before
    state.undo(undos)
    assert state.join_tokens == before
