# SPDX-License-Identifier: GPL-3.0-or-later
"""ICMP echo of both IP versions (RFC 792, RFC 4443), as raw sockets send and receive it.  Pure."""

from __future__ import annotations

import struct

REQUEST = {4: 8, 6: 128}
REPLY = {4: 0, 6: 129}
_FIELDS = struct.Struct("!BBHHH")


def request(version: int, identifier: bytes, number: int, data: bytes, length: int) -> bytes:
    """An echo request with ``data``, filled up to ``length`` bytes, not counting the header's 8."""
    filled = data.ljust(length, b"\0")
    ours, sequence = _identifier(identifier), number & 0xFFFF
    bare = _FIELDS.pack(REQUEST[version], 0, 0, ours, sequence)
    # For ICMPv6 the kernel computes the checksum, which covers addresses.
    found = _checksum(bare + data) if version == 4 else 0
    return _FIELDS.pack(REQUEST[version], 0, found, ours, sequence) + filled


def answer(version: int, packet: bytes, identifier: bytes) -> bytes | None:
    """The data of an echo reply to one of our requests, or None for any other packet."""
    # A raw socket of IPv4 shows the IP header, too.
    start = (packet[0] & 0x0F) * 4 if version == 4 and packet else 0
    if len(packet) < start + _FIELDS.size:
        return None
    kind, code, _sum, found, _number = _FIELDS.unpack_from(packet, start)
    if (kind, code, found) != (REPLY[version], 0, _identifier(identifier)):
        return None
    return packet[start + _FIELDS.size :]


def _identifier(tag: bytes) -> int:
    return int.from_bytes(tag[:2], "big")


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071); zeros behind ``data`` would not change it."""
    even = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(even) // 2}H", even))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
