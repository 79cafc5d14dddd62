# SPDX-License-Identifier: GPL-3.0-or-later
"""Operators' requests in a Redis that is then put back to an older copy while a supervisor runs."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from jaywalk.zone.models import reservation_key
from jaywalk.zone.patch import ZonePatch
from jaywalk.zone.redis_keys import ZoneKeys
from jaywalk.zone.requests import Request
from jaywalk_supervisor.admin import zones
from jaywalk_supervisor.committer.committer import Committer
from jaywalk_supervisor.recovery.recovery import Recovery
from jaywalk_supervisor.store.store import Store
from tests.redis_rollback import ROLLBACKS
from tests.redis_server import RedisServer
from tests.supervisor_support import BLUE, client_of, committing, join, key_of, until

ZONE = "zone-blue"
ORDERS = ZoneKeys(ZONE).operator_inbox


def test_an_order_that_is_repeated_after_its_zone_was_put_back_is_carried_out_again(
    redis_server: RedisServer, store: Store
) -> None:
    """The sender has no answer yet; the first answer would be about data that is gone."""
    client = client_of(store, ZONE)
    with committing(redis_server.address), ROLLBACKS["restore"](redis_server) as put_back:
        order = client.expiring(Request.validated("reserve", ZONE, "", name="web"), 60)
        client.submit(order, ORDERS)
        until(lambda: is_reserved(store, "web"))
        epoch = store.head(ZONE).epoch
        put_back()
        until(lambda: store.heads([ZONE])[ZONE] and store.head(ZONE).epoch > epoch)
        assert not is_reserved(store, "web")
        client.submit(order, ORDERS)
        until(lambda: is_reserved(store, "web"), "the repeated order is carried out")


def test_a_supervisor_that_runs_says_what_is_to_be_ordered_again(
    redis_server: RedisServer, store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.create(BLUE)
    client = client_of(store, ZONE)
    with caplog.at_level(logging.WARNING), committing(redis_server.address, state_dir=tmp_path) as committer:
        until(lambda: follows(committer, store))
        with ROLLBACKS["restore"](redis_server) as put_back:
            assert client.ask(Request.validated("reserve", ZONE, "", name="web"), 20, ORDERS).ok
            zones.change(store, ZONE, ZonePatch(quarantine=88))
            until(lambda: follows(committer, store))
            epoch = store.head(ZONE).epoch
            put_back()
            until(lambda: store.heads([ZONE])[ZONE] and store.head(ZONE).epoch > epoch)
            until(lambda: follows(committer, store))
            assert client.ask(join(ZONE, 1), 20).ok
    lines = [
        each.getMessage() for each in caplog.records if "put back to an older state" in each.getMessage()
    ]
    assert len(lines) == 1
    assert "the reservation of web" in lines[0]
    assert "the policy" in lines[0]
    assert key_of(1) in store.load(ZONE).peers
    aside = tmp_path.glob("copies/*/zone-blue.json.before-loss-*")
    assert ["web" in path.read_text() for path in aside] == [True]


def is_reserved(store: Store, host: str) -> bool:
    return reservation_key(host) in store.load(ZONE).leases


def follows(committer: Committer, store: Store) -> bool:
    """Whether the supervisor's copy has the zone's position."""
    recovery: Recovery = committer.recovery
    copy = recovery._copies.get(ZONE)
    return copy is not None and copy.position == store.head(ZONE).position
