# SPDX-License-Identifier: GPL-3.0-or-later
"""The password that admits agents to a zone, also after Redis lost the zone's own one."""

from __future__ import annotations

import secrets

import pytest
import redis

from jaywalk.zone.patch import ZonePatch
from jaywalk.zone.redis_keys import ZoneKeys
from jaywalk_supervisor.admin import zones
from jaywalk_supervisor.store import acl
from jaywalk_supervisor.store.acl import password_hash
from jaywalk_supervisor.store.store import Store
from tests.redis_server import RedisServer

OWN, DEFAULT = "the-tenants-own-0123", "password-of-all-agents"
WISH = ZonePatch(cidr=["10.7.0.0/24"])


def opens(server: RedisServer, zone: str, password: str) -> bool:
    """Whether Redis admits an agent of ``zone`` with ``password``."""
    with redis.Redis(
        host=server.host, port=server.port, username=f"agent-{zone}", password=password
    ) as client:
        try:
            return bool(client.ping())
        except redis.AuthenticationError:
            return False


def test_the_default_password_opens_a_zone_that_never_had_its_own(
    redis_server: RedisServer, store: Store
) -> None:
    zones.add(store, "zone-a", WISH, None)
    assert acl.write_user(store, "zone-a", password_hash(DEFAULT))
    assert opens(redis_server, "zone-a", DEFAULT)


@pytest.mark.parametrize("server", ["goes on", "started anew"])
def test_a_zone_that_lost_its_own_password_stays_shut_to_the_default_one(
    redis_server: RedisServer, store: Store, server: str
) -> None:
    zones.add(store, "zone-a", WISH, OWN)
    store.redis.delete(ZoneKeys("zone-a").credentials)
    if server == "started anew":
        store.redis.execute_command("ACL", "DELUSER", "agent-zone-a")
    assert not acl.write_user(store, "zone-a", password_hash(DEFAULT))
    assert not opens(redis_server, "zone-a", DEFAULT)
    assert opens(redis_server, "zone-a", OWN) == (server == "goes on")
    assert zones.change(store, "zone-a", ZonePatch(), OWN)[0], "the remedy"
    assert opens(redis_server, "zone-a", OWN)


def test_a_zone_whose_meta_data_were_lost_still_had_its_own_password(store: Store) -> None:
    zones.add(store, "zone-a", WISH, OWN)
    store.redis.delete(ZoneKeys("zone-a").meta)
    zones.add(store, "zone-a", WISH, None)
    store.redis.delete(ZoneKeys("zone-a").credentials)
    assert not acl.write_user(store, "zone-a", password_hash(DEFAULT))


def test_a_new_password_is_a_revision_of_the_zone(store: Store) -> None:
    zones.add(store, "zone-a", WISH, OWN)
    before = store.load("zone-a")
    assert zones.change(store, "zone-a", ZonePatch(), "another-of-its-own-0")[0]
    assert not zones.change(store, "zone-a", ZonePatch(), "another-of-its-own-0")[0]
    after = store.load("zone-a")
    assert (after.epoch, after.rev) == (before.epoch, before.rev + 1)


def connected(server: RedisServer, zone: str, password: str) -> redis.Redis:
    """A connection of an agent of ``zone``."""
    client = redis.Redis(
        host=server.host,
        port=server.port,
        username=f"agent-{zone}",
        password=password,
        single_connection_client=True,
        client_name=f"test-{secrets.token_hex(8)}",
    )
    client.ping()
    return client


def is_open(store: Store, client: redis.Redis) -> bool:
    """Whether Redis still has the connection, which must not be replaced by a new one."""
    name = client.get_connection_kwargs()["client_name"]
    return any(listed["name"] == name for listed in store.redis.client_list())


def test_a_new_password_and_the_removal_of_a_zone_close_the_connections_of_its_agents(
    redis_server: RedisServer, store: Store
) -> None:
    zones.add(store, "zone-a", WISH, OWN)
    zones.add(store, "zone-b", ZonePatch(cidr=["10.8.0.0/24"]), OWN)
    first, other = connected(redis_server, "zone-a", OWN), connected(redis_server, "zone-b", OWN)
    acl.write_user(store, "zone-a")
    assert is_open(store, first), "a supervisor that starts closes nobody's connection"
    zones.change(store, "zone-a", ZonePatch(), "another-of-its-own-0")
    assert not is_open(store, first)
    second = connected(redis_server, "zone-a", "another-of-its-own-0")
    zones.remove(store, "zone-a", force=False)
    assert not is_open(store, second)
    assert is_open(store, other), "the other zone's agents notice nothing"


def test_a_server_that_refuses_to_close_connections_is_named_in_the_log(
    redis_server: RedisServer, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    zones.add(store, "zone-a", WISH, OWN)
    store.redis.execute_command("ACL", "SETUSER", "supervisor", "-client|kill")
    assert zones.change(store, "zone-a", ZonePatch(), "another-of-its-own-0")[0]
    assert "refuses to close the connections of its user agent-zone-a" in caplog.text
    assert opens(redis_server, "zone-a", "another-of-its-own-0")
