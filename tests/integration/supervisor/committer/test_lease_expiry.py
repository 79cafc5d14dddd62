# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of leases of nodes that left: which ones, when, and without delaying joins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from jaywalk.core.errors import InvalidValue
from jaywalk.zone.codec import compact
from jaywalk.zone.models import Lease, Peer, Zone, reservation_key
from jaywalk.zone.options import FORGET_AFTER_SECONDS, NEVER
from jaywalk.zone.patch import ZonePatch
from jaywalk.zone.policy import Policy
from jaywalk.zone.redis_keys import ZoneKeys
from jaywalk.zone.requests import Request
from jaywalk_supervisor.admin import zones
from jaywalk_supervisor.committer import lease_expiry
from jaywalk_supervisor.committer.lease_expiry import Schedule, due
from jaywalk_supervisor.state.zone_state import ZoneState
from jaywalk_supervisor.store.store import Store
from tests.redis_server import RedisServer
from tests.supervisor_support import BLUE, Command, client_of, committing, join, key_of, until

NOW = 1_000_000_000.0
KEYS = ZoneKeys("zone-blue")


def zone_of(**policy: Any) -> Zone:
    words: dict[str, Any] = {"takeover": "always", "quarantine": 60, **policy}
    return Zone.validated("zone-blue", ["10.20.0.0/16"], "", Policy.parse(**words))


def left(number: int, ago: float, **fields: Any) -> Lease:
    lease = Lease(key_of(number), f"node{number}", (f"10.20.{number // 250}.{1 + number % 250}",))
    return replace(lease, released=NOW - ago, **fields)


def state_of(leases: Sequence[Lease], **policy: Any) -> ZoneState:
    state = ZoneState(zone_of(**policy), 1000, 0)
    for lease in leases:
        state.put(lease.key, None, lease)
    return state


def ended(state: ZoneState, now: float = NOW) -> set[str]:
    return {change.key for change in due(state, now)}


def test_a_lease_ends_a_month_after_its_node_left_unless_somebody_says_otherwise() -> None:
    leases = [left(1, FORGET_AFTER_SECONDS - 1), left(2, FORGET_AFTER_SECONDS + 1), left(3, 3601)]
    assert ended(state_of(leases)) == {key_of(2)}
    assert ended(state_of(leases, forget_after=3600)) == {key_of(1), key_of(2), key_of(3)}
    assert ended(state_of(leases, forget_after=NEVER)) == set()
    assert FORGET_AFTER_SECONDS == 30 * 86_400


def test_no_lease_ends_within_its_quarantine() -> None:
    leases = [left(1, 50), left(2, 70)]
    assert ended(state_of(leases, forget_after=0)) == {key_of(2)}


def test_reservations_imported_addresses_and_nodes_in_the_mesh_stay() -> None:
    imported = Lease(reservation_key("imported-1"), "imported-1", ("10.20.0.9",), released=1.0)
    reserved = Lease(reservation_key("db1"), "db1", ("10.20.0.8",), released=0, host="db1")
    active = Lease(key_of(4), "node4", ("10.20.0.7",))
    assert ended(state_of([imported, reserved, active, left(1, 1e8)], forget_after=0)) == {key_of(1)}


def test_a_node_that_came_back_keeps_its_lease() -> None:
    state = state_of([left(1, 1e8)], forget_after=0)
    state.put(key_of(1), None, replace(left(1, 1e8), released=None))
    assert not ended(state)
    state.put(key_of(1), None, left(1, 30))
    assert not ended(state), "its time begins anew"


def test_a_clock_that_jumped_ahead_ends_no_lease() -> None:
    state = state_of([left(1, 10)], forget_after=3600)
    state.restart_listening(NOW + 86_400, 86_400.0)
    assert not ended(state, NOW + 86_400)
    assert ended(state, NOW + 2 * 86_400)


