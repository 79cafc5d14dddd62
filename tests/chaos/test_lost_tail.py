# SPDX-License-Identifier: GPL-3.0-or-later
"""The effects of a lost tail of Redis's append-only file, one case per test."""

from __future__ import annotations

import os
from pathlib import Path

from jaywalk.controller.client import ZoneClient
from jaywalk.controller.connection import connect
from jaywalk.service import aof_repair
from jaywalk.zone.requests import Request
from tests.redis_server import RedisServer
from tests.supervisor_support import AGENT_PASSWORD, committing, join, key_of, until

from .agents import ChaosAgent
from .checker.snapshot import ZoneSnapshot, faults


def log_of(server: RedisServer) -> Path:
    assert server._folder is not None
    (file,) = (server._folder / "appendonlydir").glob("*.incr.aof")
    return file


def ask(server: RedisServer, request: Request) -> None:
    where = server.address
    assert ZoneClient(connect(where), where, "zone-blue").ask(request, 20).ok


def test_a_node_whose_last_wish_was_lost_wishes_again(redis_server: RedisServer, tmp_path: Path) -> None:
    """After the loss, the zone has the node with its former endpoint."""
    agent = ChaosAgent(1, "zone-blue", tmp_path)
    agent.agent_address = lambda: redis_server.address_of("agent-zone-blue", AGENT_PASSWORD)

    def has_endpoint(endpoint: str) -> bool:
        follower = agent.follower
        if follower is None or follower.view is None or follower.membership.waiting:
            return False
        own = follower.view.peers.get(agent.key)
        return own is not None and own.endpoint == endpoint

    with committing(redis_server.address):
        agent.live()
        try:
            until(lambda: has_endpoint("203.0.113.2:51820"))
            size_before = log_of(redis_server).stat().st_size
            agent.port += 1
            until(lambda: has_endpoint("203.0.113.2:51821"))
            redis_server.crash()
            os.truncate(log_of(redis_server), size_before)
            redis_server.start()
            with redis_server.client() as client:
                assert ZoneSnapshot.read(client, "zone-blue").peers[agent.key]["e"] == "203.0.113.2:51820"
                until(
                    lambda: (
                        ZoneSnapshot.read(client, "zone-blue").peers[agent.key]["e"] == "203.0.113.2:51821"
                    )
                )
        finally:
            agent.end()


def test_a_commit_that_was_torn_is_not_carried_out_later(redis_server: RedisServer) -> None:
    """The file ends inside a commit; Redis starts, the zone continues, and Redis starts once more."""
    log = torn(redis_server)
    assert "ended inside a transaction" in aof_repair.mend(log.parent, "redis-check-aof")
    snapshot = after_two_more_starts(redis_server)
    assert set(snapshot.peers) == {key_of(1), key_of(3)}
    assert faults(snapshot) == []


def torn(redis_server: RedisServer) -> Path:
    """Return a log that ends inside the join of the second node."""
    with committing(redis_server.address):
        ask(redis_server, join("zone-blue", 1))
        before = log_of(redis_server).stat().st_size
        ask(redis_server, join("zone-blue", 2))
    redis_server.crash()
    commit = log_of(redis_server).read_bytes()[before:]
    os.truncate(log_of(redis_server), before + commit.rindex(b"{zone-blue}:leases"))
    return log_of(redis_server)


def after_two_more_starts(redis_server: RedisServer) -> ZoneSnapshot:
    redis_server.start()
    with committing(redis_server.address):
        ask(redis_server, join("zone-blue", 3))
    redis_server.restart()
    with redis_server.client() as client:
        return ZoneSnapshot.read(client, "zone-blue")
