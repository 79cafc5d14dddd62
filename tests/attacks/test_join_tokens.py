# SPDX-License-Identifier: GPL-3.0-or-later
"""What the holder of a zone's password, and of a join token, can do in a zone that wants one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jaywalk.controller.client import ZoneClient
from jaywalk.controller.connection import connect
from jaywalk.zone.redis_keys import ZoneKeys
from jaywalk.zone.requests import Reply, Request
from tests.attacks.installation import Installation
from tests.proven_nodes import Node
from tests.waiting import eventually

TOKENS, OTHER = "zone-tokens", "zone-other"


@pytest.fixture(scope="module")
def strict(installation: Installation) -> Installation:
    """The installation with two zones that want join tokens and proofs."""
    for zone in (TOKENS, OTHER):
        installation.add_zone(zone, "--proof", "required", "--admission", "token")
        eventually(
            lambda zone=zone: zone in installation.api("GET", "/healthz").body["zones_led"], "it is served"
        )
    return installation


def token(installation: Installation, *options: str, zone: str = TOKENS) -> str:
    return installation.command("join-token", "add", "--zone", zone, *options).stdout.strip()


def client_of(installation: Installation, node: Node) -> ZoneClient:
    """What a node has before it joined: its key, and the password of its zone."""
    where = installation.agent_address(node.zone)
    client = ZoneClient(connect(where), where, node.zone, prover=node.prover)
    client.follow_supervisor_keys()
    client.enrols = True
    return client


def try_join(installation: Installation, number: int, text: str, zone: str = TOKENS, **fields: Any) -> Reply:
    node = Node(number, zone=zone)
    return client_of(installation, node).ask(node.request("join", join_token=text, **fields), 10)


def test_a_holder_of_the_password_alone_does_not_join_a_zone_that_wants_tokens(strict: Installation) -> None:
    reply = try_join(strict, 1, "")
    assert reply.code == "token-needed"
    assert f"join-token add --zone {TOKENS}" in reply.error
    assert try_join(strict, 1, token(strict)).ok
    assert try_join(strict, 1, "").ok, "a member is not asked again"


def test_a_token_admits_no_more_nodes_than_its_uses(strict: Installation) -> None:
    text = token(strict)
    assert try_join(strict, 11, text).ok
    refused = try_join(strict, 12, text)
    assert (refused.code, "used up" in refused.error) == ("token-refused", True)


def test_of_two_nodes_that_race_for_the_last_use_one_joins(strict: Installation) -> None:
    """Also if both requests are decided together."""
    text = token(strict)
    nodes = [Node(number, zone=TOKENS) for number in range(21, 29)]
    requests = [node.request("join", join_token=text) for node in nodes]
    clients = [client_of(strict, node) for node in nodes]
    operator = strict.operator_client(TOKENS).client
    wires = [client._wire(request) for client, request in zip(clients, requests, strict=True)]
    operator.rpush(ZoneKeys(TOKENS).inbox, *wires)
    replies = [client.ask(request, 10) for client, request in zip(clients, requests, strict=True)]
    assert sum(reply.ok for reply in replies) == 1
    assert {reply.code for reply in replies if not reply.ok} == {"token-refused"}


def test_a_removed_and_an_expired_token_and_one_of_another_zone_admit_nobody(strict: Installation) -> None:
    removed, foreign = token(strict), token(strict, zone=OTHER)
    strict.command("join-token", "remove", "--zone", TOKENS, removed.split("_")[1])
    short = token(strict, "--lifetime", "1s")
    (listed,) = [
        row
        for row in json.loads(strict.command("join-token", "list", "--zone", TOKENS, "--json").stdout)
        if row["id"] == short.split("_")[1]
    ]
    assert listed["uses_left"] == 1
    eventually(lambda: not _is_valid(strict, short), "it expires")
    replies = [try_join(strict, 31, text) for text in (removed, foreign, short, removed[:-4] + "0000")]
    assert {reply.code for reply in replies} == {"token-refused"}
    assert len({reply.error for reply in replies}) == 1, "the answer tells nothing about a guess"


def _is_valid(installation: Installation, text: str) -> bool:
    rows = json.loads(installation.command("join-token", "list", "--json").stdout)
    return bool(next(row["valid"] for row in rows if row["id"] == text.split("_")[1]))


def test_a_token_for_a_name_admits_no_other_name(strict: Installation) -> None:
    text = token(strict, "--name", "web-*", "--prefix", "203.0.113.0/24")
    assert "for nodes called web-*" in try_join(strict, 41, text, name="db-1").error
    granted = try_join(strict, 41, text, name="web-1", child_prefixes=["203.0.113.0/28"])
    assert (granted.name, granted.prefixes) == ("web-1", ("203.0.113.0/28",)), "beyond the zone's policy"


def test_a_sealed_token_that_was_copied_admits_no_other_key(strict: Installation) -> None:
    """Who reads the inbox, as on the controller, has the sealed text of a join, and a key of its own."""
    text = token(strict)
    victim, thief = Node(51, zone=TOKENS), Node(52, zone=TOKENS)
    client_of(strict, thief), client_of(strict, victim)
    copied = json.loads(victim.wire(victim.request("join", join_token=text)).partition("\n")[2])["sealed"]
    assert text not in copied
    stolen = thief.request("join")
    stolen = replace(stolen, sealed=copied)
    assert client_of(strict, thief).ask(stolen, 10).code == "token-refused"
    later = replace(victim.request("join"), sealed=copied)
    assert client_of(strict, victim).ask(later, 10).code == "token-refused", "it is bound to its request"
    assert try_join(strict, 51, text).ok


def test_a_token_is_nowhere_in_the_controller_the_logs_and_the_audit(strict: Installation) -> None:
    text = token(strict)
    reply = try_join(strict, 61, text)
    assert reply.ok
    assert not try_join(strict, 62, text).ok
    secret = text.rpartition("_")[2]
    server = strict.server.raw()
    everything = repr([_value(server, key) for key in server.keys("*zone-tokens*")])
    assert text.split("_")[1] in everything
    audit = strict.command("audit", "--zone", TOKENS, "--json").stdout
    assert f"join-token {text.split('_')[1]}" in audit
    for where in (everything, strict.log(), audit):
        assert secret not in where
    assert '"hash"' not in audit


def _value(server: Any, key: Any) -> Any:
    kind = server.type(key)
    kind = kind.decode() if isinstance(kind, bytes) else kind
    if kind == "hash":
        return server.hgetall(key)
    return server.xrange(key) if kind == "stream" else server.lrange(key, 0, -1) if kind == "list" else ""


def test_an_unproven_join_has_no_use_for_a_token(strict: Installation, tmp_path: Path) -> None:
    zone = "zone-older"
    strict.add_zone(zone, "--proof", "optional")
    text = token(strict, zone=zone)
    request = Request.validated("join", zone, Node(71).key, name="node71")
    reply = strict.attacker_client(zone).ask(replace(request, sealed=text), 10)
    assert (reply.code, "proof" in reply.error) == ("token-refused", True)


ASKS = "zone-asks"


def pending(installation: Installation) -> set[str]:
    rows = json.loads(installation.command("peer", "list", "--pending", "--json").stdout)
    return {row["public_key"] for row in rows if row["zone"] == ASKS}


@pytest.fixture
def asking(own_installation: Installation) -> Installation:
    """An installation with a zone that wants an operator's approval."""
    own_installation.add_zone(ASKS, "--proof", "required", "--admission", "approval")
    eventually(lambda: ASKS in own_installation.api("GET", "/healthz").body["zones_led"], "it is served")
    return own_installation


