# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks the types of replies, as redis-py returns them or as Redis sends them.  Pure.

A server that is not Redis, or a proxy, may send a well-formed reply of the wrong type, for example a number
instead of a hash.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def _is_text(reply: Any) -> bool:
    return isinstance(reply, str)


def _is_text_or_none(reply: Any) -> bool:
    return reply is None or isinstance(reply, str)


def _is_hash(reply: Any) -> bool:
    return isinstance(reply, dict) and all(map(_is_text, reply)) and all(map(_is_text, reply.values()))


def _is_pair(reply: Any) -> bool:
    return isinstance(reply, (list, tuple)) and len(reply) == 2


def _is_time(reply: Any) -> bool:
    return _is_pair(reply) and all(isinstance(part, int) for part in reply)


def _is_page(reply: Any) -> bool:
    return _is_pair(reply) and isinstance(reply[0], int) and _is_hash(reply[1])


def _is_range(reply: Any) -> bool:
    return isinstance(reply, list) and all(
        _is_pair(entry) and _is_text(entry[0]) and _is_hash(entry[1]) for entry in reply
    )


def _are_fields(reply: Any) -> bool:
    return isinstance(reply, list) and all(map(_is_text_or_none, reply))


_KINDS: dict[str, Callable[[Any], bool]] = {
    "HGET": _is_text_or_none,
    "HGETALL": _is_hash,
    "HMGET": _are_fields,
    "HSCAN": _is_page,
    "TIME": _is_time,
    "XRANGE": _is_range,
}


def fits(command: str, reply: Any) -> bool:
    """Whether ``reply``, as redis-py returns it, has a valid type; True for unknown commands."""
    return command not in _KINDS or _KINDS[command](reply)


def is_news(reply: Any) -> bool:
    """Whether ``reply``, as Redis sends it, is one to XREAD: the name and entries of each stream."""
    return reply is None or (isinstance(reply, list) and all(map(_is_stream, reply)))


def _is_stream(stream: Any) -> bool:
    return _is_pair(stream) and _is_text(stream[0]) and _are_entries(stream[1])


def _are_entries(entries: Any) -> bool:
    return isinstance(entries, list) and all(
        _is_pair(entry) and _is_text(entry[0]) and isinstance(entry[1], list) and all(map(_is_text, entry[1]))
        for entry in entries
    )
