# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever bytes come into an inbox of a real Redis: refused, counted, answered if they can be; no change."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from jaywalk.zone.redis_keys import ZoneKeys
from jaywalk.zone.reply_streams import AwaitedReply
from jaywalk.zone.requests import Request
from jaywalk_supervisor.committer.committer import Committer
from tests.redis_server import RedisServer
from tests.replies import read_reply
from tests.supervisor_support import committing, join, key_of, until

from .checker.snapshot import ZoneSnapshot, faults

ZONE = "zone-blue"
INBOX = "{zone-blue}:inbox"
LARGEST = 16384
NONCE = "5eed" * 8
EXAMPLES = 150
FUTURE = time.time_ns() // 1000 + 2 * 86400 * 10**6


class Desk:
    """An inbox, and what its zone comes to after a request."""

    def __init__(self, server: RedisServer, committer: Committer) -> None:
        self.redis = server.client()
        self._committer = committer
        self._member = join(ZONE, 1)
        self._hand_in(self._member.to_wire())
        # Written after the commit that answers, and a part of what nothing may change.
        until(lambda: self.redis.hexists(f"{{{ZONE}}}:seen", self._member.key))

    def picture(self) -> ZoneSnapshot:
        """The zone, and who was seen; when, changes with each request of the member."""
        taken = ZoneSnapshot.read(self.redis, ZONE)
        return replace(taken, seen=dict.fromkeys(taken.seen, 0))

    def counted(self) -> int:
        health = self._committer.health
        return sum(health.bad.values()) + sum(health.drops.values()) + sum(health.refusals.values())

    def reply(self, nonce: str) -> dict[str, Any] | None:
        """The answer to ``nonce``, and all answers beside it are forgotten then."""
        found = read_reply(self.redis, ZoneKeys(ZONE), nonce)
        self.redis.delete(*AwaitedReply(ZoneKeys(ZONE), nonce).positions)
        return json.loads(found.to_wire()) if found else None

    def serve(self, text: bytes) -> None:
        """Has ``text`` served, and what a member repeats behind it, which is answered and changes nothing."""
        again = join(ZONE, 1)
        self._hand_in(text, again.to_wire())
        # It stays: the answer to ``text`` may be in the same stream.
        until(lambda: read_reply(self.redis, ZoneKeys(ZONE), again.nonce))
        said = read_reply(self.redis, ZoneKeys(ZONE), again.nonce)
        assert said is not None and said.ok and not said.changed

    def _hand_in(self, *texts: str | bytes) -> None:
        self.redis.rpush(INBOX, *texts)
        until(lambda: self.redis.llen(INBOX) == 0 and self.redis.hlen(f"{{{ZONE}}}:peers"))


def nonce_in(text: bytes) -> str | None:
    """The nonce of a text that is small enough to be read and an object, else None."""
    decoded = text.decode(errors="replace")
    with suppress(ValueError, RecursionError):
        parsed = json.loads(decoded) if len(decoded) <= LARGEST else None
        nonce = parsed.get("nonce") if isinstance(parsed, dict) else None
        if isinstance(nonce, str) and re.fullmatch("[0-9a-f]{32}", nonce):
            return nonce
    return None


@contextmanager
def desk(server: RedisServer) -> Iterator[Desk]:
    with committing(server.address) as committer:
        yield Desk(server, committer)


def refuses(at: Desk, text: bytes) -> None:
    before, counted, nonce = at.picture(), at.counted(), nonce_in(text)
    at.serve(text)
    assert at.picture() == before
    until(lambda: at.counted() > counted)
    if nonce is not None:
        said = at.reply(nonce)
        assert said is not None and not said["ok"]
        assert said["code"] not in ("", "internal") and said["error"]


def test_random_bytes_change_nothing(redis_server: RedisServer) -> None:
    with desk(redis_server) as at:

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
            refuses(at, text)

        fuzz()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def odd(*kinds: type) -> st.SearchStrategy[Any]:
    """JSON of none of these kinds."""
    return json_values.filter(lambda value: type(value) not in kinds)


