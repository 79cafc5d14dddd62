# SPDX-License-Identifier: GPL-3.0-or-later
"""The copies that a supervisor keeps outside of Redis: one of each zone, and one of what all zones share.

A copy belongs to a position (epoch, revision).  Positions only grow during a zone's life, so that of two
copies the one with the higher position is newer, whichever supervisor made it.  Nothing here uses Redis.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from jaywalk.core.errors import InvalidValue
from jaywalk.zone import codec
from jaywalk.zone.blocks import Block
from jaywalk.zone.models import Lease, Zone

from ..admin.tokens import Token

FORMAT = "jaywalk-supervisor-copy"
# New fields are optional, and readers ignore unknown fields; a field that older readers must not ignore needs
# a new number.
SCHEMA = 1
# Limit of leases in the copy of one zone; the copy of a zone with more leases holds only those made by
# operators.
MAX_LEASES = 100_000
_DIGEST = re.compile("[0-9a-f]{64}")

# An epoch and a revision within it.
Position = tuple[int, int]
NOWHERE: Position = (0, 0)


@dataclass(frozen=True)
class ZoneCopy:
    """A zone as it was at ``position``.

    ``digest`` is the SHA-256 of the zone's own agents' password in hex, or empty; ``saved`` is the time when
    the copy was taken, in seconds since 1970.
    """

    zone: Zone
    position: Position
    digest: str = ""
    leases: Mapping[str, Lease] = field(default_factory=dict)
    saved: int = 0
    blocked: Mapping[str, Block] = field(default_factory=dict)

    @property
    def reserved(self) -> dict[str, Lease]:
        """The leases that an operator made, without the fields that their nodes set."""
        return {key: as_reserved(lease) for key, lease in self.leases.items() if is_reserved(lease)}

    def differs_much(self, from_: ZoneCopy) -> bool:
        """Whether anything that an operator made differs, or an address no longer belongs to its key.

        New leases are no such difference: without them no node loses its address, since it joins again and
        requests the address that it had.
        """
        if (self.zone, self.digest, self.blocked) != (from_.zone, from_.digest, from_.blocked):
            return True
        for key, before in from_.leases.items():
            lease = self.leases.get(key)
            if lease is not before and (lease is None or _differs_much(lease, before)):
                return True
        if len(self.leases) == len(from_.leases):
            return False
        return any(is_reserved(lease) for key, lease in self.leases.items() if key not in from_.leases)

    def same_as(self, other: ZoneCopy) -> bool:
        """Whether both have the same content, at any position."""
        return replace(self, position=other.position, saved=other.saved) == other

    def to_text(self) -> str:
        leases = self.leases if len(self.leases) <= MAX_LEASES else self.reserved
        body = {
            "zone": self.zone.name,
            "position": list(self.position),
            "saved": self.saved,
            **self.zone.to_wire(),
            "digest": self.digest,
            "leases": {key: lease.to_wire() for key, lease in leases.items()},
        }
        if self.blocked:
            body["blocked"] = {key: block.to_wire() for key, block in self.blocked.items()}
        return _with_header(body)

    @classmethod
    def from_text(cls, name: str, text: str) -> ZoneCopy:
        """Parses a copy of the zone ``name``; raises ``InvalidValue`` for anything else."""
        body = _checked_body(text)
        if body.get("zone") != name:
            raise InvalidValue(f"it is no copy of zone {name}")
        position = codec.a_list(body.get("position"), "two numbers of the position")
        if len(position) != len(NOWHERE):
            raise InvalidValue("its position is none")
        epoch, rev = (codec.natural(part, "position") for part in position)
        leases = codec.mapping(body.get("leases"), "the list of leases")
        return cls(
            Zone.from_wire(name, {field: str(body.get(field, "")) for field in ZONE_FIELDS}),
            (epoch, rev),
            _digest_of(body.get("digest", "")),
            {key: Lease.from_wire(key, record) for key, record in leases.items()},
            codec.natural(body.get("saved", 0), "time"),
            {
                key: Block.from_wire(record)
                for key, record in codec.mapping(body.get("blocked", {}), "the list of blocks").items()
            },
        )


ZONE_FIELDS = ("pools", "description", "policy", "lock")


@dataclass(frozen=True)
class SharedCopy:
    """What all zones have in common.

    ``removed`` maps the zones that were removed on purpose to the time (ms since 1970) at which this
    supervisor noticed it; ``tokens`` holds the records of the API's tokens at ``generation``.
    """

    declared: bool = False
    removed: Mapping[str, int] = field(default_factory=dict)
    generation: int = 0
    tokens: Mapping[str, str] = field(default_factory=dict)

    def to_text(self) -> str:
        return _with_header(
            {
                "declared": self.declared,
                "removed": dict(self.removed),
                "generation": self.generation,
                "tokens": dict(self.tokens),
            }
        )

    @classmethod
    def from_text(cls, text: str) -> SharedCopy:
        """Parses a copy; raises ``InvalidValue`` for anything else."""
        body = _checked_body(text)
        removed = codec.mapping(body.get("removed", {}), "the list of removed zones")
        tokens = codec.mapping(body.get("tokens", {}), "the list of tokens")
        for name, record in tokens.items():
            Token.from_wire(name, record)
        return cls(
            body.get("declared") is True,
            {str(name): codec.natural(since, "time") for name, since in removed.items()},
            codec.natural(body.get("generation", 0), "generation"),
            tokens,
        )


def is_reserved(lease: Lease) -> bool:
    """Whether an operator made the lease or a part of it."""
    return lease.state == "reserved" or bool(lease.host or lease.reserved_prefixes)


def _differs_much(lease: Lease, before: Lease) -> bool:
    if lease.addresses != before.addresses or is_reserved(lease) != is_reserved(before):
        return True
    return is_reserved(lease) and as_reserved(lease) != as_reserved(before)


def as_reserved(lease: Lease) -> Lease:
    """Returns a lease of an operator as it waits for its node."""
    return replace(lease, released=0, prefixes=lease.reserved_prefixes, seq=0, requested_name="")


def as_lost(lease: Lease, now: float) -> Lease:
    """Returns a lease after its zone was lost at ``now``: its node counts as left until it joins again."""
    if is_reserved(lease):
        return replace(lease, released=0, prefixes=lease.reserved_prefixes)
    return replace(lease, released=now, prefixes=()) if lease.released is None else lease


def _with_header(body: Mapping[str, Any]) -> str:
    return json.dumps({"format": FORMAT, "schema": SCHEMA, **body}, separators=(",", ":")) + "\n"


def _checked_body(text: str) -> Mapping[str, Any]:
    body = codec.mapping(text, "the copy")
    if body.get("format") != FORMAT:
        raise InvalidValue("it is no copy that a supervisor made")
    if body.get("schema") != SCHEMA:
        raise InvalidValue(f"another version made it (schema {body.get('schema')!r} and not {SCHEMA})")
    return body


def _digest_of(value: object) -> str:
    if value == "" or (isinstance(value, str) and _DIGEST.fullmatch(value)):
        return str(value)
    raise InvalidValue("its hash of the agents' password is none")
