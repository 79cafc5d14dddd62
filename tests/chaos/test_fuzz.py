# SPDX-License-Identifier: GPL-3.0-or-later
"""Invalid bytes in an inbox of a real Redis are refused, counted, answered if possible; nothing changes."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any
from unittest import mock

from hypothesis import example, given, settings
from hypothesis import strategies as st

from jaywalk.zone.redis_keys import ZoneKeys
from jaywalk.zone.reply_streams import AwaitedReply
from jaywalk.zone.requests import Request
from jaywalk_supervisor.committer import key_rates
from jaywalk_supervisor.committer.committer import Committer
from tests.redis_server import RedisServer
from tests.replies import read_reply
from tests.supervisor_support import committing, join, key_of, until

from .checker.snapshot import ZoneSnapshot, faults

ZONE = "zone-blue"
INBOX = "{zone-blue}:inbox"
MAX_REQUEST_BYTES = 16384
NONCE = "5eed" * 8
EXAMPLES = 150
FUTURE = time.time_ns() // 1000 + 2 * 86400 * 10**6


class FuzzedZone:
    """The inbox of a zone, and the state of the zone after a request."""

    def __init__(self, server: RedisServer, committer: Committer) -> None:
        self.redis = server.client()
        self._committer = committer
        self._member = join(ZONE, 1)
        self._send(self._member.to_wire())
        # The supervisor writes it after the commit with the reply; it is part of the compared state.
        until(lambda: self.redis.hexists(f"{{{ZONE}}}:seen", self._member.key))

    def snapshot(self) -> ZoneSnapshot:
        """Return the zone without the times of last_seen, which change with each request of the member."""
        taken = ZoneSnapshot.read(self.redis, ZONE)
        return replace(taken, seen=dict.fromkeys(taken.seen, 0))

    def counted(self) -> int:
        health = self._committer.health
        return sum(health.bad.values()) + sum(health.drops.values()) + sum(health.refusals.values())

    def reply(self, nonce: str) -> dict[str, Any] | None:
        """Return the reply to ``nonce``, and delete all replies of its streams."""
        found = read_reply(self.redis, ZoneKeys(ZONE), nonce)
        self.redis.delete(*AwaitedReply(ZoneKeys(ZONE), nonce).positions)
        return json.loads(found.to_wire()) if found else None

    def serve(self, text: bytes) -> None:
        """Send ``text`` and after it a member's repeated join, whose reply shows that both were handled."""
        again = join(ZONE, 1)
        self._send(text, again.to_wire())
        # The reply stays in Redis: the reply to ``text`` may be in the same stream.
        until(lambda: read_reply(self.redis, ZoneKeys(ZONE), again.nonce))
        reply = read_reply(self.redis, ZoneKeys(ZONE), again.nonce)
        assert reply is not None and reply.ok and not reply.changed

    def _send(self, *texts: str | bytes) -> None:
        self.redis.rpush(INBOX, *texts)
        until(lambda: self.redis.llen(INBOX) == 0 and self.redis.hlen(f"{{{ZONE}}}:peers"))


def nonce_in(text: bytes) -> str | None:
    """Return the nonce of a text that is an object and below the size limit, else None."""
    decoded = text.decode(errors="replace")
    with suppress(ValueError, RecursionError):
        parsed = json.loads(decoded) if len(decoded) <= MAX_REQUEST_BYTES else None
        nonce = parsed.get("nonce") if isinstance(parsed, dict) else None
        if isinstance(nonce, str) and re.fullmatch("[0-9a-f]{32}", nonce):
            return nonce
    return None


@contextmanager
def fuzzed_zone(server: RedisServer) -> Iterator[FuzzedZone]:
    # The member asks again after each text, far more often than a node may.
    with mock.patch.object(key_rates, "BURST", 10**6), committing(server.address) as committer:
        yield FuzzedZone(server, committer)


def check_refusal(zone: FuzzedZone, text: bytes) -> None:
    before, counted, nonce = zone.snapshot(), zone.counted(), nonce_in(text)
    zone.serve(text)
    assert zone.snapshot() == before
    until(lambda: zone.counted() > counted)
    if nonce is not None:
        reply = zone.reply(nonce)
        assert reply is not None and not reply["ok"]
        assert reply["code"] not in ("", "internal") and reply["error"]


def test_random_bytes_change_nothing(redis_server: RedisServer) -> None:
    with fuzzed_zone(redis_server) as zone:

        @settings(max_examples=EXAMPLES)
        @given(
            st.binary(max_size=300) | st.text(max_size=100).map(lambda text: text.encode(errors="replace"))
        )
        @example(b"")
        @example(b"\x00" * 20000)
        @example(b"[" * 16000)
        @example(b'{"nonce":' + b"[" * 9000)
        @example(b'{"nonce":"' + NONCE.encode() + b'"}')
        def fuzz(text: bytes) -> None:
            check_refusal(zone, text)

        fuzz()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def other_than(*kinds: type) -> st.SearchStrategy[Any]:
    """Return JSON values of other types."""
    return json_values.filter(lambda value: type(value) not in kinds)


