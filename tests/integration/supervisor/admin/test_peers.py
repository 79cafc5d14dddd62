# SPDX-License-Identifier: GPL-3.0-or-later
"""``jaywalk-supervisor peer``: peers listed, removed, blocked and allowed again, on a real Redis."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from jaywalk.core.errors import RequestRefused
from jaywalk.zone.requests import Request
from jaywalk_supervisor.committer.committer import Committer
from jaywalk_supervisor.store.store import Store
from tests.redis_server import RedisServer
from tests.strategies import key
from tests.supervisor_support import Command, client_of, committing, join, until

ZONE = "zone-blue"


@pytest.fixture(autouse=True)
def committer(redis_server: RedisServer) -> Iterator[Committer]:
    with committing(redis_server.address) as running:
        yield running


def ask(store: Store, request: Request) -> None:
    client_of(store, ZONE).ask(request, 10).lease_or_raise()


def test_a_removed_peer_is_blocked_until_it_is_allowed_again(store: Store, command: Command) -> None:
    ask(store, join(ZONE, 1))
    removed = command("peer", "remove", "node1", "--reason", "stolen")
    assert removed == {"changed": True, "zone": ZONE, "public_key": key(1), "blocked": True}
    assert command("peer", "list") == []
    [block] = command("peer", "list", "--blocked")
    assert (block["zone"], block["public_key"], block["reason"]) == (ZONE, key(1), "stolen")
    assert "@" in block["by"]
    with pytest.raises(RequestRefused, match="removed from zone zone-blue and blocked") as refused:
        ask(store, join(ZONE, 1))
    assert refused.value.code == "blocked"
    assert command("peer", "allow", key(1)) == {
        "changed": True,
        "zone": ZONE,
        "public_key": key(1),
        "blocked": False,
    }
    ask(store, join(ZONE, 1))
    assert command("peer", "show", "node1")["blocked"] is None


def test_any_request_of_a_blocked_key_is_refused_and_so_is_its_reservation(
    store: Store, command: Command
) -> None:
    command("peer", "remove", key(2), "--zone", ZONE)
    for op in ("join", "leave", "endpoint", "check"):
        with pytest.raises(RequestRefused, match="blocked"):
            ask(store, Request.validated(op, ZONE, key(2), endpoint="192.0.2.9:51820"))
    operator = client_of(store, ZONE)
    with pytest.raises(RequestRefused, match="allow it first"):
        operator.ask(
            Request.validated("reserve", ZONE, key(2)), 10, operator.keys.operator_inbox
        ).lease_or_raise()


def test_a_peer_that_is_removed_without_a_block_may_join_again(store: Store, command: Command) -> None:
    ask(store, join(ZONE, 3))
    assert command("peer", "remove", key(3), "--no-block")["changed"]
    ask(store, join(ZONE, 3))
    assert [peer["name"] for peer in command("peer", "list", "--zone", ZONE)] == ["node3"]


def test_a_name_that_means_several_peers_is_refused(store: Store, command: Command) -> None:
    ask(store, join(ZONE, 4, name="twin"))
    client_of(store, "zone-red").ask(join("zone-red", 5, name="twin"), 10).lease_or_raise()
    assert "'twin' means 2 peers" in command("peer", "remove", "twin")
    assert command("peer", "remove", "twin", "--zone", "zone-red")["public_key"] == key(5)
    assert "is unknown to any zone" in command("peer", "remove", "nobody")


def test_blocks_outlive_the_data_of_the_controller(
    redis_server: RedisServer, committer: Committer, command: Command
) -> None:
    command("peer", "remove", key(6), "--zone", ZONE, "--reason", "stolen")
    until(lambda: ZONE in committer.recovery._copies and committer.recovery._copies[ZONE].blocked)
    redis_server.stop()
    redis_server.delete_data()
    redis_server.start()
    until(lambda: command("zone", "list") and command("peer", "list", "--blocked"))
    [block] = command("peer", "list", "--blocked")
    assert (block["public_key"], block["reason"]) == (key(6), "stolen")
    renewed = Store.open(redis_server.address, "test")
    with pytest.raises(RequestRefused, match="blocked"):
        ask(renewed, join(ZONE, 6))
    renewed.close()


def test_another_supervisor_learns_of_a_block_from_the_log(
    redis_server: RedisServer, store: Store, command: Command
) -> None:
    state = store.load(ZONE)
    command("peer", "remove", key(7), "--zone", ZONE)
    assert store.catch_up(state).blocked == {key(7)}
    command("peer", "allow", key(7))
    assert store.catch_up(state).blocked == set()
