# SPDX-License-Identifier: GPL-3.0-or-later
"""JSON codec with type checks for untrusted input; raises ``InvalidValue``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..core import validation
from ..core.errors import InvalidValue

# JSON without spaces, since most data of a zone is such text.
compact = json.JSONEncoder(separators=(",", ":")).encode


_decode = json.JSONDecoder().raw_decode


def decoded(text: str) -> Any:
    """Parses a text that ``compact`` wrote; raises ``ValueError`` and ``RecursionError``.

    Does not search for spaces as ``json.loads`` does, since every agent parses every event.
    """
    value, end = _decode(text)
    if end != len(text):
        raise ValueError("something follows the JSON value")
    return value


def parsed(text: str, kind: type, what: str) -> Any:
    """The JSON value in ``text``, which must be a ``kind``."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidValue(f"{what} is no JSON", "send one JSON value") from None
    if not isinstance(value, kind):
        raise InvalidValue(f"{what} is a JSON {type(value).__name__}", f"send a {kind.__name__}")
    return value


def mapping(record: object, what: str) -> Mapping[str, Any]:
    """A JSON object, parsed already or not."""
    if isinstance(record, str):
        record = parsed(record, dict, what)
    if not isinstance(record, dict):
        raise InvalidValue(f"{what} is no JSON object")
    return record


def a_list(value: object, what: str) -> list[object]:
    """A JSON list of anything."""
    if isinstance(value, list):
        return value
    raise InvalidValue(f"the {what} are no list", "send a JSON list")


def checked_list(check: Any, value: object, what: str, limit: int) -> tuple[str, ...]:
    """A list of at most ``limit`` values, each checked by ``check``, without duplicates."""
    if len(found := a_list(value, what)) > limit:
        raise InvalidValue(f"there are {len(found)} {what}", f"send at most {limit}")
    return tuple(dict.fromkeys(map(check, found)))


def text(value: object, what: str) -> str:
    """A printable string, which fits on one line."""
    if isinstance(value, str) and value.isprintable():
        return value
    raise InvalidValue(f"the {what} is no printable text", "send a string")


def natural(value: object, what: str) -> int:
    """A natural number that every JSON parser represents exactly (RFC 8259, section 6)."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53:
        return value
    raise InvalidValue(
        f"the {what} {validation.shown(value)} is no natural number below 2^53", "send an integer"
    )


def is_time(value: object) -> bool:
    """Whether ``value`` can be seconds since 1970."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 2**53
