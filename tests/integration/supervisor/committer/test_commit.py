# SPDX-License-Identifier: GPL-3.0-or-later
"""Single commits of committers that are not running, so that a test determines their order."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest
import redis

from jaywalk.zone.events import Change
from jaywalk.zone.patch import ZonePatch
from jaywalk.zone.redis_keys import ZoneKeys
from jaywalk.zone.requests import AGENT_OPS, Request
from jaywalk_supervisor.admin import zones
from jaywalk_supervisor.committer.committer import Committer
from jaywalk_supervisor.state.zone_state import ZoneState
from jaywalk_supervisor.store.store import Store
from tests.redis_server import RedisServer
from tests.replies import read_reply
from tests.supervisor_support import BLUE, client_of, join, key_of

KEYS = ZoneKeys("zone-blue")


@pytest.fixture
def committers(redis_server: RedisServer, store: Store) -> tuple[Committer, Committer]:
    """Returns two committers with the zone's current state."""
    store.create(BLUE)
    one, two = (Committer(redis_server.address, "", (), threading.Event()) for _ in range(2))
    for each in (one, two):
        each.zones.states["zone-blue"] = store.load("zone-blue")
    return one, two


def commit(committer: Committer, store: Store, *requests: Request) -> None:
    texts = [request.to_wire() for request in requests]
    entries = [committer.inboxes.decode(each, "zone-blue", AGENT_OPS) for each in texts]
    committer.batches.commit(store, "zone-blue", entries)


def answered(store: Store, request: Request) -> bool:
    return read_reply(store.redis, KEYS, request.nonce) is not None


def test_who_asked_together_is_answered_one_by_one(
    store: Store, committers: tuple[Committer, Committer]
) -> None:
    requests = [join("zone-blue", number) for number in range(3)]
    commit(committers[0], store, *requests)
    assert [answered(store, each) for each in requests] == [True] * 3


def test_what_was_not_committed_is_not_answered(
    store: Store, committers: tuple[Committer, Committer]
) -> None:
    """The loser of the race decides again; its first answer could name another node's address."""
    first, second = committers
    state = second.zones.states["zone-blue"]
    request = join("zone-blue", 2)
    entry = second.inboxes.decode(request.to_wire(), "zone-blue", AGENT_OPS)
    batch = second.batches.decider.batch(state, [entry], second.time.now())
    commit(first, store, join("zone-blue", 1))
    replies = [(entry.reply_to, entry.text_of(reply)) for entry, reply in batch.answers if entry.reply_to]
    assert store.commit(state, batch.changes, replies) == "CONFLICT"
    assert not answered(store, request)
    commit(first, store, request)
    assert store.load("zone-blue").leases[key_of(2)].addresses[0] == "10.20.0.2"


def test_a_redis_that_started_anew_takes_no_commit_before_a_new_epoch(
    store: Store, committers: tuple[Committer, Committer]
) -> None:
    """Redis may have lost revisions that agents know, even if its position is the supervisor's last one."""
    committer = committers[0]
    state = committer.zones.states["zone-blue"]
    entry = committer.inboxes.decode(join("zone-blue", 1).to_wire(), "zone-blue", AGENT_OPS)
    batch = committer.batches.decider.batch(state, [entry], committer.time.now())
    store.redis.hset(KEYS.meta, "run_id", "the-run-before")
    assert store.commit(state, batch.changes, []) == "INCARNATION"
    assert not store.redis.exists(KEYS.events, KEYS.peers, KEYS.leases)


def test_what_changes_nothing_makes_no_event(store: Store, committers: tuple[Committer, Committer]) -> None:
    commit(committers[0], store, join("zone-blue", 1))
    again = join("zone-blue", 1)
    commit(committers[0], store, again)
    assert answered(store, again)
    assert store.redis.xlen(KEYS.events) == 1
    assert store.redis.hget(KEYS.meta, "rev") == "1"


def test_a_node_that_left_is_no_peer_of_who_reads_the_zone_anew(
    store: Store, committers: tuple[Committer, Committer]
) -> None:
    commit(committers[0], store, join("zone-blue", 1), join("zone-blue", 2))
    commit(committers[0], store, Request.validated("leave", "zone-blue", key_of(1)))
    assert set(client_of(store, "zone-blue").snapshot().peers) == {key_of(2)}
    assert set(store.load("zone-blue").peers) == {key_of(2)}


def test_a_lease_is_written_beside_its_peer_and_stays_when_that_leaves(
    store: Store, committers: tuple[Committer, Committer]
) -> None:
    commit(committers[0], store, join("zone-blue", 1), join("zone-blue", 2))
    assert set(store.redis.hkeys(KEYS.leases)) == {key_of(1), key_of(2)}
    commit(committers[0], store, Request.validated("leave", "zone-blue", key_of(1)))
    left = store.load("zone-blue").leases.get(key_of(1))
    assert left is not None and (left.state, left.addresses[0]) == ("released", "10.20.0.1")


def test_a_new_epoch_says_where_the_one_before_ended(
    store: Store, committers: tuple[Committer, Committer]
) -> None:
    commit(committers[0], store, join("zone-blue", 1))
    before = store.load("zone-blue")
    store.redis.hset(KEYS.meta, "run_id", "the-run-before")
    assert store.bump("zone-blue")
    view = client_of(store, "zone-blue").snapshot()
    assert (before.epoch, before.rev) in view.history
    assert view.epoch > before.epoch and view.rev == before.rev + 1


@pytest.mark.parametrize("marked", [True, False])
def test_a_zone_is_changed_only_as_it_was_when_that_was_checked(
    store: Store, committers: tuple[Committer, Committer], marked: bool
) -> None:
    """A node joins between the check of the leases and the change that would exclude it.

    The last commit of an older version has no mark.
    """
    if not marked:
        store.redis.hdel(KEYS.meta, "mark")
    looks: list[int] = []

    class Slow(Store):
        def load(self, name: str, before: ZoneState | None = None) -> ZoneState:
            state = super().load(name, before)
            if not looks:
                commit(committers[0], store, join("zone-blue", 1, request_ip=["10.20.15.1"]))
            looks.append(state.rev)
            return state

    slow = Slow(store.redis, store.where)
    with pytest.raises(zones.Conflict, match=r"10\.20\.15\.1 of node1"):
        zones.change(slow, "zone-blue", ZonePatch(cidr=["10.20.0.0/24"]))
    assert looks == [0, 1]
    assert store.load("zone-blue").zone.pools == BLUE.pools


def test_a_request_that_redis_refuses_harms_only_itself(
    store: Store, committers: tuple[Committer, Committer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other requests are granted one by one, and the address of the refused one stays free."""
    commits = Store.commit

    def refusing(self: Store, state: ZoneState, changes: Sequence[Change], *rest: Any) -> str:
        if any(change.key == key_of(2) for change in changes):
            raise redis.ResponseError("the argument is too large")
        return commits(self, state, changes, *rest)

    monkeypatch.setattr(Store, "commit", refusing)
    requests = [join("zone-blue", number) for number in (1, 2, 3)]
    commit(committers[0], store, *requests)
    assert [answered(store, each) for each in requests] == [True, False, True]
    held = {key: lease.addresses[0] for key, lease in store.load("zone-blue").leases.items()}
    assert held == {key_of(1): "10.20.0.1", key_of(3): "10.20.0.2"}
    assert committers[0].health.drops == {"redis-refused": 1}
