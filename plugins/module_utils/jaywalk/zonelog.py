# SPDX-License-Identifier: GPL-3.0-or-later
"""A zone as a log in Redis: the names of its keys, its events, and a reader's copy of it.

Entries of ``{zone}:events`` have the id ``<epoch>-<rev>``.  A reader keeps (epoch, rev) beside its copy and
applies the entry that follows its own; anything else is a gap and asks for a snapshot.  Nothing here talks
to Redis.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from . import wire
from .errors import InvalidValue, JaywalkError
from .models import Peer, Zone

ZONES = "jw:zones"
MAX_WAIT_MS = 60_000


@dataclass(frozen=True)
class ZoneKeys:
    """The Redis keys of a zone; the braces put them all in one slot of a cluster."""

    zone: str

    def _key(self, part: str) -> str:
        return f"{{{self.zone}}}:{part}"

    @cached_property
    def meta(self) -> str:
        return self._key("meta")

    @cached_property
    def peers(self) -> str:
        return self._key("peers")

    @cached_property
    def events(self) -> str:
        return self._key("events")

    @cached_property
    def leases(self) -> str:
        return self._key("leases")

    @cached_property
    def inbox(self) -> str:
        return self._key("inbox")

    @cached_property
    def orders(self) -> str:
        return self._key("orders")

    @cached_property
    def creds(self) -> str:
        return self._key("creds")

    @cached_property
    def seen(self) -> str:
        return self._key("seen")

    @cached_property
    def leader(self) -> str:
        return self._key("leader")

    def reply(self, nonce: str) -> str:
        return self._key(f"reply:{nonce}")


class Gap(JaywalkError):
    """The log does not go on where the reader stands: take a snapshot."""


@dataclass
class Change:
    """One line of an event: ``+`` a peer is there or differs, ``-`` it left, ``=`` only its lease changed.

    Not frozen, since every node makes one of each, and that takes twice as long.
    """

    sign: str
    key: str
    record: dict[str, object] | None = None

    @cached_property
    def text(self) -> str:
        """The record as JSON, which the event and the hash of the records both hold; empty for none."""
        return "" if self.record is None else wire.compact(self.record)

    def to_wire(self) -> str:
        """The line as JSON; nothing in a key needs an escape there."""
        return f'["{self.sign}","{self.key}",{self.text}]' if self.text else f'["{self.sign}","{self.key}"]'

    @classmethod
    def from_wire(cls, line: object) -> Change:
        if isinstance(line, list) and len(line) in (2, 3) and line[0] in ("+", "-", "="):
            record = line[2] if len(line) == 3 else None
            if isinstance(line[1], str) and (record is None or isinstance(record, dict)):
                return cls(line[0], line[1], record)
        raise InvalidValue("an event of the zone holds a change that is none")


class Event(NamedTuple):
    """One entry of the log: a commit's changes, the bump to a new epoch after Redis restarted, or the
    word that the zone itself was changed, which supervisors then read anew.
    """

    epoch: int
    rev: int
    changes: tuple[Change, ...] = ()
    wait_ms: int | None = None
    previous_epoch: int | None = None
    zone_changed: bool = False

    @classmethod
    def from_entry(cls, entry_id: str, fields: Mapping[str, str]) -> Event:
        """Reads a stream entry.

        Its fields: ``o`` (JSON list of changes), ``w`` (wait_ms), ``prev`` (a bump), ``zone`` (changed).
        """
        try:
            epoch, rev = map(int, entry_id.split("-"))
            wait = wait_of(fields["w"]) if "w" in fields else None
            previous = int(fields["prev"]) if "prev" in fields else None
            changes = wire.decoded(fields.get("o", "[]"))
        except (ValueError, RecursionError):
            raise InvalidValue(f"the event {entry_id} of the zone does not parse") from None
        if not isinstance(changes, list):
            raise InvalidValue(f"the event {entry_id} of the zone holds no list of changes")
        parsed = tuple(map(Change.from_wire, changes))
        return cls(epoch, rev, parsed, wait, previous, "zone" in fields)


def wait_of(text: str) -> int:
    """How long to wait between two reads, in ms, within reason; raises ``ValueError``."""
    return min(max(int(text), 0), MAX_WAIT_MS)


@dataclass
class ZoneView:
    """A reader's copy of a zone at (epoch, rev): its peers, and how long to wait between two reads.

    ``rejected`` holds what was read and not believed, a reason a key; the last good record stays in force.
    """

    zone: Zone
    epoch: int
    rev: int
    peers: dict[str, Peer] = field(default_factory=dict)
    wait_ms: int = 100
    rejected: dict[str, str] = field(default_factory=dict)
    _claims: dict[str, tuple[str, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._claims = {}
        for peer in self.peers.values():
            self._claim(peer)

    @property
    def position(self) -> str:
        """The stream id after which this reader reads on."""
        return f"{self.epoch}-{self.rev}"

    def precedes(self, event: Event) -> bool:
        """Whether ``event`` is the next one: of this epoch, or the one that ended it with nothing lost."""
        return self.epoch in (event.epoch, event.previous_epoch) and event.rev == self.rev + 1

    def apply(self, event: Event) -> set[str]:
        """Takes one event in and returns the keys whose peers changed, or may now have what others had.

        Raises ``Gap``.
        """
        if not self.precedes(event):
            raise Gap(
                f"zone {self.zone.name} stands at {self.position} and the log at {event.epoch}-{event.rev}"
            )
        self.epoch, self.rev = event.epoch, event.rev
        if event.wait_ms is not None:
            self.wait_ms = event.wait_ms
        changed: set[str] = set()
        for change in event.changes:
            changed |= self._take(change, event.rev)
        return changed

    def holder(self, allowed_ip: str) -> Peer | None:
        """The peer that has ``allowed_ip``: of several that claim it the one whose record is the oldest."""
        claimants = [self.peers[key] for key in self._claims.get(allowed_ip, ()) if key in self.peers]
        return min(claimants, key=lambda peer: (peer.rev, peer.key), default=None)

    def keep(self, before: ZoneView) -> None:
        """Leaves ``before``'s good records in force where this snapshot holds what cannot be believed."""
        for key, reason in list(self.rejected.items()):
            if key in before.peers and key not in self.peers:
                self.put(key, before.peers[key].to_wire())
                self.rejected[key] = reason

    def _claim(self, peer: Peer) -> set[str]:
        """Enters what ``peer`` claims; returns the keys of others that claim the same."""
        rivals: set[str] = set()
        alone = (peer.key,)
        for each in peer.allowed_ips:
            others = self._claims.setdefault(each, alone)
            if others is not alone:
                self._claims[each] = others + alone
                rivals.update(others)
        return rivals

    def _unclaim(self, peer: Peer) -> set[str]:
        """Takes back what ``peer`` claimed; returns the keys of those who may now have it."""
        rivals: set[str] = set()
        for each in peer.allowed_ips:
            rest = tuple(key for key in self._claims.pop(each, ()) if key != peer.key)
            if rest:
                self._claims[each] = rest
                rivals.update(rest)
        return rivals

    def _take(self, change: Change, rev: int) -> set[str]:
        if change.sign == "+":
            return self.put(change.key, change.record)
        if change.sign == "=":
            return set()
        self.rejected.pop(change.key[:64], None)
        known = self.peers.get(change.key)
        # A snapshot taken amid commits may already hold the peer's return.
        if known is None or known.rev > rev:
            return set()
        return {change.key, *self._unclaim(self.peers.pop(change.key))}

    def put(self, key: str, record: object) -> set[str]:
        """Believes a peer's record if it is valid and not older than ours.

        Returns the keys whose peers changed, or may now have what others had: none if ours stays as it was.
        """
        try:
            peer = Peer.from_wire(key, record, self.zone)
        except InvalidValue as error:
            self.rejected[key[:64]] = str(error)
            return set()
        known = self.peers.get(key)
        if known is not None and known.rev > peer.rev:
            return set()
        if self.rejected:
            self.rejected.pop(key[:64], None)
        changed = {key}
        if known is not None:
            if known == peer:
                return set()
            changed |= self._unclaim(known)
        self.peers[key] = peer
        return changed | self._claim(peer)
