# SPDX-License-Identifier: GPL-3.0-or-later
"""A zone as a log in Redis: the names of its keys, its events, and a reader's copy of it.

Entries of ``{zone}:events`` have the id ``<epoch>-<rev>``.  A reader keeps (epoch, rev) beside its copy and
applies the entry that follows its own; anything else is a gap and asks for a snapshot.  Nothing here talks
to Redis.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from . import values, wire
from .errors import InvalidValue, JaywalkError
from .marks import Head, Place, agree, readable, remember
from .models import Peer, Zone

ZONES = "jw:zones"
LEADER = "jw:leader"
"""Which supervisor serves all zones of a single server; in a cluster each zone has a key of its own."""
HEAD_FIELDS = ("epoch", "rev", "mark")
"""Fields of a zone's meta data that say where it stands."""
MAX_WAIT_MS = 60_000
MAX_HISTORY = 16
"""Epochs whose end a zone remembers; its scripts keep as many."""


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


class Fork(Gap):
    """Redis holds another history than the one that the reader followed: it was put back to an older copy."""


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

    ``mark`` is its own and ``previous_mark`` that of the revision before (see :mod:`.marks`).
    """

    epoch: int
    rev: int
    changes: tuple[Change, ...] = ()
    wait_ms: int | None = None
    previous_epoch: int | None = None
    zone_changed: bool = False
    mark: str = ""
    previous_mark: str = ""

    @classmethod
    def from_entry(cls, entry_id: str, fields: Mapping[str, str]) -> Event:
        """Reads a stream entry.

        Its fields: ``o`` (JSON list of changes), ``w`` (wait_ms), ``prev`` (a bump), ``zone`` (changed),
        ``m`` (the mark before and its own).
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
        before, _blank, own = fields.get("m", "").partition(" ")
        return cls(epoch, rev, parsed, wait, previous, "zone" in fields, readable(own), readable(before))

    def follows(self, head: Head) -> bool:
        """Whether this is the entry after ``head``: of its epoch, or the one that ended it with nothing lost.

        Raises ``Fork`` where the number follows and the mark says that the history is another one.
        """
        if head.epoch not in (self.epoch, self.previous_epoch) or self.rev != head.rev + 1:
            return False
        if not agree(head.mark, self.previous_mark):
            raise Fork(
                f"the log was followed up to {head} and goes on from another {head.rev} "
                f"({self.previous_mark}): Redis was put back to an older copy"
            )
        return True


class Retained(NamedTuple):
    """Why a peer that the zone does not list stays in force: ``epoch`` is the one that last listed it, and
    ``since`` is when this node missed it, in seconds since 1970.
    """

    epoch: int
    since: float


def history_of(text: str) -> tuple[tuple[int, int], ...]:
    """The epochs before the present one as (epoch, its last revision), from ``meta.history``.

    Empty where the text is none: nothing is then known to be shared with another copy of the log.
    """
    pairs = (word.partition("-") for word in text.split()[-MAX_HISTORY:])
    try:
        return tuple((int(epoch), int(rev)) for epoch, _dash, rev in pairs)
    except ValueError:
        return ()


def wait_of(text: str) -> int:
    """How long to wait between two reads, in ms, within reason; raises ``ValueError``."""
    return min(max(int(text), 0), MAX_WAIT_MS)


