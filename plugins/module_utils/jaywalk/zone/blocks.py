# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys that an operator blocked: the zone refuses each request of such a key until an operator allows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..core.errors import InvalidValue
from . import codec

# Of the texts in a block, in characters.
MAX_TEXT = 200
# The code of the refusal of a blocked key's request.
BLOCKED = "blocked"


@dataclass(frozen=True)
class Block:
    """A block: ``since`` in seconds since 1970, ``by`` whom, and the operator's ``reason``, if any."""

    since: int
    by: str = ""
    reason: str = ""

    def to_wire(self) -> dict[str, object]:
        """The record in ``{zone}:blocked``."""
        fields = {"since": self.since, "by": self.by, "reason": self.reason}
        return {name: value for name, value in fields.items() if value or name == "since"}

    @classmethod
    def from_wire(cls, record: object) -> Block:
        """Reads a record; one that does not parse blocks its key all the same, so this raises nothing."""
        try:
            found: Mapping[str, object] = codec.mapping(record, "the block")
            return cls(
                codec.natural(found.get("since", 0), "time"),
                shortened(codec.text(found.get("by", ""), "name")),
                shortened(codec.text(found.get("reason", ""), "reason")),
            )
        except InvalidValue:
            return cls(0)


def shortened(text: str) -> str:
    """``text``, printable and cut to :data:`MAX_TEXT` characters."""
    return "".join(letter for letter in text if letter.isprintable())[:MAX_TEXT]


def refusal_text(zone: str, key: str) -> str:
    """The refusal of a request of the blocked ``key``."""
    return (
        f"the key {key} is removed from zone {zone} and blocked: an operator can allow it again "
        f"('jaywalk-supervisor peer allow --zone {zone} {key}'), or give this node a new key"
    )
