# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests that prove their node's key, at a real committer on a real Redis."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jaywalk.core.errors import InvalidValue, NoAnswer
from jaywalk.trust import envelope
from jaywalk.trust.secrets import KeyPair
from jaywalk.zone.policy import Policy
from jaywalk.zone.redis_keys import SUPERVISOR_KEYS, ZoneKeys
from jaywalk.zone.reply_streams import ReplyTo
from jaywalk.zone.requests import Reply, Request, new_nonce
from jaywalk_supervisor.committer.committer import Committer
from jaywalk_supervisor.possession.keyring import KeyFile
from jaywalk_supervisor.store.store import Store
from tests.proven_nodes import Node
from tests.redis_server import RedisServer
from tests.replies import read_reply
from tests.supervisor_support import BLUE, committing, until

KEYS = ZoneKeys("zone-blue")
REQUIRED = replace(BLUE, policy=Policy(proof="required"))


@pytest.fixture
def key_file(tmp_path: Path) -> KeyFile:
    return KeyFile(str(tmp_path / "supervisor.key")).ensure()


@pytest.fixture
def committer(redis_server: RedisServer, key_file: KeyFile) -> Iterator[Committer]:
    """A supervisor of zone-blue, which requires proofs."""
    with committing(redis_server.address, (REQUIRED,), key_file=key_file) as running:
        yield running


class Served:
    """A zone that a committer serves: sends texts and waits until they are dealt with."""

    def __init__(self, store: Store, committer: Committer) -> None:
        self.store = store
        self.committer = committer

    def send(self, *texts: str) -> None:
        """Sends entries of the inbox, and waits until the supervisor has taken and handled them."""
        last = Node(99)
        last.prover.trusted.keys = self.committer.key_file.keyring.public_keys
        check = last.request("check")
        self.store.redis.rpush(KEYS.inbox, *texts, last.wire(check))
        until(lambda: answer_of(self.store, check.nonce))

    def unproven(self, request: Request) -> Reply:
        """Sends a request as an agent of the version before does."""
        self.send(request.to_wire())
        reply = read_reply(self.store.redis, KEYS, request.nonce)
        assert reply is not None
        return reply


def answer_of(store: Store, nonce: str) -> str:
    """The text of an answer, whatever it proves; empty if there is none."""
    stream, field = ReplyTo(nonce).stream_and_field(KEYS)
    return next((fields[field] for _id, fields in store.redis.xrange(stream) if field in fields), "")


@pytest.fixture
def served(store: Store, committer: Committer) -> Served:
    return Served(store, committer)


def test_a_node_that_proves_its_key_joins_and_is_held_to_it(
    redis_server: RedisServer, served: Served
) -> None:
    node = Node(1)
    client = node.client(redis_server.address)
    assert node.prover.trusted.keys == served.committer.key_file.keyring.public_keys
    request = node.request("join")
    assert client.ask(request, 20).changed
    assert client.snapshot().peers[node.key].proven
    assert envelope.is_proven(answer_of(served.store, request.nonce)), "the answer is proven, too"
    assert not client.ask(node.request("join"), 20).changed, "the second proven join changes nothing"
    for op in ("endpoint", "check"):
        assert client.ask(node.request(op), 20).ok
    assert client.ask(node.request("leave"), 20).changed
    assert served.store.load("zone-blue").leases[node.key].proven, "the mark outlives the leave"


def test_a_request_without_a_proof_is_refused_with_what_to_do(served: Served) -> None:
    node = Node(1)
    refused = served.unproven(node.request("join"))
    assert refused.code == "unproven"
    assert "update jaywalk on that node" in refused.error and "python3-cryptography" in refused.error
    assert served.store.load("zone-blue").peers == {}
    assert served.committer.health.refusals["unproven"] == 1


@pytest.mark.parametrize("op", ["join", "leave", "endpoint", "check"])
def test_no_operation_goes_without_a_proof(redis_server: RedisServer, served: Served, op: str) -> None:
    node = Node(1)
    node.client(redis_server.address).ask(node.request("join"), 20).lease_or_raise()
    before = served.store.load("zone-blue")
    assert served.unproven(node.request(op, endpoint="192.0.2.66:1" if op == "endpoint" else "")).code == (
        "unproven"
    )
    after = served.store.load("zone-blue")
    assert after.peers == before.peers and after.rev == before.rev


def test_a_report_counts_only_with_a_proof(redis_server: RedisServer, served: Served) -> None:
    node, peer = Node(1), Node(2)
    for each in (node, peer):
        each.client(redis_server.address).ask(each.request("join"), 20).lease_or_raise()
    served.store.redis.hset(KEYS.last_seen, node.key, 1)
    report = node.request("report", observed={peer.key: "192.0.2.66:4444"})
    served.send(report.to_wire())
    assert served.store.redis.hget(KEYS.last_seen, node.key) == "1"
    assert served.committer.health.drops["report-unproven"] == 1
    assert not served.store.load("zone-blue").peers[peer.key].observed
    served.send(node.wire(report))
    assert int(served.store.redis.hget(KEYS.last_seen, node.key)) > 1


