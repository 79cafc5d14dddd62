# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the answer to a request stands in Redis, and how its reader finds it.  Nothing here talks to Redis.

The answers of a zone stand in a fixed number of streams, each of which keeps the newest few, so that they
cost a bounded amount of memory whoever asks how often.  An entry has one field, whose name is a digest of the
request's nonce: all nodes of a zone can read it, and none may learn from it the nonce of another's request,
by which it could cause a second answer to it.

An older version wrote each answer into a stream of its own, named by the nonce.  Who asks says by
:attr:`ReplyTo.shared` where it looks; a reader looks in both places.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from .redis_keys import ZoneKeys

# A stream takes 4 kB at least, and an entry wakes all who wait on its stream.
STREAMS = 1024
# The one field of a stream that holds one answer only.
OWN_FIELD = "reply"


class ReplyTo(NamedTuple):
    """Who awaits an answer: its request's nonce, and whether it looks in the shared streams."""

    nonce: str
    shared: bool = True

    def stream_and_field(self, keys: ZoneKeys) -> tuple[str, str]:
        """The stream for the answer, and the name of the field in its entry."""
        if not self.shared:
            return keys.reply(self.nonce), OWN_FIELD
        digest = hashlib.sha256(self.nonce.encode()).hexdigest()
        return keys.reply(f"{int(digest[:8], 16) % STREAMS:03x}"), digest[8:40]


class AwaitedReply:
    """The answer to one request, looked for by repeated reads from ``positions``: stream -> last id seen."""

    def __init__(self, keys: ZoneKeys, nonce: str) -> None:
        self.nonce = nonce
        places = [ReplyTo(nonce, shared).stream_and_field(keys) for shared in (True, False)]
        self.positions = {stream: "0" for stream, _field in places}
        self._fields = {field for _stream, field in places}

    def find(self, batches: Mapping[str, Sequence[tuple[str, Sequence[str]]]]) -> str | None:
        """The answer's text if it is among the entries that were read; the first one counts.

        ``batches`` maps a stream to its new entries, each an id and the names and values of its fields.
        """
        for stream in self.positions:
            for entry_id, words in batches.get(stream, ()):
                self.positions[stream] = entry_id
                for field, text in zip(words[::2], words[1::2]):
                    if field in self._fields:
                        return text
        return None
