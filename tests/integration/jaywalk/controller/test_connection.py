# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses of controllers as people write them, and connections to a real Redis that is away or closed."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from jaywalk.controller.address import ControllerAddress, agent_user
from jaywalk.controller.connection import connect
from jaywalk.core.errors import ControllerDenied, ControllerUnreachable, InvalidValue
from tests.redis_server import RedisServer


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("redis.example", "redis.example", 6379),
        ("192.0.2.1:7000", "192.0.2.1", 7000),
        ("2001:db8::1", "2001:db8::1", 6379),
        ("[2001:db8::1]", "2001:db8::1", 6379),
        ("[2001:db8::1]:7000", "2001:db8::1", 7000),
    ],
)
def test_address_is_read_as_people_write_it(text: str, host: str, port: int) -> None:
    where = ControllerAddress.parse(text, "agent-zone-blue", "s3cret")
    assert (where.host, where.port) == (host, port)
    assert ControllerAddress.parse(str(where)) == ControllerAddress.parse(text)
    assert "s3cret" not in f"{where}{where!r}"


def test_a_cluster_is_read_as_people_write_it() -> None:
    where = ControllerAddress.parse("cluster://a.example,[2001:db8::1]:7000", "agent-zone-blue", "s3cret")
    assert where.nodes == (("a.example", 6379), ("2001:db8::1", 7000))
    assert where.hosts == ("a.example", "2001:db8::1")
    assert str(where) == "cluster://a.example:6379,[2001:db8::1]:7000"
    assert "s3cret" not in f"{where}{where!r}"


def test_sentinels_are_read_as_people_write_them() -> None:
    text = "sentinel://a.example,192.0.2.1:7000,[2001:db8::1]/mymaster"
    where = ControllerAddress.parse(text, "agent-zone-blue", "s3cret")
    assert where.sentinels == (("a.example", 26379), ("192.0.2.1", 7000), ("2001:db8::1", 26379))
    assert where.service == "mymaster"
    assert where.hosts == ("a.example", "192.0.2.1", "2001:db8::1")
    assert ControllerAddress.parse(str(where)) == ControllerAddress.parse(text)
    assert "s3cret" not in f"{where}{where!r}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        ":6379",
        "host:",
        "host:0",
        "host:65536",
        "host:six",
        "a b",
        "host\x00",
        "redis://host",
        "host/1",
        "cluster://",
        "cluster://host/0",
        "cluster://host,",
        "sentinel://",
        "sentinel://host",
        "sentinel://host/",
        "sentinel://host:0/mymaster",
        "sentinel://host,/mymaster",
        "sentinel:///mymaster",
        "sentinel://host/my master",
        "[]:1",
    ],
)
def test_address_that_does_not_parse_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue):
        ControllerAddress.parse(text)


def test_password_in_the_address_is_not_repeated() -> None:
    with pytest.raises(InvalidValue) as caught:
        ControllerAddress.parse("redis://agent:s3cret@192.0.2.1:6379")
    assert "s3cret" not in str(caught.value)


def test_wrong_password_and_unknown_user_are_refusals_that_name_the_user(redis_server: RedisServer) -> None:
    redis_server.add_agent("zone-blue", "the-right-password")
    for user, password in [
        (agent_user("zone-blue"), "wr0ng-password"),
        (agent_user("zone-red"), "the-right-password"),
        ("", "wr0ng-password"),
        ("", ""),
    ]:
        with pytest.raises(ControllerDenied) as caught:
            connect(redis_server.address_of(user, password))
        assert f"user '{user or 'default'}'" in str(caught.value)
        assert str(redis_server.port) in str(caught.value)
        assert "password" not in str(caught.value).replace("check the password", "")


@contextmanager
def silent_server() -> Iterator[ControllerAddress]:
    """A host that takes connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield ControllerAddress("127.0.0.1", listener.getsockname()[1], "agent", "s3cret", timeout=0.3)


def test_controller_that_cannot_be_reached_is_named_with_the_reason(redis_server: RedisServer) -> None:
    redis_server.stop()
    with pytest.raises(ControllerUnreachable, match=rf"127.0.0.1:{redis_server.port} .*Connection refused"):
        connect(redis_server.address)
    for host in ("no-such-host.invalid", "a" * 64 + ".invalid", "a..invalid"):
        with pytest.raises(ControllerUnreachable, match="cannot be reached") as caught:
            connect(ControllerAddress(host, 6379, "agent", "s3cret"))
        assert "s3cret" not in str(caught.value)
    with silent_server() as where, pytest.raises(ControllerUnreachable, match=r"Timeout|timed out"):
        connect(where)