def bad_lists(bad: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return other_than(list) | st.lists(bad, min_size=1, max_size=3)


# Invalid values of each field of a request.
BAD: dict[str, st.SearchStrategy[Any]] = {
    "v": other_than(int, float) | st.sampled_from([0, 2, True, -1, 1.5, "1"]),
    "op": other_than(str) | st.sampled_from(["", "reserve", "release", "show", "JOIN", "join ", "report"]),
    "zone": other_than(str) | st.sampled_from(["", "zone-red", "zone-blu", "{zone-blue}", "zone-blue\n"]),
    "key": other_than(str)
    | st.sampled_from(["", "c2hvcnQ=", key_of(9)[:-1], key_of(9) + "\n", "A" * 44, "*" * 44]),
    "name": other_than(str)
    | st.sampled_from(["x y", "-x", "x" * 64, "x.y", "é", "x\n", "$(reboot)", "\ud800"]),
    "request_ip": bad_lists(
        other_than(str)
        | st.sampled_from(["10.20.0.300", "192.0.2.1", "10.20.0.0", "10.20.15.255", "::1", "1", ""])
    ),
    "child_prefixes": bad_lists(
        other_than(str)
        | st.sampled_from(["0.0.0.0/0", "10.20.1.0/24", "::/0", "172.20.1.0/33", "fe80::/64", "x/8"])
    )
    | st.just([f"172.{16 + number // 256 % 16}.{number % 256}.0/24" for number in range(10000)])
    | st.just([f"172.20.{number}.0/24" for number in range(65)]),
    "observed": other_than(dict)
    | st.dictionaries(st.text(max_size=5), other_than(str), min_size=1, max_size=3)
    | st.just({key_of(number): "192.0.2.1:51820" for number in range(129)})
    | st.sampled_from([{key_of(1): ":51820"}, {key_of(1): "127.0.0.1:51820"}, {"": "192.0.2.1:51820"}]),
    "endpoint": other_than(str)
    | st.sampled_from([":51820", "192.0.2.1", "192.0.2.1:0", "192.0.2.1:65536", " :1"]),
    "nonce": other_than(str) | st.sampled_from(["", "5eed", NONCE.upper(), NONCE + "0", "*" * 32]),
    "seq": other_than(int)
    | st.sampled_from([-1, 2**53, 2**70, True, 1.5, time.time_ns() // 1000 + 2 * 86400 * 10**6]),
}


def test_a_request_with_one_bad_field_changes_nothing(redis_server: RedisServer) -> None:
    with fuzzed_zone(redis_server) as zone:

        @settings(max_examples=3 * EXAMPLES)
        @given(st.data(), st.sampled_from(sorted(BAD)))
        def fuzz(data: st.DataObject, field: str) -> None:
            good = json.loads(join(ZONE, 2, endpoint="192.0.2.2:51820").to_wire())
            check_refusal(zone, json.dumps({**good, field: data.draw(BAD[field])}).encode())

        fuzz()


def test_a_request_that_is_too_large_changes_nothing(redis_server: RedisServer) -> None:
    good = json.loads(join(ZONE, 2).to_wire())
    with fuzzed_zone(redis_server) as zone:
        for more in (MAX_REQUEST_BYTES, 10**6):
            check_refusal(zone, json.dumps({**good, "more": "x" * more}).encode())


def test_a_replayed_request_changes_nothing(redis_server: RedisServer) -> None:
    with fuzzed_zone(redis_server) as zone:
        old = join(ZONE, 2)
        zone.serve(old.to_wire().encode())
        zone.serve(Request.validated("leave", ZONE, key_of(2)).to_wire().encode())
        zone.reply(old.nonce)
        check_refusal(zone, old.to_wire().encode())


def flips(length: int) -> st.SearchStrategy[list[tuple[int, int]]]:
    return st.lists(st.tuples(st.integers(0, length - 1), st.integers(0, 255)), min_size=1, max_size=3)


def test_a_request_with_other_bytes_is_granted_whole_or_changes_nothing(redis_server: RedisServer) -> None:
    request = join(ZONE, 2, endpoint="192.0.2.2:51820", child_prefixes=["172.20.1.0/24"])
    good = request.to_wire().encode()

    def spoil(changes: list[tuple[int, int]], end: int) -> bytes:
        text = bytearray(good)
        for index, byte in changes:
            text[index] = byte
        return bytes(text[:end])

    with fuzzed_zone(redis_server) as zone:

        @settings(max_examples=2 * EXAMPLES)
        @given(flips(len(good)), st.just(len(good)) | st.integers(1, len(good)))
        def fuzz(changes: list[tuple[int, int]], end: int) -> None:
            text, before = spoil(changes, end), zone.snapshot()
            zone.serve(text)
            after, nonce = zone.snapshot(), nonce_in(text)
            reply = zone.reply(nonce) if nonce else None
            assert faults(after) == []
            assert (reply is not None) == (nonce is not None)
            if after != before:
                assert reply is not None and reply["ok"] and reply["changed"]

        fuzz()