def test_an_agent_waits_for_an_approval_says_so_and_joins_by_itself(asking: Installation) -> None:
    first, second = asking.agents(ASKS)
    eventually(lambda: pending(asking) == {first.key, second.key}, "both wait")
    eventually(lambda: "waiting for an operator's approval" in first.error, "its status says why")
    assert f"peer approve --zone {ASKS} {first.key}" in first.log
    asking.command("peer", "approve", first.key)
    eventually(lambda: pending(asking) == {second.key}, "one waits")
    asking.command("peer", "approve", second.key, "--zone", ASKS)
    eventually(lambda: first.peer_keys == {second.key}, "they joined without a restart")
    assert pending(asking) == set()
    audit = asking.command("audit", "--zone", ASKS).stdout
    assert f"lease {first.key}" in audit


def test_a_key_that_was_rejected_waits_no_more_and_a_token_needs_no_approval(asking: Installation) -> None:
    assert try_join(asking, 81, "", zone=ASKS).code == "approval-needed"
    rejected = Node(81, zone=ASKS).key
    assert pending(asking) == {rejected}
    asking.command("peer", "reject", rejected, "--zone", ASKS, "--reason", "unknown")
    assert try_join(asking, 81, "", zone=ASKS).code == "blocked"
    assert pending(asking) == set()
    assert try_join(asking, 82, token(asking, zone=ASKS), zone=ASKS).ok
    for verb in ("approve", "reject"):
        refused = asking.command("peer", verb, "node81", check=False)
        assert "is no public key" in refused.stderr, "each node chooses its name"


def test_a_waiting_node_with_the_name_of_a_member_harms_no_member(asking: Installation) -> None:
    """Whoever rejects it by the name in the list would remove the member."""
    assert try_join(asking, 83, token(asking, zone=ASKS), zone=ASKS, name="1e5").ok
    assert try_join(asking, 84, "", zone=ASKS, name="1e5").code == "approval-needed"
    listed = asking.command("peer", "list", "--pending").stdout
    assert " 1e5 " in listed, "it is shown as it is called"
    assert asking.command("peer", "reject", "1e5", check=False).returncode != 0
    asking.command("peer", "reject", Node(84, zone=ASKS).key)
    assert pending(asking) == set()
    assert try_join(asking, 83, "", zone=ASKS, name="1e5").ok, "the member stays"


def test_real_agents_join_with_the_token_in_their_file(strict: Installation, tmp_path: Path) -> None:
    file = tmp_path / "join-token"
    file.touch(mode=0o600)
    file.write_text(token(strict, "--uses", "2") + "\n", encoding="ascii")
    first, second = strict.agents(TOKENS, JAYWALK_JOIN_TOKEN_FILE=str(file))
    eventually(lambda: second.key in first.peer_keys, "they are peers")
    assert file.read_text().strip() not in first.log + second.log


def test_a_node_that_joined_after_the_zone_wanted_no_approval_any_more_waits_no_more(
    asking: Installation,
) -> None:
    assert try_join(asking, 85, "", zone=ASKS).code == "approval-needed"
    asking.command("zone", "set", ASKS, "--admission", "password")
    assert try_join(asking, 85, "", zone=ASKS).ok
    assert pending(asking) == set(), "an operator who rejects what the list shows would remove a member"
