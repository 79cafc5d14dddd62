# SPDX-License-Identifier: GPL-3.0-or-later
"""A follower with a real Redis and a real committer."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import pytest

from jaywalk.controller.address import ControllerAddress
from jaywalk.controller.client import ZoneClient
from jaywalk.controller.connection import connect
from jaywalk.core.errors import ControllerDenied, InvalidValue, RequestRefused
from jaywalk.zone.redis_keys import ZoneKeys
from jaywalk.zone.requests import Reply, Request
from jaywalk.zone.retention import RETAIN_SECONDS
from jaywalk.zone.view import ZoneView
from jaywalk_agent.host.signals import Stopped, StopSignal
from jaywalk_agent.zone import follower as follow
from jaywalk_agent.zone import membership
from jaywalk_agent.zone.follower import Follower, Update
from jaywalk_supervisor.store.store import Store
from tests.agent_support import peer, view_of
from tests.follower_support import Requests, follower_of, is_settled, is_well
from tests.redis_server import RedisServer
from tests.replies import write_reply
from tests.supervisor_support import AGENT_PASSWORD, BLUE, committing, join, key_of, until

KEYS = ZoneKeys("zone-blue")
OWN = key_of(0)


class Backoff:
    """A short pause; records its calls."""

    def __init__(self, seconds: float = 0.02) -> None:
        self.seconds = seconds
        self.calls: list[int] = []

    def compute(self, failures: int) -> float:
        self.calls.append(failures)
        return self.seconds


@pytest.fixture(autouse=True)
def backoffs(monkeypatch: pytest.MonkeyPatch) -> dict[str, Backoff]:
    short = {"RECONNECT": Backoff(), "RESYNC": Backoff()}
    for name, backoff in short.items():
        monkeypatch.setattr(follow, name, backoff)
    return short


@pytest.fixture
def supervisor(redis_server: RedisServer) -> Iterator[Callable[[], None]]:
    """Starts a committer at most once; it ends with the test."""
    with ExitStack() as stack:
        started: list[Any] = []

        def start() -> None:
            if not started:
                started.append(stack.enter_context(committing(redis_server.address)))

        yield start


@dataclass
class Node:
    """A follower, and what a test needs to send it events and replies."""

    server: RedisServer
    stop: StopSignal
    requests: Requests
    follower: Follower
    updates: Iterator[Update]

    def until(self, true: Callable[[Follower], object], most: int = 200) -> list[Update]:
        """Takes updates until ``true`` holds; returns them."""
        taken: list[Update] = []
        while not true(self.follower):
            assert len(taken) < most, "the condition never held"
            taken.append(next(self.updates))
        return taken

    def alive_until(self, true: Callable[[], object]) -> None:
        """As :meth:`until`, for conditions that hold while there is no update."""

        class Reached(Exception):
            pass

        def alive() -> None:
            if true():
                raise Reached

        self.follower.alive = alive
        with pytest.raises(Reached):
            deque(self.updates, maxlen=0)
        self.follower.alive = lambda: None
        self.updates = self.follower.updates()

    def ask(self, request: Request, to: str = "") -> Reply:
        where = self.server.address
        return ZoneClient(connect(where), where, "zone-blue").ask(request, 20, to)


@pytest.fixture
def node(redis_server: RedisServer, stop: StopSignal) -> Iterator[Callable[..., Node]]:
    made: list[Node] = []

    def make(view: ZoneView | None = None, password: str = AGENT_PASSWORD, **options: str) -> Node:
        def where() -> ControllerAddress:
            return replace(redis_server.address_of("agent-zone-blue", password), timeout=25)

        requests = Requests(**options)
        follower = follower_of(where, stop, view, requests)
        made.append(Node(redis_server, stop, requests, follower, follower.updates()))
        return made[-1]

    yield make
    for created in made:
        created.updates.close()  # type: ignore[attr-defined]


@pytest.fixture
def joined(node: Callable[..., Node], supervisor: Callable[[], None]) -> Node:
    supervisor()
    made = node()
    made.until(is_settled)
    return made


def zone_without_supervisor(server: RedisServer) -> Store:
    store = Store.open(server.address, "test")
    store.create(BLUE)
    server.add_agent("zone-blue", AGENT_PASSWORD)
    return store


def commit(joined: Node, number: int) -> None:
    assert joined.ask(join("zone-blue", number)).ok


def test_a_node_joins_and_receives_the_records_of_others_one_by_one(joined: Node) -> None:
    assert joined.follower.membership.error == ""
    commit(joined, 1)
    assert next(joined.updates).changed == {key_of(1)}
    commit(joined, 2)
    assert next(joined.updates).changed == {key_of(2)}
    view = joined.follower.view
    assert view is not None and set(view.peers) == {OWN, key_of(1), key_of(2)}


def test_a_join_waits_for_a_supervisor(
    redis_server: RedisServer, node: Callable[..., Node], supervisor: Callable[[], None]
) -> None:
    zone_without_supervisor(redis_server)
    lonely = node()
    errors = []

    def alive() -> None:
        if "no supervisor of zone zone-blue has answered yet" in lonely.follower.membership.error:
            errors.append(lonely.follower.membership.error)
            supervisor()

    lonely.follower.alive = alive
    lonely.until(is_well)
    assert errors
    assert redis_server.client().llen(KEYS.inbox) == 0


def test_a_first_start_waits_for_a_redis_that_returns_without_its_users(
    redis_server: RedisServer, node: Callable[..., Node], supervisor: Callable[[], None]
) -> None:
    redis_server.stop()
    lonely = node()
    steps = [("refused user", supervisor), ("cannot be reached", redis_server.start)]

    def alive() -> None:
        if steps and steps[-1][0] in lonely.follower.membership.error:
            steps.pop()[1]()

    lonely.follower.alive = alive
    lonely.until(is_well)
    assert not steps


def test_the_first_refusal_ends_it(node: Callable[..., Node], supervisor: Callable[[], None]) -> None:
    supervisor()
    with pytest.raises(RequestRefused, match=r"192\.0\.2\.7 lies outside"):
        node(request_ip="192.0.2.7").until(lambda follower: follower.membership.member)


def test_a_later_refusal_keeps_the_lease(node: Callable[..., Node], joined: Node) -> None:
    view = joined.follower.view
    again = node(view=view, request_ip="192.0.2.7")
    again.until(lambda follower: "the zone refused a request" in follower.membership.error)
    assert again.follower.membership.member
    commit(joined, 1)
    again.until(lambda follower: follower.view and key_of(1) in follower.view.peers)
    assert "192.0.2.7" in again.follower.membership.error


def test_a_refused_request_is_granted_once_the_obstacle_is_gone(
    node: Callable[..., Node], joined: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership, "LONGEST_REPEAT_SECONDS", 0.2)
    reserve = Request.validated("reserve", "zone-blue", key_of(5), request_ip=["10.20.0.50"])
    assert joined.ask(reserve, to=KEYS.operator_inbox).ok
    again = node(view=joined.follower.view, request_ip="10.20.0.50")
    again.until(lambda follower: "10.20.0.50 belongs to" in follower.membership.error)
    joined.ask(Request.validated("release", "zone-blue", key_of(5)), to=KEYS.operator_inbox)
    again.until(is_well)
    assert again.follower.view is not None
    assert "10.20.0.50" in again.follower.view.peers[OWN].addresses


def test_a_member_reports_periodically(joined: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "REPORT_SECONDS", 0.05)
    # Between the event and its reply it may have reported, and waits for the next minute.
    joined.follower._next_report = 0.0
    server = Store.open(joined.server.address, "test")
    server.record_last_seen("zone-blue", {OWN: 1})
    joined.alive_until(lambda: server.last_seen("zone-blue") != {OWN: 1})


def test_a_member_reports_on_each_connection(joined: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "REPORT_SECONDS", 3600)
    monkeypatch.setattr(follow, "TICK_SECONDS", 0.1)  # how soon the test checks again
    reports: list[Request] = []
    check_in = ZoneClient.check_in

    def noted(client: ZoneClient, view: ZoneView, report: Request | None = None) -> None:
        reports.extend([report] if report is not None else [])
        check_in(client, view, report)

    monkeypatch.setattr(ZoneClient, "check_in", noted)
    for connection in (1, 2, 3):
        with joined.server.client() as redis:
            redis.execute_command("CLIENT", "KILL", "USER", "agent-zone-blue")
        joined.alive_until(lambda expected=connection: len(reports) >= expected)
    assert len(reports) == 3


def test_a_gap_is_closed_by_a_snapshot(joined: Node) -> None:
    for number in range(1, 5):
        commit(joined, number)
    joined.server.client().xtrim(KEYS.events, maxlen=1, approximate=False)
    update = next(joined.updates)
    assert update.changed is None
    assert set(update.view.peers) == {key_of(number) for number in range(5)}
    commit(joined, 5)
    assert next(joined.updates).changed == {key_of(5)}


def test_garbage_in_the_log_causes_no_storm_of_snapshots(joined: Node, backoffs: dict[str, Backoff]) -> None:
    view = joined.follower.view
    assert view is not None
    with joined.server.client() as redis:
        redis.xadd(KEYS.events, {"o": "no JSON {"}, id=f"{view.epoch}-{view.rev + 1}")
        joined.until(lambda _: len(backoffs["RESYNC"].calls) == 5)
        redis.hset(KEYS.meta, "rev", view.rev + 1)
    assert backoffs["RESYNC"].calls == [1, 2, 3, 4, 5]
    commit(joined, 1)
    joined.until(lambda follower: follower.view and key_of(1) in follower.view.peers)
    commit(joined, 2)
    joined.until(lambda follower: follower.view and key_of(2) in follower.view.peers)
    assert joined.follower._resyncs == 0


def test_an_invalid_record_affects_no_other(joined: Node) -> None:
    bad = f'[["+","{key_of(1)}",{{"n":"node1","a":["192.0.2.7"],"s":1,"r":9}}],["+","no key",{{}}]]'
    view = joined.follower.view
    assert view is not None
    with joined.server.client() as redis:
        redis.xadd(KEYS.events, {"o": bad}, id=f"{view.epoch}-{view.rev + 1}")
        redis.hset(KEYS.meta, "rev", view.rev + 1)
    commit(joined, 2)
    joined.until(lambda follower: follower.view and key_of(2) in follower.view.peers)
    assert set(joined.follower.view.peers) == {OWN, key_of(2)}  # type: ignore[union-attr]
    assert "192.0.2.7" in " ".join(joined.follower.view.rejected.values())  # type: ignore[union-attr]


def test_a_broken_record_of_this_node_is_no_removal(joined: Node) -> None:
    view = joined.follower.view
    assert view is not None
    with joined.server.client() as redis:
        redis.hset(KEYS.peers, OWN, "{")
        redis.xadd(KEYS.events, {"o": "[[["}, id=f"{view.epoch}-{view.rev + 1}")
        redis.hset(KEYS.meta, "rev", view.rev + 1)
    joined.until(lambda follower: follower.view is not view)
    assert OWN in joined.follower.view.rejected  # type: ignore[union-attr]
    assert joined.follower.membership.member
    assert not joined.follower.membership.removed


def test_other_pools_remove_nobody(joined: Node) -> None:
    view = joined.follower.view
    assert view is not None
    with joined.server.client() as redis:
        redis.hset(KEYS.meta, mapping={"pools": '["10.99.0.0/16"]', "rev": view.rev + 1})
        redis.xadd(KEYS.events, {"o": "[[["}, id=f"{view.epoch}-{view.rev + 1}")
    joined.until(lambda follower: follower.view is not view)
    assert not joined.follower.membership.removed


def test_an_operators_removal_is_not_undone(joined: Node) -> None:
    joined.ask(Request.validated("release", "zone-blue", OWN), to=KEYS.operator_inbox)
    update = next(joined.updates)
    assert OWN in (update.changed or ())
    assert joined.follower.membership.removed
    joined.server.client().execute_command("CLIENT", "KILL", "USER", "agent-zone-blue")
    commit(joined, 1)
    joined.until(lambda follower: follower.view and key_of(1) in follower.view.peers)
    assert "was removed from zone zone-blue" in joined.follower.membership.error
    assert not joined.follower.membership.member


def test_a_removal_that_only_a_snapshot_shows_is_not_undone_either(joined: Node) -> None:
    joined.ask(Request.validated("release", "zone-blue", OWN), to=KEYS.operator_inbox)
    commit(joined, 1)
    joined.server.client().xtrim(KEYS.events, maxlen=1, approximate=False)
    joined.until(lambda follower: follower.view and key_of(1) in follower.view.peers)
    assert joined.follower.membership.removed
    assert not joined.follower.membership.member


@pytest.mark.parametrize("log_goes_on", [True, False])
def test_a_node_that_was_removed_joins_again_when_it_starts(
    joined: Node, node: Callable[..., Node], log_goes_on: bool
) -> None:
    view = joined.follower.view
    assert view is not None
    old = ZoneView(view.zone, view.epoch, view.rev, dict(view.peers))
    joined.ask(Request.validated("release", "zone-blue", OWN), to=KEYS.operator_inbox)
    if not log_goes_on:
        commit(joined, 1)
        joined.server.client().xtrim(KEYS.events, maxlen=1, approximate=False)
    started = node(view=old)
    assert next(started.updates).changed is None
    started.until(lambda follower: not follower.membership.waiting)
    assert started.follower.membership.member
    assert not started.follower.membership.removed


def test_a_node_that_the_zone_lost_joins_again(joined: Node) -> None:
    empty(joined.server)
    with joined.server.client() as redis:
        # All is there again before the node checks: only the log itself shows that it is another one.
        until(lambda: redis.exists(KEYS.meta) and "agent-zone-blue" in redis.acl_users())
    old = joined.follower.view
    joined.until(lambda follower: follower.view is not old and is_well(follower))
    assert not joined.follower.membership.removed


@pytest.mark.parametrize("taken", [False, True])
def test_a_node_that_the_zone_lost_gets_its_address_again_if_it_is_free(
    supervisor: Callable[[], None], node: Callable[..., Node], taken: bool
) -> None:
    supervisor()
    returning = node(request_ip="10.20.0.9")
    returning.until(is_settled)
    returning.requests.configure(request_ip=())
    empty(returning.server)
    with returning.server.client() as redis:
        until(lambda: redis.exists(KEYS.meta) and "agent-zone-blue" in redis.acl_users())
    if taken:
        assert returning.ask(join("zone-blue", 1, request_ip=["10.20.0.9"])).ok
    old = returning.follower.view
    returning.until(lambda follower: follower.view is not old and is_well(follower))
    assert returning.follower.view is not None
    addresses = returning.follower.view.peers[OWN].addresses
    assert addresses == (("10.20.0.1" if taken else "10.20.0.9"), "fd00:20::1" if not taken else "fd00:20::2")


def empty(server: RedisServer) -> None:
    """Restarts Redis without its data."""
    server.stop()
    assert server._folder is not None
    shutil.rmtree(server._folder / "appendonlydir")
    server.start()


def test_two_nodes_that_request_one_name_are_logged(joined: Node, caplog: pytest.LogCaptureFixture) -> None:
    reply = joined.ask(join("zone-blue", 1, name="node0"))
    assert reply.name == "node0-2"
    joined.until(lambda follower: follower.view and key_of(1) in follower.view.peers)
    assert (
        "another node of zone zone-blue asked for the name of this one, node0, and is called node0-2"
        in caplog.text
    )


def test_a_node_with_the_name_of_another_one_gets_a_warning(
    supervisor: Callable[[], None], node: Callable[..., Node], caplog: pytest.LogCaptureFixture
) -> None:
    supervisor()
    second = node()
    second.ask(join("zone-blue", 1, name="node0"))
    second.until(is_settled)
    assert (
        f"the name node0 belongs to {key_of(1)} in zone zone-blue, so this node is called node0-2"
        in caplog.text
    )


def test_peers_that_redis_lost_are_retained_until_they_join_again_or_are_released(
    joined: Node, caplog: pytest.LogCaptureFixture
) -> None:
    for number in (1, 2, 3):
        commit(joined, number)
    joined.ask(Request.validated("release", "zone-blue", key_of(3)), to=KEYS.operator_inbox)
    joined.until(
        lambda follower: (
            follower.view
            and {key_of(1), key_of(2)} < follower.view.peers.keys()
            and key_of(3) not in follower.view.peers
        )
    )
    old = joined.follower.view
    empty(joined.server)
    joined.until(lambda follower: follower.view is not old and is_well(follower))
    view = joined.follower.view
    assert view is not None
    assert view.retained.keys() == {key_of(1), key_of(2)}
    assert view.peers.keys() == {OWN, key_of(1), key_of(2)}
    assert "lost 2 peers of zone zone-blue" in caplog.text
    commit(joined, 1)
    joined.until(lambda follower: follower.view and key_of(1) not in follower.view.retained)
    assert key_of(1) in view.peers
    joined.ask(Request.validated("release", "zone-blue", key_of(2)), to=KEYS.operator_inbox)
    joined.until(lambda follower: follower.view and key_of(2) not in follower.view.peers)


def test_an_operators_release_reaches_a_node_that_was_away_when_redis_was_emptied(
    joined: Node, node: Callable[..., Node]
) -> None:
    for number in (1, 2):
        commit(joined, number)
    joined.until(lambda follower: follower.view and {key_of(1), key_of(2)} < follower.view.peers.keys())
    view = joined.follower.view
    assert view is not None
    old = ZoneView(view.zone, view.epoch, view.rev, dict(view.peers))
    empty(joined.server)
    joined.until(lambda follower: follower.view is not view and is_well(follower))
    joined.ask(Request.validated("release", "zone-blue", key_of(2)), to=KEYS.operator_inbox)
    late = node(view=old)
    late.until(lambda follower: follower.view is not old and not follower.membership.waiting)
    assert late.follower.view is not None
    assert late.follower.view.retained.keys() == {key_of(1)}
    assert key_of(2) not in late.follower.view.peers


def test_peers_that_an_older_copy_lacks_are_retained_and_removed_ones_do_not_return(
    joined: Node,
) -> None:
    commit(joined, 1)
    joined.until(lambda follower: follower.view and key_of(1) in follower.view.peers)
    restore = copied(joined.server)
    commit(joined, 2)
    commit(joined, 3)
    joined.ask(Request.validated("release", "zone-blue", key_of(3)), to=KEYS.operator_inbox)
    joined.until(lambda follower: follower.view and key_of(2) in follower.view.peers)
    joined.until(lambda follower: follower.view and key_of(3) not in follower.view.peers)
    old = joined.follower.view
    restore()
    joined.until(lambda follower: follower.view is not old and is_well(follower))
    view = joined.follower.view
    assert view is not None
    assert view.retained.keys() == {key_of(2)}
    assert view.peers.keys() == {OWN, key_of(1), key_of(2)}


def test_nodes_follow_a_redis_whose_damaged_append_only_file_was_cut_as_documented(joined: Node) -> None:
    server = joined.server
    assert server._folder is not None
    commit(joined, 1)
    (log,) = server._folder.glob("appendonlydir/*.incr.aof")
    damaged = log.stat().st_size
    commit(joined, 2)
    joined.until(lambda follower: follower.view and {key_of(1), key_of(2)} < follower.view.peers.keys())
    old = joined.follower.view
    server.stop()
    data = log.read_bytes()
    log.write_bytes(data[:damaged] + b"\0" * 30 + data[damaged + 30 :])
    with pytest.raises(RuntimeError, match="Bad file format reading the append only file"):
        server.start()
    (manifest,) = server._folder.glob("appendonlydir/*.manifest")
    fix = ["redis-check-aof", "--fix", str(manifest)]
    subprocess.run(fix, input="y\n", text=True, check=True, capture_output=True)
    server.start()
    joined.until(lambda follower: follower.view is not old and follower.membership.member)
    view = joined.follower.view
    assert view is not None
    assert view.peers.keys() == {OWN, key_of(1), key_of(2)}
    assert view.retained.keys() == {key_of(2)}


def test_a_peer_that_redis_lost_is_removed_after_its_retention(
    joined: Node, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    commit(joined, 1)
    joined.until(lambda follower: follower.view and key_of(1) in follower.view.peers)
    old = joined.follower.view
    empty(joined.server)
    joined.until(lambda follower: follower.view is not old and is_well(follower))
    view = joined.follower.view
    assert view is not None
    view.retained[key_of(1)] = view.retained[key_of(1)]._replace(since=time.time() - RETAIN_SECONDS)
    joined.follower._next_tick = 0.0
    joined.until(lambda follower: follower.view and key_of(1) not in follower.view.peers)
    assert "did not join again: node1" in caplog.text


def test_a_node_that_was_removed_while_its_log_was_trimmed_is_not_lost(joined: Node) -> None:
    """Redis has restarted, so that the epoch is another one although nothing was lost."""
    joined.server.client().execute_command("CLIENT", "KILL", "USER", "agent-zone-blue")
    joined.ask(Request.validated("release", "zone-blue", OWN), to=KEYS.operator_inbox)
    joined.server.restart()
    joined.server.client().xtrim(KEYS.events, maxlen=0, approximate=False)
    joined.until(lambda follower: follower.membership.removed)
    assert not joined.follower.membership.member


def copied(server: RedisServer) -> Callable[[], None]:
    """Copies Redis's data; returns a function that restarts Redis with the copy."""
    assert server._folder is not None
    folder, copy = server._folder / "appendonlydir", server._folder / "copy"
    server.stop()
    shutil.copytree(folder, copy)
    server.start()

    def restore() -> None:
        server.stop()
        shutil.rmtree(folder)
        shutil.copytree(copy, folder)
        server.start()

    return restore


