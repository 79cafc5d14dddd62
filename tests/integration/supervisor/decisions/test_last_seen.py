# SPDX-License-Identifier: GPL-3.0-or-later
"""Last-seen times of nodes, stored outside of the log by real committers in a real Redis."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
import redis

from jaywalk.controller.address import ControllerAddress
from jaywalk.controller.connection import connect
from jaywalk.zone.redis_keys import ZoneKeys
from jaywalk.zone.requests import Request
from jaywalk_supervisor.admin import zones
from jaywalk_supervisor.committer.committer import Committer
from jaywalk_supervisor.committer.inboxes import InboxBatch
from jaywalk_supervisor.decisions.agent_requests import decide
from jaywalk_supervisor.decisions.last_seen import partition_senders, refusal
from jaywalk_supervisor.state.zone_state import ZoneState
from jaywalk_supervisor.store.store import Store
from tests.redis_server import RedisServer
from tests.supervisor_support import (
    AGENT_PASSWORD,
    BLUE,
    client_of,
    committing,
    join,
    key_of,
    until,
)

KEYS = ZoneKeys("zone-blue")
LONG_AGO = 1_000_000_000


def report(number: int, **fields: Any) -> Request:
    return Request.validated("report", "zone-blue", key_of(number), **fields)


def forget_times(store: Store) -> None:
    store.record_last_seen("zone-blue", dict.fromkeys(store.last_seen("zone-blue"), LONG_AGO))


def seen(store: Store, number: int) -> int:
    return store.last_seen("zone-blue").get(key_of(number), 0)


@pytest.mark.parametrize(
    ("op", "number", "machine_id", "reason"),
    [
        ("report", 1, "000000bb", ""),
        ("report", 1, "", ""),
        ("endpoint", 1, "000000bb", ""),
        ("report", 1, "000000aa", "superseded"),
        ("endpoint", 1, "000000aa", "superseded"),
        ("report", 2, "", "not-joined"),
        ("join", 2, "", "not-joined"),
        ("show", 1, "", "operator"),
        ("release", 1, "", "operator"),
    ],
)
def test_who_says_nothing_of_the_node_that_has_the_key(
    blue: ZoneState, op: str, number: int, machine_id: str, reason: str
) -> None:
    for machine in ("000000aa", "000000bb"):
        for change in decide(blue, join("zone-blue", 1, machine_id=machine), LONG_AGO).changes:
            blue.apply(change)
    request = Request.validated(op, "zone-blue", key_of(number), machine_id=machine_id)
    assert refusal(blue, request) == reason
    assert partition_senders(blue, [request], LONG_AGO)[0] == ({} if reason else {key_of(number): LONG_AGO})


def test_a_report_is_noted_and_costs_the_zone_nothing(redis_server: RedisServer, store: Store) -> None:
    with committing(redis_server.address) as committer:
        blue = client_of(store, "zone-blue")
        for number in (1, 2):
            assert blue.ask(join("zone-blue", number), 20).ok
        until(lambda: seen(store, 2))
        assert set(store.last_seen("zone-blue")) == {key_of(1), key_of(2)}
        forget_times(store)
        before = store.redis.hgetall(KEYS.meta), store.redis.xinfo_stream(KEYS.events)
        blue.submit(report(1, observed={key_of(2): "192.0.2.2:51820"}))
        until(lambda: seen(store, 1) > LONG_AGO)
        assert abs(seen(store, 1) - time.time()) < 60
        assert seen(store, 2) == LONG_AGO
        assert (store.redis.hgetall(KEYS.meta), store.redis.xinfo_stream(KEYS.events)) == before
        assert committer.health.dropped == committer.health.refused == 0


def test_reports_that_say_nothing_are_dropped_and_counted(redis_server: RedisServer, store: Store) -> None:
    with committing(redis_server.address) as committer:
        blue = client_of(store, "zone-blue")
        assert blue.ask(join("zone-blue", 1, machine_id="000000aa"), 20).ok
        assert blue.ask(join("zone-blue", 1, machine_id="000000bb"), 20).ok
        blue.submit(report(2))
        until(lambda: committer.health.dropped == 1)
        forget_times(store)
        blue.submit(report(1, machine_id="000000aa"))
        until(lambda: committer.health.dropped == 2)
        assert committer.health.drops == {"report-superseded": 1, "report-not-joined": 1}
        assert store.last_seen("zone-blue") == {key_of(1): LONG_AGO}


def test_what_was_seen_goes_with_the_lease(redis_server: RedisServer, store: Store) -> None:
    with committing(redis_server.address):
        blue = client_of(store, "zone-blue")
        assert blue.ask(join("zone-blue", 1), 20).ok
        until(lambda: seen(store, 1))
        assert blue.ask(Request.validated("leave", "zone-blue", key_of(1)), 20).ok
        assert seen(store, 1)
        assert blue.ask(
            Request.validated("release", "zone-blue", key_of(1)), 20, to=KEYS.operator_inbox
        ).changed
        until(lambda: not store.redis.exists(KEYS.last_seen))
        assert blue.ask(join("zone-blue", 2), 20).ok
        until(lambda: seen(store, 2))
    store.record_last_seen("zone-blue", {key_of(number): LONG_AGO for number in range(3, 50)})
    with committing(redis_server.address):
        assert set(store.last_seen("zone-blue")) == {key_of(2)}
    zones.remove(store, "zone-blue", force=True)
    assert not store.redis.exists(KEYS.last_seen)


def test_who_leads_again_believes_nodes_that_joined_meanwhile(
    redis_server: RedisServer, store: Store
) -> None:
    store.create(BLUE)
    was_leading, other = (Committer(redis_server.address, "", (), threading.Event()) for _ in range(2))
    for each in (was_leading, other):
        each.zones.states["zone-blue"] = store.load("zone-blue")
    serve(other, store, join("zone-blue", 1, machine_id="000000aa"))
    serve(was_leading, store, report(1, machine_id="000000aa"))
    serve(other, store, join("zone-blue", 1, machine_id="000000bb"))
    forget_times(store)
    serve(was_leading, store, report(1, machine_id="000000bb"))
    assert seen(store, 1) > LONG_AGO
    assert was_leading.health.dropped == 0


def serve(committer: Committer, store: Store, *requests: Request) -> None:
    texts = [request.to_wire() for request in requests]
    entries = [committer.inboxes.decode(text, "zone-blue", ("join", "report")) for text in texts]
    committer._serve_batch(store, InboxBatch("zone-blue", entries, full=False))


def test_agents_neither_read_nor_write_it(redis_server: RedisServer) -> None:
    where = ControllerAddress(redis_server.host, redis_server.port, "agent-zone-blue", AGENT_PASSWORD)
    with committing(redis_server.address), connect(where) as agent:
        with pytest.raises(redis.exceptions.NoPermissionError):
            agent.hset(KEYS.last_seen, key_of(1), "1")
        with pytest.raises(redis.exceptions.NoPermissionError):
            agent.hgetall(KEYS.last_seen)
