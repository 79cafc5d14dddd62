# SPDX-License-Identifier: GPL-3.0-or-later
"""What one zone uses of the controller that all share, while another zone joins."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import redis

from jaywalk.controller.login import NodeLogin
from jaywalk.core.errors import JaywalkError
from jaywalk.zone.redis_keys import ZoneKeys
from tests.attacks.installation import Installation
from tests.proven_nodes import Node
from tests.redis_server import RedisServer
from tests.supervisor_support import ROOT, join
from tests.waiting import eventually

MAX_CLIENTS = 300
# The lines of the role's configuration that limit clients, as the role writes them.
ROLE_LIMITS = (
    "client-output-buffer-limit",
    "maxmemory-clients",
    "client-query-buffer-limit",
    "proto-max-bulk-len",
)
NUMBERS = count(1)


def role_limits() -> dict[str, str]:
    """Return the options of Redis that the role controller sets against clients that use too much."""
    template = Path(ROOT, "roles/controller/templates/redis.conf.j2").read_text(encoding="utf-8")
    words = [line.split(" ", 1) for line in template.splitlines() if line.startswith(ROLE_LIMITS)]
    assert len(words) == len(ROLE_LIMITS)
    return {name.replace("-", "_"): value for name, value in words}


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation whose Redis has the limits of the role, and few connections."""
    with ExitStack() as stack:
        options = {"maxmemory": "256mb", "maxclients": str(MAX_CLIENTS), "appendfsync": "everysec"}
        server = stack.enter_context(RedisServer("redis-server", None, **options, **role_limits()))
        made = Installation(server, tmp_path_factory.mktemp("installation"), stack)
        # The zone's password reads the zone, so that it can do the most harm.
        made.start("--proof", "optional")
        yield made


def joins(installation: Installation, zone: str) -> bool:
    """Whether a new node joins ``zone`` with its password and a proof."""
    where, node = installation.agent_address(zone), Node(next(NUMBERS), zone=zone)
    login = NodeLogin(zone, lambda: replace(where, user="", password=""), lambda: where, node.prover)
    with suppress(redis.RedisError, JaywalkError):
        client = login.open("node")
        with closing(client.client):
            return client.ask(node.request("join"), timeout=30).ok
    return False


def logged_in(installation: Installation, zone: str, stack: ExitStack) -> socket.socket | None:
    """Return a plain connection with the zone's password, or None if the server takes no more."""
    where = installation.agent_address(zone)
    link = stack.enter_context(socket.create_connection((where.host, where.port), timeout=60))
    try:
        link.sendall(f"AUTH {where.user} {where.password}\r\n".encode())
        return link if link.recv(5).startswith(b"+OK") else None
    except ConnectionError:
        return None


def test_idle_connections_of_one_zone_shut_nobody_out(installation: Installation) -> None:
    with ExitStack() as stack:
        opened = 0
        for _ in range(MAX_CLIENTS * 2):
            opened += logged_in(installation, "zone-red", stack) is not None
        assert opened > MAX_CLIENTS / 2
        eventually(lambda: joins(installation, "zone-blue"), "zone-blue joins")
        with installation.server.client() as client:
            eventually(lambda: client.info("clients")["connected_clients"] < MAX_CLIENTS / 2)
        assert "zone zone-red over its bound" in installation.supervisor.log.read_text()


def test_connections_that_do_not_log_in_shut_nobody_out(installation: Installation) -> None:
    where = installation.server.address
    with ExitStack() as stack:
        for _ in range(MAX_CLIENTS * 2):
            with suppress(ConnectionError):
                stack.enter_context(socket.create_connection((where.host, where.port), timeout=60))
        eventually(lambda: joins(installation, "zone-blue"), "zone-blue joins")


def test_a_supervisor_starts_while_one_zone_has_all_connections(own_installation: Installation) -> None:
    """No supervisor runs that could close connections; one ends, and the supervisor takes its place."""
    installation = own_installation
    installation.server.configure(maxclients=str(MAX_CLIENTS))
    installation.supervisor.kill()
    with ExitStack() as stack:
        links = [logged_in(installation, "zone-red", stack) for _ in range(MAX_CLIENTS * 2)]
        assert links[0] is not None and links[-1] is None
        installation.supervisor.start()
        eventually(lambda: "no further connection" in installation.supervisor.log.read_text())
        links[0].close()
        eventually(lambda: "zone zone-red over its bound" in installation.supervisor.log.read_text())
        eventually(lambda: joins(installation, "zone-blue"), "zone-blue joins")


def test_replies_that_nobody_reads_fill_no_memory(installation: Installation) -> None:
    """600 pipelined HGETALL of a large zone on each of ten connections; nobody reads."""
    keys = ZoneKeys("zone-red")
    with installation.server.client() as client, ExitStack() as stack:
        client.hset(keys.peers, mapping={f"filler-{number}": "x" * 300 for number in range(2000)})
        try:
            for _ in range(10):
                link = logged_in(installation, "zone-red", stack)
                assert link
                with suppress(OSError):
                    link.sendall(f"HGETALL {keys.peers}\r\n".encode() * 600)
            assert joins(installation, "zone-blue")
            limit = int(client.info("memory")["maxmemory"])
            eventually(lambda: int(client.info("memory")["used_memory"]) < limit / 2)
            assert joins(installation, "zone-blue")
        finally:
            client.hdel(keys.peers, *(f"filler-{number}" for number in range(2000)))


@pytest.fixture
def flooded(installation: Installation) -> Iterator[Callable[[str, Callable[[int], str]], None]]:
    """Begins to write texts into a zone's inbox until the test ends."""
    stop = threading.Event()
    threads: list[threading.Thread] = []

    def flood(zone: str, text: Callable[[int], str]) -> None:
        texts = [text(number) for number in range(500)]

        def run() -> None:
            while not stop.is_set():
                with suppress(redis.RedisError, OSError):
                    where = installation.agent_address(zone)
                    with redis.Redis(
                        where.host, where.port, username=where.user, password=where.password
                    ) as own:
                        while not stop.is_set():
                            own.rpush(ZoneKeys(zone).inbox, *texts)
                            time.sleep(0.01)  # or a busy host has no time for the supervisor

        threads.append(threading.Thread(target=run, daemon=True))
        threads[-1].start()

    yield flood
    stop.set()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("kind", ["garbage", "joins"])
def test_a_flood_of_an_inbox_starves_neither_its_own_zone_nor_another_one(
    installation: Installation, flooded: Callable[[str, Callable[[int], str]], None], kind: str
) -> None:
    """Up to 50,000 entries a second, where a supervisor serves a few 1,000."""
    texts = {
        "garbage": lambda number: "x" * 200,
        "joins": lambda number: join("zone-red", 10_000 + number).to_wire(),
    }
    flooded("zone-red", texts[kind])
    inbox = ZoneKeys("zone-red").inbox
    with installation.server.client() as client:
        eventually(lambda: client.llen(inbox) > 1000)
        assert joins(installation, "zone-blue")
        eventually(lambda: joins(installation, "zone-red"), "zone-red joins, too", 120)
        assert int(client.memory_usage(inbox) or 0) < 256 << 20
    told = "agent-zone-red at 127.0.0.1 floods the inbox of zone zone-red"
    eventually(lambda: told in installation.supervisor.log.read_text(), "the log names who floods")
    assert told in installation.api("GET", "/healthz").body["warnings"]