def bad_lists(bad: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return odd(list) | st.lists(bad, min_size=1, max_size=3)


BAD: dict[str, st.SearchStrategy[Any]] = {
    "v": odd(int, float) | st.sampled_from([0, 2, True, -1, 1.5, "1"]),
    "op": odd(str) | st.sampled_from(["", "reserve", "release", "show", "JOIN", "join ", "report"]),
    "zone": odd(str) | st.sampled_from(["", "zone-red", "zone-blu", "{zone-blue}", "zone-blue\n"]),
    "key": odd(str) | st.sampled_from(["", "c2hvcnQ=", key_of(9)[:-1], key_of(9) + "\n", "A" * 44, "*" * 44]),
    "name": odd(str) | st.sampled_from(["x y", "-x", "x" * 64, "x.y", "é", "x\n", "$(reboot)", "\ud800"]),
    "request_ip": bad_lists(
        odd(str) | st.sampled_from(["10.20.0.300", "192.0.2.1", "10.20.0.0", "10.20.15.255", "::1", "1", ""])
    ),
    "child_prefixes": bad_lists(
        odd(str) | st.sampled_from(["0.0.0.0/0", "10.20.1.0/24", "::/0", "172.20.1.0/33", "fe80::/64", "x/8"])
    )
    | st.just([f"172.{16 + number // 256 % 16}.{number % 256}.0/24" for number in range(10000)])
    | st.just([f"172.20.{number}.0/24" for number in range(65)]),
    "observed": odd(dict)
    | st.dictionaries(st.text(max_size=5), odd(str), min_size=1, max_size=3)
    | st.just({key_of(number): "192.0.2.1:51820" for number in range(129)})
    | st.sampled_from([{key_of(1): ":51820"}, {key_of(1): "127.0.0.1:51820"}, {"": "192.0.2.1:51820"}]),
    "endpoint": odd(str) | st.sampled_from([":51820", "192.0.2.1", "192.0.2.1:0", "192.0.2.1:65536", " :1"]),
    "nonce": odd(str) | st.sampled_from(["", "5eed", NONCE.upper(), NONCE + "0", "*" * 32]),
    "seq": odd(int)
    | st.sampled_from([-1, 2**53, 2**70, True, 1.5, time.time_ns() // 1000 + 2 * 86400 * 10**6]),
}
"""What a field never may be, for each field of a request."""


def test_a_request_with_one_bad_field_changes_nothing(redis_server: RedisServer) -> None:
    with desk(redis_server) as at:

        @settings(max_examples=3 * EXAMPLES)
        @given(st.data(), st.sampled_from(sorted(BAD)))
        def fuzz(data: st.DataObject, field: str) -> None:
            good = json.loads(join(ZONE, 2, endpoint="192.0.2.2:51820").to_wire())
            refuses(at, json.dumps({**good, field: data.draw(BAD[field])}).encode())

        fuzz()


def test_a_request_that_is_too_large_changes_nothing(redis_server: RedisServer) -> None:
    good = json.loads(join(ZONE, 2).to_wire())
    with desk(redis_server) as at:
        for more in (LARGEST, 10**6):
            refuses(at, json.dumps({**good, "more": "x" * more}).encode())


def test_a_replayed_request_changes_nothing(redis_server: RedisServer) -> None:
    with desk(redis_server) as at:
        old = join(ZONE, 2)
        at.serve(old.to_wire().encode())
        at.serve(Request.validated("leave", ZONE, key_of(2)).to_wire().encode())
        at.reply(old.nonce)
        refuses(at, old.to_wire().encode())


def flips(length: int) -> st.SearchStrategy[list[tuple[int, int]]]:
    return st.lists(st.tuples(st.integers(0, length - 1), st.integers(0, 255)), min_size=1, max_size=3)


def test_a_request_with_other_bytes_is_granted_whole_or_changes_nothing(redis_server: RedisServer) -> None:
    request = join(ZONE, 2, endpoint="192.0.2.2:51820", child_prefixes=["172.20.1.0/24"])
    good = request.to_wire().encode()

    def spoil(changes: list[tuple[int, int]], end: int) -> bytes:
        text = bytearray(good)
        for place, byte in changes:
            text[place] = byte
        return bytes(text[:end])

    with desk(redis_server) as at:

        @settings(max_examples=2 * EXAMPLES)
        @given(flips(len(good)), st.just(len(good)) | st.integers(1, len(good)))
        def fuzz(changes: list[tuple[int, int]], end: int) -> None:
            text, before = spoil(changes, end), at.picture()
            at.serve(text)
            after, nonce = at.picture(), nonce_in(text)
            said = at.reply(nonce) if nonce else None
            assert faults(after) == []
            assert (said is not None) == (nonce is not None)
            if after != before:
                assert said is not None and said["ok"] and said["changed"]

        fuzz()