@dataclass
class ZoneView:
    """A reader's copy of a zone at (epoch, rev): its peers, and how long to wait between two reads.

    ``rejected`` holds what was read and not believed, a reason a key; the last good record stays in force.
    ``history`` holds the epochs before with the last revision of each, and ``marks`` those of the revisions
    that this reader knows.  ``retained`` names those of ``peers`` that the zone lost and does not list any
    more (see :mod:`.retention`); the zone's own records win.
    """

    zone: Zone
    epoch: int
    rev: int
    peers: dict[str, Peer] = field(default_factory=dict)
    wait_ms: int = 100
    rejected: dict[str, str] = field(default_factory=dict)
    history: tuple[tuple[int, int], ...] = ()
    retained: dict[str, Retained] = field(default_factory=dict)
    marks: dict[Place, str] = field(default_factory=dict, compare=False)
    _claims: dict[str, tuple[str, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._claims = {}
        for peer in self.peers.values():
            self._claim(peer)

    @property
    def position(self) -> str:
        """The stream id after which this reader reads on."""
        return f"{self.epoch}-{self.rev}"

    @property
    def head(self) -> Head:
        """Where this reader stands, with the mark if it knows it."""
        return Head(self.epoch, self.rev, self.marks.get((self.epoch, self.rev), ""))

    def apply(self, event: Event) -> set[str]:
        """Takes one event in and returns the keys whose peers changed, or may now have what others had.

        Raises ``Gap``, and ``Fork`` where Redis was put back.
        """
        if not event.follows(self.head):
            raise Gap(
                f"zone {self.zone.name} stands at {self.position} and the log at {event.epoch}-{event.rev}"
            )
        if event.epoch != self.epoch:
            self.history = (*self.history, (self.epoch, self.rev))[-MAX_HISTORY:]
        self.epoch, self.rev = event.epoch, event.rev
        remember(self.marks, (event.epoch, event.rev), event.mark)
        if event.wait_ms is not None:
            self.wait_ms = event.wait_ms
        changed: set[str] = set()
        for change in event.changes:
            changed |= self._take(change, event.rev)
        return changed

    def holder(self, allowed_ip: str) -> Peer | None:
        """The peer that has ``allowed_ip``: of several that claim it the one whose record is the oldest.

        A retained peer has only what nobody claims whom the zone lists.
        """
        claimants = [self.peers[key] for key in self._claims.get(allowed_ip, ()) if key in self.peers]
        return min(claimants, key=lambda peer: (peer.key in self.retained, peer.rev, peer.key), default=None)

    def keep(self, before: ZoneView) -> None:
        """Leaves ``before``'s good records in force where this snapshot holds what cannot be believed."""
        for key, reason in list(self.rejected.items()):
            if key in before.peers and key not in self.peers and key not in before.retained:
                self.put(key, before.peers[key].to_wire())
                self.rejected[key] = reason

    def retain(self, peer: Peer, mark: Retained) -> None:
        """Leaves ``peer`` in force although the zone does not list it.

        A record that the zone's pools do not allow any more goes into ``rejected`` instead.
        """
        try:
            Peer.from_wire(peer.key, peer.to_wire(), self.zone)
        except InvalidValue as error:
            self.rejected[peer.key] = str(error)
            return
        self.peers[peer.key] = peer
        self.retained[peer.key] = mark
        self._claim(peer)

    def drop_retained(self, keys: Iterable[str]) -> set[str]:
        """Removes retained peers; returns the keys whose peers changed, or may now have what these had."""
        changed: set[str] = set()
        for key in keys:
            if self.retained.pop(key, None) is not None:
                changed |= {key, *self._unclaim(self.peers.pop(key))}
        return changed

    def _yield_prefixes(self, peer: Peer) -> set[str]:
        """Takes from retained peers the prefixes that overlap those of ``peer``, whom the zone lists.

        Equal ones are decided by :meth:`holder`; a narrower one would take a part of the peer's traffic.
        """
        changed: set[str] = set()
        networks = values.networks(peer.prefixes)
        for other in [self.peers[key] for key in self.retained] if networks else ():
            rest = tuple(each for each in other.prefixes if values.overlapping(networks, each) is None)
            if rest != other.prefixes:
                changed |= {other.key, *self._unclaim(other)}
                self.peers[other.key] = other._replace(prefixes=rest)
                changed |= self._claim(self.peers[other.key])
        return changed

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
        if known is None or (known.rev > rev and change.key not in self.retained):
            return set()
        self.retained.pop(change.key, None)
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
        retained = bool(self.retained) and self.retained.pop(key, None) is not None
        if known is not None and known.rev > peer.rev and not retained:
            return set()
        if self.rejected:
            self.rejected.pop(key[:64], None)
        changed = {key}
        if known is not None:
            if known == peer and not retained:
                return set()
            changed |= self._unclaim(known)
        self.peers[key] = peer
        changed |= self._claim(peer)
        return changed | self._yield_prefixes(peer) if self.retained else changed
