# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node that an operator removed can still do, and what each of the controller's credentials allows."""

from __future__ import annotations

from dataclasses import replace

import pytest
import redis

from jaywalk.core.errors import RequestRefused
from jaywalk.zone.redis_keys import ZoneKeys
from jaywalk.zone.requests import Request
from tests.attacks.installation import ZONES, Installation
from tests.strategies import key
from tests.supervisor_support import join
from tests.waiting import eventually

ZONE = ZONES[0]


def test_a_removed_node_does_not_join_again_with_its_key(installation: Installation) -> None:
    removed = installation.attacker_client(ZONE)
    old = join(ZONE, 1)
    removed.ask(old, 10).lease_or_raise()
    installation.command("peer", "remove", key(1), "--reason", "stolen")
    for request in (old, join(ZONE, 1), Request.validated("check", ZONE, key(1))):
        with pytest.raises(RequestRefused, match="removed from zone zone-blue and blocked"):
            removed.ask(replace(request, nonce=join(ZONE, 1).nonce), 10).lease_or_raise()
    assert removed.snapshot().peers == {}


def test_a_connection_made_with_the_old_password_of_a_zone_ends_with_it(
    own_installation: Installation,
) -> None:
    reader = own_installation.attacker_redis(ZONE)
    events = ZoneKeys(ZONE).events
    reader.xread({events: "0"})
    own_id = str(reader.client_id())
    new = own_installation.folder / "new.password"
    new.touch(mode=0o600)
    new.write_text("another-password-of-it", encoding="ascii")
    own_installation.command("zone", "set", ZONE, "--agent-password-file", str(new))
    listed = own_installation.operator_client(ZONE).client.client_list()
    assert own_id not in {client["id"] for client in listed}
    with pytest.raises(redis.AuthenticationError):
        reader.xread({events: "0"})


def test_a_removed_agent_takes_its_tunnels_down_says_that_it_is_blocked_and_returns_once_allowed(
    own_installation: Installation,
) -> None:
    first, second = own_installation.agents()
    eventually(lambda: first.peer_keys == {second.key}, "the agents are peers")
    own_installation.command("peer", "remove", second.key, "--zone", ZONE)
    eventually(lambda: first.peer_keys == set(), "the other agent has removed it")
    eventually(lambda: "removed and blocked" in second.error, "its status says why")
    assert "blocked this node" in second.log
    own_installation.command("peer", "allow", second.key)
    eventually(lambda: first.peer_keys == {second.key}, "it is back")