def test_a_node_joins_again_after_its_zone_was_emptied_and_created_again(
    joined: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "REPORT_SECONDS", 0.2)
    joined.follower._next_report = 0.0
    view = joined.follower.view
    assert view is not None
    with joined.server.client() as redis:
        redis.flushall()
    joined.until(lambda follower: follower.view is not view and follower.membership.member)
    assert not joined.follower.membership.removed


def test_a_node_follows_its_zone_after_redis_returns(joined: Node, backoffs: dict[str, Backoff]) -> None:
    joined.server.stop()
    joined.alive_until(lambda: "cannot be reached" in joined.follower.membership.error)
    assert joined.follower.membership.member
    joined.server.start()
    joined.until(lambda follower: not follower.membership.waiting and not follower.membership.error)
    commit(joined, 1)
    joined.until(lambda follower: follower.view and key_of(1) in follower.view.peers)
    assert backoffs["RECONNECT"].calls


def test_a_redis_that_refuses_writes_gets_requests_ever_less_often(
    node: Callable[..., Node], redis_server: RedisServer, backoffs: dict[str, Backoff]
) -> None:
    store = zone_without_supervisor(redis_server)
    store.redis.config_set("min-replicas-to-write", 1)
    refused = node()
    refused.alive_until(lambda: len(backoffs["RECONNECT"].calls) >= 12)
    assert "has too few replicas" in refused.follower.membership.error
    assert backoffs["RECONNECT"].calls[-3:] == [10, 10, 10], "the backoff stops growing, and overflows never"


