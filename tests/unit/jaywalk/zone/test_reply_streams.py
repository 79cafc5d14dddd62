# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from jaywalk.zone.redis_keys import ZoneKeys
from jaywalk.zone.reply_streams import STREAMS, AwaitedReply, ReplyTo
from jaywalk.zone.requests import new_nonce

KEYS = ZoneKeys("zone-blue")
NONCE = "5eed" * 8
STREAM, FIELD = ReplyTo(NONCE).stream_and_field(KEYS)
OWN_STREAM, OWN_FIELD = ReplyTo(NONCE, shared=False).stream_and_field(KEYS)


def test_answers_to_any_number_of_requests_stand_in_a_bounded_number_of_streams() -> None:
    places = [ReplyTo(new_nonce()).stream_and_field(KEYS) for _ in range(30_000)]
    assert len({stream for stream, _field in places}) == STREAMS
    assert len({field for _stream, field in places}) == len(places)


def test_an_entry_does_not_tell_the_nonce_of_its_request() -> None:
    assert FIELD not in NONCE
    assert NONCE[:3] not in STREAM


def test_the_own_answer_is_found_among_those_of_others_and_each_entry_is_read_once() -> None:
    awaited = AwaitedReply(KEYS, NONCE)
    assert awaited.positions == {STREAM: "0", OWN_STREAM: "0"}
    others = [("5-0", ["00", "not mine"]), ("6-0", [])]
    assert awaited.find({STREAM: others, KEYS.events: [("9-9", [FIELD, "no answer"])]}) is None
    assert awaited.positions == {STREAM: "6-0", OWN_STREAM: "0"}
    assert awaited.find({}) is None
    assert awaited.find({STREAM: [("7-0", ["11", "x"]), ("7-1", [FIELD, "mine"])]}) == "mine"


def test_of_two_answers_the_first_counts() -> None:
    awaited = AwaitedReply(KEYS, NONCE)
    assert awaited.find({STREAM: [("7-0", [FIELD, "first"]), ("7-1", [FIELD, "second"])]}) == "first"


def test_the_answer_of_an_older_supervisor_is_found_in_its_own_stream() -> None:
    assert KEYS.reply(NONCE) == OWN_STREAM
    assert AwaitedReply(KEYS, NONCE).find({OWN_STREAM: [("1-0", [OWN_FIELD, "mine"])]}) == "mine"
