# SPDX-License-Identifier: GPL-3.0-or-later
"""What the log says of a commit: a line for each request, or in a storm of them a count.

A node that is refused asks again every minute, for days.  Its refusal is logged once an hour, and when it is
another one.
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

# Lines of one commit. A thousand joins a second are more than journald keeps (10,000 lines in 30 s), and a
# line costs as much as a quarter of its join.
MAX_LINES = 20

# Of a zone in an hour, since who sends what does not parse can make each text another one.
UNREADABLE_LINES = 50

# A request that changed the zone or was refused, and its answer.
LoggedRequest = tuple[Request, Reply]

# Refused nodes; beyond that the one that was refused longest ago is forgotten, and then logged anew.
MAX_REMEMBERED = 10_000


def log_commit(zone: str, told: Sequence[LoggedRequest], repeats: RepeatFilter) -> None:
    """Logs what one commit came to; beyond ``MAX_LINES`` the single requests are for ``debug``."""
    for request, reply in told:
        for note in reply.notes if reply.ok else ():
            if note not in request.notes:
                log.warning("zone %s: %s of %s: %s", zone, request.op, request.key, note)
    many = len(told) > MAX_LINES
    if many:
        counts = Counter(reply.code or request.op for request, reply in told)
        summary = ", ".join(f"{count} {what}" for what, count in counts.items())
        level = logging.INFO if all(reply.ok for _, reply in told) else logging.WARNING
        log.log(level, "zone %s: %d requests at once: %s", zone, len(told), summary)
    if many and not log.isEnabledFor(logging.DEBUG):
        return
    for request, reply in told:
        if not reply.ok:
            _log_refusal(zone, request, reply, logging.DEBUG if many else logging.WARNING, repeats)
        else:
            repeats.forget((zone, request.key))
            level = logging.DEBUG if many else logging.INFO
            held = f"{reply.name} {', '.join(reply.addresses)}"
            log.log(level, "zone %s: %s of %s: %s", zone, request.op, request.key, held)


def _log_refusal(zone: str, request: Request, reply: Reply, level: int, repeats: RepeatFilter) -> None:
    # Not the sentence: times and numbers in it differ each time.
    # Its hash, since a node may wish for kilobytes, and thousands of nodes are remembered.
    wish = hash((request.op, reply.code, request.request_ip, request.child_prefixes, request.name))
    unsaid = repeats.suppressed_count((zone, request.key), wish, time.monotonic())
    if unsaid is None:
        return
    more = f" (and {unsaid} times since this was last logged)" if unsaid else ""
    log.log(level, "zone %s: refused %s of %s: %s%s", zone, request.op, request.key, reply.error, more)


def log_unreadable_records(zone: str, marks: Sequence[Unreadable], repeats: RepeatFilter) -> None:
    """Logs which records of a zone cannot be read, each once an hour."""
    for mark in marks[:MAX_LINES]:
        if repeats.suppressed_count((zone, mark.key, "record"), mark.reason, time.monotonic()) is None:
            continue
        held = ", ".join(mark.held) or "an unknown address"
        blocked = f"; until then the zone gives no {' and no '.join(mark.blocks)}" if mark.blocks else ""
        log.error("zone %s keeps %s taken: %s%s", zone, held, mark.message(zone), blocked)
    if len(marks) > MAX_LINES:
        log.error("zone %s: %d records cannot be read", zone, len(marks))


def log_unparseable_request(zone: str, reason: str, repeats: RepeatFilter) -> None:
    """Logs why an entry of an inbox is no request."""
    kind = zlib.crc32(reason.encode(errors="replace")) % UNREADABLE_LINES
    unsaid = repeats.suppressed_count((zone, "unreadable", kind), "unreadable", time.monotonic())
    if unsaid is not None:
        more = f" (and {unsaid} more since this was last logged)" if unsaid else ""
        log.warning("zone %s: a request does not parse: %s%s", zone, reason, more)