@pytest.mark.parametrize("field", ["rev", "epoch", "wait_ms", "pools"])
def test_invalid_meta_data_end_no_member(
    node: Callable[..., Node], redis_server: RedisServer, field: str
) -> None:
    store = zone_without_supervisor(redis_server)
    store.redis.hset(KEYS.meta, field, "garbage")
    with pytest.raises(InvalidValue):
        node().until(lambda follower: follower.membership.member)
    member = node(view=view_of(peer(0)._replace(key=OWN)))
    member.alive_until(lambda: member.follower.membership.error)
    assert member.follower.membership.member


def test_a_request_with_an_invalid_reply_is_sent_again(
    node: Callable[..., Node], redis_server: RedisServer, supervisor: Callable[[], None]
) -> None:
    store = zone_without_supervisor(redis_server)
    asking = node(view=None)
    broken: list[str] = []

    def alive() -> None:
        outstanding = asking.follower.membership.outstanding
        if not broken and outstanding is not None and outstanding.tries:
            broken.append(outstanding.nonce)
            write_reply(store.redis, KEYS, outstanding.nonce, "{garbage")
        elif broken and asking.follower.membership.error:
            supervisor()

    asking.follower.alive = alive
    asking.until(is_well)
    assert broken


def test_a_node_waits_for_a_controller_without_memory(
    node: Callable[..., Node], joined: Node, redis_server: RedisServer
) -> None:
    second = node(view=None)
    with redis_server.client() as redis:
        redis.config_set("maxmemory", 1)
        joined.follower._next_report = 0.0
        joined.alive_until(lambda: joined.follower.membership.error)
        assert "no memory left: give its Redis more ('maxmemory')" in joined.follower.membership.error
        second.alive_until(lambda: "no memory left" in second.follower.membership.error)
        redis.config_set("maxmemory", 0)
    joined.follower._next_report = 0.0
    joined.alive_until(lambda: not joined.follower.membership.error)
    second.alive_until(lambda: is_settled(second.follower))
    assert not second.follower.membership.error


