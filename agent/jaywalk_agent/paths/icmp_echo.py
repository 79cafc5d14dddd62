# SPDX-License-Identifier: GPL-3.0-or-later
"""ICMP echo requests and replies of both IP versions (RFC 792, RFC 4443) for raw sockets.  Pure."""

from __future__ import annotations

import struct

REQUEST = {4: 8, 6: 128}
REPLY = {4: 0, 6: 129}
_FIELDS = struct.Struct("!BBHHH")


def request(version: int, identifier: bytes, number: int, data: bytes, length: int) -> bytes:
    """An echo request with ``data``, padded to ``length`` bytes without the 8 bytes of the header."""
    padded = data.ljust(length, b"\0")
    own, sequence = _identifier(identifier), number & 0xFFFF
    header = _FIELDS.pack(REQUEST[version], 0, 0, own, sequence)
    # For ICMPv6 the kernel computes the checksum, which covers addresses.
    checksum = _checksum(header + data) if version == 4 else 0
    return _FIELDS.pack(REQUEST[version], 0, checksum, own, sequence) + padded


def reply(version: int, packet: bytes, identifier: bytes) -> bytes | None:
    """The data of an echo reply to one of our requests, or None for any other packet."""
    # A raw socket of IPv4 receives the IP header, too.
    start = (packet[0] & 0x0F) * 4 if version == 4 and packet else 0
    if len(packet) < start + _FIELDS.size:
        return None
    kind, code, _checksum_field, received, _sequence = _FIELDS.unpack_from(packet, start)
    if (kind, code, received) != (REPLY[version], 0, _identifier(identifier)):
        return None
    return packet[start + _FIELDS.size :]


def _identifier(tag: bytes) -> int:
    return int.from_bytes(tag[:2], "big")


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071); padding with zeros does not change it."""
    even = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(even) // 2}H", even))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
