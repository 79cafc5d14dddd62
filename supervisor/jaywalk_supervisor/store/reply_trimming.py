# SPDX-License-Identifier: GPL-3.0-or-later
"""How much of the answers stays in Redis: a bounded number of bytes a zone, for a bounded time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from jaywalk.zone.redis_keys import ZoneKeys
from jaywalk.zone.reply_streams import ReplyTo
from jaywalk.zone.requests import Reply

# Answers in a shared stream: 32,768 in all, more than a zone has while a node pauses between two reads.
KEPT = 32
# Of a shared stream, so that long answers are kept in smaller numbers: 12 MB a zone in all.
KEPT_BYTES = 8192
# After the last answer in a stream. A node reads within a minute, or asks again.
SHARED_SECONDS = 300
OWN_SECONDS = 60
# Streams of a zone that hold one answer each, for agents of an older version: 4.4 kB each. Who waits has
# its answer at once, so that the oldest may go when there are more.
OWN_STREAMS = 1000


def arguments(keys: ZoneKeys, to: ReplyTo, reply: Reply) -> tuple[str, tuple[str | int, ...]]:
    """The stream for one answer, and what ``commit.lua`` takes for it."""
    stream, field = to.stream_and_field(keys)
    text = reply.to_wire()
    if not to.shared:
        return stream, (field, text, 1, OWN_SECONDS)
    kept = max(1, min(KEPT, KEPT_BYTES // len(text)))
    return stream, (field, text, kept, SHARED_SECONDS)


class OwnStreams:
    """The streams with one answer each that were written, oldest first, of each zone."""

    def __init__(self) -> None:
        self._written: dict[str, deque[str]] = {}

    def surplus(self, keys: ZoneKeys, written: Iterable[ReplyTo]) -> list[str]:
        """The streams to delete once answers were ``written``."""
        names = self._written.setdefault(keys.zone, deque())
        names.extend(to.stream_and_field(keys)[0] for to in written if not to.shared)
        return [names.popleft() for _ in range(len(names) - OWN_STREAMS)]
