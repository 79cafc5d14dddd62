# SPDX-License-Identifier: GPL-3.0-or-later
"""A zone's mesh lock as one node enforces it: what the operator's key did not sign is not taken.

The operator pins one or two public lock keys on the node.  The first signs; the second, kept elsewhere, is
for the case that the first is lost or stolen.  A signed statement about the zone names its pools and the keys
that sign from then on; a signed statement about each node says what its record may hold.  Whoever writes in
the controller can withhold statements, never make one.  Older statements do not come back: the serial of the
zone's and of each node's never decreases, and :class:`Memory` keeps that across restarts.  Pure.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Callable, NamedTuple

from ..core import ip, validation
from ..core.errors import InvalidValue
from ..core.times import UNSET_BEFORE
from .lock_keys import is_signed_by
from .secrets import require_cryptography
from .statements import NEVER, NodeStatement, Signed, ZoneStatement, lock_key

MAX_PINS = 2
# Statements whose check is remembered: those of the largest zones twice.
MAX_CHECKED = 32_768
SIGN_REMEDY = "sign it with 'jaywalk-supervisor lock sign', or run the play"


class Record(NamedTuple):
    """The parts of a peer's record that a statement covers."""

    key: str
    name: str
    addresses: Sequence[str]
    prefixes: Sequence[str]
    relay: bool
    signed: Signed | None