@pytest.mark.parametrize(("password", "error"), [("wrong", ControllerDenied), (AGENT_PASSWORD, InvalidValue)])
def test_a_wrong_password_or_zone_ends_it_only_at_the_first_start(
    node: Callable[..., Node], redis_server: RedisServer, password: str, error: type[Exception]
) -> None:
    redis_server.add_agent("zone-blue", AGENT_PASSWORD)
    with pytest.raises(error) as caught:
        node(password=password).until(lambda follower: follower.membership.member)
    assert "zone-blue" in str(caught.value)
    member = node(view=view_of(peer(0)._replace(key=OWN)), password=password)
    assert next(member.updates).changed is None
    member.alive_until(lambda: "zone-blue" in member.follower.membership.error)
    assert member.follower.membership.member


def test_a_new_endpoint_of_this_node_is_sent(joined: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    joined.server.client().execute_command("CLIENT", "KILL", "USER", "agent-zone-blue")
    joined.requests.configure(endpoint="192.0.2.99:51820")
    joined.until(lambda follower: follower.view and follower.view.peers[OWN].endpoint == "192.0.2.99:51820")
    joined.until(lambda follower: not follower.membership.waiting)


def test_a_burst_is_followed_by_a_full_check(joined: Node) -> None:
    commit(joined, 1)
    assert next(joined.updates).changed == {key_of(1)}
    assert next(joined.updates).changed is None


def test_an_epoch_without_changes_is_followed_by_a_full_check(joined: Node) -> None:
    """So that the snapshot and the status are up to date."""
    joined.until(lambda follower: follower._next_tick - time.monotonic() > follow.SETTLE_SECONDS)
    assert joined.follower.view is not None
    epoch = joined.follower.view.epoch
    joined.server.stop()
    joined.server.start()
    joined.alive_until(lambda: joined.follower.view and joined.follower.view.epoch != epoch)
    assert joined.follower._next_tick - time.monotonic() <= follow.SETTLE_SECONDS


def test_a_signal_ends_the_wait_for_events(joined: Node) -> None:
    joined.until(lambda follower: follower._next_tick - time.monotonic() > follow.SETTLE_SECONDS)
    threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGTERM]).start()
    with pytest.raises(Stopped):
        next(joined.updates)


