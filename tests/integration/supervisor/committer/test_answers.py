# SPDX-License-Identifier: GPL-3.0-or-later
"""What remains of answers in a real Redis, for any number and form of requests."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from jaywalk.zone.redis_keys import ZoneKeys
from jaywalk.zone.reply_streams import STREAMS, ReplyTo
from jaywalk.zone.requests import Reply, Request, new_nonce
from jaywalk_supervisor.store import reply_trimming
from jaywalk_supervisor.store.store import BATCH, Store
from tests.redis_server import RedisServer
from tests.replies import read_reply
from tests.supervisor_support import client_of, committing, join, until

KEYS = ZoneKeys("zone-blue")


def flood(store: Store, count: int, shared: bool = True, **fields: Any) -> Request:
    """Repeats a node's request with new nonces; returns the last one after it was answered."""
    texts = [replace(join("zone-blue", 1, **fields), shared=shared).to_wire() for _ in range(count)]
    last = replace(join("zone-blue", 1), shared=shared)
    store.redis.rpush(KEYS.inbox, *texts, last.to_wire())
    until(lambda: read_reply(store.redis, KEYS, last.nonce))
    return last


def streams(store: Store) -> list[str]:
    return list(store.redis.scan_iter(match=f"{KEYS.reply('*')}", count=1000))


def test_a_flood_of_fresh_nonces_leaves_a_bounded_number_of_answers(
    redis_server: RedisServer, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reply_trimming, "MAX_SHARED", 2)
    with committing(redis_server.address):
        flood(store, 6000)
        left = streams(store)
        assert 0.9 * STREAMS < len(left) <= STREAMS
        assert max(store.redis.xlen(stream) for stream in left) == 2
        assert all(0 < store.redis.ttl(stream) <= reply_trimming.SHARED_SECONDS for stream in left)
        assert client_of(store, "zone-blue").ask(join("zone-blue", 2), timeout=20).changed


def test_long_answers_are_kept_in_smaller_numbers() -> None:
    short, long = (Reply.refused("bad-request", "x" * size).to_wire() for size in (100, 5000))
    kept = [reply_trimming.arguments(KEYS, ReplyTo(new_nonce()), each)[1][2] for each in (short, long)]
    assert kept == [reply_trimming.MAX_SHARED, 1]


def test_an_agent_of_an_older_version_is_answered_in_its_own_stream(
    redis_server: RedisServer, store: Store
) -> None:
    good = replace(join("zone-blue", 1), shared=False)
    bad, nonce = json.loads(good.to_wire()), new_nonce()
    assert "answer" not in bad
    with committing(redis_server.address):
        store.redis.rpush(KEYS.inbox, good.to_wire(), json.dumps({**bad, "seq": -1, "nonce": nonce}))
        for each in (good.nonce, nonce):
            until(lambda each=each: store.redis.exists(KEYS.reply(each)))
            assert 0 < store.redis.ttl(KEYS.reply(each)) <= reply_trimming.OWN_SECONDS
        granted, refused = (store.redis.xrange(KEYS.reply(each))[0][1] for each in (good.nonce, nonce))
    assert json.loads(granted["reply"])["changed"]
    assert json.loads(refused["reply"])["code"] == "bad-request"
    assert len(streams(store)) == 2


def test_a_flood_in_the_form_of_an_older_version_leaves_a_bounded_number_of_streams(
    redis_server: RedisServer, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reply_trimming, "MAX_OWN_STREAMS", 20)
    with committing(redis_server.address):
        last = flood(store, 3 * BATCH, shared=False)
        until(lambda: len(streams(store)) == 20)
        assert store.redis.exists(KEYS.reply(last.nonce))


def test_a_request_that_was_sent_twice_has_the_first_answer(redis_server: RedisServer, store: Store) -> None:
    asked = join("zone-blue", 1)
    with committing(redis_server.address):
        store.redis.rpush(KEYS.inbox, asked.to_wire(), asked.to_wire())
        until(lambda: read_reply(store.redis, KEYS, asked.nonce))
        reply = read_reply(store.redis, KEYS, asked.nonce)
    assert reply is not None and reply.changed


def test_an_answer_goes_where_somebody_put_another_type(redis_server: RedisServer, store: Store) -> None:
    with committing(redis_server.address) as committer:
        request = join("zone-blue", 1)
        stream, _field = ReplyTo(request.nonce).stream_and_field(KEYS)
        store.redis.set(stream, "spoilt")
        store.redis.rpush(KEYS.inbox, request.to_wire())
        until(lambda: store.redis.type(stream) == "stream")
        assert read_reply(store.redis, KEYS, request.nonce)
        assert not committer.health.error
