# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds each change of a log against what was asked before it: nothing may change without a cause.

The rules are those of ``docs/zones-and-leases.md``, told anew.  They lean on what was asked and not on what
was answered, so that a request whose answer was lost counts, too.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from .history import Asked, History
from .replay import Change, Record, Replay, by_version, changes_of
from .tap import Entry, Reading


@dataclass(frozen=True)
class Terms:
    """What a zone was told to be: its smallest pools, and its shortest quarantine, in a round.

    Its pools may become those of ``later``, and its quarantine ``later_quarantine`` with them.
    ``trusts_clocks``: whether supervisors measure seconds as everybody does.
    """

    pools: tuple[str, ...]
    takeover: str = "always"
    quarantine: float = 3600.0
    stale_after: float = 900.0
    trusts_clocks: bool = True
    later: tuple[str, ...] = ()
    later_quarantine: float = 3600.0

    def capacity(self, version: int) -> int:
        """How many addresses of an IP version nodes can have."""
        networks = [ipaddress.ip_network(pool) for pool in self.pools]
        return sum(each.num_addresses - 2 for each in networks if each.version == version)


def other_zone(meta: Mapping[str, str], terms: Terms, is_later: bool) -> Iterator[str]:
    """Where a zone is not as it was told to be: at first or later, or later for sure."""
    pools, policy = tuple(json.loads(meta["pools"])), json.loads(meta["policy"])
    for field, wanted in (("takeover", terms.takeover), ("stale_after", terms.stale_after)):
        if policy[field] != wanted:
            yield f"{field} is {policy[field]}, and was set to {wanted}"
    told = [(terms.later, terms.later_quarantine)]
    if not is_later:
        told.append((terms.pools, terms.quarantine))
    if (pools, policy["quarantine"]) not in told:
        yield f"the pools are {pools}, the quarantine is {policy['quarantine']} s, and it was told {told}"


def waiting_key(name: str) -> str:
    """The key under which a reservation waits for the host ``name``."""
    return base64.b64encode(hashlib.sha256(f"jaywalk reservation {name}".encode()).digest()).decode()


@dataclass(frozen=True)
class Step:
    """One line of an event, the one with this ``number``: the zone before it, and before the event."""

    entry: Entry
    change: Change
    before: Replay
    event: Sequence[Change]
    number: int
    began: Replay

    @property
    def lease(self) -> Record | None:
        """What the key had."""
        return self.before.leases.get(self.change.key)

    @property
    def later(self) -> Sequence[Change]:
        """The lines behind this one."""
        return self.event[self.number + 1 :]

    def waiting(self, host: str) -> Iterator[Record]:
        """What waits for a host, or waited until this event, as an operator reserved it by its name."""
        made = [each.record for each in self.event[: self.number] if each.sign == "=" and each.record]
        for lease in (*self.began.leases.values(), *made):
            if host and lease.get("h") == host and lease.get("t") == 0:
                yield lease


