# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads and writes supervisors' replies as the product does."""

from __future__ import annotations

from typing import Any

from jaywalk.trust.envelope import is_proven
from jaywalk.zone.redis_keys import ZoneKeys
from jaywalk.zone.reply_streams import AwaitedReply, ReplyTo
from jaywalk.zone.requests import Reply


def read_reply(redis: Any, keys: ZoneKeys, nonce: str) -> Reply | None:
    """Return the reply to the request with ``nonce``, or None; a proof of it is not checked."""
    awaited = AwaitedReply(keys, nonce)
    text = awaited.find({stream: [*map(_raw, redis.xrange(stream))] for stream in awaited.positions})
    if text is None:
        return None
    return Reply.from_wire(text.partition("\n")[2] if is_proven(text) else text)


def _raw(entry: tuple[str, dict[str, str]]) -> tuple[str, list[str]]:
    entry_id, fields = entry
    return entry_id, [text for field in fields.items() for text in field]


def write_reply(redis: Any, keys: ZoneKeys, nonce: str, text: str, shared: bool = True) -> None:
    """Write ``text`` as the reply to ``nonce``."""
    stream, field = ReplyTo(nonce, shared).stream_and_field(keys)
    redis.xadd(stream, {field: text})
