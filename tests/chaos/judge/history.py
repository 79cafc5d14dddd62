# SPDX-License-Identifier: GPL-3.0-or-later
"""What was asked of a zone and what was answered, and when: what Redis does not hold."""

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
    """The fields of a request that the judge looks at."""

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
    """The fields of an answer that the judge looks at."""

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
class Asked:
    """One request, made at ``at`` (monotonic) in the ``era``-th life of Redis's data, sent then or later."""

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
        """Whether an operator asked, and not a node."""
        return self.op in ORDERS


@dataclass(frozen=True)
class Answer:
    """What was answered to ``asked``, read at ``at`` in the ``era``-th life of Redis's data."""

    asked: Asked
    at: float
    era: int
    ok: bool = True
    code: str = ""
    state: str = ""
    addresses: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    changed: bool = False

    def __str__(self) -> str:
        said = f"{self.state} {', '.join(self.addresses)}" if self.ok else f"refused: {self.code}"
        return f"{self.asked.op} of {self.asked.key} (seq {self.asked.seq}) was answered with {said}"


@dataclass
class History:
    """What was asked of one zone and answered, by all its nodes and operators; for many threads.

    ``era`` counts the losses of Redis's data.  It is odd while Redis loses data, so that nothing that was
    answered meanwhile counts, and even between losses.  ``unwatched`` are keys whose requests nobody notes.
    Where it ``forks``, a running Redis may be put back to an older copy, and then goes on from there; where
    it ``restores``, supervisors put back what they know into a Redis that came back empty.
    """

    era: int = 0
    asked: dict[str, Asked] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)
    forks: bool = False
    restores: bool = False
    unwatched: set[str] = field(default_factory=set)
    reports: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    clock: Callable[[], float] = time.monotonic
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def loses(self) -> Iterator[None]:
        """What Redis holds in this block is of no era."""
        self.era += 1
        try:
            yield
        finally:
            self.era += 1

    def ask(self, request: Request) -> None:
        """Notes a request that is sent now or later."""
        asked = Asked(
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
        """Notes what came back."""
        asked = self.asked[request.nonce]
        answer = Answer(
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
        """Notes that the node of ``key`` handed in a report, unless the block fails."""
        began = self.clock()
        yield
        with self._lock:
            self.reports[key].append((began, self.clock()))

    def all_asked(self) -> Sequence[Asked]:
        """All requests so far, oldest first."""
        with self._lock:
            return sorted(self.asked.values(), key=lambda each: each.at)

    def silence(self, key: str, begin: float, end: float) -> float:
        """For how many seconds between ``begin`` and ``end`` ``key`` may have been silent, at most."""
        with self._lock:
            reports = [each for each in self.reports.get(key, ()) if each[0] < end]
        longest, heard = 0.0, begin
        for began, ended in reports:
            if ended > begin:
                longest = max(longest, ended - heard)
            heard = max(heard, began)
        return max(longest, end - heard)
