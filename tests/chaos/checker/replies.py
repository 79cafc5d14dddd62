# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks each reply against the log: it must be true at a moment between the request and the reply."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from .history import ReceivedReply
from .log_reader import Entry, Reading
from .log_rules import ZoneSettings, waiting_key
from .replay import Change, Record, Replay, changes_of

# An operator's request never expires earlier.
MIN_EXPIRY_SECONDS = 1.0


@dataclass(frozen=True)
class Moment:
    """The zone after one line of ``entry``, or before the first event without an entry."""

    entry: Entry | None
    zone: Replay
    change: Change | None = None


class ReplyChecker:
    """Checks replies by one reading of a zone's log."""

    def __init__(self, reading: Reading, settings: ZoneSettings) -> None:
        self._settings, self._is_whole = settings, reading.is_whole
        self._moments = list(_moments(reading))

    def fault_of(self, answer: ReceivedReply) -> str:
        """Return the fault of a reply in a sentence, or an empty string.

        If the log does not contain all leases, only replies about changes can be checked.
        """
        if not self._is_whole and not (answer.ok and answer.changed):
            return ""
        if not answer.ok:
            grounds = _GROUNDS.get(answer.code)
            if grounds is None or not any(
                grounds(each.zone, answer, self._settings) for each in self._during(answer)
            ):
                return f"{answer}, for which there was no reason"
            return ""
        if answer.changed:
            made = any(_made(each, answer) for each in self._during(answer))
            return "" if made else f"{answer}, and the log has no such change"
        if not any(_holds(each.zone, answer) for each in self._during(answer)):
            return f"{answer}, and that was never so"
        return ""

    def _during(self, answer: ReceivedReply) -> Iterator[Moment]:
        """Yield the moments at which the supervisor may have decided, from that of the request on."""
        for moment, following in pairwise([*self._moments, None]):
            if moment is None or (moment.entry is not None and moment.entry.after > answer.at):
                return
            over = (
                following is not None
                and following.entry is not None
                and following.entry.at <= answer.asked.at
            )
            if not over:
                yield moment


def _moments(reading: Reading) -> Iterator[Moment]:
    """Yield a moment per line of an event, since a batch decides on one request after the other."""
    zone = Replay()
    yield Moment(None, zone.copy())
    for entry in reading.entries:
        for change in changes_of(entry.fields):
            zone.apply(change)
            yield Moment(entry, zone.copy(), change)


def _made(moment: Moment, answer: ReceivedReply) -> bool:
    """Return whether the change of ``moment`` is the one that ``answer`` reports."""
    return moment.change is not None and _MADE[answer.asked.op](moment.change, answer)


def _joined(change: Change, answer: ReceivedReply) -> bool:
    record = change.record or {}
    return (
        change.sign == "+"
        and (change.key, record["s"]) == (answer.asked.key, answer.asked.seq)
        and (tuple(record["a"]), tuple(record.get("p", ()))) == (answer.addresses, answer.prefixes)
    )


def _has_left(change: Change, answer: ReceivedReply) -> bool:
    sign, record = change.sign, change.record or {}
    return (sign, change.key, record.get("s")) == ("-", answer.asked.key, answer.asked.seq)


def _released(change: Change, answer: ReceivedReply) -> bool:
    named = change.key == answer.asked.key or not answer.asked.key
    if answer.asked.prefixes:
        return named and not set((change.record or {}).get("p", ())) & set(answer.asked.prefixes)
    return named and change.sign == "=" and change.record is None


def _reserved(change: Change, answer: ReceivedReply) -> bool:
    key = answer.asked.key or change.key
    record = change.record or {}
    return change.key == key and tuple(record.get("a", ())) == answer.addresses


_MADE: Mapping[str, Callable[[Change, ReceivedReply], bool]] = {
    "join": _joined,
    "endpoint": _joined,
    "leave": _has_left,
    "release": _released,
    "reserve": _reserved,
    "rekey": _reserved,
    "show": lambda change, answer: False,
}


def _lease_of(zone: Replay, answer: ReceivedReply) -> Record | None:
    """Return the lease of a request: its key's, or that of its host name."""
    asked = answer.asked
    if asked.key:
        return zone.leases.get(asked.key)
    waiting = zone.leases.get(waiting_key(asked.name))
    return waiting or next((each for each in zone.leases.values() if each.get("h") == asked.name), None)


