# SPDX-License-Identifier: GPL-3.0-or-later
"""Logs each commit: one line for each request, or in a storm a count.

A refused node repeats its request every minute, possibly for days.  Its refusal is logged once an hour, and
when it changes.
"""

from __future__ import annotations

import logging
import time
import zlib
from collections import Counter
from collections.abc import Sequence

from jaywalk.service.repeat_filter import RepeatFilter
from jaywalk.zone.requests import Reply, Request

from ..state.unreadable import Unreadable

log = logging.getLogger(__name__)

# Limit of lines for one commit. A thousand joins a second are more than journald keeps (10,000 lines in 30
# s), and a line costs as much as a quarter of its join.
MAX_LINES = 20

# Limit of such lines of a zone in an hour, since the sender of unparseable entries can vary each text.
MAX_UNPARSEABLE_LINES = 50

# A request that changed the zone or was refused, and its answer.
LoggedRequest = tuple[Request, Reply]

# Limit of remembered refused nodes; beyond it, the one refused longest ago is forgotten and logged again.
MAX_REMEMBERED = 10_000


def log_commit(zone: str, logged: Sequence[LoggedRequest], repeats: RepeatFilter) -> None:
    """Logs the requests of one commit; beyond ``MAX_LINES`` a count, and each request only at ``debug``."""
    for request, reply in logged:
        for note in reply.notes if reply.ok else ():
            if note not in request.notes:
                log.warning("zone %s: %s of %s: %s", zone, request.op, request.key, note)
    many = len(logged) > MAX_LINES
    if many:
        counts = Counter(reply.code or request.op for request, reply in logged)
        summary = ", ".join(f"{count} {what}" for what, count in counts.items())
        level = logging.INFO if all(reply.ok for _, reply in logged) else logging.WARNING
        log.log(level, "zone %s: %d requests at once: %s", zone, len(logged), summary)
    if many and not log.isEnabledFor(logging.DEBUG):
        return
    for request, reply in logged:
        if not reply.ok:
            _log_refusal(zone, request, reply, logging.DEBUG if many else logging.WARNING, repeats)
        else:
            repeats.forget((zone, request.key))
            level = logging.DEBUG if many else logging.INFO
            held = f"{reply.name} {', '.join(reply.addresses)}"
            log.log(level, "zone %s: %s of %s: %s", zone, request.op, request.key, held)


def _log_refusal(zone: str, request: Request, reply: Reply, level: int, repeats: RepeatFilter) -> None:
    # Not the error text, since times and numbers in it differ each time.  Its hash, since a request may have
    # kilobytes and thousands of nodes are remembered.
    kind = hash((request.op, reply.code, request.request_ip, request.child_prefixes, request.name))
    suppressed = repeats.suppressed_count((zone, request.key), kind, time.monotonic())
    if suppressed is None:
        return
    more = f" (and {suppressed} times since this was last logged)" if suppressed else ""
    log.log(level, "zone %s: refused %s of %s: %s%s", zone, request.op, request.key, reply.error, more)


def log_unreadable_records(zone: str, marks: Sequence[Unreadable], repeats: RepeatFilter) -> None:
    """Logs the unreadable records of a zone, each once an hour."""
    for mark in marks[:MAX_LINES]:
        if repeats.suppressed_count((zone, mark.key, "record"), mark.reason, time.monotonic()) is None:
            continue
        held = ", ".join(mark.held) or "an unknown address"
        blocked = f"; until then the zone gives no {' and no '.join(mark.blocks)}" if mark.blocks else ""
        log.error("zone %s keeps %s taken: %s%s", zone, held, mark.message(zone), blocked)
    if len(marks) > MAX_LINES:
        log.error("zone %s: %d records cannot be read", zone, len(marks))


def log_unparseable_request(zone: str, reason: str, repeats: RepeatFilter) -> None:
    """Logs why an entry of an inbox does not parse."""
    kind = zlib.crc32(reason.encode(errors="replace")) % MAX_UNPARSEABLE_LINES
    suppressed = repeats.suppressed_count((zone, "unreadable", kind), "unreadable", time.monotonic())
    if suppressed is not None:
        more = f" (and {suppressed} more since this was last logged)" if suppressed else ""
        log.warning("zone %s: a request does not parse: %s%s", zone, reason, more)
