# SPDX-License-Identifier: GPL-3.0-or-later
"""A server that is no Redis, or a spoilt one: each command ends in time, in little memory, and says why."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from jaywalk.controller import client as zone_client
from jaywalk.controller.address import ControllerAddress
from jaywalk.controller.bounded import BoundedPool, UnexpectedReply
from jaywalk.controller.client import BLOCK_FRACTION, EVENTS_PER_PAGE, ZoneClient
from jaywalk.controller.connection import connect, locate
from jaywalk.controller.reply_meter import NODE, SUPERVISOR
from jaywalk.core.errors import ControllerUnreachable, InvalidValue
from jaywalk.zone.redis_keys import ZoneKeys
from tests.agent_support import peer, view_of
from tests.faulty_server import Behaviour, faulty_server, sends, trickles
from tests.redis_server import RedisServer

PATIENCE = 1.0
PARSERS: list[Any] = [redis._parsers._HiredisParser, redis._parsers._RESP2Parser]
HUGE = {
    "elements": b"*1000000000\r\n",
    "nested": b"*2\r\n*3\r\n*1000000000\r\n",
    "string": b"$9999999999\r\n",
    "pairs": b"%500000000\r\n",
    "levels": b"*1\r\n" * 1_100_000,
    "bytes": b"$60000000\r\n" + b"x" * 60_000_000 + b"\r\n",
}


def zone_at(where: ControllerAddress) -> ZoneClient:
    where = replace(where, timeout=PATIENCE)
    return ZoneClient(connect(where), where, "zone-blue")


COMMANDS: dict[str, Callable[[ZoneClient], Any]] = {
    "snapshot": lambda zone: zone.snapshot(),
    "lease": lambda zone: zone.lease("key"),
    "leases": lambda zone: zone.leases(),
    "seen": lambda zone: zone.last_seen(),
    "goes on": lambda zone: zone.log_continues_from(view_of(peer(0))),
    "read": lambda zone: zone.read(view_of(peer(0)), block=60.0),
    "check in": lambda zone: zone.check_in(view_of(peer(0))),
}


def address_space() -> int:
    """The most that this process ever had, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmPeak")) * 1024


@pytest.mark.parametrize("command", COMMANDS)
def test_a_reply_that_trickles_ends_with_its_time(command: str) -> None:
    with faulty_server(trickles(0.1)) as server:
        zone = zone_at(server.address)
        with pytest.raises(ControllerUnreachable, match=r"sends a reply so slowly .*: is it Redis\?"):
            COMMANDS[command](zone)


def test_a_greeting_that_trickles_ends_with_its_time() -> None:
    """Each of the greeting's replies comes within the time of one."""
    with (
        faulty_server(trickles(0.05, b"+OK\r\n"), greets=False) as server,
        pytest.raises(ControllerUnreachable, match=r"so slowly|no answer in time"),
    ):
        connect(replace(server.address, timeout=0.5, user="agent-zone-blue", password="secret"))


@pytest.mark.parametrize("reply", HUGE)
@pytest.mark.parametrize("parser", PARSERS)
def test_a_reply_that_is_too_large_is_refused_before_there_is_room_for_it(parser: Any, reply: str) -> None:
    with faulty_server(sends(HUGE[reply])) as server:
        host, port = server.address.host, server.address.port
        bounds = NODE if reply != "bytes" else NODE._replace(size=50_000_000)
        pool = BoundedPool(
            bounds=bounds, host=host, port=port, protocol=2, parser_class=parser, socket_timeout=20.0
        )
        client, before = redis.Redis(connection_pool=pool), address_space()
        with pytest.raises(UnexpectedReply, match="reply"):
            client.get("key")
        assert address_space() - before < 1 << 30


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("reply", [HUGE["elements"], HUGE["string"], b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_each_command_says_what_was_sent_and_asks_whether_it_is_redis(command: str, reply: bytes) -> None:
    with faulty_server(sends(reply)) as server:
        zone = zone_at(server.address)
        with pytest.raises(ControllerUnreachable, match=rf"{server.address} sends .*: is it Redis\?"):
            COMMANDS[command](zone)


ODD = {
    "number": b":5\r\n",
    "text": b"$2\r\nhi\r\n",
    "numbers": b"*3\r\n:1\r\n:2\r\n:3\r\n",
    "pair of numbers": b"*2\r\n:1\r\n:2\r\n",
    "page of numbers": b"*2\r\n$1\r\n0\r\n*2\r\n:1\r\n:2\r\n",
    "streams of numbers": b"*1\r\n*2\r\n$1\r\nx\r\n*1\r\n:7\r\n",
    "entries of numbers": b"*1\r\n*2\r\n$3\r\n1-1\r\n*2\r\n:1\r\n:2\r\n",
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("reply", ODD)
def test_a_reply_of_another_kind_ends_no_agent(command: str, reply: str) -> None:
    """It is of proper size and form, and a number where a hash is due, or the like."""
    with faulty_server(sends(ODD[reply])) as server:
        zone = zone_at(server.address)
        with suppress(ControllerUnreachable, InvalidValue):  # which an agent survives
            COMMANDS[command](zone)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_number_where_something_else_is_due_is_named(command: str) -> None:
    with faulty_server(sends(ODD["number"])) as server:
        zone = zone_at(server.address)
        with pytest.raises(ControllerUnreachable, match=r"of another kind than Redis's: is it Redis\?"):
            COMMANDS[command](zone)


def test_pages_of_a_hash_that_never_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zone_client, "MAX_PAGES", 5)
    with faulty_server(sends(b"*2\r\n$1\r\n7\r\n*0\r\n")) as server:
        zone = zone_at(server.address)
        with pytest.raises(ControllerUnreachable, match="records without end"):
            zone.leases()


@pytest.mark.parametrize("conduct", [trickles(0.1), sends(HUGE["elements"])])
def test_a_sentinel_that_trickles_or_lies_is_passed_over(conduct: Behaviour) -> None:
    with faulty_server(conduct) as server:
        host, port = server.address.host, server.address.port
        where = ControllerAddress(host, port, sentinels=((host, port),) * 2, service="mesh")
        with pytest.raises(ControllerUnreachable, match=r"no sentinel of .* names a primary"):
            locate(where)
        assert server.connections == 2


def test_the_largest_page_of_events_that_is_honest_passes(redis_server: RedisServer) -> None:
    keys, where = ZoneKeys("zone-blue"), redis_server.address
    with redis_server.client() as client:
        for number in range(EVENTS_PER_PAGE + 1):
            client.xadd(keys.events, {"o": "x" * (256 + 16) * 1024}, id=f"1-{number + 1}")
    zone = ZoneClient(connect(where), where, "zone-blue")
    entries = zone._xread({keys.events: "0"}, 1.0)[keys.events]
    assert len(entries) == EVENTS_PER_PAGE
    assert len(entries[0][1][1]) > 256 * 1024


def test_a_read_that_waits_for_news_outlasts_the_time_of_a_reply(redis_server: RedisServer) -> None:
    where = replace(redis_server.address, timeout=PATIENCE)
    zone = ZoneClient(connect(where), where, "zone-blue")
    for _ in range(3):
        assert zone._xread({zone.keys.events: "0"}, 60.0) == {}
    assert BLOCK_FRACTION < 1


def test_a_supervisor_may_read_what_a_node_may_not() -> None:
    assert SUPERVISOR.size > NODE.size
    assert SUPERVISOR.elements > NODE.elements
