# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks each change of a log against the earlier requests: nothing may change without a cause.

The rules are those of ``docs/zones-and-leases.md``, implemented independently. They read the requests and not
the replies, so that a request whose reply was lost counts too.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from .history import History, SentRequest
from .log_reader import Entry, Reading
from .replay import Change, Record, Replay, by_version, changes_of


@dataclass(frozen=True)
class ZoneSettings:
    """The settings of a zone in a round: its smallest pools and its shortest quarantine.

    Its pools may become those of ``later``, and its quarantine ``later_quarantine`` with them.
    ``trusts_clocks``: whether the supervisors' clocks run at the right speed and time.
    """

    pools: tuple[str, ...]
    takeover: str = "always"
    quarantine: float = 3600.0
    stale_after: float = 900.0
    trusts_clocks: bool = True
    later: tuple[str, ...] = ()
    later_quarantine: float = 3600.0

    def capacity(self, version: int) -> int:
        """Return the number of addresses of an IP version for nodes."""
        networks = [ipaddress.ip_network(pool) for pool in self.pools]
        return sum(network.num_addresses - 2 for network in networks if network.version == version)


def settings_faults(meta: Mapping[str, str], settings: ZoneSettings, is_later: bool) -> Iterator[str]:
    """Yield differences of a zone from its first or later settings, or only from the later ones."""
    pools, policy = tuple(json.loads(meta["pools"])), json.loads(meta["policy"])
    for field, expected_value in (("takeover", settings.takeover), ("stale_after", settings.stale_after)):
        if policy[field] != expected_value:
            yield f"{field} is {policy[field]}, and was set to {expected_value}"
    expected = [(settings.later, settings.later_quarantine)]
    if not is_later:
        expected.append((settings.pools, settings.quarantine))
    if (pools, policy["quarantine"]) not in expected:
        yield f"the pools are {pools}, the quarantine is {policy['quarantine']} s, expected: {expected}"


def waiting_key(name: str) -> str:
    """Return the key of a reservation for the host ``name``."""
    return base64.b64encode(hashlib.sha256(f"jaywalk reservation {name}".encode()).digest()).decode()


@dataclass(frozen=True)
class ChangeContext:
    """One line of an event, number ``number``, with the zone before the line and before the event."""

    entry: Entry
    change: Change
    before: Replay
    event: Sequence[Change]
    number: int
    began: Replay

    @property
    def lease(self) -> Record | None:
        """The key's lease before the change."""
        return self.before.leases.get(self.change.key)

    @property
    def later(self) -> Sequence[Change]:
        """The lines after this one."""
        return self.event[self.number + 1 :]

    def waiting(self, host: str) -> Iterator[Record]:
        """Yield reservations for a host by its name, before this event or in its earlier lines."""
        made = [each.record for each in self.event[: self.number] if each.sign == "=" and each.record]
        for lease in (*self.began.leases.values(), *made):
            if host and lease.get("h") == host and lease.get("t") == 0:
                yield lease


