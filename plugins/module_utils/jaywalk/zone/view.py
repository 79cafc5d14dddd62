# SPDX-License-Identifier: GPL-3.0-or-later
"""A reader's copy of a zone, which follows the zone's log in Redis.

Entries of ``{zone}:events`` have the id ``<epoch>-<rev>``.  A reader has (epoch, rev) with its copy and
applies the entry that follows; any other entry is a gap and requires a snapshot.  Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from ..core import ip
from ..core.errors import InvalidValue
from ..trust.lock import Lock
from .events import BLOCK, Change, Event, Gap
from .marks import Head, Position, remember
from .models import Peer, Zone

# Epochs of whose end a zone remembers the revision; its scripts keep as many.
MAX_HISTORY = 16


class Retained(NamedTuple):
    """Why a peer that the zone does not list stays: ``epoch`` is the last one that listed it, and ``since``
    is when this node missed it, in seconds since 1970.
    """

    epoch: int
    since: float


def history_of(text: str) -> tuple[tuple[int, int], ...]:
    """The earlier epochs as (epoch, its last revision), from ``meta.history``.

    Empty if the text is invalid: the shared part with another copy of the log is then unknown.
    """
    pairs = (word.partition("-") for word in text.split()[-MAX_HISTORY:])
    try:
        return tuple((int(epoch), int(rev)) for epoch, _dash, rev in pairs)
    except ValueError:
        return ()


@dataclass
class ZoneView:
    """A reader's copy of a zone at (epoch, rev): its peers, and the pause between two reads.

    ``rejected`` holds the reason per key of each invalid record; the last valid record stays.  ``history``
    holds the earlier epochs with their last revisions, and ``marks`` the known marks.  ``retained`` names
    those of ``peers`` that the zone lost and does not list any more (see :mod:`.retention`); the zone's own
    records win.  Under a ``lock``, records that no valid statement covers are rejected as well.
    ``incomplete`` says that records were left out which the log will not repeat.
    """

    zone: Zone
    epoch: int
    rev: int
    peers: dict[str, Peer] = field(default_factory=dict)
    wait_ms: int = 100
    rejected: dict[str, str] = field(default_factory=dict)
    history: tuple[tuple[int, int], ...] = ()
    retained: dict[str, Retained] = field(default_factory=dict)
    marks: dict[Position, str] = field(default_factory=dict, compare=False)
    lock: Lock | None = field(default=None, compare=False)
    incomplete: bool = field(default=False, compare=False)
    _claims: dict[str, tuple[str, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._claims = {}
        for peer in self.peers.values():
            self._claim(peer)

    @property
    def stream_id(self) -> str:
        """The id of the last entry that was read."""
        return f"{self.epoch}-{self.rev}"

    @property
    def head(self) -> Head:
        """The position of this reader, with the mark if it is known."""
        return Head(self.epoch, self.rev, self.marks.get((self.epoch, self.rev), ""))

    def apply(self, event: Event) -> set[str]:
        """Applies one event; returns the keys whose peers changed, or may now own what others had.

        Raises ``Gap``, and ``Fork`` if Redis was put back.
        """
        if not event.is_next(self.head):
            raise Gap(
                f"zone {self.zone.name} stands at {self.stream_id} and the log at {event.epoch}-{event.rev}"
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

    def owner_of(self, allowed_ip: str) -> Peer | None:
        """The peer that owns ``allowed_ip``: of several that claim it, the one with the oldest record.

        A retained peer owns only what no peer claims that the zone lists.
        """
        claimants = [self.peers[key] for key in self._claims.get(allowed_ip, ()) if key in self.peers]
        return min(claimants, key=lambda peer: (peer.key in self.retained, peer.rev, peer.key), default=None)

    def keep(self, before: ZoneView) -> None:
        """Keeps the valid records of ``before`` for keys whose records in this snapshot are invalid."""
        for key, reason in list(self.rejected.items()):
            if key in before.peers and key not in self.peers and key not in before.retained:
                self.put(key, before.peers[key].to_wire())
                self.rejected[key] = reason

    def retain(self, peer: Peer, mark: Retained) -> None:
        """Keeps ``peer`` although the zone does not list it.

        A record that the zone's pools do not allow any more goes into ``rejected`` instead.
        """
        try:
            Peer.from_wire(peer.key, peer.to_wire(), self.zone)
        except InvalidValue as error:
            self.rejected[peer.key] = str(error)
            return
        if reason := self._unsigned(peer):
            self.rejected[peer.key] = reason
            return
        self.peers[peer.key] = peer
        self.retained[peer.key] = mark
        self._claim(peer)

    def drop_unsigned(self, own_key: str) -> set[str]:
        """Removes the peers whose statements ended meanwhile; returns the keys whose peers changed.

        The record of ``own_key``, this node, stays: without it, the node would take itself for removed.
        """
        changed: set[str] = set()
        for peer in list(self.peers.values()) if self.lock is not None else ():
            reason = self._unsigned(peer)
            if reason:
                self.rejected[peer.key] = reason
            if reason and peer.key != own_key:
                self.retained.pop(peer.key, None)
                changed |= {peer.key, *self._unclaim(self.peers.pop(peer.key))}
        return changed

    def _unsigned(self, peer: Peer) -> str:
        """Why the lock does not let this node take ``peer``; "" if it does, or without a lock."""
        return self.lock.take(peer.lock_record) if self.lock is not None else ""

    def drop_retained(self, keys: Iterable[str]) -> set[str]:
        """Removes retained peers; returns the keys whose peers changed, or may now own what these had."""
        changed: set[str] = set()
        for key in keys:
            if self.retained.pop(key, None) is not None:
                changed |= {key, *self._unclaim(self.peers.pop(key))}
        return changed

    def _yield_prefixes(self, peer: Peer) -> set[str]:
        """Removes from retained peers the prefixes that overlap those of ``peer``, which the zone lists.

        Equal prefixes are decided by :meth:`owner_of`; a narrower one would take part of the peer's traffic.
        """
        changed: set[str] = set()
        networks = ip.networks(peer.prefixes)
        for other in [self.peers[key] for key in self.retained] if networks else ():
            rest = tuple(prefix for prefix in other.prefixes if ip.overlapping(networks, prefix) is None)
            if rest != other.prefixes:
                changed |= {other.key, *self._unclaim(other)}
                self.peers[other.key] = other._replace(prefixes=rest)
                changed |= self._claim(self.peers[other.key])
        return changed

    def _claim(self, peer: Peer) -> set[str]:
        """Adds the claims of ``peer``; returns the keys of other peers with the same claims."""
        rivals: set[str] = set()
        alone = (peer.key,)
        for allowed_ip in peer.allowed_ips:
            others = self._claims.setdefault(allowed_ip, alone)
            if others is not alone:
                self._claims[allowed_ip] = others + alone
                rivals.update(others)
        return rivals

    def _unclaim(self, peer: Peer) -> set[str]:
        """Removes the claims of ``peer``; returns the keys of peers that may now own them."""
        rivals: set[str] = set()
        for allowed_ip in peer.allowed_ips:
            rest = tuple(key for key in self._claims.pop(allowed_ip, ()) if key != peer.key)
            if rest:
                self._claims[allowed_ip] = rest
                rivals.update(rest)
        return rivals

    def _take(self, change: Change, rev: int) -> set[str]:
        if change.sign == "+":
            return self.put(change.key, change.record)
        if change.sign in ("=", BLOCK):
            return set()
        self.rejected.pop(change.key[:64], None)
        known = self.peers.get(change.key)
        # A snapshot that was read during commits may already hold the peer's return.
        if known is None or (known.rev > rev and change.key not in self.retained):
            return set()
        self.retained.pop(change.key, None)
        return {change.key, *self._unclaim(self.peers.pop(change.key))}

    def put(self, key: str, record: object) -> set[str]:
        """Accepts a peer's record if it is valid and not older than the known one.

        Returns the keys whose peers changed, or may now own what others had: none if nothing changed.
        """
        try:
            peer = Peer.from_wire(key, record, self.zone)
        except InvalidValue as error:
            self.rejected[key[:64]] = str(error)
            return set()
        if reason := self._unsigned(peer):
            self.rejected[key] = reason
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


def locked_zone(zone: Zone, lock: Lock | None) -> Zone:
    """``zone`` with the pools that ``lock`` puts in force; as it is without a lock.

    Before the first signed statement the pools stay as they are, and the lock takes no peer.
    """
    if lock is None:
        return zone
    pools = lock.take_zone(zone.signed, zone.pools) or zone.pools
    # Excluded networks of other pools are nothing to a node, and would not fit these.
    excluded = zone.policy.excluded if pools == zone.pools else ()
    return replace(zone, pools=pools, policy=replace(zone.policy, excluded=excluded))