def _holds(zone: Replay, answer: ReceivedReply) -> bool:
    """Return whether the zone is as ``answer`` reports."""
    lease = _lease_of(zone, answer)
    if answer.state == "absent":
        return lease is None
    if lease is None:
        return False
    times = {
        "active": lease.get("t") is None,
        "reserved": lease.get("t") == 0,
        "released": bool(lease.get("t")),
    }
    return times.get(answer.state, False) and tuple(lease["a"]) == answer.addresses


Grounds = Callable[[Replay, ReceivedReply, ZoneSettings], bool]


def _is_taken(zone: Replay, answer: ReceivedReply, settings: ZoneSettings) -> bool:
    """Another key holds a requested address, and may keep it."""
    for address in answer.asked.addresses:
        holder = zone.holder(address)
        if holder is not None and holder != answer.asked.key:
            lease = zone.leases[holder]
            if answer.asked.is_order or settings.takeover != "always" or lease.get("t") == 0:
                return True
    return False


def _is_quarantined(zone: Replay, answer: ReceivedReply, settings: ZoneSettings) -> bool:
    """A node that has left holds a requested address."""
    holders = [zone.holder(address) for address in answer.asked.addresses]
    return any(key and key != answer.asked.key and zone.leases[key].get("t") for key in holders)


def _is_outside(zone: Replay, answer: ReceivedReply, settings: ZoneSettings) -> bool:
    pools = [ipaddress.ip_network(each) for each in settings.pools]
    return not all(
        any(ipaddress.ip_address(each) in pool for pool in pools) for each in answer.asked.addresses
    )


def _is_network(zone: Replay, answer: ReceivedReply, settings: ZoneSettings) -> bool:
    pools = [ipaddress.ip_network(each) for each in (*settings.pools, *settings.later)]
    own = {str(end) for pool in pools for end in (pool.network_address, pool.broadcast_address)}
    return bool(own & set(answer.asked.addresses))


def _is_full(zone: Replay, answer: ReceivedReply, settings: ZoneSettings) -> bool:
    held = sum(any(":" not in each for each in lease["a"]) for lease in zone.leases.values())
    return held >= settings.capacity(4)  # of the smallest pools


def _overlaps(zone: Replay, answer: ReceivedReply, settings: ZoneSettings) -> bool:
    wanted = [ipaddress.ip_network(each, strict=False) for each in answer.asked.prefixes]
    others = [
        ipaddress.ip_network(each)
        for key, lease in zone.leases.items()
        if key != answer.asked.key
        for each in lease.get("p", ())
    ]
    return any(one.version == other.version and one.overlaps(other) for one in wanted for other in others)


def _is_stale(zone: Replay, answer: ReceivedReply, settings: ZoneSettings) -> bool:
    lease = zone.leases.get(answer.asked.key)
    return lease is not None and lease["s"] > answer.asked.seq


def _is_named(zone: Replay, answer: ReceivedReply, settings: ZoneSettings) -> bool:
    named = [lease for lease in zone.leases.values() if answer.asked.name in (lease.get("h"), lease["n"])]
    return bool(named)


# The conditions under which a refusal is right, by its code; any other code is wrong.
_GROUNDS: Mapping[str, Grounds] = {
    "address-taken": _is_taken,
    "address-quarantined": _is_quarantined,
    "address-outside": _is_outside,
    "address-reserved": _is_network,
    "exhausted": _is_full,
    "prefix-taken": _overlaps,
    "stale": _is_stale,
    "expired": lambda zone, answer, settings: (
        answer.asked.is_order and answer.at - answer.asked.at >= MIN_EXPIRY_SECONDS
    ),
    "not-joined": lambda zone, answer, settings: answer.asked.key not in zone.peers,
    "name-reserved": _is_named,
    "name-ambiguous": _is_named,
}


def checkable(
    answers: list[ReceivedReply], readings: Callable[[int], Reading | None]
) -> Iterator[tuple[ReceivedReply, Reading]]:
    """Yield the replies that can be checked, each with the reading that covers their time.

    A reply cannot be checked if Redis lost data between its request and itself.
    """
    for answer in answers:
        if answer.era % 2 or answer.asked.era != answer.era:
            continue
        reading = readings(answer.era)
        if reading is not None and reading.through >= answer.at:
            yield answer, reading