def test_leases_end_in_batches_and_the_more_agents_there_are_the_more_seldom() -> None:
    state = state_of([left(number, 1e8) for number in range(600)], forget_after=0)
    assert len(due(state, NOW)) == lease_expiry.BATCH
    schedule = Schedule()
    assert schedule.ready(["zone-blue"], 0.0) == ["zone-blue"]
    schedule.done(state, lease_expiry.BATCH, 0.0)
    assert schedule.ready(["zone-blue"], 0.0) == ["zone-blue"]
    schedule.done(state, 88, 1.0)
    assert schedule.ready(["zone-blue"], 60.0) == []
    peer = Peer(key_of(1), "node1", ("10.20.0.1",))
    state.peers = {str(number): peer for number in range(10_000)}
    schedule.done(state, lease_expiry.BATCH, 100.0)
    assert schedule.ready(["zone-blue", "zone-red"], 199.0) == ["zone-red"]
    assert schedule.is_ready("zone-blue", 200.0)


@pytest.mark.parametrize("word", ["soon", "-1", "", True, 10**9])
def test_a_time_that_is_none_is_an_error(word: object) -> None:
    with pytest.raises(InvalidValue, match="never"):
        Policy.parse(forget_after=word)


def test_a_zone_of_before_there_was_such_a_policy_has_the_default() -> None:
    old = Policy.from_wire('{"takeover":"stale","quarantine":60,"stale_after":90}')
    assert old.forget_after == FORGET_AFTER_SECONDS
    for value in (0, 60, NEVER):
        policy = Policy.parse(takeover="stale", quarantine=60, stale_after=90, forget_after=value)
        assert Policy.from_wire(policy.to_wire()) == policy


def test_commands_set_and_show_it(command: Command) -> None:
    made = command("zone", "add", "zone-a", "--cidr", "10.9.0.0/24", "--forget-after", NEVER)
    assert made["zone"]["policy"]["forget_after"] == NEVER
    assert "zone zone-a forget after never" in made["diff"]["after"]
    assert command("zone", "set", "zone-a", "--forget-after", "86400")["changed"]
    assert command("zone", "show", "zone-a")["policy"]["forget_after"] == 86_400
    assert not command("zone", "set", "zone-a", "--forget-after", "86400")["changed"]


def test_a_supervisor_ends_leases_in_the_background_with_what_was_seen_of_their_nodes(
    redis_server: RedisServer, store: Store
) -> None:
    store.create(replace(BLUE, policy=Policy(quarantine=0, forget_after=3600)))
    now = store.time()
    dead = [replace(left(number, 0), released=now - 7200 - number) for number in range(3, 703)]
    store.redis.hset(KEYS.leases, mapping={lease.key: compact(lease.to_wire()) for lease in dead})
    store.redis.hset(KEYS.last_seen, mapping={lease.key: 1 for lease in dead})
    before = store.load("zone-blue")
    with committing(redis_server.address):
        client = client_of(store, "zone-blue")
        assert client.ask(join("zone-blue", 1), 20).ok
        assert client.ask(join("zone-blue", 2), 20).ok
        assert client.ask(Request.validated("leave", "zone-blue", key_of(2)), 20).ok
        until(lambda: store.redis.hlen(KEYS.leases) == 2)
        assert set(store.redis.hkeys(KEYS.leases)) == {key_of(1), key_of(2)}
        assert set(store.redis.hkeys(KEYS.last_seen)) <= {key_of(1), key_of(2)}
        followed, loaded = store.catch_up(before), store.load("zone-blue")
        assert followed.leases == loaded.leases, "other supervisors follow"
        assert client.ask(join("zone-blue", 5), 20).addresses[0] == "10.20.0.3"


def test_a_policy_that_changes_while_nobody_asks_anything_is_followed(
    redis_server: RedisServer, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_expiry, "CHECK_SECONDS", 0.5)
    store.create(replace(BLUE, policy=Policy(quarantine=0, forget_after=None)))
    lease = replace(left(1, 0), released=store.time() - 7200)
    store.redis.hset(KEYS.leases, lease.key, compact(lease.to_wire()))
    with committing(redis_server.address) as committer:
        until(lambda: "zone-blue" in committer.health.led)
        zones.change(store, "zone-blue", ZonePatch(forget_after=3600))
        until(lambda: store.redis.hlen(KEYS.leases) == 0)
