# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of a zone that an operator sets: one table for all places that accept or show them.

The flags of ``zone add`` and ``zone set``, the REST bodies and their OpenAPI schema, declarations, the
policy in Redis, diffs and ``zone show`` read :data:`ZONE_OPTIONS`.  A test compares the roles'
argument_specs and the documentation with it.  Pure.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..core import ip, validation
from ..core.errors import InvalidValue

if TYPE_CHECKING:
    from .models import Zone

TAKEOVERS = ("always", "stale", "never")
PROOFS = ("required", "optional")
# What a key without a lease needs beside the zone's password: nothing, a join token, or an operator's
# approval, which a join token is, too.
BY_PASSWORD, BY_TOKEN, BY_APPROVAL = ADMISSIONS = ("password", "token", "approval")
# An agent that lost its zone sends its request again within a minute.  After an hour no node routes to a
# node that left.
QUARANTINE_SECONDS = 3600
# Fifteen reports.  A node that reboots, or reconnects to its controller, reports long before.
STALE_AFTER_SECONDS = 900
# Thirty days.  A node that returns from a long leave or a repair still has its address, and a zone through
# which new keys pass keeps the keys of one month.
FORGET_AFTER_SECONDS = 2_592_000
# The value of a time that never comes.
NEVER = "never"
# The value that empties a list.
NONE = "none"
# What members may announce by themselves: private networks (RFC 1918, RFC 4193, RFC 6598), or any.
PRIVATE, ANY = "private", "any"
# Nodes of one site share its public address; a zone of larger sites sets another number.
RECORDS_PER_ADDRESS = 64


class _Same:
    """The type of :data:`SAME`."""


# Says that an option has its default in a zone whose record lacks it.
SAME = _Same()


@dataclass(frozen=True)
class ZoneOption(ABC):
    """One option of a zone.

    ``name`` is its name in REST bodies, inventories and declarations; :attr:`flag` is the command's.
    ``field`` is its name in the zone's policy, in Redis and in answers, empty for an option that is no part
    of the policy.  ``default`` is its value in a new zone.  ``unstored`` is its value in a zone that was made
    before the option existed, whose record lacks it, if that is not the default.  ``help`` is one sentence
    without its end.  ``subject`` names it in errors, ``label`` in diffs and in ``zone show``.
    """

    name: str
    help: str
    subject: str
    label: str
    field: str = ""
    default: Any = None
    unstored: Any = SAME

    @property
    def predates(self) -> bool:
        """Whether there are zones that were made before the option existed, and with another behaviour."""
        return self.unstored is not SAME

    @property
    def is_stricter(self) -> bool:
        """Whether a new zone has another value than one that was made before the option existed."""
        return self.predates and bool(self.unstored != self.default)

    @property
    def stored_default(self) -> Any:
        """The value of a stored policy that lacks the option."""
        return self.unstored if self.predates else self.default

    @property
    def flag(self) -> str:
        return f"--{self.name.replace('_', '-')}"

    @abstractmethod
    def parse(self, value: object) -> Any:
        """Returns the value of an operator's, or of a record's, text or JSON; raises ``InvalidValue``."""

    def to_json(self, value: Any) -> Any:
        """Returns a parsed value as JSON has it."""
        return value

    def texts(self, value: Any) -> list[str]:
        """Returns a parsed value as people read it, one text per line."""
        return [str(value)]

    def value_in(self, zone: Zone) -> Any:
        """Returns the option's value in ``zone``."""
        return getattr(zone.policy, self.field)


@dataclass(frozen=True)
class DescriptionOption(ZoneOption):
    """A line of text for people."""

    def parse(self, value: object) -> str:
        if isinstance(value, str):
            return value
        raise InvalidValue(f"the {self.subject} {validation.shown(value)} is no text", "give a text")

    def value_in(self, zone: Zone) -> str:
        return zone.description


@dataclass(frozen=True)
class ChoiceOption(ZoneOption):
    """One word of several."""

    choices: tuple[str, ...] = ()

    def parse(self, value: object) -> str:
        if value in self.choices:
            return str(value)
        raise InvalidValue(
            f"the {self.subject} {validation.shown(value)} is unknown",
            f"use one of {', '.join(self.choices)}",
        )