def twin(node: Callable[..., Node]) -> Node:
    """Another machine with the same key, which has just joined."""
    other = node(local_endpoint_ip="192.0.2.20", machine_id="000000bb")
    other.until(is_settled)
    return other


def test_the_newest_machine_with_a_key_gets_its_lease(node: Callable[..., Node], joined: Node) -> None:
    before = joined.follower.view.peers[OWN]  # type: ignore[union-attr]
    other = twin(node)
    joined.until(lambda follower: follower.membership.superseded)
    assert not joined.follower.membership.member
    assert (
        "joined zone zone-blue from another machine, node0 at 192.0.2.20:51820"
        in joined.follower.membership.error
    )
    now = other.follower.view.peers[OWN]  # type: ignore[union-attr]
    assert (now.addresses, now.endpoint) == (before.addresses, "192.0.2.20:51820")
    commit(joined, 1)
    joined.until(lambda follower: follower.view and key_of(1) in follower.view.peers)
    other.until(lambda follower: follower.view and key_of(1) in follower.view.peers)
    assert joined.follower.membership.superseded, "only a restart takes the membership back"
    assert other.follower.membership.member
    assert not other.follower.membership.error


def test_a_machine_that_was_disconnected_is_superseded(node: Callable[..., Node], joined: Node) -> None:
    joined.server.client().execute_command("CLIENT", "KILL", "USER", "agent-zone-blue")
    twin(node)
    for number in range(1, 4):
        commit(joined, number)
    joined.server.client().xtrim(KEYS.events, maxlen=1, approximate=False)
    joined.until(lambda follower: follower.membership.superseded)
    assert not joined.follower.membership.removed


