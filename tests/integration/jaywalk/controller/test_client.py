# SPDX-License-Identifier: GPL-3.0-or-later
"""A zone's client against a real Redis: what it reads and asks, and every way in which it can be behind."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest
import redis

from jaywalk.controller import client as zone_client
from jaywalk.controller.client import ZoneClient
from jaywalk.controller.connection import connect
from jaywalk.core.errors import ControllerDenied, ControllerUnreachable, InvalidValue, JaywalkError, NoAnswer
from jaywalk.zone.events import Change, Gap
from jaywalk.zone.models import Peer, Zone
from jaywalk.zone.redis_keys import ZoneKeys
from jaywalk.zone.reply_streams import ReplyTo
from jaywalk.zone.requests import Reply, Request
from tests import strategies as mesh
from tests.redis_server import RedisServer
from tests.replies import write_reply

ZONE = Zone.validated("zone-blue", ["10.20.0.0/20"], "Tenancy Zone Blue")
KEYS = ZoneKeys(ZONE.name)


class Commits:
    """Writes a zone as a supervisor's commit does: peers, event and meta at once."""

    def __init__(self, server: RedisServer) -> None:
        self.redis = server.client()
        self.epoch, self.rev = 1, 0
        self._write([])

    def join(self, *numbers: int) -> None:
        self.rev += 1
        self._write([Change("+", peer(n).key, {**peer(n).to_wire(), "r": self.rev}) for n in numbers])

    def leave(self, number: int) -> None:
        self.rev += 1
        self._write([Change("-", mesh.key(number))])

    def bump(self, lost: int = 0) -> None:
        """A new epoch as after a restart of Redis, which lost the last ``lost`` revisions."""
        for rev in range(self.rev - lost + 1, self.rev + 1):
            self.redis.xdel(KEYS.events, f"{self.epoch}-{rev}")
        self.rev += 1 - lost
        self.redis.xadd(KEYS.events, {"prev": self.epoch}, id=f"{self.epoch + 1}-{self.rev}")
        self.epoch += 1
        self.redis.hset(KEYS.meta, mapping={"epoch": self.epoch, "rev": self.rev})

    def answer(self, nonce: str, reply: Reply) -> None:
        write_reply(self.redis, KEYS, nonce, reply.to_wire())

    def _write(self, changes: list[Change]) -> None:
        pipe = self.redis.pipeline()
        meta: dict[Any, Any] = {**ZONE.to_wire(), "epoch": self.epoch, "rev": self.rev, "wait_ms": 150}
        pipe.hset(KEYS.meta, mapping=meta)
        for change in changes:
            if change.sign == "+":
                pipe.hset(KEYS.peers, change.key, json.dumps(change.record))
            else:
                pipe.hdel(KEYS.peers, change.key)
        if self.rev:
            wire = f"[{','.join(change.to_wire() for change in changes)}]"
            pipe.xadd(KEYS.events, {"o": wire, "w": 150}, id=f"{self.epoch}-{self.rev}")
        pipe.execute()


def peer(number: int) -> Peer:
    return Peer(mesh.key(number), f"node{number}", (f"10.20.{number // 250}.{number % 250 + 1}",))


@pytest.fixture
def commits(redis_server: RedisServer) -> Commits:
    return Commits(redis_server)


@pytest.fixture
def zone(redis_server: RedisServer, commits: Commits) -> ZoneClient:
    """An agent's view of the zone."""
    where = redis_server.add_agent(ZONE.name)
    return ZoneClient(connect(where), where, ZONE.name)


def test_agent_reaches_its_own_zone_alone(redis_server: RedisServer, zone: ZoneClient) -> None:
    with pytest.raises(ControllerDenied, match="agent-zone-blue"):
        ZoneClient(zone.client, zone.where, "zone-red").snapshot()
    with pytest.raises(ControllerDenied):
        zone.submit(Request.validated("join", "zone-blue", mesh.key(1)), to=KEYS.operator_inbox)


def test_unknown_zone_is_said_with_the_remedy(redis_server: RedisServer) -> None:
    client = ZoneClient(connect(redis_server.address), redis_server.address, "zone-green")
    with pytest.raises(InvalidValue, match=r"'zone-green' is unknown .*jaywalk-supervisor zone add"):
        client.snapshot()


