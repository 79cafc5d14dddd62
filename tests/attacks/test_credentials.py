# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node that an operator removed can still do, and what each of the controller's credentials allows."""

from __future__ import annotations

from dataclasses import replace

import pytest
import redis

from jaywalk.controller.address import node_user
from jaywalk.controller.client import ZoneClient
from jaywalk.controller.connection import connect
from jaywalk.controller.login import NodeLogin
from jaywalk.core.errors import ControllerDenied, ControllerUnreachable, RequestRefused
from jaywalk.zone.redis_keys import ZoneKeys
from jaywalk.zone.requests import Request
from tests.attacks.installation import ZONES, Installation
from tests.attacks.test_refused import RedisCommand, answers, is_denied, keys_of
from tests.attacks.test_refused import commands as commands
from tests.proven_nodes import Node
from tests.strategies import key
from tests.supervisor_support import join
from tests.waiting import eventually

ZONE = ZONES[0]
# Its members prove their keys, so that each has a Redis user of its own, and the zone's password only enrols.
SHUT = "zone-shut"


@pytest.fixture(scope="module")
def shut(installation: Installation) -> Installation:
    """The installation with a zone whose password only enrols."""
    installation.add_zone(SHUT, "--proof", "required")
    eventually(lambda: SHUT in installation.api("GET", "/healthz").body["zones_led"], "it is served")
    return installation


def joined(installation: Installation, number: int) -> ZoneClient:
    """A member's client of a node that joined the zone."""
    where = installation.agent_address(SHUT)
    node = Node(number, zone=SHUT)
    login = NodeLogin(SHUT, lambda: replace(where, user="", password=""), lambda: where, node.prover)
    return login.ask(login.open("attack"), node.request("join"), 10, "attack")[1]


def test_a_removed_node_does_not_join_again_with_its_key(installation: Installation) -> None:
    removed = installation.attacker_client(ZONE)
    old = join(ZONE, 1)
    removed.ask(old, 10).lease_or_raise()
    installation.command("peer", "remove", key(1), "--reason", "stolen")
    for request in (old, join(ZONE, 1), Request.validated("check", ZONE, key(1))):
        with pytest.raises(RequestRefused, match="removed from zone zone-blue and blocked"):
            removed.ask(replace(request, nonce=join(ZONE, 1).nonce), 10).lease_or_raise()
    assert installation.operator_client(ZONE).snapshot().peers == {}


def test_a_connection_made_with_the_old_password_of_a_zone_ends_with_it(
    own_installation: Installation,
) -> None:
    reader = own_installation.attacker_redis(ZONE)
    reader.hgetall(ZoneKeys(ZONE).meta)
    own_id = str(reader.client_id())
    own_installation.change_password(ZONE, "another-password-of-it")
    listed = own_installation.operator_client(ZONE).client.client_list()
    assert own_id not in {client["id"] for client in listed}
    with pytest.raises(redis.AuthenticationError):
        reader.hgetall(ZoneKeys(ZONE).meta)


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


def test_the_password_of_a_zone_reads_nothing_of_its_members(
    shut: Installation, commands: list[RedisCommand]
) -> None:
    """It opens an inbox to write to; and the settings of the zone, and the answer of who knows its nonce."""
    joined(shut, 1)
    attacker = shut.attacker_redis(SHUT)
    keys = ZoneKeys(SHUT)
    secret = [key for key in keys_of(SHUT) if key != keys.meta]
    secret += [keys.blocked, keys.leader, keys.reply("000"), keys.reply("3ff")]
    calls = [each.aimed_at(key) for each in commands if each.names_keys for key in secret]
    calls += [
        ["SCAN", "0"],
        ["KEYS", "*"],
        ["SUBSCRIBE", "c"],
        ["MONITOR"],
        ["CLIENT", "LIST"],
        ["ACL", "LIST"],
    ]
    replies = answers(attacker, calls)
    accepted = [call for call, reply in zip(calls, replies, strict=True) if not is_denied(reply)]
    assert accepted == [["rpush", keys.inbox, "1"]]


def test_the_user_of_a_node_reaches_no_other_zone_and_writes_nothing_but_requests(
    shut: Installation, commands: list[RedisCommand]
) -> None:
    member = joined(shut, 2)
    assert member.where.user.startswith(f"node-{SHUT}-")
    calls = [each.aimed_at(key) for each in commands if each.names_keys for key in keys_of(ZONES[1])]
    writes = [each for each in commands if each.names_keys and "write" in each.flags]
    calls += [each.aimed_at(key) for each in writes for key in keys_of(SHUT)]
    calls += [["HGETALL", ZoneKeys(SHUT).credentials], ["HGETALL", ZoneKeys(SHUT).leases]]
    calls += [["LRANGE", ZoneKeys(SHUT).inbox, "0", "-1"]]
    replies = answers(member.client, calls)
    accepted = [call for call, reply in zip(calls, replies, strict=True) if not is_denied(reply)]
    assert accepted == [["rpush", ZoneKeys(SHUT).inbox, "1"]]


def test_a_member_that_was_removed_is_disconnected_and_its_password_opens_nothing(shut: Installation) -> None:
    member, other = joined(shut, 3), joined(shut, 4)
    shut.command("peer", "remove", Node(3, zone=SHUT).key, "--zone", SHUT)
    with pytest.raises((ControllerUnreachable, ControllerDenied)):
        member.head()
    with pytest.raises(ControllerDenied):
        connect(member.where)
    assert Node(3).key not in other.snapshot().peers


def test_members_go_on_after_the_zones_password_was_changed_and_need_it_no_more(
    own_installation: Installation,
) -> None:
    own_installation.add_zone(SHUT, "--proof", "required")
    first, second = own_installation.agents(SHUT)
    eventually(lambda: first.peer_keys == {second.key}, "the agents are peers")
    users = {client["user"] for client in own_installation.operator_client(SHUT).client.client_list()}
    assert {node_user(SHUT, agent.key) for agent in (first, second)} <= users
    own_installation.change_password(SHUT, "another-password-of-it")
    second.kill()
    eventually(lambda: second.peer_keys == {first.key} and not second.error, "it comes back")
    user = node_user(SHUT, second.key)
    eventually(
        lambda: (
            user in {client["user"] for client in own_installation.operator_client(SHUT).client.client_list()}
        )
    )
    own_installation.command("peer", "remove", second.key, "--zone", SHUT)
    eventually(lambda: first.peer_keys == set(), "the other agent has removed it")
    eventually(lambda: "was removed from zone" in second.error, "it says so, though it reads nothing more")