@dataclass
class Memory:
    """What a node remembers of its lock: the zone's statement in force, and the serials that it has seen.

    ``pins`` are those under which it was written.  ``recovery_serial`` is the serial of the last statement
    about the zone that the second pinned key signed.  ``nodes`` holds the newest serial of each key.
    """

    pins: tuple[str, ...] = ()
    zone: Signed | None = None
    recovery_serial: int = 0
    nodes: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The memory as a JSON object."""
        return {
            "pins": list(self.pins),
            "zone": self.zone.to_wire() if self.zone else None,
            "recovery_serial": self.recovery_serial,
            "nodes": self.nodes,
        }

    @classmethod
    def from_json(cls, value: Any) -> Memory:
        """Parses :meth:`to_json`; raises ``InvalidValue``."""
        try:
            return cls(
                tuple(map(lock_key, value["pins"])),
                Signed.from_wire(value["zone"]) if value["zone"] else None,
                int(value["recovery_serial"]),
                {str(key): int(serial) for key, serial in value["nodes"].items()},
            )
        except (AttributeError, KeyError, TypeError, ValueError):
            raise InvalidValue("the memory of the mesh lock does not parse", "remove the file") from None


def pinned_keys(keys: Sequence[object]) -> tuple[str, ...]:
    """One or two public lock keys as an operator pins them; raises ``InvalidValue``."""
    pins = tuple(dict.fromkeys(map(lock_key, keys)))
    if len(pins) > MAX_PINS:
        raise InvalidValue(
            f"{len(pins)} lock keys are pinned", "pin the lock key and, after it, the recovery key"
        )
    return pins


class Lock:
    """The lock of one zone on one node; ``clock`` returns seconds since 1970.

    ``problem`` says what of the zone itself is not taken, in a sentence; "" if all is signed.  ``changed`` is
    set when :attr:`memory` differs from what its owner wrote last.
    """

    def __init__(
        self,
        zone: str,
        pins: Sequence[str],
        memory: Memory | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        require_cryptography()
        self.zone = zone
        self.pins = pinned_keys(pins)
        self.problem = ""
        self.changed = False
        self.statement: ZoneStatement | None = None
        self._clock = clock
        self._checked = lru_cache(maxsize=MAX_CHECKED)(self._node_statement)
        self.memory = Memory(self.pins) if memory is None or self._is_replaced(memory) else memory
        self._revoked: dict[str, int] = {}
        if self.memory.zone is not None:
            self._put_in_force(ZoneStatement.parse(self.memory.zone.statement))
        self.is_new = self.memory.zone is None or self.memory.pins != self.pins
        """Whether no statement was accepted under these pins yet: records on the disk may lack theirs."""
        if self.memory.pins != self.pins:
            self.memory.pins, self.changed = self.pins, True

    def _is_replaced(self, memory: Memory) -> bool:
        """Whether the operator pinned a first key that the memory knows nothing of: it begins anew."""
        if self.pins[0] in memory.pins or memory.zone is None:
            return False
        return self.pins[0] not in ZoneStatement.parse(memory.zone.statement).lock_keys

    @property
    def signers(self) -> tuple[str, ...]:
        """The keys whose statements about nodes count now: those that the zone's statement names."""
        return self.statement.lock_keys if self.statement is not None else self.pins[:1]

    def take_zone(self, text: str, pools: Sequence[str]) -> tuple[str, ...]:
        """Takes the zone's statement from its meta data if it is valid; returns the pools in force.

        These are the signed ones, whatever ``pools`` the meta data have; none before the first statement.
        """
        self.problem = self._take_statement(text)
        if self.statement is None:
            return ()
        unsigned = [pool for pool in pools if not _covered(pool, self.statement.pools)]
        if unsigned and not self.problem:
            self.problem = (
                f"the pools {', '.join(unsigned)} of zone {self.zone} are not signed, so that "
                f"{', '.join(self.statement.pools)} stay in force: sign them with "
                f"'jaywalk-supervisor lock sign --zone {self.zone}'"
            )
        return self.statement.pools

    def _take_statement(self, text: str) -> str:
        """Takes a statement about the zone; returns why not, "" if it is in force."""
        kept = "" if self.statement is None else "; the statement of before stays in force"
        if not text:
            return f"zone {self.zone} has no signed statement{kept}: {self._zone_remedy()}"
        try:
            signed = Signed.from_text(text)
            if signed == self.memory.zone:
                return ""
            found = ZoneStatement.parse(signed.statement)
        except InvalidValue as error:
            return f"the signed statement of zone {self.zone} is invalid ({error.problem}){kept}"
        reason = self._why_not(signed, found)
        if reason:
            return f"the signed statement of zone {self.zone} is not taken, since {reason}{kept}"
        self.memory.zone, self.changed = signed, True
        self._put_in_force(found)
        return ""

    def _put_in_force(self, statement: ZoneStatement) -> None:
        self.statement, self._revoked = statement, dict(statement.revoked)
        self._checked.cache_clear()  # others may sign now

    def _why_not(self, signed: Signed, found: ZoneStatement) -> str:
        recovery = self.pins[1:]
        if found.zone != self.zone:
            return f"it is about zone {found.zone}"
        by_recovery = any(is_signed_by(key, signed) for key in recovery)
        if not by_recovery and not any(is_signed_by(key, signed) for key in self.signers):
            return f"none of this node's lock keys signed it: {self._zone_remedy()}"
        if by_recovery:
            least = self.memory.recovery_serial
        else:
            least = self.statement.serial if self.statement is not None else 0
        if found.serial <= least:
            return f"its serial {found.serial} is not above {least}, which this node has seen: it is older"
        if self._is_over(found.expires):
            return f"it expired at {validation.iso_time(found.expires)}: {self._zone_remedy()}"
        if by_recovery:
            self.memory.recovery_serial = found.serial
        return ""

    def _zone_remedy(self) -> str:
        return f"sign it with 'jaywalk-supervisor lock sign --zone {self.zone}', or run the play"

    def take(self, record: Record) -> str:
        """Takes a peer's record if a valid statement covers it; returns why not, in a sentence, else ""."""
        reason, serial = self._refusal(record)
        if reason:
            return f"{record.name} ({record.key}) is not taken, since {reason}"
        if self.memory.nodes.get(record.key) != serial:
            self.memory.nodes[record.key], self.changed = serial, True
        return ""

    def _refusal(self, record: Record) -> tuple[str, int]:
        if self.statement is None:
            return self.problem or f"zone {self.zone} has no signed statement: {self._zone_remedy()}", 0
        if record.signed is None:
            return f"the lock key of zone {self.zone} did not sign it: {SIGN_REMEDY}", 0
        found = self._checked(record.signed)
        if isinstance(found, str):
            return found, 0
        return self._why_not_current(found, self.statement) or _difference(found, record), found.serial

    def _node_statement(self, signed: Signed) -> NodeStatement | str:
        """The statement about a node, or why it does not count whatever the time is."""
        if not any(is_signed_by(key, signed) for key in self.signers):
            return f"no lock key of zone {self.zone} that is in force signed it: {SIGN_REMEDY}"
        try:
            found = NodeStatement.parse(signed.statement)
        except InvalidValue as error:
            return str(error)
        return found if found.zone == self.zone else f"its statement is about zone {found.zone}"

    def _why_not_current(self, found: NodeStatement, zone: ZoneStatement) -> str:
        newest = self.memory.nodes.get(found.key, 0)
        if found.serial < newest:
            return f"its statement (serial {found.serial}) is older than one seen here ({newest})"
        if found.serial < zone.least_serial:
            return f"its statement (serial {found.serial}) was revoked (least serial {zone.least_serial})"
        if found.serial <= self._revoked.get(found.key, -1):
            return "its key was revoked"
        if self._is_over(found.expires):
            return f"its statement expired at {validation.iso_time(found.expires)}: {SIGN_REMEDY}"
        return ""

    def _is_over(self, expires: int) -> bool:
        """Whether a time is over; not while this machine's clock is not set."""
        now = self._clock()
        return expires != NEVER and now >= UNSET_BEFORE and expires <= now


def _difference(statement: NodeStatement, record: Record) -> str:
    """What a record has beyond its statement, in words; "" for nothing."""
    if statement.key != record.key:
        return f"its statement is about the key {statement.key}"
    if statement.name != record.name:
        return f"it is called {record.name} and signed as {statement.name}: {SIGN_REMEDY}"
    addresses = [host for host in record.addresses if statement.addresses and host not in statement.addresses]
    prefixes = [prefix for prefix in record.prefixes if not _covered(prefix, statement.prefixes)]
    if addresses or prefixes:
        return f"{', '.join([*addresses, *prefixes])} is not signed for it: {SIGN_REMEDY}"
    if record.relay and not statement.relay:
        return f"it is not signed as a relay: {SIGN_REMEDY}"
    return ""


def _covered(prefix: str, networks: Sequence[str]) -> bool:
    """Whether a prefix lies in one of ``networks``."""
    wider = ip.overlapping(ip.networks(networks), prefix)
    return wider is not None and wider.prefixlen <= int(prefix.partition("/")[2])
