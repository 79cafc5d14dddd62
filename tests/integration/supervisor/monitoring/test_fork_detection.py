# SPDX-License-Identifier: GPL-3.0-or-later
"""How a supervisor distinguishes commits of others from a Redis that was put back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from jaywalk.zone.events import Change, Event
from jaywalk.zone.redis_keys import ZONES, ZoneKeys
from jaywalk_supervisor.monitoring.fork_detection import Heads, RedisRolledBack
from jaywalk_supervisor.store.store import Store
from tests.redis_server import RedisServer
from tests.supervisor_support import BLUE, RED, client_of, committing, join, key_of, until

KEYS = ZoneKeys("zone-blue")
ALL = (KEYS.meta, KEYS.peers, KEYS.leases, KEYS.events)

Commit = Callable[[int], None]


@pytest.fixture
def commit(redis_server: RedisServer, store: Store) -> Iterator[Commit]:
    """Commits joins of the numbered nodes through a supervisor."""
    with committing(redis_server.address):
        yield lambda number: joined(store, number)


def joined(store: Store, number: int) -> None:
    assert client_of(store, "zone-blue").ask(join("zone-blue", number), 20).ok


def copied(server: RedisServer, *names: str) -> Callable[[], None]:
    """Copies keys; returns a function that restores all of them at once."""
    client: Any = server.client()
    for name in names:
        assert client.copy(name, f"copy of {name}", replace=True)

    def put_back() -> None:
        with client.pipeline(transaction=True) as pipe:
            for name in names:
                pipe.copy(f"copy of {name}", name, replace=True)
            pipe.execute()

    return put_back


def epochs(store: Store) -> list[Event]:
    """Returns the entries of the log that begin an epoch."""
    events = [Event.from_entry(*entry) for entry in store.redis.xrange(KEYS.events)]
    return [event for event in events if event.previous_epoch is not None]


def test_each_commit_names_the_one_before(redis_server: RedisServer, store: Store, commit: Commit) -> None:
    for number in range(3):
        commit(number)
    redis_server.restart()
    store = Store.open(redis_server.address, "test")
    until(lambda: len(epochs(store)) == 1)
    joined(store, 3)
    events = [Event.from_entry(*entry) for entry in store.redis.xrange(KEYS.events)]
    assert all(event.mark and event.previous_mark for event in events)
    assert [event.previous_mark for event in events[1:]] == [event.mark for event in events[:-1]]
    assert len({event.mark for event in events}) == len(events) == 5
    assert store.head("zone-blue").mark == events[-1].mark
    ended = events[2]
    assert store.redis.hget(KEYS.meta, "marks") == f"{ended.epoch}-{ended.mark}"


def test_what_others_commit_is_no_fork(store: Store, commit: Commit) -> None:
    heads = Heads()
    heads.check(store, "zone-blue")
    for number in range(3):
        commit(number)
        assert heads.changed(store, ["zone-blue"]) == ["zone-blue"]
        heads.check(store, "zone-blue")
        assert heads.changed(store, ["zone-blue"]) == []
    commit(3)
    commit(4)
    store.redis.xtrim(KEYS.events, maxlen=1, approximate=False)
    heads.check(store, "zone-blue")
    assert heads.is_settled(store, "zone-blue")
    assert not epochs(store)


def test_commits_of_an_older_version_have_no_marks_and_are_no_fork(store: Store) -> None:
    store.create(BLUE)
    heads = Heads()
    heads.check(store, "zone-blue")
    head = store.head("zone-blue")
    for rev in (1, 2):
        store.redis.xadd(KEYS.events, {"o": "[]"}, id=f"{head.epoch}-{rev}")
        store.redis.hset(KEYS.meta, "rev", rev)
        heads.check(store, "zone-blue")
    store.redis.hdel(KEYS.meta, "mark")
    heads.check(store, "zone-blue")


def test_a_zone_that_was_made_anew_is_no_fork(store: Store) -> None:
    heads = Heads()
    store.create(BLUE)
    heads.check(store, "zone-blue")
    store.redis.delete(*ALL)
    store.create(BLUE)
    heads.check(store, "zone-blue")


@pytest.mark.parametrize("later", [0, 1, 2, 5])
def test_a_redis_that_was_put_back_and_counted_on_is_noticed(
    redis_server: RedisServer, store: Store, later: int
) -> None:
    """A supervisor that knows the later state notices it only after others have committed."""
    heads = Heads()
    with committing(redis_server.address, (BLUE,)):
        joined(store, 1)
        put_back = copied(redis_server, *ALL)
        joined(store, 2)
        joined(store, 3)
        heads.check(store, "zone-blue")
    known = store.head("zone-blue")
    put_back()
    with committing(redis_server.address, (BLUE,)):
        for number in range(later):
            joined(store, 10 + number)
    with pytest.raises(RedisRolledBack, match=f"was at {known.epoch}-{known.rev}"):
        heads.check(store, "zone-blue")
    while not heads.is_settled(store, "zone-blue"):
        pass
    assert store.head("zone-blue").epoch > known.epoch
    heads.check(store, "zone-blue")
    assert len(epochs(store)) == 1
    assert not store.bump("zone-blue", over=known.epoch), (
        "another supervisor that knows it opens no second one"
    )


def test_a_supervisor_that_serves_notices_before_it_commits(
    redis_server: RedisServer, store: Store, commit: Commit, caplog: pytest.LogCaptureFixture
) -> None:
    commit(1)
    put_back = copied(redis_server, *ALL)
    commit(2)
    commit(3)
    known = store.head("zone-blue")
    put_back()
    commit(4)
    zone = store.load("zone-blue")
    assert zone.epoch > known.epoch
    assert zone.peers.keys() == {key_of(1), key_of(4)}
    assert f"zone zone-blue was at {known} and came back at " in caplog.text


def test_a_commit_on_another_history_of_equal_length_is_refused(
    redis_server: RedisServer, store: Store
) -> None:
    with committing(redis_server.address, (BLUE,)):
        joined(store, 1)
        put_back = copied(redis_server, *ALL)
        joined(store, 2)
    state = store.load("zone-blue")
    put_back()
    with committing(redis_server.address, (BLUE,)):
        joined(store, 3)
    assert store.head("zone-blue").position == state.head.position
    assert store.commit(state, [Change("-", key_of(1))], ()) == "CONFLICT"
    assert set(store.catch_up(state).peers) == {key_of(1), key_of(3)}


def test_a_zone_whose_keys_were_gone_and_come_back_one_by_one_is_served_once_all_are_there(
    redis_server: RedisServer, store: Store, commit: Commit
) -> None:
    for number in range(3):
        commit(number)
    names = [*ALL, ZONES]
    copied(redis_server, *names)
    commit(3)
    known = store.head("zone-blue")
    store.redis.srem(ZONES, "zone-blue")
    store.redis.delete(*ALL)
    until(lambda: store.redis.sismember(ZONES, "zone-blue"), "the default zone is made anew")
    for name in names:
        store.redis.copy(f"copy of {name}", name, replace=True)
    until(lambda: store.head("zone-blue").epoch > known.epoch)
    commit(4)
    zone = store.load("zone-blue")
    assert zone.peers.keys() == {key_of(number) for number in (0, 1, 2, 4)}
    held = [address for lease in zone.leases.values() for address in lease.addresses]
    assert len(held) == len(set(held))


@pytest.mark.parametrize("serving", [True, False])
@pytest.mark.parametrize("names", [(KEYS.meta,), (KEYS.meta, KEYS.events)])
def test_meta_data_that_are_older_than_the_rest_give_no_revision_twice(
    redis_server: RedisServer, store: Store, names: tuple[str, ...], serving: bool
) -> None:
    """Readers ignore a record older than theirs, and Redis accepts no entry older than its log."""
    with committing(redis_server.address):
        joined(store, 1)
        put_back = copied(redis_server, *names)
        joined(store, 2)
        joined(store, 3)
        known = store.head("zone-blue")
        if serving:
            put_back()
            until(lambda: store.head("zone-blue").epoch > known.epoch)
            joined(store, 4)
    if not serving:
        put_back()
        with committing(redis_server.address):
            joined(store, 4)
    zone = store.load("zone-blue")
    assert zone.epoch > known.epoch
    assert zone.peers.keys() == {key_of(number) for number in (1, 2, 3, 4)}
    assert zone.peers[key_of(4)].rev == zone.rev > max(zone.peers[key_of(n)].rev for n in (1, 2, 3))


def test_meta_data_that_do_not_parse_keep_no_other_zone_waiting(
    redis_server: RedisServer, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    with committing(redis_server.address, (BLUE, RED)) as committer:
        store.redis.hset(KEYS.meta, "epoch", "garbage")
        until(lambda: "zone-blue" in committer.health.broken_zones)
        assert client_of(store, "zone-red").ask(join("zone-red", 1), 20).ok