# Parts of a proven request, each of which somebody may change.
TAMPERED: dict[str, Any] = {
    "op": "leave",
    "zone": "zone-red",
    "key": Node(2).key,
    "seq": 1,
    "nonce": "0" * 32,
    "name": "other",
    "request_ip": ["10.20.0.77"],
    "child_prefixes": ["172.20.9.0/24"],
    "endpoint": "192.0.2.66:51820",
    "fixed": True,
    "local": ["192.168.7.7"],
    "relay": 4444,
    "instance": "ffffffff",
    "expires": 1,
    "answer": "",
    "former_ip": ["10.20.0.78"],
    "observed": {Node(2).key: "192.0.2.66:4444"},
    "v": 2,
}


@pytest.mark.parametrize("field", TAMPERED)
def test_a_changed_field_under_the_old_mac_changes_nothing(served: Served, field: str) -> None:
    node = Node(1)
    node.prover.trusted.keys = served.committer.key_file.keyring.public_keys
    text = node.wire(
        node.request("join", request_ip=["10.20.0.9"], endpoint="192.0.2.1:51820", machine_id="0123abcd")
    )
    line, _, body = text.partition("\n")
    changed = {**json.loads(body), field: TAMPERED[field]}
    served.send(f"{line}\n{json.dumps(changed)}")
    assert served.store.load("zone-blue").leases == {}
    assert served.committer.health.bad["proof"] == 1
    # The same request as it was sent is taken.
    served.send(text)
    assert set(served.store.load("zone-blue").leases) == {node.key}


def test_a_proof_for_another_zone_operation_or_supervisor_is_none(served: Served) -> None:
    ours = served.committer.key_file.keyring.public_keys
    node, stranger = Node(1, ours), Node(2, ours)
    abroad, elsewhere = Node(1, ours, zone="zone-red"), Node(1, [KeyPair.generate()[0].public])
    join = node.request("join")
    as_of_red = abroad.wire(abroad.request("join"))
    in_anothers_name = stranger.wire(stranger.request("join")).replace(stranger.key, node.key)
    # A body for one key under the line of another, which its sender can prove.
    line_of_stranger = envelope.prove_request(
        stranger.prover.secret(ours[0]), served.committer.key_file.keyring.pairs[0].id,
        "zone-blue", stranger.key, join.to_wire(),
    )  # fmt: skip
    served.send(as_of_red, in_anothers_name, line_of_stranger, elsewhere.wire(join))
    assert served.store.load("zone-blue").leases == {}
    assert served.committer.health.bad == {"proof": 3, "proof-key": 1}


def test_a_body_that_does_not_parse_is_refused_in_a_proven_answer(
    redis_server: RedisServer, served: Served
) -> None:
    node = Node(1)
    client = node.client(redis_server.address)
    bad = replace(node.request("join"), name="No Label")
    refused = client.ask(bad, 20)
    assert refused.code == "bad-request" and "No Label" in refused.error


