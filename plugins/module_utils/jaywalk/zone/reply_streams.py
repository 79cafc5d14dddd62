# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the reply to a request is in Redis, and how its reader finds it.  Pure.

The replies of a zone are in a fixed number of streams, each of which keeps the newest few, so that any
number of requests uses a bounded amount of memory.  An entry has one field, whose name is a digest of the
request's nonce: all nodes of a zone can read it, and must not learn the nonce of another node's request, with
which they could cause a second reply to it.

An older version wrote each reply into a separate stream, named by the nonce.  The sender declares with
:attr:`ReplyTo.shared` which stream it reads; a reader reads both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from .redis_keys import ZoneKeys

# A stream uses 4 kB at least, and an entry wakes all readers that wait on its stream.
STREAMS = 1024
# The only field of a stream that holds one reply.
OWN_FIELD = "reply"


class ReplyTo(NamedTuple):
    """The address of a reply: its request's nonce, and whether the sender reads the shared streams."""

    nonce: str
    shared: bool = True

    def stream_and_field(self, keys: ZoneKeys) -> tuple[str, str]:
        """The stream for the reply, and the name of the field in its entry."""
        if not self.shared:
            return keys.reply(self.nonce), OWN_FIELD
        digest = hashlib.sha256(self.nonce.encode()).hexdigest()
        return keys.reply(f"{int(digest[:8], 16) % STREAMS:03x}"), digest[8:40]


class AwaitedReply:
    """Finds the reply to one request by repeated reads from ``positions``: stream -> last id read.

    ``shared`` says in which streams to look: in the shared ones, in the request's own, or in both.
    """

    def __init__(self, keys: ZoneKeys, nonce: str, shared: Sequence[bool] = (True, False)) -> None:
        self.nonce = nonce
        places = [ReplyTo(nonce, each).stream_and_field(keys) for each in shared]
        self.positions = {stream: "0" for stream, _field in places}
        self._fields = {field for _stream, field in places}

    def find(
        self,
        batches: Mapping[str, Sequence[tuple[str, Sequence[str]]]],
        read: Callable[[str], str | None] = str,
    ) -> str | None:
        """The first reply among the entries that were read, or None.

        ``batches`` maps a stream to its new entries, each an id and the names and values of its fields.
        ``read`` returns the reply in a text, or None for a text that is none.
        """
        for stream in self.positions:
            for entry_id, words in batches.get(stream, ()):
                self.positions[stream] = entry_id
                for field, text in zip(words[::2], words[1::2]):
                    if field in self._fields and (reply := read(text)) is not None:
                        return reply
        return None
