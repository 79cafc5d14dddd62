# SPDX-License-Identifier: GPL-3.0-or-later
"""A Redis user of each node: made with its join, lost with Redis, removed with its lease."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest

from jaywalk.controller.address import ControllerAddress, agent_user, node_user
from jaywalk.controller.client import ZoneClient
from jaywalk.controller.login import NodeLogin
from jaywalk.core.errors import ControllerDenied, ControllerUnreachable, RequestRefused
from jaywalk.trust import secrets
from jaywalk.zone.models import Zone
from jaywalk.zone.patch import ZonePatch
from jaywalk.zone.policy import Policy
from jaywalk.zone.redis_keys import ZoneKeys
from jaywalk.zone.requests import AGENT_OPS, Request
from jaywalk_supervisor.admin import zones
from jaywalk_supervisor.committer.committer import Committer
from jaywalk_supervisor.possession.keyring import KeyFile
from jaywalk_supervisor.store import node_users
from jaywalk_supervisor.store.store import Store
from tests.proven_nodes import Node
from tests.redis_cluster import Cluster
from tests.redis_sentinels import Sentinels
from tests.redis_server import RedisServer
from tests.supervisor_support import AGENT_PASSWORD, client_of, committing, until

ZONE = "zone-blue"
# Its password only enrols.
CLOSED = Zone(ZONE, ("10.20.0.0/20",), policy=Policy(proof="required"))
Serving = Callable[[], AbstractContextManager[Committer]]


@pytest.fixture
def serving(redis_server: RedisServer, tmp_path: Path) -> Serving:
    """Starts a supervisor; each has the same key file."""
    key_file = KeyFile(str(tmp_path / "supervisor.key")).ensure()
    return lambda: committing(redis_server.address, (CLOSED,), key_file=key_file)


@pytest.fixture
def committer(serving: Serving) -> Iterator[Committer]:
    with serving() as running:
        yield running


class Controller(Protocol):
    """A Redis, or several."""

    def address_of(self, user: str, password: str, /) -> ControllerAddress:
        """Its address for a user."""


def login(server: Controller, node: Node, password: str = AGENT_PASSWORD) -> NodeLogin:
    def zone_address() -> ControllerAddress:
        return replace(server.address_of(agent_user(ZONE), password), zone=ZONE)

    return NodeLogin(ZONE, lambda: replace(zone_address(), user="", password=""), zone_address, node.prover)


def joined(server: Controller, node: Node) -> ZoneClient:
    """A member's client of a node, which joins first."""
    opened = login(server, node)
    client = opened.open("test")
    assert client.enrols
    return opened.enrol(client, node.request("join"), 10, "test")[1]


def test_a_node_enrols_once_and_logs_in_as_itself_whatever_the_zones_password_becomes(
    redis_server: RedisServer, committer: Committer, store: Store
) -> None:
    node = Node(1)
    member = joined(redis_server, node)
    assert member.where.user == node_user(ZONE, node.key)
    assert set(member.snapshot().peers) == {node.key}
    zones.change(store, ZONE, ZonePatch(), "another-password-of-it")
    assert member.ask(node.request("check"), 10).ok, "its connection stays open"
    again = login(redis_server, node, "a-wrong-password-0123").open("test")
    assert not again.enrols
    with pytest.raises(ControllerDenied):
        login(redis_server, Node(2), AGENT_PASSWORD).open("test")


def test_a_member_of_a_removed_zone_has_no_access_to_a_later_one_of_that_name(
    redis_server: RedisServer, committer: Committer, store: Store
) -> None:
    node = Node(1)
    joined(redis_server, node)
    zones.remove(store, ZONE, force=True)
    until(lambda: ZONE not in committer.zones.states)
    assert node_user(ZONE, node.key) not in store.redis.acl_users()
    zones.add(store, ZONE, ZonePatch(cidr=["10.20.0.0/20"], proof="required", admission="token"), None)
    until(lambda: ZONE in committer.zones.states)
    again = login(redis_server, node).open("test")
    assert again.enrols, "it reads nothing of the zone before it joins"


