# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides on a list of requests: one batch of changes and answers, which one commit writes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from jaywalk.service.repeat_filter import RepeatFilter
from jaywalk.zone.events import Change
from jaywalk.zone.requests import Reply, Request

from ..decisions.agent_requests import Decision, decide
from ..decisions.authority import UNKNOWN, Installation
from ..monitoring import request_log
from ..monitoring.clock import elapsed
from ..monitoring.health import Health
from ..monitoring.request_log import LoggedRequest
from ..state.zone_state import AnyUndo, ZoneState
from ..store.audit import AuditEntry, audit_entries
from .answered import AnsweredRequests, Answers, identity_of, is_operator_request, with_first_outcome
from .inboxes import InboxEntry
from .key_rates import KeyRates, too_many
from .timeliness import untimely

log = logging.getLogger(__name__)

# A batch ends with the request that exceeds this size of records: well below 1 MB, the limit for one argument
# that the role configures in Redis.
COMMIT_BYTES = 256 * 1024


@dataclass
class Batch:
    """The decisions on the first ``decided`` entries of a list, already applied to the zone's state.

    ``size`` is the number of bytes of the records in ``changes``; ``changing`` holds the answers to the
    requests that made these changes.
    """

    changes: list[Change] = field(default_factory=list)
    answers: list[tuple[InboxEntry, Reply]] = field(default_factory=list)
    undos: list[AnyUndo] = field(default_factory=list)
    audit: list[AuditEntry] = field(default_factory=list)
    changing: Answers = field(default_factory=dict)
    size: int = 0
    decided: int = 0


class Decider:
    """Decides on requests and remembers the answers.

    ``installation`` holds the addresses at which no member's endpoint lies.
    """

    def __init__(self, health: Health, repeats: RepeatFilter) -> None:
        self._health = health
        self._repeats = repeats
        self._answered = AnsweredRequests()
        self._rates = KeyRates()
        self.installation = UNKNOWN

    def batch(self, state: ZoneState, entries: Sequence[InboxEntry], now: float) -> Batch:
        """Decides on as many ``entries`` as fit into one commit, at Redis's time ``now``."""
        batch = Batch()
        for entry in entries:
            if batch.size > COMMIT_BYTES:
                break
            batch.decided += 1
            reply = entry.refusal
            if entry.request is not None:
                reply = untimely(entry.request, now, self._health.clock_skew)
                reply = reply or self._answer(state, entry, entry.request, now, batch)
            if reply is not None:
                batch.answers.append((entry, reply))
        return batch

    def committed(self, zone: str, batch: Batch) -> None:
        """Remembers, counts and logs the answers of a committed batch."""
        self._answered.record(batch.changing)
        logged: list[LoggedRequest] = []
        for entry, reply in batch.answers:
            if entry.repeats and reply.ok:
                continue
            if not reply.ok:
                self._health.refusals[reply.code] += entry.reply_to is not None
            elif reply.changed and entry.request is not None:
                self._health.commits[entry.request.op] += 1
            if entry.request is not None and (reply.changed or not reply.ok):
                logged.append((entry.request, reply))
        request_log.log_commit(zone, logged, self._repeats)

    def _answer(
        self, state: ZoneState, entry: InboxEntry, request: Request, now: float, batch: Batch
    ) -> Reply:
        first = self._answered.first_answer(request, state.epoch, batch.changing)
        entry.repeats = first is not None
        if first is not None and is_operator_request(request):
            return first
        if not is_operator_request(request) and not self._rates.take(state.zone.name, request.key, elapsed()):
            return too_many(request)
        decided = _decide_and_apply(state, request, now, batch, self.installation)
        reply = with_first_outcome(decided, first)
        if reply.ok and reply.changed and entry.reply_to is not None:
            batch.changing[identity_of(request, state.epoch)] = request, reply
        return reply


def _decide_and_apply(
    state: ZoneState, request: Request, now: float, batch: Batch, installation: Installation
) -> Reply:
    """Decides on one request and applies it; an internal error is answered and affects no other request."""
    undos: list[AnyUndo] = []
    try:
        decision: Decision = decide(state, request, now, installation)
        for change in decision.changes:
            undos.append(state.apply(change, decision.peer))
    except Exception:
        state.undo(undos)
        log.exception("zone %s: no decision on %s of %s", state.zone.name, request.op, request.key)
        return Reply.refused("internal", "the supervisor failed on this request: see its log")
    batch.changes.extend(decision.changes)
    batch.size += sum(len(change.text) for change in decision.changes)
    batch.undos.extend(undos)
    batch.audit.extend(audit_entries(request, decision.changes, undos, state.leases))
    return decision.reply
