# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits the answers in Redis: a bounded number of bytes per zone, for a bounded time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from jaywalk.zone.redis_keys import ZoneKeys
from jaywalk.zone.reply_streams import ReplyTo

# Limit of answers in a shared stream: 32,768 in all, more than a zone gets while a node waits between two
# reads.
MAX_SHARED = 32
# Limit of a shared stream, so that fewer long answers are kept: 12 MB per zone in all.
SHARED_BYTES = 8192
# Lifetime of a stream after its last answer. A node reads its answer within a minute, or repeats the request.
SHARED_SECONDS = 300
OWN_SECONDS = 60
# Limit of a zone's streams that hold one answer each, for agents of an older version: 4.4 kB each. A waiting
# agent reads its answer at once, so that the oldest streams may be deleted.
MAX_OWN_STREAMS = 1000


def arguments(keys: ZoneKeys, to: ReplyTo, text: str) -> tuple[str, tuple[str | int, ...]]:
    """Returns the stream of one answer and its arguments of ``commit.lua``."""
    stream, field = to.stream_and_field(keys)
    if not to.shared:
        return stream, (field, text, 1, OWN_SECONDS)
    kept = max(1, min(MAX_SHARED, SHARED_BYTES // len(text)))
    return stream, (field, text, kept, SHARED_SECONDS)


class OwnStreams:
    """The written streams with one answer each of each zone, oldest first."""

    def __init__(self) -> None:
        self._written: dict[str, deque[str]] = {}

    def surplus(self, keys: ZoneKeys, written: Iterable[ReplyTo]) -> list[str]:
        """Returns the streams to delete after answers were ``written``."""
        names = self._written.setdefault(keys.zone, deque())
        names.extend(to.stream_and_field(keys)[0] for to in written if not to.shared)
        return [names.popleft() for _ in range(len(names) - MAX_OWN_STREAMS)]
