# SPDX-License-Identifier: GPL-3.0-or-later
"""What was tried and refused stays refused: every command of Redis, from the user of another zone."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import redis

from jaywalk.zone.redis_keys import TOKENS, TOKENS_AUDIT, ZONES, ZoneKeys
from tests.attacks.installation import Installation
from tests.supervisor_support import join, key_of
from tests.waiting import eventually

# What an agent's user may call without naming a key: about its own connection, and the time.
ABOUT_THE_CONNECTION = {"ping", "time", "client|id", "client|setname", "client|setinfo"}
# Arguments with which a command that finds its keys by its words names one key.
WORDS = {"xread": ("STREAMS", "{key}", "0"), "xreadgroup": ("GROUP", "g", "c", "STREAMS", "{key}", "0")}


@dataclass(frozen=True)
class RedisCommand:
    """A command of the server, or a subcommand as ``name|subcommand``."""

    name: str
    arity: int
    flags: frozenset[str]
    first_key: int

    @property
    def names_keys(self) -> bool:
        return self.first_key > 0 or "movablekeys" in self.flags

    def aimed_at(self, key: str) -> list[str]:
        """Return the shortest call that the server parses, with ``key`` in the place of its first key."""
        head = self.name.split("|")
        if words := WORDS.get(self.name):
            return [*head, *(word.format(key=key) for word in words)]
        call = [*head, *["1"] * (abs(self.arity) - len(head))]
        if self.first_key:
            call += ["1"] * (self.first_key + 1 - len(call))
            call[self.first_key] = key
        return call


def all_commands(server: redis.Redis) -> list[RedisCommand]:
    """Return all commands and subcommands that the server has."""
    [listed] = answers(server, [["COMMAND"]])
    return [command for entry in listed for command in _with_subcommands(entry)]


def _with_subcommands(entry: Sequence[Any]) -> Iterator[RedisCommand]:
    name, arity, flags, first_key, *_, subcommands = entry
    if not subcommands:
        yield RedisCommand(name, int(arity), frozenset(flags), int(first_key))
    for subcommand in subcommands:
        yield from _with_subcommands(subcommand)


def answers(client: redis.Redis, calls: Sequence[Sequence[str]]) -> list[Any]:
    """Send all calls at once on one connection; return an answer to each, also if it is an error."""
    connection = client.connection_pool.get_connection()
    try:
        connection.send_packed_command(connection.pack_commands(calls))
        return [_answer(connection) for _ in calls]
    finally:
        connection.disconnect()


def _answer(connection: Any) -> Any:
    try:
        return connection.read_response(disconnect_on_error=False)
    except (redis.ResponseError, redis.AuthenticationError) as error:
        return error


def is_denied(answer: Any) -> bool:
    """Whether the user has no right to the call, or nobody has (``DEBUG``, ``MODULE``)."""
    text = str(answer) if isinstance(answer, redis.RedisError) else ""
    return "has no permissions" in text or "command not allowed" in text


def dump(server: redis.Redis, pattern: str) -> dict[bytes, bytes]:
    """Return all keys that match, with their contents."""
    return {key: server.dump(key) for key in sorted(server.scan_iter(match=pattern))}


@pytest.fixture(scope="module")
def commands(installation: Installation) -> list[RedisCommand]:
    with installation.server.client() as server:
        found = all_commands(server)
    assert len(found) > 300, "the server lists all its commands"
    return [command for command in found if "no_auth" not in command.flags]


def keys_of(zone: str) -> list[str]:
    keys = ZoneKeys(zone)
    named = (keys.meta, keys.peers, keys.events, keys.leases, keys.credentials, keys.inbox, keys.node_audit)
    return [
        *named,
        keys.operator_inbox,
        keys.last_seen,
        keys.audit,
        keys.join_tokens,
        keys.pending,
        keys.reply("*"),
        ZONES,
        TOKENS,
        TOKENS_AUDIT,
    ]


def test_no_command_of_redis_reaches_another_zone_or_the_server(
    installation: Installation, commands: list[RedisCommand]
) -> None:
    """The password of zone-blue, with every command of the server, at every kind of key of zone-red."""
    assert installation.ask(join("zone-red", 1)).ok
    server = installation.server.raw()
    eventually(lambda: server.hlen(ZoneKeys("zone-red").last_seen), "the supervisor has written all")
    before = dump(server, "{zone-red}:*"), dump(server, "jw:[tz]*")
    keys = keys_of("zone-red")
    calls = [(each, each.aimed_at(key)) for each in commands for key in (keys if each.names_keys else [""])]
    replies = answers(installation.attacker_redis("zone-blue"), [call for _, call in calls])
    accepted = {each.name for (each, _), reply in zip(calls, replies, strict=True) if not is_denied(reply)}
    assert accepted <= ABOUT_THE_CONNECTION
    assert (dump(server, "{zone-red}:*"), dump(server, "jw:[tz]*")) == before


def test_no_command_of_redis_changes_the_own_zone_but_by_a_request(
    installation: Installation, commands: list[RedisCommand]
) -> None:
    """A member may read its zone and append to its inbox; the supervisor alone writes."""
    zone = ZoneKeys("zone-blue")
    writes = [command for command in commands if command.names_keys and "write" in command.flags]
    calls = [command.aimed_at(key) for key in keys_of("zone-blue") for command in writes]
    replies = answers(installation.attacker_redis("zone-blue"), calls)
    accepted = [call for call, reply in zip(calls, replies, strict=True) if not is_denied(reply)]
    assert accepted == [["rpush", zone.inbox, "1"]]


def test_a_user_of_a_zone_can_not_become_another_user(installation: Installation) -> None:
    """Its password opens no other user, and a user without a password opens nothing."""
    password = installation.passwords["zone-blue"]
    others = ["agent-zone-red", "supervisor", "default", "agent-zone-none"]
    calls = [["AUTH", user, word] for user in others for word in (password, "", "nopass")]
    replies = answers(installation.attacker_redis("zone-blue"), calls)
    assert all(isinstance(reply, redis.AuthenticationError) for reply in replies), replies


HOSTILE = (
    *(
        "../../etc/passwd",
        "$(reboot)",
        "`reboot`",
        "a;reboot",
        "a b",
        "--help",
        "a\nb",
        "a\r\n<3>b",
        "\x1b[2J",
    ),
    *("<script>alert(1)</script>", "{zone-red}", "zone\x00blue", "\u202egnp", "\ud800", "a" * 64, "*"),
)
FIELDS = (
    "name",
    "former_name",
    "endpoint",
    "request_ip",
    "former_ip",
    "child_prefixes",
    "local",
    "machine_id",
)


def test_a_hostile_text_in_a_request_reaches_no_record_and_no_line_of_the_log(
    installation: Installation,
) -> None:
    """Each text field of a join in turn, with what a shell, a terminal or a web page would act on."""
    for number, (field, text) in enumerate(itertools.product(FIELDS, HOSTILE)):
        request = join("zone-red", 10)
        value: Any = (text,) if isinstance(getattr(request, field), tuple) else text
        fields: dict[str, Any] = {field: value}
        reply = installation.ask(replace(request, **fields))
        assert not reply.ok, (number, field, text)
        assert text not in reply.error or text.isprintable()
    assert key_of(10) not in installation.server.client().hgetall(ZoneKeys("zone-red").leases)
    assert [line for line in installation.log().splitlines() if not line.isprintable()] == []
    assert [
        line for line in installation.log().split("\n") if "reboot" in line and "zone-red" not in line
    ] == []