def test_a_forged_answer_is_passed_over(
    redis_server: RedisServer, store: Store, key_file: KeyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who writes the streams of replies grants an address in the place of the supervisors."""
    store.create(REQUIRED)
    store.redis.hset(KEYS.meta, SUPERVISOR_KEYS, key_file.keyring.public_keys[0])
    node, forger = Node(1), Node(2)
    client = node.client(redis_server.address)
    monkeypatch.setattr(client, "expiring", lambda request, timeout: request)
    request = node.request("join")
    forged = Reply(ok=True, state="active", name="node1", addresses=("10.20.0.66",), changed=True)
    stream, field = ReplyTo(request.nonce).stream_and_field(KEYS)
    own = forger.pair.agree(key_file.keyring.public_keys[0])
    question = envelope.Question("zone-blue", node.key, "join", request.seq, request.nonce)
    kid = key_file.keyring.pairs[0].id
    for text in (
        forged.to_wire(),
        Reply.refused("superseded", "stand down").to_wire(),
        envelope.prove_answer(own, kid, question, forged.to_wire()),
    ):
        store.redis.xadd(stream, {field: text})
    with pytest.raises(NoAnswer):
        client.ask(request, 0.5)
    with committing(redis_server.address, (REQUIRED,), key_file=key_file):
        assert client.ask(request, 20).addresses == ("10.20.0.1", "fd00:20::1")


def test_a_zone_of_the_version_before_takes_both_kinds_until_a_key_has_proven(
    redis_server: RedisServer, store: Store, key_file: KeyFile
) -> None:
    with committing(redis_server.address, (BLUE,), key_file=key_file) as running:
        served = Served(store, running)
        old, node = Node(1), Node(2)
        assert served.unproven(old.request("join")).ok
        assert served.unproven(node.request("join")).ok
        assert not store.load("zone-blue").peers[node.key].proven
        assert node.client(redis_server.address).ask(node.request("join"), 20).changed
        # Whoever has the zone's password and knows the key:
        for op in ("join", "leave", "endpoint"):
            assert served.unproven(node.request(op, request_ip=["10.20.0.200"])).code == "unproven"
        # And a clock ahead does not help, either.
        ahead = node.request("join", seq=int((time.time() + 23 * 3600) * 1e6))
        assert served.unproven(ahead).code == "unproven"
        assert served.unproven(old.request("join")).ok
        assert "--proof required" in running.health.undeclared_zones["zone-blue"], "it says how to close it"


def test_supervisors_with_other_keys_do_not_split_a_zone(
    redis_server: RedisServer, store: Store, key_file: KeyFile, tmp_path: Path
) -> None:
    other = KeyFile(str(tmp_path / "other.key")).ensure()
    with committing(redis_server.address, (BLUE,), key_file=key_file):
        until(lambda: store.redis.hget(KEYS.meta, SUPERVISOR_KEYS))
        with committing(redis_server.address, (BLUE,), key_file=other) as stranger:
            until(lambda: stranger.health.broken_zones)
            assert "copy their key file to this machine" in stranger.health.broken_zones["zone-blue"]
            assert "zone-blue" not in stranger.health.led
        node = Node(1)
        assert node.client(redis_server.address).ask(node.request("join"), 20).ok
    assert store.redis.hget(KEYS.meta, SUPERVISOR_KEYS) == key_file.keyring.public_keys[0]


def test_the_key_changes_and_no_node_is_left_behind(
    redis_server: RedisServer, served: Served, key_file: KeyFile
) -> None:
    """Nodes that trust the first key that they saw learn the next one by a proven answer."""
    old = key_file.keyring.public_keys[0]
    node, pinned = Node(1), Node(2, [old])
    client, of_pinned = node.client(redis_server.address), pinned.client(redis_server.address)
    assert client.ask(node.request("join"), 20).ok
    key_file.rotate()
    new = key_file.keyring.public_keys[0]
    until(lambda: served.store.redis.hget(KEYS.meta, SUPERVISOR_KEYS) == f"{new},{old}")
    client.check_in(client.snapshot())
    trusted = [node.prover.trusted.behind]
    assert client.ask(node.request("join"), 20).keys == (new, old)
    assert node.prover.trusted.keys == (new, old)
    assert [*trusted, node.prover.trusted.behind] == [True, False]
    assert of_pinned.ask(pinned.request("join"), 20).ok, "the old key is still valid"
    assert pinned.prover.trusted.keys == (old,), "what the operator pinned stays"

    key_file.retire()
    until(lambda: served.store.redis.hget(KEYS.meta, SUPERVISOR_KEYS) == new)
    assert client.ask(node.request("join"), 20).ok
    with pytest.raises(NoAnswer):
        of_pinned.ask(pinned.request("join"), 0.5)
    with pytest.raises(InvalidValue, match=r"was given .* prints the published key, give it by"):
        pinned.client(redis_server.address)


def test_a_key_that_nobody_vouches_for_is_not_trusted(redis_server: RedisServer, served: Served) -> None:
    """A stolen controller publishes a key of its own, first beside the known one, then alone."""
    node = Node(1)
    client = node.client(redis_server.address)
    assert client.ask(node.request("join"), 20).ok
    known, own = node.prover.trusted.keys, KeyPair.generate()[0].public
    served.store.redis.hset(KEYS.meta, SUPERVISOR_KEYS, f"{own},{known[0]}")
    client.check_in(client.snapshot())
    assert client.ask(node.request("join"), 20).ok
    assert node.prover.trusted.keys == known
    served.store.redis.hset(KEYS.meta, SUPERVISOR_KEYS, own)
    with pytest.raises(InvalidValue, match="somebody may answer in their place"):
        client.check_in(client.snapshot())


def test_a_request_that_lies_about_its_own_nonce_gets_no_other_answer(served: Served) -> None:
    """The answer is bound to the request's nonce, so that it is none to another request of the node."""
    node = Node(1, served.committer.key_file.keyring.public_keys)
    first, second = node.request("join"), node.request("join")
    served.send(node.wire(first), node.wire(second))
    text = answer_of(served.store, first.nonce)
    assert node.prover.read(first, text) is not None
    assert node.prover.read(second, text) is None
    assert node.prover.read(replace(first, nonce=new_nonce()), text) is None
