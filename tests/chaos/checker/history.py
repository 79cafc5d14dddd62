# SPDX-License-Identifier: GPL-3.0-or-later
"""The requests to a zone and their replies, with times: the data that Redis does not hold."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

ORDERS = ("reserve", "release", "rekey", "show")


class Request(Protocol):
    """The fields of a request that the checker reads."""

    @property
    def op(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def seq(self) -> int: ...
    @property
    def nonce(self) -> str: ...
    @property
    def request_ip(self) -> tuple[str, ...]: ...
    @property
    def child_prefixes(self) -> tuple[str, ...]: ...


class Reply(Protocol):
    """The fields of a reply that the checker reads."""

    @property
    def ok(self) -> bool: ...
    @property
    def code(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def addresses(self) -> tuple[str, ...]: ...
    @property
    def prefixes(self) -> tuple[str, ...]: ...
    @property
    def changed(self) -> bool: ...


@dataclass(frozen=True)
class SentRequest:
    """A request, created at ``at`` (monotonic) in the era ``era`` of Redis's data, and sent then or later."""

    op: str
    key: str
    name: str = ""
    seq: int = 0
    nonce: str = ""
    addresses: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    at: float = 0.0
    era: int = 0

    @property
    def is_order(self) -> bool:
        """Whether it is an operator's request, not a node's."""
        return self.op in ORDERS


@dataclass(frozen=True)
class ReceivedReply:
    """The reply to ``asked``, read at ``at`` in the era ``era`` of Redis's data."""

    asked: SentRequest
    at: float
    era: int
    ok: bool = True
    code: str = ""
    state: str = ""
    addresses: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    changed: bool = False

    def __str__(self) -> str:
        result = f"{self.state} {', '.join(self.addresses)}" if self.ok else f"refused: {self.code}"
        return f"{self.asked.op} of {self.asked.key} (seq {self.asked.seq}) was answered with {result}"


@dataclass
class History:
    """All requests of a zone's nodes and operators, and the replies; safe for many threads.

    ``era`` counts the losses of Redis's data. It is odd while Redis loses data, so that replies of that time
    do not count, and even between losses. ``unrecorded`` are keys whose requests are not in the history. With
    ``forks``, a running Redis may be rolled back to an older copy, and then continues from there; with
    ``restores``, supervisors restore the zone into an empty Redis from their own data.
    """

    era: int = 0
    asked: dict[str, SentRequest] = field(default_factory=dict)
    answers: list[ReceivedReply] = field(default_factory=list)
    forks: bool = False
    restores: bool = False
    unrecorded: set[str] = field(default_factory=set)
    reports: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    clock: Callable[[], float] = time.monotonic
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def loses(self) -> Iterator[None]:
        """Mark a block in which Redis loses data: its data belong to no era."""
        self.era += 1
        try:
            yield
        finally:
            self.era += 1

    def ask(self, request: Request) -> None:
        """Record a request that the caller sends now or later."""
        asked = SentRequest(
            request.op,
            request.key,
            request.name,
            request.seq,
            request.nonce,
            tuple(request.request_ip),
            tuple(request.child_prefixes),
            self.clock(),
            self.era,
        )
        with self._lock:
            self.asked[request.nonce] = asked

    def answer(self, request: Request, reply: Reply) -> None:
        """Record the reply to a request."""
        asked = self.asked[request.nonce]
        answer = ReceivedReply(
            asked,
            self.clock(),
            self.era,
            reply.ok,
            reply.code,
            reply.state,
            tuple(reply.addresses),
            tuple(reply.prefixes),
            reply.changed,
        )
        with self._lock:
            self.answers.append(answer)

    @contextmanager
    def reporting(self, key: str) -> Iterator[None]:
        """Record that the node of ``key`` has sent a report, unless the block fails."""
        began = self.clock()
        yield
        with self._lock:
            self.reports[key].append((began, self.clock()))

    def all_requests(self) -> Sequence[SentRequest]:
        """Return all requests so far, oldest first."""
        with self._lock:
            return sorted(self.asked.values(), key=lambda request: request.at)

    def silence(self, key: str, begin: float, end: float) -> float:
        """Return the longest time in seconds without a report of ``key`` between ``begin`` and ``end``."""
        with self._lock:
            reports = [report for report in self.reports.get(key, ()) if report[0] < end]
        longest, last = 0.0, begin
        for began, ended in reports:
            if ended > begin:
                longest = max(longest, ended - last)
            last = max(last, began)
        return max(longest, end - last)
