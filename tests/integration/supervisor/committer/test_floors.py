# SPDX-License-Identifier: GPL-3.0-or-later
"""The last request of a key outlives its lease, so that an old one is no new join."""

from __future__ import annotations

from pathlib import Path

import pytest

from jaywalk.zone.redis_keys import ZoneKeys
from jaywalk.zone.requests import Request, new_nonce
from jaywalk_supervisor.possession.keyring import KeyFile
from jaywalk_supervisor.state import floors
from jaywalk_supervisor.store.store import Store
from tests.proven_nodes import Node
from tests.redis_server import RedisServer
from tests.replies import read_reply
from tests.supervisor_support import BLUE, client_of, committing, join, key_of, until

KEYS = ZoneKeys("zone-blue")


def test_the_bytes_of_an_old_join_are_refused_after_the_release(
    redis_server: RedisServer, store: Store, tmp_path: Path
) -> None:
    key_file = KeyFile(str(tmp_path / "supervisor.key")).ensure()
    node = Node(1)
    with committing(redis_server.address, (BLUE,), key_file=key_file):
        client = node.client(redis_server.address)
        recorded = node.request("join")
        text = node.wire(recorded)
        assert client.ask(recorded, 20).ok
        # The join of a restarted agent changes nothing, so that the lease does not keep its seq.
        repeated = node.request("join")
        assert not client.ask(repeated, 20).changed
        assert (
            client_of(store, "zone-blue")
            .ask(Request.validated("release", "zone-blue", node.key), 20, KEYS.operator_inbox)
            .changed
        )
        kept = store.load("zone-blue").floors
        assert list(kept) == [node.key] and kept[node.key].proven
        assert kept[node.key].seq > repeated.seq
    # Also by a supervisor that knows the zone from Redis alone.
    with committing(redis_server.address, (BLUE,), key_file=key_file):
        sent = store.redis.xlen(KEYS.events)
        store.redis.rpush(KEYS.inbox, text, node.wire(repeated))
        until(lambda: store.redis.llen(KEYS.inbox) == 0)
        assert client.ask(node.request("check"), 20).ok
        assert node.key not in store.load("zone-blue").leases
        assert store.redis.xlen(KEYS.events) == sent
        # In a zone that accepts requests without a proof, the key is still held to its own.
        unproven = node.request("join")
        assert client_of(store, "zone-blue").ask(unproven, 20).code == "unproven"
        assert client.ask(node.request("join"), 20).ok, "the node itself comes back"


def test_a_reserved_key_keeps_its_floor(redis_server: RedisServer, store: Store) -> None:
    client = client_of(store, "zone-blue")
    with committing(redis_server.address):
        first = join("zone-blue", 1)
        assert client.ask(first, 20).ok
        for op in ("release", "reserve"):
            request = Request.validated(op, "zone-blue", key_of(1), name="node1")
            assert client.ask(request, 20, KEYS.operator_inbox).ok
        again = Request.validated("join", "zone-blue", key_of(1), seq=first.seq, nonce=new_nonce())
        assert client.ask(again, 20).code == "stale"
        assert client.ask(join("zone-blue", 1), 20).ok


def test_many_ended_leases_raise_one_floor_for_all_others(
    redis_server: RedisServer, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(floors, "MAX_FLOORS", 20)
    store.create(BLUE)
    store.redis.hset(KEYS.floors, mapping={key_of(n): f"{1_000_000 + n}" for n in range(30)})
    store.redis.hset(KEYS.floors, "spoilt", "x")
    with committing(redis_server.address):
        until(lambda: store.redis.hget(KEYS.floors, floors.ALL) == str(1_000_000 + 11))
        kept = store.load("zone-blue")
        assert set(kept.floors) == {key_of(n) for n in range(12, 30)} and kept.least_seq == 1_000_011
        client = client_of(store, "zone-blue")
        old = Request.validated("join", "zone-blue", key_of(3), seq=1_000_003, nonce=new_nonce())
        assert client.ask(old, 20).code == "stale"
        assert read_reply(store.redis, KEYS, old.nonce) is not None
        assert client.ask(join("zone-blue", 3), 20).ok
