# SPDX-License-Identifier: GPL-3.0-or-later
"""Counts the bytes and elements that a reply of Redis has and announces, as it arrives.  Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

# Of a header, a status or an error; hiredis accepts no longer ones.
MAX_LINE_BYTES = 65536
STRINGS, PAIRS = frozenset(b"$=!"), frozenset(b"%|")
# The first bytes of replies that announce a number of bytes, a number of pairs, or any number.
COUNTED = STRINGS | PAIRS | frozenset(b"*~>")

# At most, as long as no number has four digits.
MAX_ELEMENTS_PER_BYTE = 250
_LARGE = re.compile(rb"[$=!%|*~>][0-9]{4}")
# Separate, since Python searches fast for a pattern that begins with a fixed byte.
_LARGE_LATER = re.compile(rb"\n" + _LARGE.pattern)
_NEXT_STRING = re.compile(rb"(?:[^$=!\r][^\r]*\r\n)*[$=!]([0-9]{1,3})\r\n")


class Bounds(NamedTuple):
    """The most bytes and elements of one reply, nested ones included."""

    size: int
    elements: int


# For a node, an operator, a module. The largest valid replies are a page of 100 events of 256 kB and one
# request each, 27 MB, and a page of about 500 records of 16 kB.
NODE = Bounds(64 << 20, 1_000_000)
# For a supervisor, which reads all records of a zone at once: 65,000 of 1 kB are 65 MB; 256 requests of 1 MB,
# the most that Redis accepts from a sender, are 256 MB.
SUPERVISOR = Bounds(512 << 20, 8_000_000)


class BoundsExceeded(Exception):
    """A reply is longer, larger or slower than a valid one; the text says what arrived."""


class ReplyMeter:
    """Follows a stream of replies that arrives in pieces; raises ``BoundsExceeded`` if a reply is too large.

    Reads headers and skips the content of strings, so that data never counts as a header.  Defers reading a
    piece that is too short to announce too much until more of the same reply arrives, since most replies are
    one piece.
    """

    __slots__ = ("_bounds", "_elements", "_line", "_short", "_skip", "_unread", "size")

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._short = bounds.elements // MAX_ELEMENTS_PER_BYTE
        self._skip = 0
        self._line = self._unread = b""
        self.begin()

    def begin(self) -> None:
        """Starts the count of the next reply."""
        if self._unread:
            self._finish_unread()
        self.size = self._elements = 0

    def take(self, piece: bytes) -> None:
        """Counts the next piece of the stream."""
        self.size += len(piece)
        if self.size > self._bounds.size:
            raise BoundsExceeded(f"a reply of more than {self._bounds.size} bytes")
        first = self.size == len(piece) and not (self._skip or self._line)
        if first and len(piece) <= self._short and not (_LARGE.match(piece) or _LARGE_LATER.search(piece)):
            self._unread = piece
        else:
            self._read(piece)

    def _finish_unread(self) -> None:
        """Reads an unread piece as :meth:`_read` does, but counts no elements, since their reply is over."""
        piece, position = self._unread, 0
        while found := _NEXT_STRING.match(piece, position):
            position = found.end() + int(found[1]) + 2
        self._unread, self._skip = b"", position - len(piece)
        if self._skip < 0:
            self._skip = 0
            self._read(piece[position:])

    def _read(self, piece: bytes) -> None:
        if self._unread or self._line:
            piece = self._unread + self._line + piece
            self._line = self._unread = b""
        position, end = self._skip, len(piece)
        while position < end:
            stop = piece.find(b"\r\n", position)
            if stop < 0:
                self._keep(piece[position:])
                position = end
                break
            kind = piece[position]
            if kind in COUNTED:
                announced = _number(piece[position + 1 : stop])
                if kind in STRINGS:
                    position = stop + 2 if announced < 0 else stop + 4 + announced
                    continue
                self._count(announced, kind)
            position = stop + 2
        self._skip = position - end
        if self._skip > self._bounds.size:
            raise BoundsExceeded(f"a reply of {self._skip} bytes")

    def _keep(self, line: bytes) -> None:
        """Keeps the beginning of a line until the rest of it comes."""
        if len(line) > MAX_LINE_BYTES:
            raise BoundsExceeded("a line without an end")
        self._line = line

    def _count(self, announced: int, kind: int) -> None:
        self._elements += max(0, announced) * (2 if kind in PAIRS else 1)
        if self._elements > self._bounds.elements:
            raise BoundsExceeded(f"a reply of {self._elements} elements")


def _number(text: bytes) -> int:
    try:
        return int(text)
    except ValueError:
        return 0  # the parser refuses it