class LogRules:
    """Checks one reading of a zone's log: each change needs a cause.

    ``restored`` are keys with the addresses that they had at some time, if supervisors may restore leases
    into an empty Redis.
    """

    def __init__(
        self, history: History, settings: ZoneSettings, restored: Collection[tuple[str, tuple[str, ...]]] = ()
    ) -> None:
        self._history, self._settings, self._restored = history, settings, restored
        self._by_key: dict[str, list[SentRequest]] = defaultdict(list)
        self._orders: list[SentRequest] = []
        for asked in history.all_requests():
            if asked.is_order:
                self._orders.append(asked)
            else:
                self._by_key[asked.key].append(asked)
        self._carried_out: set[str] = set()
        self._is_whole = True

    def violations(self, entries: Sequence[Entry]) -> Iterator[str]:
        """Yield a sentence for each change without a cause, in the order of the log."""
        self._carried_out.clear()
        self._is_whole = Reading(0, list(entries)).is_whole
        now = Replay()
        for entry in entries:
            changes, began = changes_of(entry.fields), now.copy()
            for number, change in enumerate(changes):
                step = ChangeContext(entry, change, now.copy(), changes, number, began)
                for fault in self._faults(step):
                    yield f"{fault} ({entry.position})"
                now.apply(change)

    def _faults(self, step: ChangeContext) -> Iterator[str]:
        if step.change.sign == "+":
            yield from self._entered(step)
        elif step.change.sign == "-":
            yield from self._left(step)
        elif step.change.record is None:
            yield from self._ended(step)
        else:
            yield from self._settled(step)

    # A peer's record.

    def _entered(self, step: ChangeContext) -> Iterator[str]:
        key, record, lease = step.change.key, step.change.record or {}, step.lease
        is_new = key not in step.before.peers
        if key in self._history.unrecorded:
            pass
        elif is_new or (lease is not None and record["s"] != lease["s"]):
            own = [each for each in self._by_key[key] if each.seq == record["s"]]
            joins = [each for each in own if each.op == "join"]
            if is_new and not joins:
                yield f"{key} joined the zone with the seq {record['s']} of no join"
            elif not own:
                yield f"{key} has the seq {record['s']} of no request"
            elif joins and not any(set(each.addresses) <= set(record["a"]) for each in joins):
                yield f"{key} requested {joins[0].addresses} and was given {record['a']}"
            if joins and not any(_announces(record, each) for each in joins):
                yield f"{key} announced {joins[0].prefixes} and the zone has {record.get('p')}"
        if lease is not None and record["s"] < lease["s"]:
            yield f"{key} went back from the request {lease['s']} to {record['s']}"
        yield from self._moved(step, record)
        yield from self._reserved_prefixes(step, record)

    def _moved(self, step: ChangeContext, record: Record) -> Iterator[str]:
        """A key keeps its address until it requests another one, or until another key may take it."""
        key = step.change.key
        before, now = by_version(step.lease["a"] if step.lease else ()), by_version(record["a"])
        for version, address in before.items():
            if now.get(version) == address:
                continue
            new = now.get(version, "")
            requested = any(new in each.addresses for each in self._by_key[key] if each.seq == record["s"])
            claimed = any(new in lease["a"] for lease in step.waiting(record.get("h", "")))
            if not requested and not claimed and not self._is_order(step, ("reserve", "rekey"), record, new):
                yield from self._taken(step, address)

    def _taken(self, step: ChangeContext, address: str) -> Iterator[str]:
        """The key of ``step`` may lose ``address`` only to a key that requested it and may have it."""
        key, lease = step.change.key, step.lease or {}
        taker = next(
            (each.key for each in step.later if each.record and address in each.record.get("a", ())), None
        )
        asked = [each for each in self._by_key[taker or ""] if address in each.addresses]
        if taker is None or not asked:
            yield f"{key} lost {address}, which no node requested"
            return
        if lease.get("t") == 0:
            yield f"{key} lost {address} to {taker} although it is reserved"
        yield from self._taken_over(step, f"{key} lost {address} to {taker}", asked)

    def _taken_over(self, step: ChangeContext, what: str, asked: Sequence[SentRequest]) -> Iterator[str]:
        """With ``never`` no key takes an address, with ``stale`` only one of a key without recent reports."""
        wait, key = self._settings.stale_after, step.change.key
        if self._settings.takeover == "never":
            yield f"{what} although takeovers are not allowed"
        is_kept = self._settings.trusts_clocks and (step.lease or {}).get("t")
        if is_kept and self._away(step) <= self._settings.quarantine:
            yield f"{what} although it left {self._away(step):.1f} s before"
        if self._settings.takeover != "stale" or not self._settings.trusts_clocks:
            return
        if (step.lease or {}).get("t"):
            waited = self._away(step)
        else:
            begin = min(each.at for each in asked) - wait
            silence = self._history.silence(key, begin, step.entry.at)
            # With such frequent reports, there was a recent one at any moment of the decision.
            waited = silence if silence < wait / 3 else wait
        if waited < wait:
            yield f"{what} although its last report was only {waited:.1f} s before"

    def _away(self, step: ChangeContext) -> float:
        """Return the longest possible time in seconds since the key of ``step`` left."""
        seq = (step.lease or {}).get("s")
        left = [each.at for each in self._by_key[step.change.key] if each.op == "leave" and each.seq == seq]
        return step.entry.at - min(left) if left else float("inf")

    def _reserved_prefixes(self, step: ChangeContext, record: Record) -> Iterator[str]:
        """The prefixes that an operator reserved for a key stay until an operator changes them."""
        before, now = (step.lease or {}).get("k", []), record.get("k", [])
        if now == before or self._is_order(step, ("reserve", "rekey", "release"), record):
            return
        if any(True for _ in step.waiting(record.get("h", ""))):
            return
        yield f"{step.change.key} had {before} reserved and has {now}, without an operator's request"

    # Peers that leave, and leases that end.

    def _left(self, step: ChangeContext) -> Iterator[str]:
        key, record = step.change.key, step.change.record or {}
        if step.change.record is None and step.lease is None:
            return  # for nodes that retain a peer which the zone does not list
        if any(each.op == "leave" and each.seq == record.get("s") for each in self._by_key[key]):
            return
        if not self._is_ordered_away(step, consume=False):
            yield f"{key} left without a request"

    def _ended(self, step: ChangeContext) -> Iterator[str]:
        key, lease = step.change.key, step.lease
        if lease is None or self._is_ordered_away(step) or self._is_claimed(step):
            return
        if not lease.get("t"):
            yield f"the lease of {key} ended without a request"
            return
        gets = {each for other in step.later if other.record for each in other.record.get("a", ())}
        taken = [each for each in lease["a"] if each in gets]
        if not taken:
            yield f"the lease of {key} ended, and no other key got {lease['a']}"
        elif asked := self._requests_for(step, taken):
            yield from self._taken_over(step, f"the lease of {key} ended for {asked[0].key}", asked)
        else:
            yield from self._evicted(step, lease)

    def _evicted(self, step: ChangeContext, lease: Record) -> Iterator[str]:
        """A full pool may reuse the address of a lease whose quarantine is over."""
        key, version = step.change.key, 4
        held = sum(version in by_version(each["a"]) for each in step.before.leases.values())
        if self._is_whole and held < self._settings.capacity(version):
            yield f"{key} lost its lease of {lease['a']} although only {held} addresses are held"
        waited = self._away(step)
        if self._settings.trusts_clocks and waited <= self._settings.quarantine:
            yield f"{lease['a']} of {key}, which left {waited:.1f} s before, was given to another one"

    def _requests_for(self, step: ChangeContext, addresses: Sequence[str]) -> list[SentRequest]:
        """Return requests for one of ``addresses`` by the keys of the event's later lines."""
        takers = {each.key for each in step.later}
        return [each for key in takers for each in self._by_key[key] if set(addresses) & set(each.addresses)]

    # Operators' requests.

    def _settled(self, step: ChangeContext) -> Iterator[str]:
        record = step.change.record or {}
        yield from self._moved(step, record)
        if self._is_order(step, ("reserve", "rekey", "release"), record):
            return
        if step.lease is None and record.get("t") and (step.change.key, tuple(record["a"])) in self._restored:
            return
        if step.lease is None or {**step.lease, "a": 0, "i": 0} != {**record, "a": 0, "i": 0}:
            yield f"the lease of {step.change.key} is {dict(record)}, without an operator's request"

    def _is_order(self, step: ChangeContext, ops: Sequence[str], record: Record, address: str = "") -> bool:
        """Return whether an operator requested the key's new record."""
        names = {record.get("h"), record.get("n"), record.get("q")} - {None}
        for order in self._orders:
            named = order.key == step.change.key or (not order.key and order.name in names)
            fits = not address or address in order.addresses or (order.op == "rekey" and not order.addresses)
            if named and fits and order.op in ops and order.at <= step.entry.at:
                return True
        return False

    def _is_ordered_away(self, step: ChangeContext, consume: bool = True) -> bool:
        """Return whether an operator released or reassigned the key's lease; each request counts once."""
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

    def _is_claimed(self, step: ChangeContext) -> bool:
        lease = step.lease or {}
        return any(each.sign == "+" and self._waited(lease, each.record or {}) for each in step.later)

    @staticmethod
    def _waited(lease: Record, record: Record) -> bool:
        """Return whether ``lease`` was reserved for the host of this record."""
        return lease.get("t") == 0 and bool(lease.get("h")) and record.get("h") == lease["h"]


def _announces(record: Record, asked: SentRequest) -> bool:
    """Return whether a record has exactly the announced prefixes and those that an operator reserved."""
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
