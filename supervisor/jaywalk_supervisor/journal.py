# SPDX-License-Identifier: GPL-3.0-or-later
"""What the log says of a commit: a line for each request, or in a storm of them a count."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

from jaywalk.requests import Reply, Request

log = logging.getLogger(__name__)

MOST_LINES = 20
"""Lines of one commit.  A thousand joins a second are more than journald keeps (10,000 lines in 30 s), and a
line costs as much as a quarter of its join."""

Told = tuple[Request, Reply]
"""A request that changed the zone or was refused, and its answer."""


def tell(zone: str, told: Sequence[Told]) -> None:
    """Logs what one commit came to; beyond ``MOST_LINES`` the single requests are for ``debug``."""
    many = len(told) > MOST_LINES
    if many:
        counts = Counter(reply.code or request.op for request, reply in told)
        summary = ", ".join(f"{count} {what}" for what, count in counts.items())
        level = logging.INFO if all(reply.ok for _, reply in told) else logging.WARNING
        log.log(level, "zone %s: %d requests at once: %s", zone, len(told), summary)
    if many and not log.isEnabledFor(logging.DEBUG):
        return
    for request, reply in told:
        if not reply.ok:
            level = logging.DEBUG if many else logging.WARNING
            log.log(level, "zone %s: refused %s of %s: %s", zone, request.op, request.key, reply.error)
        else:
            level = logging.DEBUG if many else logging.INFO
            held = f"{reply.name} {', '.join(reply.addresses)}"
            log.log(level, "zone %s: %s of %s: %s", zone, request.op, request.key, held)
