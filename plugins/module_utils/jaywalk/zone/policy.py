# SPDX-License-Identifier: GPL-3.0-or-later
"""How a zone decides where two keys want one address."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from ..core import validation
from ..core.errors import InvalidValue
from . import codec

TAKEOVERS = ("always", "stale", "never")
QUARANTINE = 3600
"""Seconds; an agent that lost its zone asks again within a minute, so by then nobody routes to who left."""

STALE_AFTER = 900
"""Seconds; fifteen reports.  A node that reboots, or finds its controller again, is heard of long before."""

FORGET_AFTER = 2_592_000
"""Seconds; thirty days.  Who comes back from a long leave or a repair has its address still, and a zone
through which fresh keys pass keeps a month of them and no more."""

NEVER = "never"
"""The word for a time that never comes."""


@dataclass(frozen=True)
class Policy:
    """A zone's choices.

    ``takeover``: whether a node that requests an address gets it although another one has it, who then gets
    a fresh one (``always``, as the original did; ``stale``, once that one was not heard of for
    ``stale_after`` seconds).  ``quarantine``: seconds for which the lease of a node that left is not given
    to others, however full the pool is.  ``excluded``: networks within the zone's pools of which no peer
    gets an address, since a gateway or another machine has it.  ``forget_after``: seconds after which the
    lease of a node that left ends, None for never; a longer quarantine counts instead.
    """

    takeover: str = "always"
    quarantine: int = QUARANTINE
    excluded: tuple[str, ...] = ()
    stale_after: int = STALE_AFTER
    forget_after: int | None = FORGET_AFTER

    @classmethod
    def checked(
        cls,
        takeover: object,
        quarantine: object,
        excluded: Sequence[object] = (),
        stale_after: object = STALE_AFTER,
        forget_after: object = FORGET_AFTER,
    ) -> Policy:
        """A policy from a person's words."""
        if takeover not in TAKEOVERS:
            raise InvalidValue(
                f"the takeover policy {validation.shown(takeover)} is unknown",
                f"use one of {', '.join(TAKEOVERS)}",
            )
        kept = dict.fromkeys(validation.network(each, "excluded network") for each in excluded)
        return cls(
            str(takeover),
            validation.seconds(quarantine, "quarantine"),
            tuple(kept),
            validation.seconds(stale_after, "time after which a node is stale"),
            _forget_after(forget_after),
        )

    @classmethod
    def from_wire(cls, text: str) -> Policy:
        """The policy in ``{zone}:meta``; a zone of before there were policies has the default."""
        try:
            data = json.loads(text) if text else {}
        except (ValueError, RecursionError):
            data = None
        if not isinstance(data, dict):
            raise InvalidValue(
                "the zone's policy is no JSON object", "set it with 'jaywalk-supervisor zone set'"
            )
        return cls.checked(
            data.get("takeover", cls.takeover),
            data.get("quarantine", cls.quarantine),
            codec.a_list(data.get("excluded", []), "excluded networks"),
            data.get("stale_after", cls.stale_after),
            data.get("forget_after", cls.forget_after),
        )

    def to_wire(self) -> str:
        fields = {
            "takeover": self.takeover,
            "quarantine": self.quarantine,
            "excluded": self.excluded,
            "stale_after": self.stale_after,
            "forget_after": self.forget_word,
        }
        return json.dumps({name: value for name, value in fields.items() if value != ()})

    @property
    def forget_word(self) -> int | str:
        """``forget_after`` as people and programs have it: seconds, or ``never``."""
        return NEVER if self.forget_after is None else self.forget_after

    @property
    def lease_ends_after(self) -> int | None:
        """How many seconds after its node left a lease ends; None for never."""
        return None if self.forget_after is None else max(self.forget_after, self.quarantine)


def _forget_after(value: object) -> int | None:
    if value in (None, NEVER):
        return None
    try:
        return validation.seconds(value, "time after which a lease is forgotten")
    except InvalidValue as error:
        raise InvalidValue(error.problem, f"{error.remedy}, or {NEVER}") from None


DEFAULT = Policy()