def test_a_superseded_machine_changes_no_endpoint(node: Callable[..., Node], joined: Node) -> None:
    """It sends its new endpoint at the moment in which the other machine joins."""
    other = twin(node)
    joined.requests.configure(endpoint="192.0.2.11:51820")
    joined.follower._check_endpoint()
    joined.until(lambda follower: follower.membership.superseded)
    refused = joined.ask(joined.requests.endpoint_update())
    assert refused.code == "superseded"
    assert joined.ask(joined.requests.leave()).code == "superseded"
    commit(other, 1)
    other.until(lambda follower: follower.view and key_of(1) in follower.view.peers)
    assert other.follower.view.peers[OWN].endpoint == "192.0.2.20:51820"  # type: ignore[union-attr]


def test_a_restart_takes_the_membership_back(node: Callable[..., Node], joined: Node) -> None:
    other = twin(node)
    again = node()
    again.until(is_settled)
    assert not again.follower.membership.superseded
    other.until(lambda follower: follower.membership.superseded)


def test_a_restart_on_the_same_machine_causes_no_event(node: Callable[..., Node], joined: Node) -> None:
    rev = joined.follower.view.rev  # type: ignore[union-attr]
    again = node()
    again.until(is_settled)
    assert again.follower.view.rev == rev  # type: ignore[union-attr]