class Rules:
    """Judges one reading of a zone's log.

    ``restored`` are keys with the addresses that they had at some time, where supervisors may put leases back
    into a Redis that came back empty.
    """

    def __init__(
        self, history: History, terms: Terms, restored: Collection[tuple[str, tuple[str, ...]]] = ()
    ) -> None:
        self._history, self._terms, self._restored = history, terms, restored
        self._by_key: dict[str, list[Asked]] = defaultdict(list)
        self._orders: list[Asked] = []
        for asked in history.all_asked():
            if asked.is_order:
                self._orders.append(asked)
            else:
                self._by_key[asked.key].append(asked)
        self._carried_out: set[str] = set()
        self._is_whole = True

    def unlawful(self, entries: Sequence[Entry]) -> Iterator[str]:
        """A sentence for each change without a cause, in the order of the log."""
        self._carried_out.clear()
        self._is_whole = Reading(0, list(entries)).is_whole
        now = Replay()
        for entry in entries:
            changes, began = changes_of(entry.fields), now.copy()
            for number, change in enumerate(changes):
                step = Step(entry, change, now.copy(), changes, number, began)
                for fault in self._faults(step):
                    yield f"{fault} ({entry.position})"
                now.apply(change)

    def _faults(self, step: Step) -> Iterator[str]:
        if step.change.sign == "+":
            yield from self._entered(step)
        elif step.change.sign == "-":
            yield from self._left(step)
        elif step.change.record is None:
            yield from self._ended(step)
        else:
            yield from self._settled(step)

    # A peer's record.

    def _entered(self, step: Step) -> Iterator[str]:
        key, record, lease = step.change.key, step.change.record or {}, step.lease
        is_new = key not in step.before.peers
        if key in self._history.unwatched:
            pass
        elif is_new or (lease is not None and record["s"] != lease["s"]):
            own = [each for each in self._by_key[key] if each.seq == record["s"]]
            joins = [each for each in own if each.op == "join"]
            if is_new and not joins:
                yield f"{key} came into the zone with the seq {record['s']} of no join"
            elif not own:
                yield f"{key} has the seq {record['s']} of no request"
            elif joins and not any(set(each.addresses) <= set(record["a"]) for each in joins):
                yield f"{key} asked for {joins[0].addresses} and was given {record['a']}"
            if joins and not any(_announces(record, each) for each in joins):
                yield f"{key} announced {joins[0].prefixes} and the zone says {record.get('p')}"
        if lease is not None and record["s"] < lease["s"]:
            yield f"{key} went back from the request {lease['s']} to {record['s']}"
        yield from self._moved(step, record)
        yield from self._kept(step, record)

    def _moved(self, step: Step, record: Record) -> Iterator[str]:
        """An address is its key's own until it asks for another one, or somebody who may takes it."""
        key = step.change.key
        before, now = by_version(step.lease["a"] if step.lease else ()), by_version(record["a"])
        for version, address in before.items():
            if now.get(version) == address:
                continue
            new = now.get(version, "")
            wished = any(new in each.addresses for each in self._by_key[key] if each.seq == record["s"])
            claimed = any(new in lease["a"] for lease in step.waiting(record.get("h", "")))
            if not wished and not claimed and not self._is_order(step, ("reserve", "rekey"), record, new):
                yield from self._taken(step, address)

    def _taken(self, step: Step, address: str) -> Iterator[str]:
        """The key of ``step`` loses ``address`` to somebody who asked for it, and may have it."""
        key, lease = step.change.key, step.lease or {}
        taker = next(
            (each.key for each in step.later if each.record and address in each.record.get("a", ())), None
        )
        asked = [each for each in self._by_key[taker or ""] if address in each.addresses]
        if taker is None or not asked:
            yield f"{key} lost {address}, for which nobody asked"
            return
        if lease.get("t") == 0:
            yield f"{key} lost {address} to {taker} although it is reserved"
        yield from self._robbed(step, f"{key} lost {address} to {taker}", asked)

    def _robbed(self, step: Step, what: str, asked: Sequence[Asked]) -> Iterator[str]:
        """Under ``never`` nobody takes anything, and under ``stale`` only from who was silent for long."""
        wait, key = self._terms.stale_after, step.change.key
        if self._terms.takeover == "never":
            yield f"{what} although nobody may take it"
        is_kept = self._terms.trusts_clocks and (step.lease or {}).get("t")
        if is_kept and self._away(step) <= self._terms.quarantine:
            yield f"{what} although it left {self._away(step):.1f} s before"
        if self._terms.takeover != "stale" or not self._terms.trusts_clocks:
            return
        if (step.lease or {}).get("t"):
            waited = self._away(step)
        else:
            begin = min(each.at for each in asked) - wait
            silence = self._history.silence(key, begin, step.entry.at)
            # Who is heard of so often was heard of at whatever moment that was decided.
            waited = silence if silence < wait / 3 else wait
        if waited < wait:
            yield f"{what} although it was silent for {waited:.1f} s alone"

    def _away(self, step: Step) -> float:
        """For how many seconds, at most, the key of ``step`` had left."""
        seq = (step.lease or {}).get("s")
        left = [each.at for each in self._by_key[step.change.key] if each.op == "leave" and each.seq == seq]
        return step.entry.at - min(left) if left else float("inf")

    def _kept(self, step: Step, record: Record) -> Iterator[str]:
        """What an operator keeps for a key stays until an operator changes it."""
        before = (step.lease or {}).get("k", [])
        if record.get("k", []) == before or self._is_order(step, ("reserve", "rekey", "release"), record):
            return
        if any(True for _ in step.waiting(record.get("h", ""))):
            return
        yield f"{step.change.key} kept {before} and keeps {record.get('k', [])}, and no operator said so"

    # Who goes.

    def _left(self, step: Step) -> Iterator[str]:
        key, record = step.change.key, step.change.record or {}
        if step.change.record is None and step.lease is None:
            return  # the word for nodes that retain a peer which the zone does not list
        if any(each.op == "leave" and each.seq == record.get("s") for each in self._by_key[key]):
            return
        if not self._is_ordered_away(step, consume=False):
            yield f"{key} left, and nobody asked for that"

    def _ended(self, step: Step) -> Iterator[str]:
        key, lease = step.change.key, step.lease
        if lease is None or self._is_ordered_away(step) or self._is_claimed(step):
            return
        if not lease.get("t"):
            yield f"the lease of {key} ended, and nobody asked for that"
            return
        gets = {each for other in step.later if other.record for each in other.record.get("a", ())}
        taken = [each for each in lease["a"] if each in gets]
        if not taken:
            yield f"the lease of {key} ended, and nobody got {lease['a']}"
        elif asked := self._wishes(step, taken):
            yield from self._robbed(step, f"the lease of {key} ended for {asked[0].key}", asked)
        else:
            yield from self._evicted(step, lease)

    def _evicted(self, step: Step, lease: Record) -> Iterator[str]:
        """A lease makes room where a pool is full, once its quarantine is over."""
        key, version = step.change.key, 4
        held = sum(version in by_version(each["a"]) for each in step.before.leases.values())
        if self._is_whole and held < self._terms.capacity(version):
            yield f"{key} lost its lease of {lease['a']} although only {held} addresses are held"
        waited = self._away(step)
        if self._terms.trusts_clocks and waited <= self._terms.quarantine:
            yield f"{lease['a']} of {key}, which left {waited:.1f} s before, was given to another one"

    def _wishes(self, step: Step, addresses: Sequence[str]) -> list[Asked]:
        """Requests for one of ``addresses`` by those whom the rest of the event names."""
        takers = {each.key for each in step.later}
        return [each for key in takers for each in self._by_key[key] if set(addresses) & set(each.addresses)]

    # What operators order.

    def _settled(self, step: Step) -> Iterator[str]:
        record = step.change.record or {}
        yield from self._moved(step, record)
        if self._is_order(step, ("reserve", "rekey", "release"), record):
            return
        if step.lease is None and record.get("t") and (step.change.key, tuple(record["a"])) in self._restored:
            return
        if step.lease is None or {**step.lease, "a": 0, "i": 0} != {**record, "a": 0, "i": 0}:
            yield f"the lease of {step.change.key} is {dict(record)}, and no operator said so"

    def _is_order(self, step: Step, ops: Sequence[str], record: Record, address: str = "") -> bool:
        """Whether an operator asked for what the key's record says now."""
        names = {record.get("h"), record.get("n"), record.get("q")} - {None}
        for order in self._orders:
            named = order.key == step.change.key or (not order.key and order.name in names)
            fits = not address or address in order.addresses or (order.op == "rekey" and not order.addresses)
            if named and fits and order.op in ops and order.at <= step.entry.at:
                return True
        return False

    def _is_ordered_away(self, step: Step, consume: bool = True) -> bool:
        """Whether an operator released the key, or gave what it holds away; each order counts once."""
        lease = step.lease or {}
        names = {lease.get("h"), lease.get("n"), lease.get("q")} - {None}
        for order in self._orders:
            if order.nonce in self._carried_out or order.at > step.entry.at or order.prefixes:
                continue
            by_name = order.name in names and (not order.key or order.op != "release")
            released = order.op == "release" and (order.key == step.change.key or by_name)
            if released or (by_name and order.op in ("rekey", "reserve") and order.key != step.change.key):
                if consume:
                    self._carried_out.add(order.nonce)
                return True
        return False

    def _is_claimed(self, step: Step) -> bool:
        lease = step.lease or {}
        return any(each.sign == "+" and self._waited(lease, each.record or {}) for each in step.later)

    @staticmethod
    def _waited(lease: Record, record: Record) -> bool:
        """Whether ``lease`` waited for the host whose record this is."""
        return lease.get("t") == 0 and bool(lease.get("h")) and record.get("h") == lease["h"]


def _announces(record: Record, asked: Asked) -> bool:
    """Whether a record holds the prefixes that were announced and those that an operator keeps, alone."""
    there = [ipaddress.ip_network(each) for each in record.get("p", ())]
    kept = [ipaddress.ip_network(each) for each in record.get("k", ())]
    wanted = [ipaddress.ip_network(each, strict=False) for each in asked.prefixes]
    known = {*kept, *wanted}
    return set(kept) <= set(there) <= known and all(
        any(
            each.version == other.version and each.prefixlen >= other.prefixlen and each.overlaps(other)
            for other in there
        )
        for each in wanted
    )
