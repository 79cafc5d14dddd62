# SPDX-License-Identifier: GPL-3.0-or-later
"""Agents of a zone that an operator changes or removes, with a real Redis and a real committer."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from jaywalk.mesh import node_interface
from jaywalk.zone.patch import ZonePatch
from jaywalk_agent.host.signals import StopSignal
from jaywalk_agent.zone import follower as follow
from jaywalk_agent.zone.follower import Follower
from jaywalk_supervisor.admin import zones
from jaywalk_supervisor.store.store import Store
from lab.deadline import Deadline
from tests.follower_support import follower_of
from tests.redis_server import RedisServer
from tests.supervisor_support import AGENT_PASSWORD, BLUE, committing, key_of

OWN = key_of(0)
NODE = node_interface.LocalNode(OWN, "/etc/key")


class AtOnce:
    """A pause that is too short to matter."""

    def compute(self, failures: int) -> float:
        return 0.02


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RECONNECT", "RESYNC"):
        monkeypatch.setattr(follow, name, AtOnce())


@contextmanager
def following(server: RedisServer, stop: StopSignal) -> Iterator[Follower]:
    address = replace(server.address_of("agent-zone-blue", AGENT_PASSWORD), timeout=25)
    yield follower_of(lambda: address, stop)


def test_an_agent_applies_larger_and_additional_pools(redis_server: RedisServer, stop: StopSignal) -> None:
    store = Store.open(redis_server.address, "test")
    with committing(redis_server.address, (BLUE,)), following(redis_server, stop) as follower:
        updates = follower.updates()
        while not follower.membership.member:
            next(updates)
        more = ZonePatch(cidr=["10.20.0.0/19", "10.30.0.0/24"])
        assert zones.change(store, "zone-blue", more)[0]
        while follower.view is None or "10.30.0.0/24" not in follower.view.zone.pools:
            next(updates)
        wanted = node_interface.desired(follower.view, NODE)
        assert wanted is not None
        assert wanted.addresses == ("10.20.0.1/19", "fd00:20::1/64")
        assert wanted.routes == {"10.30.0.0/24"}, "peers of the other pool are reached through it too"
        assert follower.membership.member
    store.close()


def test_agents_of_a_removed_zone_keep_their_tunnels_and_report_it(
    redis_server: RedisServer, stop: StopSignal
) -> None:
    store = Store.open(redis_server.address, "test")
    with committing(redis_server.address, (BLUE,)), following(redis_server, stop) as follower:
        updates = follower.updates()
        while not follower.membership.member:
            next(updates)
        before = node_interface.desired(follower.view, NODE)  # type: ignore[arg-type]
        threading.Timer(0.2, zones.remove, [store, "zone-blue", True]).start()
        deadline = Deadline(60)
        while "check the password, and that the zone exists" not in follower.membership.error:
            follower._next_tick = 0.0
            next(updates)
            assert not deadline.passed
        assert node_interface.desired(follower.view, NODE) == before  # type: ignore[arg-type]
        anew = ZonePatch(cidr=["10.50.0.0/24"], proof="optional")
        assert zones.add(store, "zone-blue", anew, AGENT_PASSWORD)[0]
        while follower.membership.error or not follower.membership.member:
            follower._next_tick = 0.0
            next(updates)
            assert not deadline.passed
        assert follower.view is not None
        assert follower.view.peers[OWN].addresses == ("10.50.0.1",), "made anew, and joined by itself"
    store.close()
