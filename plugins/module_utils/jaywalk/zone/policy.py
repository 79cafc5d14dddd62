# SPDX-License-Identifier: GPL-3.0-or-later
"""A zone's policy: how it decides if two keys request one address, and how long leases last."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from ..core.errors import InvalidValue
from .options import (
    ANY,
    BY_PASSWORD,
    FORGET_AFTER_SECONDS,
    POLICY_OPTIONS,
    PROOFS,
    QUARANTINE_SECONDS,
    STALE_AFTER_SECONDS,
    TAKEOVERS,
)


@dataclass(frozen=True)
class Policy:
    """A zone's choices; its fields are those of :data:`~.options.POLICY_OPTIONS`.

    The defaults of the fields are those of a zone whose record lacks them, since it was made before they
    existed; :meth:`parse` has the defaults of a new zone.

    ``takeover``: whether a node that requests an address gets it although another node has it, which then
    gets a new one (``always``, as the original did; ``stale``, if that node was not seen for
    ``stale_after`` seconds).  ``quarantine``: seconds for which the lease of a node that left is not given
    to others, even if the pool is full.  ``excluded``: networks within the zone's pools of which no peer
    gets an address, since a gateway or another machine has it.  ``forget_after``: seconds after which the
    lease of a node that left ends, None for never; a longer quarantine counts instead.  ``proof``: whether
    every request must prove its node's key, or only those of keys that have proven before (``optional``).
    ``admission``: what a key without a lease needs to join beside the zone's password.

    The others limit what a node has by its own word, without an operator's grant or reservation:
    ``member_prefixes`` networks of its child prefixes, or the words ``private`` and ``any``;
    ``member_relay``, ``member_fixed_endpoint`` and ``member_claims`` whether it may be a relay, set a fixed
    endpoint, and claim a reservation by its name; ``member_leases`` how many such leases there may be, None
    for no limit.  ``records_per_address`` is how many peers may have an endpoint at one address.
    ``undeclared`` are the fields that the stored policy lacks, which an older version wrote.
    """

    takeover: str = TAKEOVERS[0]
    quarantine: int = QUARANTINE_SECONDS
    excluded: tuple[str, ...] = ()
    stale_after: int = STALE_AFTER_SECONDS
    forget_after: int | None = FORGET_AFTER_SECONDS
    proof: str = PROOFS[1]
    admission: str = BY_PASSWORD
    member_prefixes: tuple[str, ...] = (ANY,)
    member_relay: bool = True
    member_fixed_endpoint: bool = True
    member_claims: bool = True
    member_leases: int | None = None
    records_per_address: int | None = None
    undeclared: frozenset[str] = frozenset(option.field for option in POLICY_OPTIONS if option.predates)

    @classmethod
    def parse(cls, **fields: object) -> Policy:
        """Returns the policy of an operator's texts or of JSON; omitted fields have their default."""
        parsed = {
            option.field: option.parse(fields.pop(option.field, option.default)) for option in POLICY_OPTIONS
        }
        if fields:
            raise TypeError(f"a policy has no {', '.join(fields)}")
        return cls(**parsed, undeclared=frozenset())

    @classmethod
    def from_wire(cls, text: str) -> Policy:
        """Returns the policy in ``{zone}:meta``; a zone made before an option existed lacks it."""
        try:
            data = json.loads(text) if text else {}
        except (ValueError, RecursionError):
            data = None
        if not isinstance(data, dict):
            raise InvalidValue(
                "the zone's policy is no JSON object", "set it with 'jaywalk-supervisor zone set'"
            )
        policy = cls.parse(
            **{option.field: data.get(option.field, option.stored_default) for option in POLICY_OPTIONS}
        )
        missing = (option.field for option in POLICY_OPTIONS if option.predates and option.field not in data)
        return replace(policy, undeclared=frozenset(missing))

    def to_wire(self) -> str:
        lacked = {
            option.field: option.to_json(option.stored_default)
            for option in POLICY_OPTIONS
            if option.field in self.undeclared
        }
        return json.dumps(
            {
                field: value
                for field, value in self.to_json().items()
                if value != [] and (field not in lacked or value != lacked[field])
            }
        )

    def to_json(self) -> dict[str, Any]:
        """Returns the policy as answers have it."""
        return {option.field: option.to_json(getattr(self, option.field)) for option in POLICY_OPTIONS}

    @property
    def lease_ends_after(self) -> int | None:
        """Seconds after which the lease of a node that left ends; None for never."""
        return None if self.forget_after is None else max(self.forget_after, self.quarantine)


DEFAULT = Policy()