@pytest.mark.parametrize("obstacle", ["another policy", "no memory"])
def test_a_join_that_is_decided_but_not_committed_leaves_no_user(
    redis_server: RedisServer, store: Store, tmp_path: Path, obstacle: str
) -> None:
    """Its holder could read the zone, and no list of peers would show it."""
    key_file = KeyFile(str(tmp_path / "supervisor.key")).ensure()
    decider = Committer(redis_server.address, "", (), threading.Event(), key_file=key_file)
    store.create(CLOSED)
    store.bump(ZONE)
    state = decider.zones.states[ZONE] = store.load(ZONE)
    decider.zones.users.open(store, state)
    node = Node(1, key_file.keyring.public_keys)
    entry = decider.inboxes.decode(node.wire(node.request("join")), ZONE, AGENT_OPS)
    if obstacle == "no memory":
        store.redis.config_set("maxmemory", 1)
    else:
        zones.change(store, ZONE, ZonePatch(admission="token"))
    try:
        decider.batches.commit(store, ZONE, [entry])
    finally:
        store.redis.config_set("maxmemory", 0)
    assert node.key not in store.load(ZONE).leases
    assert node_user(ZONE, node.key) not in store.redis.acl_users()


def test_only_the_hash_of_a_nodes_password_is_stored(
    redis_server: RedisServer, committer: Committer, store: Store
) -> None:
    node = Node(1)
    password = joined(redis_server, node).where.password
    [record] = node_users.read(store, ZONE).values()
    assert password not in str(store.redis.hgetall(ZoneKeys(ZONE).credentials))
    assert list(node_users.digests_of(record)) == [committer.key_file.keyring.pairs[0].id]


def test_a_join_that_changes_nothing_stores_the_password_that_this_supervisor_did_not_know(
    redis_server: RedisServer, committer: Committer, store: Store
) -> None:
    """As after another supervisor admitted the node."""
    node = Node(1)
    member = joined(redis_server, node)
    record = node_users.read(store, ZONE)
    store.redis.hdel(ZoneKeys(ZONE).credentials, node.key)
    committer.zones.users._records[ZONE].clear()
    reply = member.ask(node.request("join"), 10)
    assert (reply.ok, reply.changed) == (True, False)
    assert node_users.read(store, ZONE) == record


def test_a_redis_that_lost_its_users_gets_them_back(redis_server: RedisServer, committer: Committer) -> None:
    node = Node(1)
    joined(redis_server, node).client.close()
    redis_server.restart()
    until(lambda: not committer.health.error and committer.health.led)
    assert not login(redis_server, node, "a-wrong-password-0123").open("test").enrols


def test_a_lease_that_ends_takes_the_user_and_its_connection_with_it(
    redis_server: RedisServer, committer: Committer, store: Store
) -> None:
    kept, removed = Node(1), Node(2)
    joined(redis_server, kept)
    member = joined(redis_server, removed)
    own_id = str(member.client.client_id())
    operator = client_of(store, ZONE)
    operator.ask(
        Request.validated("block", ZONE, removed.key), 10, operator.keys.operator_inbox
    ).lease_or_raise()
    until(lambda: own_id not in {client["id"] for client in store.redis.client_list()})
    assert set(node_users.read(store, ZONE)) == {kept.key}
    assert node_users.of_zone(store.redis.acl_users(), ZONE) == {node_user(ZONE, kept.key)}
    back = login(redis_server, removed)
    client = back.open("test")
    assert client.enrols
    with pytest.raises(RequestRefused, match="blocked"):
        back.enrol(client, removed.request("join"), 10, "test")


def test_users_that_a_supervisor_left_behind_are_removed_by_the_next_one(
    redis_server: RedisServer, serving: Serving, store: Store
) -> None:
    node, gone = Node(1), Node(2)
    with serving():
        joined(redis_server, node).client.close()
    node_users.write(store, ZONE, {gone.key: node_users.record_of({"0" * 16: "0" * 64})})
    store.redis.execute_command("ACL", "SETUSER", "node-zone-blue-2-" + "0" * 24, "on", "nopass")
    with serving():
        assert node_users.of_zone(store.redis.acl_users(), ZONE) == {node_user(ZONE, node.key)}
    assert "node-zone-blue-2-" + "0" * 24 in store.redis.acl_users(), "it is of another zone"