@dataclass(frozen=True)
class BooleanOption(ZoneOption):
    """Yes or no."""

    def parse(self, value: object) -> bool:
        return value if isinstance(value, bool) else validation.boolean(value, f"the {self.subject}")

    def texts(self, value: bool) -> list[str]:
        return ["yes" if value else "no"]


@dataclass(frozen=True)
class CountOption(ZoneOption):
    """A number of at least ``least``, or ``none`` for no limit, which parses to None."""

    least: int = 0

    def parse(self, value: object) -> int | None:
        if value in (None, NONE):
            return None
        number = int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 10 else value
        if isinstance(number, int) and not isinstance(number, bool) and self.least <= number < 10**9:
            return number
        raise InvalidValue(
            f"the {self.subject} {validation.shown(value)} is no limit",
            f"give a number of at least {self.least}, or {NONE}",
        )

    def to_json(self, value: int | None) -> int | str:
        return NONE if value is None else value

    def texts(self, value: int | None) -> list[str]:
        return [str(self.to_json(value))]


@dataclass(frozen=True)
class SecondsOption(ZoneOption):
    """A time in seconds; with ``or_never`` also ``never``, which parses to None.

    ``under`` is the takeover policy under which alone the option has an effect; empty for all.
    """

    or_never: bool = False
    under: str = ""

    def parse(self, value: object) -> int | None:
        if self.or_never and value in (None, NEVER):
            return None
        try:
            return validation.seconds(value, self.subject)
        except InvalidValue as error:
            if not self.or_never:
                raise
            raise InvalidValue(error.problem, f"{error.remedy}, or {NEVER}") from None

    def to_json(self, value: int | None) -> int | str:
        return NEVER if value is None else value

    def texts(self, value: int | None) -> list[str]:
        return [NEVER if value is None else f"{value} s"]


@dataclass(frozen=True)
class NetworksOption(ZoneOption):
    """A list of addresses and networks; ``none`` in it stands for nothing, so that a flag can empty it."""

    def parse(self, value: object) -> tuple[str, ...]:
        given = [text for text in self._listed(value) if text != NONE]
        return tuple(dict.fromkeys(self._networks(given)))

    def to_json(self, value: tuple[str, ...]) -> list[str]:
        return list(value)

    def texts(self, value: tuple[str, ...]) -> list[str]:
        return list(value)

    def _listed(self, value: object) -> Iterable[object]:
        if not isinstance(value, (list, tuple)):
            raise InvalidValue(f"the {self.subject}s are no list", "send a JSON list")
        return value

    def _networks(self, value: object) -> Iterable[str]:
        return (validation.network(text, self.subject) for text in self._listed(value))


@dataclass(frozen=True)
class PermittedNetworksOption(NetworksOption):
    """Networks that members may announce by themselves; ``private`` and ``any`` stand for some."""

    def to_json(self, value: tuple[str, ...]) -> list[str]:
        return list(value) or [NONE]

    def texts(self, value: tuple[str, ...]) -> list[str]:
        return self.to_json(value)

    def _networks(self, value: object) -> Iterable[str]:
        words = (PRIVATE, ANY)
        return (
            str(text) if text in words else validation.network(text, self.subject)
            for text in self._listed(value)
        )


@dataclass(frozen=True)
class PoolsOption(NetworksOption):
    """The zone's pools of one IP version; no pool may be named twice."""

    ip_version: int = 4

    def parse(self, value: object) -> tuple[str, ...]:
        return tuple(self._networks(value))

    def value_in(self, zone: Zone) -> tuple[str, ...]:
        return tuple(pool for pool in zone.pools if ip.version_of(pool) == self.ip_version)


