# SPDX-License-Identifier: GPL-3.0-or-later
"""Committers and commands on a real Redis with records that were corrupted by hand."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from flask.testing import FlaskClient

from jaywalk.zone.redis_keys import TOKENS, ZoneKeys
from jaywalk.zone.requests import Reply, Request
from jaywalk_supervisor.admin import tokens
from jaywalk_supervisor.api.replica import Replica
from jaywalk_supervisor.cli import token as tokencli
from jaywalk_supervisor.committer.committer import Committer
from jaywalk_supervisor.monitoring import record_check
from jaywalk_supervisor.store.store import Store
from tests.redis_server import RedisServer
from tests.supervisor_support import (
    BLUE,
    RED,
    Command,
    client_of,
    committing,
    join,
    key_of,
    until,
)

KEYS = ZoneKeys("zone-blue")


@dataclass
class Served:
    """A zone with one peer, node1, served by a committer."""

    store: Store
    committer: Committer

    def ask(self, request: Request, where: str = KEYS.inbox) -> Reply:
        return client_of(self.store, request.zone).ask(request, 20, where)

    def release(self, number: int) -> Reply:
        return self.ask(Request.validated("release", "zone-blue", key_of(number)), KEYS.operator_inbox)


@pytest.fixture
def served(redis_server: RedisServer, store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr(record_check, "PERIOD_SECONDS", 0.1)
    with committing(redis_server.address) as committer:
        zone = Served(store, committer)
        assert zone.ask(join("zone-blue", 1)).addresses[0] == "10.20.0.1"
        yield zone


@pytest.fixture
def anew(redis_server: RedisServer) -> Callable[[], object]:
    """Starts a committer, as a supervisor that takes over does."""
    return lambda: committing(redis_server.address)


@pytest.mark.parametrize("spoilt", ["", "{", '{"n":"node1"}', "[]", '{"n":"node1","a":["10.20.0'])
def test_a_record_spoilt_while_a_supervisor_runs_is_named_and_nothing_of_it_is_given_away(
    served: Served, spoilt: str
) -> None:
    for key in (KEYS.peers, KEYS.leases):
        served.store.redis.hset(key, key_of(1), spoilt)
    until(lambda: "zone-blue" in served.committer.health.unreadable)
    (named,) = served.committer.health.unreadable_records()["zone-blue"]
    assert named["public_key"] == key_of(1)
    assert named["hashes"] == [KEYS.peers, KEYS.leases]
    assert "10.20.0.1" in named["held"], "the running supervisor knows it from before"
    assert served.ask(join("zone-blue", 2)).addresses[0] == "10.20.0.2"
    assert served.store.redis.hget(KEYS.peers, key_of(1)) == spoilt, "nobody wrote over it"
    assert served.ask(join("zone-blue", 1)).addresses[0] == "10.20.0.1", "its own node mends it"
    until(lambda: not served.committer.health.unreadable)


def test_a_supervisor_that_takes_over_blocks_the_zone_until_the_key_is_released(
    redis_server: RedisServer, store: Store, anew: Callable[[], object], command: Command
) -> None:
    with committing(redis_server.address) as first:
        zone = Served(store, first)
        assert zone.ask(join("zone-blue", 1)).ok
        assert zone.ask(join("zone-blue", 2)).ok
    good = {key: store.redis.hget(key, key_of(1)) for key in (KEYS.peers, KEYS.leases)}
    for key in good:
        store.redis.hset(key, key_of(1), "spoilt")
    with committing(redis_server.address) as second:
        zone = Served(store, second)
        refused = zone.ask(join("zone-blue", 3))
        assert refused.code == "unreadable"
        assert key_of(1) in refused.error
        assert KEYS.peers in refused.error
        assert "release" in refused.error
        assert zone.ask(join("zone-blue", 2)).ok, "who has a lease goes on"
        (shown,) = command("zone", "show", "zone-blue")["unreadable"]
        assert shown["blocks"] == ["new IPv4 addresses", "new IPv6 addresses", "new child prefixes"]
        assert zone.release(1).ok
        until(lambda: not second.health.unreadable)
        assert zone.ask(join("zone-blue", 3)).addresses[0] == "10.20.0.1"
        assert command("zone", "show", "zone-blue")["unreadable"] == []


def test_a_record_that_is_restored_by_hand_is_readable_again(served: Served) -> None:
    good = served.store.redis.hget(KEYS.peers, key_of(1))
    served.store.redis.hset(KEYS.peers, key_of(1), "spoilt")
    until(lambda: "zone-blue" in served.committer.health.unreadable)
    served.store.redis.hset(KEYS.peers, key_of(1), good)
    until(lambda: "zone-blue" not in served.committer.health.unreadable)
    assert served.ask(join("zone-blue", 2)).addresses[0] == "10.20.0.2"


@pytest.mark.parametrize("part", ["meta", "peers", "leases", "events", "inbox", "orders", "seen"])
def test_another_type_under_a_key_of_a_zone_stops_that_zone_alone(
    served: Served, command: Command, api: FlaskClient, part: str
) -> None:
    key = f"{{zone-blue}}:{part}"
    saved = served.store.redis.dump(key)
    served.store.redis.delete(key)
    served.store.redis.set(key, "spoilt")
    if part != "inbox":
        served.store.redis.rpush(KEYS.inbox, join("zone-blue", 2).to_wire())
    until(lambda: "zone-blue" in served.committer.health.broken_zones)
    assert f"'redis-cli DEL {key}'" in served.committer.health.broken_zones["zone-blue"]
    assert served.ask(join("zone-red", 1), ZoneKeys("zone-red").inbox).ok, "the other zone goes on"
    if part in ("meta", "peers", "leases", "seen"):
        assert f"'redis-cli DEL {key}'" in command("zone", "show", "zone-blue")
    if part in ("meta", "peers", "leases"):
        listed = {zone["name"]: zone.get("error", "") for zone in command("zone", "list")}
        assert f"'redis-cli DEL {key}'" in listed["zone-blue"]
        assert not listed["zone-red"]
        assert [each["Name"] for each in api.get("/zones").get_json()] == ["zone-red"]
    assert api.get("/peers").status_code == 200
    assert served.store.redis.get(key) == "spoilt"
    served.store.redis.delete(key)
    if saved:
        served.store.redis.restore(key, 0, saved)
    until(lambda: not served.committer.health.broken_zones)
    asked = served.ask(join("zone-blue", 3))
    assert asked.ok
    assert asked.addresses[0] != "10.20.0.1"


@pytest.mark.parametrize("key", ["jw:zones", "jw:removed"])
def test_another_type_under_a_key_that_all_zones_share_is_named_with_its_cure(
    served: Served, command: Command, caplog: pytest.LogCaptureFixture, key: str
) -> None:
    served.store.redis.delete(key)
    served.store.redis.set(key, "spoilt")
    until(lambda: f"'redis-cli DEL {key}'" in caplog.text)
    if key == "jw:zones":
        assert f"'redis-cli DEL {key}'" in command("zone", "list")
    served.store.redis.delete(key)
    until(lambda: served.store.redis.type("jw:zones") == "set" and not served.committer.health.error)
    assert {zone["name"] for zone in command("zone", "list")} == {"zone-blue", "zone-red"}
    assert served.ask(join("zone-blue", 2)).ok


def test_meta_that_does_not_parse_stops_that_zone_alone(served: Served, command: Command) -> None:
    served.store.redis.hset(KEYS.meta, "rev", "many")
    served.store.redis.rpush(KEYS.inbox, join("zone-blue", 2).to_wire())
    until(lambda: "zone-blue" in served.committer.health.broken_zones)
    assert served.ask(join("zone-red", 1), ZoneKeys("zone-red").inbox).ok
    assert "meta data" in command("zone", "show", "zone-blue")
    listed = {zone["name"]: zone.get("error", "") for zone in command("zone", "list")}
    assert "meta data" in listed["zone-blue"]
    assert not listed["zone-red"]
    assert f"'redis-cli DEL {KEYS.meta}'" in served.committer.health.broken_zones["zone-blue"]
    served.store.redis.hset(KEYS.meta, "rev", "1")
    until(lambda: not served.committer.health.broken_zones)
    assert served.ask(join("zone-blue", 3)).ok


def test_meta_data_that_do_not_parse_come_back_as_they_were_once_they_are_removed(served: Served) -> None:
    until(lambda: "zone-blue" in served.committer.recovery._copies)
    served.store.redis.hset(KEYS.meta, "rev", "many")
    until(lambda: "zone-blue" in served.committer.health.broken_zones)
    served.store.redis.delete(KEYS.meta)
    until(lambda: not served.committer.health.broken_zones)
    assert served.ask(join("zone-blue", 2)).addresses[0] == "10.20.0.2"
    assert served.ask(join("zone-blue", 1)).addresses[0] == "10.20.0.1"


def test_an_event_that_does_not_parse_costs_a_follower_nothing(served: Served) -> None:
    behind = served.store.load("zone-blue")
    assert served.ask(join("zone-blue", 2)).ok
    entry = served.store.redis.xrevrange(KEYS.events, count=1)[0][0]
    served.store.redis.xdel(KEYS.events, entry)
    served.store.redis.xadd(
        KEYS.events, {"o": "{"}, id=f"{entry.split('-')[0]}-{int(entry.split('-')[1]) + 7}"
    )
    assert served.store.catch_up(behind).peers.keys() == {key_of(1), key_of(2)}


def test_zones_are_looked_at_in_turn_and_page_by_page(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_check, "MAX_ZONES", 1)
    for zone in (BLUE, RED):
        store.create(zone)
    states = {name: store.load(name) for name in store.zones()}
    checks = record_check.RecordCheck()
    store.redis.hset(ZoneKeys("zone-red").leases, key_of(1), "spoilt")
    assert [checks.check_next(store, states) for _ in range(4)] == [[], ["zone-red"], [], ["zone-red"]]
    states["zone-red"] = store.reload(states["zone-red"])
    assert [checks.check_next(store, states) for _ in range(2)] == [[], []]
    store.redis.hdel(ZoneKeys("zone-red").leases, key_of(1))
    assert [checks.check_next(store, states) for _ in range(2)] == [[], ["zone-red"]]


def test_a_node_whose_last_sign_of_life_does_not_parse_counts_as_heard_of(store: Store) -> None:
    store.create(BLUE)
    store.redis.hset(KEYS.last_seen, mapping={key_of(1): "yesterday", key_of(2): "1000"})
    heard = store.last_seen("zone-blue", {key_of(1), key_of(2), key_of(3)})
    assert heard.keys() == {key_of(1), key_of(2)}
    assert heard[key_of(1)] >= store.time() - 5
    assert heard[key_of(2)] == 1000


def test_a_token_that_does_not_parse_opens_nothing_and_is_named(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tokens.add(store, "good", "read")
    for name, record in (
        ("spoilt", "{"),
        ("newer", '{"role":"read","zone":"","digest":"","created":1,"until":2}'),
    ):
        store.redis.hset(TOKENS, name, record)
    assert tokens.find(tokens.list_tokens(store), text)
    assert [token.name for token in tokens.list_tokens(store)] == ["good"]
    tokencli.run(store, argparse.Namespace(command="token", verb="list", json=True))
    assert "the token 'spoilt' does not parse" in capsys.readouterr().err
    store.redis.delete(TOKENS)
    store.redis.set(TOKENS, "spoilt")
    assert not tokens.list_tokens(store)
    assert TOKENS in tokens.list_errors(store)[0]


def test_the_api_names_a_record_that_was_spoilt_since_it_read_the_zone(
    served: Served, replica: Replica, api: FlaskClient
) -> None:
    assert api.get("/zones/zone-blue").get_json()["unreadable"] == []
    served.store.redis.hset(KEYS.leases, key_of(7), "spoilt")
    until(lambda: api.get("/zones/zone-blue").get_json()["unreadable"])
    served.store.redis.delete(KEYS.last_seen)
    served.store.redis.set(KEYS.last_seen, "spoilt")
    assert api.get("/zones/zone-red").status_code == 200
    assert api.get("/peers").status_code == 200
    served.store.redis.delete(KEYS.peers)
    served.store.redis.set(KEYS.peers, "spoilt")
    assert api.get("/zones/zone-red").status_code == 200
