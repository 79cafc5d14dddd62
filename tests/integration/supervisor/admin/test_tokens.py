# SPDX-License-Identifier: GPL-3.0-or-later
"""Tokens added, listed and removed by the command, over a real Redis that has only their hashes."""

from __future__ import annotations

import hashlib
import json

import pytest

from jaywalk.core.errors import InvalidValue
from jaywalk.zone import redis_keys
from jaywalk_supervisor.admin import tokens
from jaywalk_supervisor.admin.tokens import Token
from jaywalk_supervisor.store.store import Store
from tests.supervisor_support import BLUE, Command


def test_a_token_is_printed_once_and_stored_as_its_hash(store: Store, command: Command) -> None:
    store.create(BLUE)
    made = command("token", "add", "ci", "--role", "operator", "--zone", "zone-blue")
    assert made["name"] == "ci"
    kept = json.dumps(store.redis.hgetall(redis_keys.TOKENS))
    assert made["token"] not in kept
    assert hashlib.sha256(made["token"].encode()).hexdigest() in kept
    (listed,) = command("token", "list")
    assert (listed["name"], listed["role"], listed["zone"]) == ("ci", "operator", "zone-blue")
    assert made["token"] not in json.dumps(listed)
    assert "there is a token ci already" in command("token", "add", "ci")
    assert command("token", "remove", "ci") == {"changed": True}
    assert command("token", "list") == []
    assert "the token 'ci' is unknown" in command("token", "remove", "ci")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["Not_A_Label"], "is no DNS label"),
        (["ci", "--zone", "zone-none"], "the zone 'zone-none' is unknown"),
        (["ci", "--role", "god"], "argument --role: choose from read, operator, admin"),
    ],
)
def test_an_invalid_token_is_not_created(
    store: Store, command: Command, words: list[str], expected: str
) -> None:
    assert expected in command("token", "add", *words)
    assert tokens.list_tokens(store) == []


def test_the_tokens_of_a_zone_are_removed_with_it(store: Store, command: Command) -> None:
    store.create(BLUE)
    command("token", "add", "tenant", "--zone", "zone-blue")
    command("token", "add", "all")
    command("zone", "remove", "zone-blue")
    assert [token.name for token in tokens.list_tokens(store)] == ["all"]


def test_a_record_that_does_not_parse_is_no_token(store: Store) -> None:
    text = tokens.add(store, "good", "read")
    for bad in ("", "[]", "{}", '{"role":"god","zone":"","digest":"","created":1}', '{"role":7}', "[" * 9999):
        store.redis.hset(redis_keys.TOKENS, "bad", bad)
        assert [token.name for token in tokens.list_tokens(store)] == ["good"]
    assert tokens.find(tokens.list_tokens(store), text) is not None
    assert tokens.find(tokens.list_tokens(store), "") is None
    with pytest.raises(InvalidValue, match="does not parse"):
        Token.from_wire("bad", "[]")


EVERYWHERE = ("", "zone-a", "zone-b")


@pytest.mark.parametrize(
    ("role", "zone", "may"),
    [
        ("admin", "", {(role_asked, zone_asked) for role_asked in tokens.ROLES for zone_asked in EVERYWHERE}),
        ("operator", "zone-a", {("operator", "zone-a"), ("read", "zone-a")}),
        ("read", "", {("read", zone_asked) for zone_asked in EVERYWHERE}),
    ],
)
def test_the_rights_of_a_role(role: str, zone: str, may: set[tuple[str, str]]) -> None:
    token = Token("t", role, zone, "", 0)
    asked = {(role_asked, zone_asked) for role_asked in tokens.ROLES for zone_asked in EVERYWHERE}
    assert {pair for pair in asked if token.may(*pair)} == may
