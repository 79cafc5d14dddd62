# SPDX-License-Identifier: GPL-3.0-or-later
"""The inboxes of requests: the order in which they are served, their limits, and the parsing of entries."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from jaywalk.core.errors import BadRequest, InvalidValue
from jaywalk.service.repeat_filter import RepeatFilter
from jaywalk.trust.envelope import is_proven
from jaywalk.zone import join_tokens
from jaywalk.zone.redis_keys import ZoneKeys
from jaywalk.zone.reply_streams import ReplyTo
from jaywalk.zone.requests import (
    AGENT_OPS,
    OPERATOR_OPS,
    REPORT,
    Reply,
    Request,
    readable_question,
    readable_reply_to,
)

from ..monitoring import request_log
from ..monitoring.health import Health
from ..possession.proofs import Proof, ProofChecker
from ..store.store import BATCH, Store
from .floods import FloodGuard
from .sifting import sift_inbox

log = logging.getLogger(__name__)

# Limit of waiting requests in one inbox. The oldest stay, since they are served first; the senders of the
# others repeat them within 2 to 60 s. This many are served in the 2 s after which agents repeat a request, so
# that no storm of joins comes near the limit.
INBOX_BOUND = 20_000
# Limit of one inbox: that many requests of 3 kB. Most have 400 bytes, and Redis accepts texts of 1 MB.
INBOX_BYTES = 64 << 20
# What a long inbox may have while it is sifted.
MAX_SIFTED = 10 * INBOX_BOUND
MAX_SIFTED_BYTES = 2 * INBOX_BYTES
# Interval of the log lines about a full inbox.
LOG_SECONDS = 10.0


@dataclass
class InboxEntry:
    """An entry popped from an inbox: a request, or the refusal of an entry that does not parse.

    ``proof`` is the sender's proof of its key, None for a request without one; ``op`` and ``seq`` are those
    of the request as far as they can be read.
    """

    reply_to: ReplyTo | None
    request: Request | None = None
    refusal: Reply | None = None
    repeats: bool = False
    proof: Proof | None = None
    op: str = ""
    seq: int = 0

    def text_of(self, reply: Reply) -> str:
        """Returns the text of the reply to this entry, proven if the request was."""
        if self.proof is None or self.reply_to is None:
            return reply.to_wire()
        return self.proof.answer(self.op, self.seq, self.reply_to.nonce, reply)

    @property
    def reports(self) -> bool:
        """Whether this is a report without observed endpoints, which shows only that the node is alive."""
        return self.request is not None and self.request.op == REPORT and not self.request.observed


@dataclass
class InboxBatch:
    """Entries of one zone that were popped together and parsed; ``full`` if more are likely to wait."""

    zone: str
    entries: list[InboxEntry]
    full: bool


class Inboxes:
    """The inboxes of all served zones, in the order in which they are served."""

    def __init__(self, health: Health, repeats: RepeatFilter, proofs: ProofChecker | None = None) -> None:
        self._health = health
        self._repeats = repeats
        self._proofs = proofs or ProofChecker()
        self._inboxes: dict[str, tuple[str, Sequence[str]]] = {}
        self._maybe_long: set[str] = set()
        self.floods = FloodGuard(health)
        # What was dropped from a zone's inbox since the last line of the log, and the time of the next one.
        self._lost: dict[str, tuple[int, int, float]] = {}

    def add(self, zone: str) -> None:
        """Adds the two inboxes of a zone.

        Operators' inboxes come first: they hold few requests, which must not wait for a flooded inbox.
        """
        keys = ZoneKeys(zone)
        self._inboxes = {
            keys.operator_inbox: (zone, OPERATOR_OPS),
            **self._inboxes,
            keys.inbox: (zone, AGENT_OPS),
        }
        self._maybe_long.add(zone)

    def remove(self, zone: str) -> None:
        """Removes the inboxes of a zone."""
        keys = ZoneKeys(zone)
        for name in (keys.inbox, keys.operator_inbox):
            self._inboxes.pop(name, None)

    def clear(self) -> None:
        """Removes all inboxes."""
        self._inboxes.clear()

    def led(self) -> list[str]:
        """Returns the Redis keys of the inboxes of all zones that this supervisor leads."""
        return [name for name, (zone, _) in self._inboxes.items() if zone in self._health.led]

    def read(self, name: str, texts: Sequence[str]) -> InboxBatch:
        """Parses ``texts``, popped from the inbox ``name``, and moves that inbox to the end of the order."""
        zone, ops = self._inboxes[name] = self._inboxes.pop(name)
        log.debug("zone %s: popped %d requests from %s", zone, len(texts), name)
        if len(texts) == BATCH:
            self._maybe_long.add(zone)
        return InboxBatch(zone, [self.decode(text, zone, ops) for text in texts], len(texts) == BATCH)

    def decode(self, text: str, zone: str, ops: Sequence[str]) -> InboxEntry:
        """Checks and parses one entry of an inbox of ``zone`` that accepts the operations ``ops``."""
        proof = None
        try:
            if is_proven(text):
                proof, text = self._proofs.check(text, zone)
            return _entry(text, zone, ops, proof)
        except InvalidValue as error:
            self._health.bad[error.reason if isinstance(error, BadRequest) else "value"] += 1
            request_log.log_unparseable_request(zone, str(error), self._repeats)
            reply_to = None if is_proven(text) else readable_reply_to(text)
            if reply_to is None:
                self._health.drops["unanswerable"] += 1
            op, seq = readable_question(text) if proof else ("", 0)
            refusal = Reply.refused("bad-request", str(error))
            return InboxEntry(reply_to, refusal=refusal, proof=proof, op=op, seq=seq)
        except Exception:
            log.exception("zone %s: a request could not be read", zone)
            self._health.drops["unreadable"] += 1
            return InboxEntry(None)

    def trim(self, store: Store) -> None:
        """Trims inboxes to their limits; skips those from which no full batch was popped since."""
        for zone in self._maybe_long & self._health.led:
            self._maybe_long.discard(zone)
            if not store.is_over(ZoneKeys(zone).inbox, INBOX_BOUND, INBOX_BYTES):
                continue
            self.floods.flooded(zone)
            # What is longer than this arrived within a moment, and is too much to be read.
            cut = store.trim(ZoneKeys(zone).inbox, MAX_SIFTED, MAX_SIFTED_BYTES)
            sifted, over = sift_inbox(store, zone, INBOX_BOUND)
            cut += over
            if sifted:
                self._health.drops["sifted"] += sifted
            if cut:
                self._health.drops["inbox-full"] += cut
            self._maybe_long.add(zone)
            self._log_excess(zone, sifted, cut)

    def _log_excess(self, zone: str, sifted: int, cut: int) -> None:
        """Logs what a full inbox lost, at most once in ``LOG_SECONDS``."""
        before_sifted, before_cut, log_at = self._lost.get(zone, (0, 0, 0.0))
        sifted, cut, now = sifted + before_sifted, cut + before_cut, time.monotonic()
        if now >= log_at:
            log.warning(
                "zone %s: dropped %d entries of a full inbox that are no request or repeat one, and %d "
                "requests from its end",
                zone,
                sifted,
                cut,
            )
            sifted, cut, log_at = 0, 0, now + LOG_SECONDS
        self._lost[zone] = sifted, cut, log_at


def _entry(text: str, zone: str, ops: Sequence[str], proof: Proof | None) -> InboxEntry:
    """Parses a request, whose ``proof`` was checked; raises ``InvalidValue``."""
    request = Request.from_wire(text, zone, ops, proven=proof is not None)
    if proof is None:
        return InboxEntry(request.reply_to, request)
    if request.key != proof.key:
        raise BadRequest(
            "proof",
            f"a request for {request.key} is proven with {proof.key}",
            "send each node's requests with its own key",
        )
    if request.sealed:
        bound_to = zone, request.key, request.nonce
        request = replace(
            request, join_token=join_tokens.opened_text(proof.secret, request.sealed, *bound_to)
        )
    return InboxEntry(request.reply_to, request, proof=proof, op=request.op, seq=request.seq)