def test_a_server_that_lets_us_make_no_users_keeps_the_zones_user_as_the_members_login(
    redis_server: RedisServer, serving: Serving, store: Store
) -> None:
    agent = redis_server.add_agent(ZONE, AGENT_PASSWORD)
    store.redis.execute_command("ACL", "SETUSER", "supervisor", "-acl|setuser", "-acl|deluser")
    node = Node(1)
    with serving():
        client = login(redis_server, node).open("test")
        assert client.where.user == agent.user
        assert not client.enrols
        assert client.ask(node.request("join"), 10).ok
        assert set(client.snapshot().peers) == {node.key}


def test_a_zone_that_accepts_requests_without_proof_keeps_its_user_until_it_requires_them(
    redis_server: RedisServer, tmp_path: Path, store: Store
) -> None:
    key_file = KeyFile(str(tmp_path / "supervisor.key")).ensure()
    zone = replace(CLOSED, policy=Policy(proof="optional"))
    with committing(redis_server.address, (zone,), key_file=key_file):
        old = ZoneClient(redis_server.client(), redis_server.address, ZONE)
        assert old.snapshot().peers == {}
        member = joined(redis_server, Node(1))
        reader = login(redis_server, Node(2)).open("test")
        assert set(reader.snapshot().peers) == {Node(1).key}, "as agents of the version before do"
        zones.change(store, ZONE, ZonePatch(proof="required"))
        until(lambda: _is_shut(redis_server))
        assert set(member.snapshot().peers) == {Node(1).key}


def test_a_node_without_the_library_for_proofs_learns_what_to_install(
    redis_server: RedisServer, committer: Committer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secrets, "HAS_CRYPTOGRAPHY", False)
    with pytest.raises(ControllerDenied, match=r"zone-blue requires .* proves .* python3-cryptography"):
        replace(login(redis_server, Node(1)), prover=None).open("test")


def test_a_node_that_comes_before_the_supervisor_waits_for_its_key_instead_of_a_refusal(
    redis_server: RedisServer, store: Store, serving: Serving
) -> None:
    store.create(CLOSED)
    redis_server.add_agent(ZONE, AGENT_PASSWORD)
    with pytest.raises(ControllerUnreachable, match="no supervisor has published its key in zone zone-blue"):
        login(redis_server, Node(1)).open("test")
    with serving():
        until(lambda: _joins(redis_server, Node(1)))


def _joins(server: RedisServer, node: Node) -> bool:
    try:
        return set(joined(server, node).snapshot().peers) == {node.key}
    except (AssertionError, ControllerUnreachable):  # the supervisor has not opened the zone yet
        return False


def _is_shut(server: RedisServer) -> bool:
    try:
        login(server, Node(2)).open("test").snapshot()
    except ControllerDenied:
        return True
    except ControllerUnreachable:  # the change of its rights closes its connections
        return False
    return False


def is_admitted(server: Controller, node: Node) -> bool:
    """Whether the controller admits the node as itself."""
    try:
        return not login(server, node).open("test").enrols
    except (ControllerDenied, ControllerUnreachable):
        return False


def test_a_node_logs_in_as_itself_at_the_primary_that_sentinels_name_after_a_failover(tmp_path: Path) -> None:
    """The sentinels need a login, and know the zone's user only."""
    key_file, node = KeyFile(str(tmp_path / "supervisor.key")).ensure(), Node(1)
    with Sentinels((agent_user(ZONE), AGENT_PASSWORD)) as sentinels:
        operator = sentinels.address_of("supervisor", sentinels.password)
        with committing(operator, (CLOSED,), key_file=key_file):
            assert joined(sentinels, node).where.user == node_user(ZONE, node.key)
            sentinels.fail_over()
            until(lambda: is_admitted(sentinels, node))


def test_a_node_logs_in_as_itself_at_the_shard_of_its_zone_and_where_that_moves(tmp_path: Path) -> None:
    key_file, node = KeyFile(str(tmp_path / "supervisor.key")).ensure(), Node(1)
    with Cluster() as cluster:
        operator = replace(cluster.address_of("supervisor", cluster.password), zone=ZONE)
        store = Store.open(operator, "test")
        store.create(CLOSED)
        with committing(operator, (), key_file=key_file):
            assert joined(cluster, node).where.user == node_user(ZONE, node.key)
            before = cluster.shard_of(ZONE)
            cluster.move(ZONE, next(server for server in cluster.servers if server is not before))
            until(lambda: is_admitted(cluster, node))
            assert login(cluster, node).open("test").where.port != before.port
