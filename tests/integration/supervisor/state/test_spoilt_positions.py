# SPDX-License-Identifier: GPL-3.0-or-later
"""A zone whose position or log was changed by hand, on a real Redis."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from jaywalk.zone.patch import ZonePatch
from jaywalk.zone.redis_keys import ZoneKeys
from jaywalk_supervisor.admin import zones
from jaywalk_supervisor.committer.committer import Committer
from jaywalk_supervisor.store.store import Store
from tests.redis_server import RedisServer
from tests.supervisor_support import client_of, committing, join, key_of, until

KEYS = ZoneKeys("zone-blue")
TOMORROW = 86_400_000


def add_later(store: Store) -> None:
    store.redis.xadd(KEYS.events, {"o": "[]"}, id=f"{int(time.time() * 1000) + TOMORROW}-5")


def add_later_and_delete(store: Store) -> None:
    entry = f"{int(time.time() * 1000) + TOMORROW}-5"
    store.redis.xadd(KEYS.events, {"o": "[]"}, id=entry)
    store.redis.xdel(KEYS.events, entry)


def add_next(store: Store) -> None:
    epoch, rev = store.redis.hmget(KEYS.meta, "epoch", "rev")
    store.redis.xadd(KEYS.events, {"o": "[]"}, id=f"{epoch}-{int(rev) + 1}")


ahead = pytest.mark.parametrize("write", [add_later, add_later_and_delete, add_next])


def joins(store: Store, number: int, zone: str = "zone-blue") -> bool:
    return client_of(store, zone).ask(join(zone, number), 20).ok


@ahead
def test_a_zone_goes_on_behind_what_somebody_wrote_into_its_log(
    redis_server: RedisServer, store: Store, write: Callable[[Store], None], caplog: pytest.LogCaptureFixture
) -> None:
    """Redis accepts no entry older than the newest that the log ever had; a new epoch is newer."""
    with committing(redis_server.address):
        assert joins(store, 1)
        write(store)
        assert joins(store, 2)
    assert "or a log that is newer: it has a new epoch" in caplog.text
    assert store.load("zone-blue").peers.keys() == {key_of(1), key_of(2)}


@ahead
def test_an_operator_changes_such_a_zone(
    redis_server: RedisServer, store: Store, write: Callable[[Store], None]
) -> None:
    with committing(redis_server.address):
        assert joins(store, 1)
    write(store)
    assert zones.change(store, "zone-blue", ZonePatch(cidr=["10.20.0.0/16"]), None)[0]
    assert store.load("zone-blue").zone.pools[0] == "10.20.0.0/16"


@pytest.mark.parametrize("entry", ["18446744073709551615-18446744073709551615", "9999999999999999999-1"])
def test_a_log_that_takes_no_entry_any_more_stops_its_zone_alone_until_it_is_removed(
    redis_server: RedisServer, store: Store, entry: str
) -> None:
    with committing(redis_server.address) as committer:
        assert joins(store, 1)
        store.redis.xadd(KEYS.events, {"o": "[]"}, id=entry)
        client_of(store, "zone-blue").submit(join("zone-blue", 2))
        until(lambda: f"DEL {KEYS.events}" in trouble(committer))
        assert joins(store, 1, "zone-red")
        store.redis.delete(KEYS.events)
        assert joins(store, 3)


def trouble(committer: Committer) -> str:
    return committer.health.broken_zones.get("zone-blue", "")


@pytest.mark.parametrize(
    ("field", "spelling"),
    [
        ("rev", "00{}"),
        ("rev", "{} "),
        ("rev", "-5"),
        ("rev", "garbage"),
        ("epoch", "1e999"),
        ("epoch", "+{}"),
    ],
)
def test_a_position_that_is_none_stops_its_zone_alone_until_it_is_removed(
    redis_server: RedisServer, store: Store, tmp_path: Path, field: str, spelling: str
) -> None:
    """Scripts compare texts: a number in another notation would be a conflict each time."""
    with committing(redis_server.address, state_dir=tmp_path) as committer:
        assert joins(store, 1)
        until(lambda: list(tmp_path.glob("copies/*/zone-blue.json")))
        before = store.load("zone-blue").leases[key_of(1)].addresses
        store.redis.hset(KEYS.meta, field, spelling.format(store.redis.hget(KEYS.meta, field)))
        client_of(store, "zone-blue").submit(join("zone-blue", 2))
        until(lambda: "not parse" in trouble(committer))
        assert joins(store, 1, "zone-red")
        store.redis.delete(KEYS.meta)
        until(lambda: not trouble(committer))
        assert joins(store, 3)
        assert store.load("zone-blue").leases[key_of(1)].addresses == before


def test_a_record_of_a_revision_that_never_was_is_mended_by_its_node(
    redis_server: RedisServer, store: Store
) -> None:
    """Readers ignore records older than theirs, and so would ignore all later ones."""
    with committing(redis_server.address):
        assert joins(store, 1)
    record = json.loads(store.redis.hget(KEYS.peers, key_of(1)))
    store.redis.hset(KEYS.peers, key_of(1), json.dumps({**record, "r": 2**53 - 1}))
    with committing(redis_server.address):
        assert joins(store, 2)
        assert joins(store, 1)
    zone = store.load("zone-blue")
    assert zone.peers[key_of(1)].rev <= zone.rev < 100
    assert list(zone.peers[key_of(1)].addresses) == record["a"]


@pytest.mark.parametrize("mark", ["garbage", "G" * 12, "ABCDEF012345", "0" * 64, ""])
def test_a_mark_that_is_none_counts_as_unknown(redis_server: RedisServer, store: Store, mark: str) -> None:
    """A supervisor with the former mark would otherwise have conflicts for ever, in all its zones."""
    with committing(redis_server.address):
        assert joins(store, 1)
        store.redis.hset(KEYS.meta, "mark", mark)
        assert joins(store, 2)
        assert joins(store, 1, "zone-red")
