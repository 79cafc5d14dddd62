# SPDX-License-Identifier: GPL-3.0-or-later
"""Statements of a mesh lock: what its key signs about a node and about a zone, as canonical text.

The signed text is compact JSON, a list of fixed length, so that one statement has exactly one text::

    ["jaywalk lock v1","node",zone,key,name,[addresses],[prefixes],relay 0|1,serial,expires]
    ["jaywalk lock v1","zone",zone,[pools],least serial,[[key,serial],...],[lock keys],serial,expires]

A statement is stored with its signature as ``{"s": text, "g": signature}``.  Parsing checks the form; only
:mod:`.lock` decides whose signature counts.  Pure.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Union

from ..core import key_format, validation
from ..core.errors import InvalidValue

LABEL = "jaywalk lock v1"
NODE, ZONE = "node", "zone"
SIGNATURE_BYTES = 64
# Of one statement: a node with 64 prefixes has less than 4 kB, a zone with 500 revoked keys less than 40 kB.
MAX_NODE_TEXT = 8192
MAX_ZONE_TEXT = 65_536
MAX_NETWORKS = 64
MAX_REVOKED = 500
MAX_LOCK_KEYS = 4
NEVER = 0
_REMEDY = "sign it again with 'jaywalk-supervisor lock sign'"

_compact = json.JSONEncoder(separators=(",", ":")).encode


class Signed(NamedTuple):
    """The text of a statement with its signature, as records and meta data hold it."""

    statement: str
    signature: str

    def to_wire(self) -> dict[str, str]:
        """The JSON object of a record."""
        return {"s": self.statement, "g": self.signature}

    def to_text(self) -> str:
        """The same as JSON text, for meta data and files."""
        return _compact(self.to_wire())

    @classmethod
    def from_wire(cls, value: object) -> Signed:
        """Checks that a value holds a text and 64 bytes of signature; raises ``InvalidValue``."""
        if not isinstance(value, Mapping) or set(value) != {"s", "g"}:
            raise InvalidValue("a signed statement is no JSON object with s and g", _REMEDY)
        text, signature = value["s"], value["g"]
        if not isinstance(text, str) or len(text) > MAX_ZONE_TEXT or not isinstance(signature, str):
            raise InvalidValue("a signed statement holds no text with a signature", _REMEDY)
        raw_signature(signature)
        return cls(text, signature)

    @classmethod
    def from_text(cls, text: str) -> Signed:
        """Parses :meth:`to_text`; raises ``InvalidValue``."""
        if len(text) > 2 * MAX_ZONE_TEXT:
            raise InvalidValue("a signed statement is too long", _REMEDY)
        return cls.from_wire(_decoded(text))


def raw_signature(signature: str) -> bytes:
    """The 64 bytes of a signature in canonical base64; raises ``InvalidValue``."""
    try:
        raw = base64.b64decode(signature, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != SIGNATURE_BYTES or base64.b64encode(raw).decode() != signature:
        raise InvalidValue("the signature of a statement is no 64 bytes in base64", _REMEDY)
    return raw


class NodeStatement(NamedTuple):
    """What a node may have: its name, its addresses (none: any of the pools), prefixes, and being a relay.

    ``serial`` grows with each statement about the key; ``expires`` is in seconds since 1970, 0 for never.
    """

    zone: str
    key: str
    name: str
    addresses: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    relay: bool = False
    serial: int = 0
    expires: int = NEVER

    def text(self) -> str:
        """The canonical text, which is signed."""
        lists = list(self.addresses), list(self.prefixes)
        return _compact(
            [LABEL, NODE, self.zone, self.key, self.name, *lists, int(self.relay), self.serial, self.expires]
        )

    @classmethod
    def parse(cls, text: str) -> NodeStatement:
        """Parses a canonical text; raises ``InvalidValue``."""
        zone, key, name, addresses, prefixes, relay, serial, expires = _fields(text, NODE, 8, MAX_NODE_TEXT)
        if relay not in (0, 1) or isinstance(relay, bool):
            raise _malformed("the relay flag is neither 0 nor 1")
        found = cls(
            validation.zone_name(zone),
            key_format.public_key(key),
            validation.dns_label(name),
            tuple(validation.address(host) for host in _list(addresses)),
            tuple(validation.child_prefix(prefix) for prefix in _list(prefixes)),
            relay == 1,
            _natural(serial),
            _natural(expires),
        )
        _check_canonical(found.text(), text)
        return found


class ZoneStatement(NamedTuple):
    """What a zone may have: its pools, and whose statements count.

    Statements with a serial below ``least_serial`` do not count; of a key in ``revoked``, only those with a
    serial above the one there.  ``lock_keys`` sign from now on.
    """

    zone: str
    pools: tuple[str, ...]
    lock_keys: tuple[str, ...]
    least_serial: int = 0
    revoked: tuple[tuple[str, int], ...] = ()
    serial: int = 0
    expires: int = NEVER

    def text(self) -> str:
        """The canonical text, which is signed."""
        revoked = [list(pair) for pair in self.revoked]
        own = [list(self.pools), self.least_serial, revoked, list(self.lock_keys), self.serial, self.expires]
        return _compact([LABEL, ZONE, self.zone, *own])

    @classmethod
    def parse(cls, text: str) -> ZoneStatement:
        """Parses a canonical text; raises ``InvalidValue``."""
        zone, pools, least, revoked, keys, serial, expires = _fields(text, ZONE, 7, MAX_ZONE_TEXT)
        found = cls(
            validation.zone_name(zone),
            tuple(validation.network(pool, "pool") for pool in _list(pools)),
            tuple(lock_key(key) for key in _list(keys, MAX_LOCK_KEYS)),
            _natural(least),
            tuple(map(_revocation, _list(revoked, MAX_REVOKED))),
            _natural(serial),
            _natural(expires),
        )
        if not found.pools or not found.lock_keys:
            raise _malformed("it names no pool or no lock key")
        _check_canonical(found.text(), text)
        return found


Statement = Union[NodeStatement, ZoneStatement]


def parse(text: str) -> Statement:
    """The statement in ``text``; raises ``InvalidValue``."""
    value = _decoded(text)
    is_zone = isinstance(value, list) and len(value) > 1 and value[1] == ZONE
    return ZoneStatement.parse(text) if is_zone else NodeStatement.parse(text)


def lock_key(text: object) -> str:
    """A public lock key: 32 bytes in base64, like a WireGuard key; raises ``InvalidValue``."""
    try:
        return key_format.public_key(text)
    except InvalidValue:
        raise InvalidValue(
            f"{validation.shown(text)} is no public lock key",
            "give what 'jaywalk-supervisor lock keygen' printed",
        ) from None


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise _malformed("it is no JSON") from None


def _fields(text: str, kind: str, count: int, limit: int) -> Sequence[Any]:
    """The fields of a statement after its kind."""
    if len(text) > limit:
        raise _malformed(f"it has {len(text)} characters, and at most {limit} are allowed")
    value = _decoded(text)
    if not isinstance(value, list) or value[:2] != [LABEL, kind] or len(value) != count + 2:
        raise _malformed(f"it is no statement about a {kind} of this version")
    return value[2:]


def _check_canonical(canonical: str, text: str) -> None:
    if canonical != text:
        raise _malformed("it is not in its canonical form")


def _list(value: object, limit: int = MAX_NETWORKS) -> list[Any]:
    if not isinstance(value, list) or len(value) > limit:
        raise _malformed(f"it holds no list of at most {limit}")
    return value


def _natural(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53:
        return value
    raise _malformed("a serial or a time is no natural number below 2^53")


def _revocation(value: object) -> tuple[str, int]:
    if not isinstance(value, list) or len(value) != 2:
        raise _malformed("a revocation is no key with a serial")
    return key_format.public_key(value[0]), _natural(value[1])


def _malformed(why: str) -> InvalidValue:
    return InvalidValue(f"the statement does not parse: {why}", _REMEDY)