ZONE_OPTIONS: tuple[ZoneOption, ...] = (
    PoolsOption(
        name="cidr",
        help="a pool of IPv4 addresses, like 10.20.0.0/20; the list is complete",
        subject="pool",
        label="pool",
        default=(),
    ),
    PoolsOption(
        name="cidr6",
        help="a pool of IPv6 addresses, like fd00:20::/64; the list is complete",
        subject="pool",
        label="pool",
        default=(),
        ip_version=6,
    ),
    DescriptionOption(
        name="description",
        help="a line of text for people",
        subject="description",
        label="description",
        default="",
    ),
    ChoiceOption(
        name="takeover",
        help="whether a requested address moves to the node that requests it from the node that has it",
        subject="takeover policy",
        label="takeover",
        field="takeover",
        default=TAKEOVERS[0],
        choices=TAKEOVERS,
    ),
    SecondsOption(
        name="stale_after",
        help="under takeover stale, how long a node must be silent before its address may move",
        subject="time after which a node is stale",
        label="stale after",
        field="stale_after",
        default=STALE_AFTER_SECONDS,
        under="stale",
    ),
    SecondsOption(
        name="quarantine",
        help="how long the addresses of a node that left are given to no other node",
        subject="quarantine",
        label="quarantine",
        field="quarantine",
        default=QUARANTINE_SECONDS,
    ),
    SecondsOption(
        name="forget_after",
        help="how long a lease is kept after its node left, if the quarantine is not longer; "
        f"{NEVER} keeps all",
        subject="time after which a lease is forgotten",
        label="forget after",
        field="forget_after",
        default=FORGET_AFTER_SECONDS,
        or_never=True,
    ),
    NetworksOption(
        name="exclude",
        help="an address or a network of the pools that no node gets, like a gateway's 10.20.0.1; "
        f"{NONE} empties the list",
        subject="excluded network",
        label="excluded",
        field="excluded",
        default=(),
    ),
    ChoiceOption(
        name="proof",
        help="whether a request without a proof of its node's key is refused; optional, while agents of an "
        "older version are updated, refuses it only from keys that have proven before",
        subject="proof policy",
        label="proof",
        field="proof",
        default=PROOFS[0],
        unstored=PROOFS[1],
        choices=PROOFS,
    ),
    ChoiceOption(
        name="admission",
        help="what a node needs beside the zone's password to join for the first time: nothing (password), a "
        "join token (token), or a join token or an operator's approval of its key (approval)",
        subject="admission policy",
        label="admission",
        field="admission",
        default=BY_PASSWORD,
        unstored=BY_PASSWORD,
        choices=ADMISSIONS,
    ),
    PermittedNetworksOption(
        name="member_prefixes",
        help="what a node may announce as child prefixes without an operator's reservation: networks, "
        f"{PRIVATE} (RFC 1918, 100.64.0.0/10, fc00::/7), {ANY}, or {NONE}",
        subject="network of members' prefixes",
        label="member prefixes",
        field="member_prefixes",
        default=(PRIVATE,),
        unstored=(ANY,),
    ),
    BooleanOption(
        name="member_relay",
        help="whether a node may be a relay without an operator's grant",
        subject="permission to relay",
        label="member relay",
        field="member_relay",
        default=False,
        unstored=True,
    ),
    BooleanOption(
        name="member_fixed_endpoint",
        help="whether the declared endpoint of a node counts as the operator's word without a grant",
        subject="permission to fix an endpoint",
        label="member fixed endpoint",
        field="member_fixed_endpoint",
        default=True,
        unstored=True,
    ),
    BooleanOption(
        name="member_claims",
        help="whether the first node that joins with a reserved name gets a reservation without a key",
        subject="permission to claim a reservation",
        label="member claims",
        field="member_claims",
        default=False,
        unstored=True,
    ),
    CountOption(
        name="member_leases",
        help="how many nodes may have a lease by the zone's password, without an operator's reservation; "
        f"{NONE} for no limit",
        subject="number of members' leases",
        label="member leases",
        field="member_leases",
        default=None,
        unstored=None,
    ),
    CountOption(
        name="records_per_address",
        help="how many nodes may have an endpoint at one address; a further node's is left out; "
        f"{NONE} for no limit",
        subject="number of records per address",
        label="records per address",
        field="records_per_address",
        default=RECORDS_PER_ADDRESS,
        unstored=None,
        least=1,
    ),
)

OPTION_BY_NAME = {option.name: option for option in ZONE_OPTIONS}
POLICY_OPTIONS = tuple(option for option in ZONE_OPTIONS if option.field)
POOL_OPTIONS: tuple[PoolsOption, ...] = tuple(
    option for option in ZONE_OPTIONS if isinstance(option, PoolsOption)
)
