# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds each answer against the log: what it says was so at a moment between question and answer."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from .history import Answer
from .replay import Change, Record, Replay, changes_of
from .rules import Terms, waiting_key
from .tap import Entry, Reading

LEAST = 1.0
"""Seconds for which an operator waits at least before an order expires."""


@dataclass(frozen=True)
class Moment:
    """The zone after one line of ``entry``; without an entry it is before the first event."""

    entry: Entry | None
    zone: Replay
    change: Change | None = None


class Answers:
    """Judges answers by one reading of a zone's log."""

    def __init__(self, reading: Reading, terms: Terms) -> None:
        self._terms, self._is_whole = terms, reading.is_whole
        self._moments = list(_moments(reading))

    def false(self, answer: Answer) -> str:
        """What is wrong with an answer, in a sentence; empty if nothing is.

        Where the log tells of only some leases, only what was changed can be judged.
        """
        if not self._is_whole and not (answer.ok and answer.changed):
            return ""
        if not answer.ok:
            grounds = _GROUNDS.get(answer.code)
            if grounds is None or not any(
                grounds(each.zone, answer, self._terms) for each in self._during(answer)
            ):
                return f"{answer}, for which there was no reason"
            return ""
        if answer.changed:
            made = any(_made(each, answer) for each in self._during(answer))
            return "" if made else f"{answer}, and the log has no such change"
        if not any(_holds(each.zone, answer) for each in self._during(answer)):
            return f"{answer}, and that was never so"
        return ""

    def _during(self, answer: Answer) -> Iterator[Moment]:
        """The moments at which the answer may have been decided, the one at which it was asked for first."""
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
    """Each line of an event is a moment of its own, since a batch decides on one request after the other."""
    zone = Replay()
    yield Moment(None, zone.copy())
    for entry in reading.entries:
        for change in changes_of(entry.fields):
            zone.apply(change)
            yield Moment(entry, zone.copy(), change)


def _made(moment: Moment, answer: Answer) -> bool:
    """Whether the event of ``moment`` is what ``answer`` says was done."""
    return moment.change is not None and _MADE[answer.asked.op](moment.change, answer)


def _joined(change: Change, answer: Answer) -> bool:
    record = change.record or {}
    return (
        change.sign == "+"
        and (change.key, record["s"]) == (answer.asked.key, answer.asked.seq)
        and (tuple(record["a"]), tuple(record.get("p", ()))) == (answer.addresses, answer.prefixes)
    )


def _has_left(change: Change, answer: Answer) -> bool:
    sign, record = change.sign, change.record or {}
    return (sign, change.key, record.get("s")) == ("-", answer.asked.key, answer.asked.seq)


def _released(change: Change, answer: Answer) -> bool:
    named = change.key == answer.asked.key or not answer.asked.key
    if answer.asked.prefixes:
        return named and not set((change.record or {}).get("p", ())) & set(answer.asked.prefixes)
    return named and change.sign == "=" and change.record is None


def _reserved(change: Change, answer: Answer) -> bool:
    key = answer.asked.key or change.key
    record = change.record or {}
    return change.key == key and tuple(record.get("a", ())) == answer.addresses


_MADE: Mapping[str, Callable[[Change, Answer], bool]] = {
    "join": _joined,
    "endpoint": _joined,
    "leave": _has_left,
    "release": _released,
    "reserve": _reserved,
    "rekey": _reserved,
    "show": lambda change, answer: False,
}


def _lease_of(zone: Replay, answer: Answer) -> Record | None:
    """The lease that a request is about: its key's, or the one of the host that it names."""
    asked = answer.asked
    if asked.key:
        return zone.leases.get(asked.key)
    waiting = zone.leases.get(waiting_key(asked.name))
    return waiting or next((each for each in zone.leases.values() if each.get("h") == asked.name), None)


def _holds(zone: Replay, answer: Answer) -> bool:
    """Whether the zone is as ``answer`` says."""
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


Grounds = Callable[[Replay, Answer, Terms], bool]


def _is_taken(zone: Replay, answer: Answer, terms: Terms) -> bool:
    """Another key holds what was requested, and may keep it."""
    for address in answer.asked.addresses:
        holder = zone.holder(address)
        if holder is not None and holder != answer.asked.key:
            lease = zone.leases[holder]
            if answer.asked.is_order or terms.takeover != "always" or lease.get("t") == 0:
                return True
    return False


def _is_quarantined(zone: Replay, answer: Answer, terms: Terms) -> bool:
    """Somebody who left holds what was requested."""
    holders = [zone.holder(address) for address in answer.asked.addresses]
    return any(key and key != answer.asked.key and zone.leases[key].get("t") for key in holders)


def _is_outside(zone: Replay, answer: Answer, terms: Terms) -> bool:
    pools = [ipaddress.ip_network(each) for each in terms.pools]
    return not all(
        any(ipaddress.ip_address(each) in pool for pool in pools) for each in answer.asked.addresses
    )


def _is_network(zone: Replay, answer: Answer, terms: Terms) -> bool:
    pools = [ipaddress.ip_network(each) for each in (*terms.pools, *terms.later)]
    own = {str(end) for pool in pools for end in (pool.network_address, pool.broadcast_address)}
    return bool(own & set(answer.asked.addresses))


def _is_full(zone: Replay, answer: Answer, terms: Terms) -> bool:
    held = sum(any(":" not in each for each in lease["a"]) for lease in zone.leases.values())
    return held >= terms.capacity(4)  # of the smallest pools


def _overlaps(zone: Replay, answer: Answer, terms: Terms) -> bool:
    wanted = [ipaddress.ip_network(each, strict=False) for each in answer.asked.prefixes]
    others = [
        ipaddress.ip_network(each)
        for key, lease in zone.leases.items()
        if key != answer.asked.key
        for each in lease.get("p", ())
    ]
    return any(one.version == other.version and one.overlaps(other) for one in wanted for other in others)


def _is_stale(zone: Replay, answer: Answer, terms: Terms) -> bool:
    lease = zone.leases.get(answer.asked.key)
    return lease is not None and lease["s"] > answer.asked.seq


def _is_named(zone: Replay, answer: Answer, terms: Terms) -> bool:
    named = [lease for lease in zone.leases.values() if answer.asked.name in (lease.get("h"), lease["n"])]
    return bool(named)


_GROUNDS: Mapping[str, Grounds] = {
    "address-taken": _is_taken,
    "address-quarantined": _is_quarantined,
    "address-outside": _is_outside,
    "address-reserved": _is_network,
    "exhausted": _is_full,
    "prefix-taken": _overlaps,
    "stale": _is_stale,
    "expired": lambda zone, answer, terms: answer.asked.is_order and answer.at - answer.asked.at >= LEAST,
    "not-joined": lambda zone, answer, terms: answer.asked.key not in zone.peers,
    "name-reserved": _is_named,
    "name-ambiguous": _is_named,
}
"""What must have been so for a refusal to be right, by its code; there is no ground for any other."""


def judged(
    answers: list[Answer], readings: Callable[[int], Reading | None]
) -> Iterator[tuple[Answer, Reading]]:
    """The answers that can be judged, each with the reading that knows all of their time.

    What was asked for or answered while Redis lost data, or on the other side of a loss, cannot be.
    """
    for answer in answers:
        if answer.era % 2 or answer.asked.era != answer.era:
            continue
        reading = readings(answer.era)
        if reading is not None and reading.through >= answer.at:
            yield answer, reading
