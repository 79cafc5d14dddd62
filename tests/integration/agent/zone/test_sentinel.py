# SPDX-License-Identifier: GPL-3.0-or-later
"""A controller under Sentinel that fails over while a supervisor and an agent are at work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from jaywalk.controller.client import ZoneClient
from jaywalk.controller.connection import connect
from jaywalk.core.errors import ControllerDenied, ControllerUnreachable
from jaywalk.zone.redis_keys import ZoneKeys
from jaywalk_agent.host.signals import StopSignal
from jaywalk_agent.zone import follower as follow
from jaywalk_supervisor.store.store import Store
from tests.follower_support import follower_of, is_settled
from tests.integration.agent.zone.test_follower import Backoff
from tests.redis_sentinels import Sentinels
from tests.supervisor_support import AGENT_PASSWORD, committing, join, key_of, until

USER = "agent-zone-blue"


@pytest.fixture(params=["closed", "open"])
def sentinels(request: pytest.FixtureRequest) -> Iterator[Sentinels]:
    with Sentinels((USER, AGENT_PASSWORD) if request.param == "closed" else None) as started:
        yield started


def test_supervisor_and_agent_continue_after_a_failover(
    sentinels: Sentinels, stop: StopSignal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "RECONNECT", Backoff(0.2))
    operator = sentinels.address_of("supervisor", sentinels.password)
    agent = replace(sentinels.address_of(USER, AGENT_PASSWORD), timeout=25)
    with committing(operator) as committer:
        follower = follower_of(lambda: agent, stop)
        updates = follower.updates()
        while not is_settled(follower):
            next(updates)
        before = follower.view
        assert before is not None
        first, was = before.peers[key_of(0)].addresses, (before.epoch, before.rev)
        sentinels.fail_over()
        until(lambda: committer.health.error == "" and committer.health.led)
        reply = ZoneClient(connect(operator), operator, "zone-blue").ask(join("zone-blue", 1), 40)
        assert reply.addresses[0] == "10.20.0.2"
        while key_of(1) not in follower.view.peers:  # type: ignore[union-attr]
            next(updates)
        now = follower.view
        assert now is not None
        assert now.peers[key_of(0)].addresses == first
        updates.close()  # type: ignore[attr-defined]
    store = Store.open(operator, "test")
    since = store.redis.xrange(ZoneKeys("zone-blue").events, f"({was[0]}-{was[1]}", now.stream_id)
    # On a busy machine the sentinels may take the new primary for dead as well, and choose once more.
    chosen = int(sentinels.sentinels[0].state()["config-epoch"])
    bumps = [fields for _, fields in since if "prev" in fields]
    assert 1 <= len(bumps) <= chosen, "one bump a failover"
    assert len(since) == len(bumps) + 1, "the bump, and the join"
    assert (now.epoch > was[0], now.rev) == (True, was[1] + len(since))
    assert store.where.port == sentinels.primary.port
    assert USER in store.redis.acl_users()


def test_errors_of_sentinels_are_reported(sentinels: Sentinels) -> None:
    where = sentinels.address_of(USER, "not-the-password")
    with pytest.raises((ControllerDenied, ControllerUnreachable)) as caught:
        connect(where)
    assert str(where) in str(caught.value) or "refused user" in str(caught.value)
    assert "not-the-password" not in str(caught.value)
    nobody = replace(where, service="other", password=AGENT_PASSWORD)
    with pytest.raises(ControllerUnreachable, match="watch 'other'"):
        connect(nobody)
