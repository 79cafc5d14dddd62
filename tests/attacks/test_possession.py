# SPDX-License-Identifier: GPL-3.0-or-later
"""Whoever holds a zone's password, but not a node's private key, acts for no node."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from jaywalk.controller.address import node_user
from jaywalk.controller.client import ZoneClient
from jaywalk.controller.connection import connect
from jaywalk.controller.login import NodeLogin
from jaywalk.zone.redis_keys import ZoneKeys
from jaywalk.zone.requests import Request
from tests.attacks.installation import Installation
from tests.proven_nodes import Node
from tests.waiting import eventually

ZONE = "zone-proof"
HOURS_AHEAD = 23 * 3600


@pytest.fixture(scope="module")
def password_holder(installation: Installation) -> ZoneClient:
    """A client with the password of a zone that keeps addresses, and with no private key."""
    installation.add_zone(ZONE, "--takeover", "never", "--proof", "required")
    where = installation.agent_address(ZONE)
    eventually(lambda: installation.server.client().hget(ZoneKeys(ZONE).meta, "supervisor_keys"), "served")
    client = ZoneClient(connect(where), where, ZONE)
    client.enrols = True
    return client


def login_of(installation: Installation, node: Node) -> NodeLogin:
    """How a node that proves its key logs in."""
    where = installation.agent_address(ZONE)
    return NodeLogin(ZONE, lambda: replace(where, user="", password=""), lambda: where, node.prover)


def joined(installation: Installation, number: int) -> tuple[Node, ZoneClient]:
    """A node that proves its key, in the zone."""
    node = Node(number, zone=ZONE)
    login = login_of(installation, node)
    return node, login.ask(login.open("attack"), node.request("join"), 20, "attack")[1]


@pytest.mark.parametrize("ahead", [0, HOURS_AHEAD], ids=["now", "23 hours ahead"])
@pytest.mark.parametrize("op", ["join", "leave", "endpoint"])
def test_a_request_in_the_key_of_another_node_is_refused(
    installation: Installation, password_holder: ZoneClient, op: str, ahead: int
) -> None:
    victim, client = joined(installation, 1)
    before = client.snapshot().peers[victim.key]
    forged = victim.request(op, seq=int((time.time() + ahead) * 1e6), endpoint="192.0.2.66:51820")
    assert password_holder.ask(forged, 20).code == "unproven"
    assert client.snapshot().peers[victim.key] == before
    assert client.ask(victim.request("join"), 20).ok, "its own requests are accepted as before"


def test_the_bytes_of_an_old_join_do_not_bring_a_released_node_back(
    installation: Installation, password_holder: ZoneClient
) -> None:
    victim, client = joined(installation, 2)
    recorded = [victim.wire(victim.request("join")) for _each in range(2)]
    client.client.rpush(client.keys.inbox, *recorded)
    operators = installation.operator_client(ZONE)
    eventually(lambda: not operators.client.llen(client.keys.inbox), "the joins are served")
    assert client.ask(victim.request("check"), 20).ok
    release = Request.validated("release", ZONE, victim.key)
    assert operators.ask(release, 20, operators.keys.operator_inbox).ok
    users = installation.server.client()
    eventually(lambda: users.acl_getuser(node_user(ZONE, victim.key)) is None, "its user is deleted")
    password_holder.client.rpush(password_holder.keys.inbox, *recorded)
    outsider = login_of(installation, victim).open("attack")
    assert outsider.ask(victim.request("check"), 20).ok, "the recorded joins are served before this"
    assert victim.key not in operators.snapshot().peers
    assert outsider.ask(victim.request("join"), 20).ok, "the node itself may join again"


def test_a_node_is_not_moved_off_its_address_in_its_own_name(
    installation: Installation, password_holder: ZoneClient
) -> None:
    """Where addresses are kept, somebody asks for another one for the victim, and takes the one it had."""
    victim, client = joined(installation, 3)
    thief, of_thief = joined(installation, 4)
    held = client.snapshot().peers[victim.key].addresses
    moving = victim.request("join", request_ip=["10.20.9.9"])
    assert password_holder.ask(moving, 20).code == "unproven"
    assert of_thief.ask(thief.request("join", request_ip=[held[0]]), 20).code.startswith("address")
    assert client.snapshot().peers[victim.key].addresses == held