def test_key_of_another_type_is_an_error_of_ours(redis_server: RedisServer) -> None:
    redis_server.client().set(KEYS.meta, "text")
    client = ZoneClient(connect(redis_server.address), redis_server.address, "zone-blue")
    with pytest.raises(ControllerDenied, match="WRONGTYPE"):
        client.snapshot()


def test_snapshot_is_the_whole_zone_and_the_log_goes_on_from_it(commits: Commits, zone: ZoneClient) -> None:
    commits.join(*range(1200))  # more than a page
    commits.leave(3)
    view = zone.snapshot()
    assert len(view.peers) == 1199
    assert (view.stream_id, view.wait_ms, view.zone) == ("1-2", 150, ZONE)
    commits.join(3)
    commits.leave(4)
    assert zone.read(view) == ({mesh.key(3), mesh.key(4)}, None)
    assert view.peers == zone.snapshot().peers
    assert zone.read(view) == (set(), None)


def test_snapshot_amid_commits_is_of_one_moment(
    commits: Commits, zone: ZoneClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commits fall between the reading of the position and of the peers."""
    commits.join(1)
    real = zone.client.hscan

    def slow(*words: Any, **more: Any) -> object:
        commits.join(2)
        commits.leave(2)
        commits.join(5)
        return real(*words, **more)

    monkeypatch.setattr(zone.client, "hscan", slow)
    view = zone.snapshot()
    assert view.stream_id == "1-4"
    assert set(view.peers) == {mesh.key(1), mesh.key(5)}


def test_reader_that_waits_is_woken_by_the_commit(commits: Commits, zone: ZoneClient) -> None:
    view = zone.snapshot()
    timer = threading.Timer(0.2, commits.join, [7])
    timer.start()  # one that is not woken comes back with nothing
    assert zone.read(view, block=30.0)[0] == {mesh.key(7)}
    timer.join()


def test_trimmed_log_is_a_gap_and_a_snapshot_closes_it(commits: Commits, zone: ZoneClient) -> None:
    view = zone.snapshot()
    for number in range(10):
        commits.join(number)
    commits.redis.xtrim(KEYS.events, maxlen=3, approximate=False)
    with pytest.raises(Gap, match=r"stands at 1-0 and the log at 1-8"):
        zone.read(view)
    view = zone.snapshot()
    assert len(view.peers) == 10
    commits.join(10)
    assert zone.read(view)[0] == {mesh.key(10)}


def test_garbage_in_the_log_is_a_gap_and_garbage_in_a_record_is_left_out(
    commits: Commits, zone: ZoneClient
) -> None:
    view = zone.snapshot()
    commits.redis.hset(KEYS.peers, mapping={mesh.key(1): "{", "no key": "{}", mesh.key(2): '"\\ud83d"'})
    commits.redis.xadd(KEYS.events, {"o": "[[["}, id="1-1")
    with pytest.raises(Gap):
        zone.read(view)
    commits.rev = 1
    commits.join(3)
    view = zone.snapshot()
    assert set(view.peers) == {mesh.key(3)}
    assert len(view.rejected) == 3


def test_new_epoch_is_followed_or_a_gap(commits: Commits, zone: ZoneClient) -> None:
    commits.join(1)
    view, behind = zone.snapshot(), zone.snapshot()
    behind.rev -= 1
    behind.epoch -= 1
    commits.redis.xadd(KEYS.events, {"prev": 1}, id="2-2")
    assert zone.read(view) == (set(), None)
    assert view.stream_id == "2-2"
    with pytest.raises(Gap):
        zone.read(behind)


def test_record_that_claims_a_far_revision_does_not_hold_the_reader_for_ever(
    commits: Commits, zone: ZoneClient
) -> None:
    commits.join(1)
    commits.redis.hset(KEYS.peers, mesh.key(1), json.dumps({**peer(1).to_wire(), "r": 2**52}))
    assert zone.snapshot().stream_id == "1-1"


def test_request_is_repeated_until_somebody_answers(
    commits: Commits, zone: ZoneClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zone_client, "FIRST_REPEAT_SECONDS", 0.1)
    request = Request.validated("join", "zone-blue", mesh.key(1), "node1")
    expected = Reply(True, state="active", name="node1", addresses=("10.20.0.1",), changed=True)

    def late_supervisor() -> None:
        seen: list[str] = []
        while len(seen) < 3:
            taken = cast("list[str]", commits.redis.blpop([KEYS.inbox], timeout=10))
            seen.append(taken[1])
        assert len(set(seen)) == 1
        assert json.loads(seen[0]) | {"expires": 0} == json.loads(request.to_wire()) | {"expires": 0}
        commits.answer(request.nonce, expected)

    supervisor = threading.Thread(target=late_supervisor)
    supervisor.start()
    assert zone.ask(request, timeout=20) == expected
    supervisor.join()


def test_no_answer_is_said_with_the_zone_and_the_remedy(commits: Commits, zone: ZoneClient) -> None:
    request = Request.validated("join", "zone-blue", mesh.key(1), "node1")
    words = r"zone 'zone-blue' within 0.2 seconds, and it will not .* any more: check that jaywalk-supervisor"
    with pytest.raises(NoAnswer, match=words):
        zone.ask(request, timeout=0.2)
    assert commits.redis.llen(KEYS.inbox) == 1


@pytest.mark.parametrize(("op", "expires"), [("join", True), ("leave", False), ("check", False)])
def test_what_may_harm_others_later_says_when_its_sender_gives_up(
    commits: Commits, zone: ZoneClient, op: str, expires: bool
) -> None:
    """By the controller's clock, and soon enough for the answer to come in time."""
    before = zone.now()
    with pytest.raises(NoAnswer):
        zone.ask(Request.validated(op, "zone-blue", mesh.key(1)), timeout=0.2)
    after = zone.now()
    [text] = cast("list[str]", commits.redis.lrange(KEYS.inbox, 0, -1))
    sent = Request.from_wire(text, "zone-blue", (op,))
    assert before is not None and after is not None
    assert (before < sent.expires / 1000 < after) if expires else not sent.expires


def test_who_may_not_ask_for_the_time_is_served_as_ever(
    redis_server: RedisServer, commits: Commits, zone: ZoneClient
) -> None:
    """As the agents of a zone whose user a supervisor of an older version made."""
    commits.redis.acl_setuser(zone.where.user, enabled=True, commands=["-time"])
    with pytest.raises(NoAnswer):
        zone.ask(Request.validated("join", "zone-blue", mesh.key(1)), timeout=0.2)
    [text] = cast("list[str]", commits.redis.lrange(KEYS.inbox, 0, -1))
    assert not Request.from_wire(text, "zone-blue", ("join",)).expires


def test_answer_comes_beside_events_and_garbage_for_an_answer_is_an_error(
    commits: Commits, zone: ZoneClient
) -> None:
    view = zone.snapshot()
    request = Request.validated("join", "zone-blue", mesh.key(1), "node1")
    refused = Reply.refused("pool_full", "no address left")
    commits.join(1)
    commits.answer(request.nonce, refused)
    assert zone.read(view, request.nonce) == ({mesh.key(1)}, refused)
    commits.join(2)
    write_reply(commits.redis, KEYS, request.nonce, "}")
    with pytest.raises(InvalidValue):
        zone.read(view, request.nonce)
    assert zone.read(view)[0] == {mesh.key(2)}  # the event is not lost with it


def test_a_reader_waits_through_answers_to_others_until_its_own_is_there(
    commits: Commits, zone: ZoneClient
) -> None:
    request = Request.validated("join", "zone-blue", mesh.key(1), "node1")
    stream, _field = ReplyTo(request.nonce).stream_and_field(KEYS)
    view, own = zone.snapshot(), Reply.refused("pool_full", "no address left")
    commits.redis.xadd(stream, {"00": "to another"})
    reads = 0

    def answer_soon() -> None:
        for _ in range(3):
            time.sleep(0.1)
            commits.redis.xadd(stream, {"00": "to another"})
        commits.answer(request.nonce, own)

    with ThreadPoolExecutor() as threads:
        answering = threads.submit(answer_soon)
        reply = None
        while reply is None:
            _changed, reply = zone.read(view, request.nonce, block=2.0)
            reads += 1
        answering.result()
    assert reply == own
    assert reads <= 5  # one for each entry: no entry is read twice


def test_the_answer_of_an_older_supervisor_is_found(commits: Commits, zone: ZoneClient) -> None:
    request, own = Request.validated("join", "zone-blue", mesh.key(1), "node1"), Reply.refused("full", "full")
    write_reply(commits.redis, KEYS, request.nonce, own.to_wire(), shared=False)
    assert zone.read(zone.snapshot(), request.nonce)[1] == own
    assert zone.ask(request, timeout=5) == own


def test_an_answer_in_a_stream_whose_ids_began_anew_is_found_once_the_request_is_repeated(
    commits: Commits, zone: ZoneClient
) -> None:
    request, own = Request.validated("join", "zone-blue", mesh.key(1), "node1"), Reply.refused("full", "full")
    stream, field = ReplyTo(request.nonce).stream_and_field(KEYS)
    view = zone.snapshot()
    commits.redis.xadd(stream, {"00": "to another"}, id="99-0")
    zone.submit(request)
    assert zone.read(view, request.nonce)[1] is None
    commits.redis.delete(stream)
    commits.redis.xadd(stream, {field: own.to_wire()}, id="98-0")
    assert zone.read(view, request.nonce)[1] is None
    zone.submit(request)
    assert zone.read(view, request.nonce)[1] == own


def test_restart_while_a_reader_waits_is_noticed_and_survived(
    redis_server: RedisServer, commits: Commits, zone: ZoneClient
) -> None:
    commits.join(1)
    view = zone.snapshot()
    timer = threading.Timer(0.3, redis_server.crash)
    timer.start()
    with pytest.raises(ControllerUnreachable) as caught:
        zone.read(view, block=4.0)
    timer.join()
    assert zone.where.password not in str(caught.value)
    with pytest.raises(ControllerUnreachable, match="Connection refused"):
        zone.snapshot()
    redis_server.start()
    assert zone.log_continues_from(view)
    commits.join(2)
    assert zone.read(view)[0] == {mesh.key(2)}


def test_log_goes_on_only_while_it_holds_what_a_reader_lacks(commits: Commits, zone: ZoneClient) -> None:
    commits.join(1)
    view = zone.snapshot()
    commits.join(2)
    commits.join(3)
    assert zone.log_continues_from(view)
    commits.redis.xtrim(KEYS.events, maxlen=1, approximate=False)
    assert not zone.log_continues_from(view)
    assert zone.log_continues_from(zone.snapshot())


@pytest.mark.parametrize("later", [0, 1, 2])
def test_log_goes_on_over_a_restart_that_lost_nothing(commits: Commits, zone: ZoneClient, later: int) -> None:
    commits.join(1)
    behind = zone.snapshot()
    commits.join(2)
    level = zone.snapshot()
    commits.bump()
    for number in range(later):
        commits.join(3 + number)
        commits.bump()
    for view in (behind, level):
        assert zone.log_continues_from(view)
        zone.read(view)
        assert (view.stream_id, view.peers) == (f"{commits.epoch}-{commits.rev}", zone.snapshot().peers)


@pytest.mark.parametrize(("lost", "later"), [(1, 0), (1, 1), (1, 5), (2, 0), (2, 1), (2, 5)])
def test_who_saw_what_a_restart_lost_is_told_that_the_log_does_not_go_on(
    commits: Commits, zone: ZoneClient, lost: int, later: int
) -> None:
    commits.join(1)
    commits.join(2)
    safe = zone.snapshot()
    commits.join(3)
    commits.join(4)
    ahead = zone.snapshot()
    commits.bump(lost)
    for number in range(later):
        commits.join(5 + number)
    assert not zone.log_continues_from(ahead)
    assert zone.log_continues_from(safe)


def test_no_error_ever_holds_a_password(redis_server: RedisServer, commits: Commits) -> None:
    """Provokes one of each kind and reads all that a log or a traceback would show."""
    good = redis_server.add_agent("zone-blue", "s3cret-of-the-agents")
    wrong = redis_server.address_of(good.user, "wr0ng-password")
    client = ZoneClient(connect(good), good, "zone-blue")
    calls: list[Callable[[], object]] = [
        lambda: connect(wrong),
        lambda: ZoneClient(client.client, good, "zone-red").snapshot(),
        lambda: client.submit(Request.validated("join", "zone-blue", mesh.key(1)), to="elsewhere"),
        lambda: client.ask(Request.validated("join", "zone-blue", mesh.key(1)), timeout=0.05),
    ]
    away: list[Callable[[], object]] = [client.snapshot, lambda: connect(good)]
    for call in calls:
        assert_tells_nothing(call)
    redis_server.stop()
    for call in away:
        assert_tells_nothing(call)


def assert_tells_nothing(call: Callable[[], object]) -> None:
    with pytest.raises(JaywalkError) as caught:
        call()
    told = f"{caught.value}{caught.value!r}{caught.value.__dict__}"
    assert "s3cret" not in told and "wr0ng" not in told
    assert not isinstance(caught.value.__cause__, redis.RedisError)
