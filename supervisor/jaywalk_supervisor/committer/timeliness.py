# SPDX-License-Identifier: GPL-3.0-or-later
"""Refuses requests by their time: from the future, or expired, since the sender no longer waits."""

from __future__ import annotations

from jaywalk.core import validation
from jaywalk.zone.requests import Reply, Request

# How far a node's clock may be ahead of Redis's. After a request from later, the key's requests would be
# refused as stale until that time.
FUTURE_SECONDS = 86_400.0


def needs_exact_time(request: Request, now: float) -> bool:
    """Whether the decision on ``request`` needs Redis's current time, not one carried forward."""
    return bool(request.expires) or untimely(request, now) is not None


def untimely(request: Request, now: float, skew: float = 0.0) -> Reply | None:
    """Returns the refusal of a request from the future or an expired one, or None.

    ``now`` is Redis's time; this machine's clock is ``skew`` seconds ahead of it.
    """
    if request.expires and request.expires / 1000 < now:
        return Reply.refused(
            "expired",
            f"the sender of the {request.op} stopped waiting at "
            f"{validation.iso_time(request.expires / 1000)}: send it again",
        )
    ahead = request.seq / 1e6 - now
    if ahead <= FUTURE_SECONDS:
        return None
    sender = f"the request of {request.key or request.name}"
    if ahead - skew <= FUTURE_SECONDS < skew:
        return Reply.refused(
            "future",
            f"{sender} comes from {_days(ahead)} days after the controller's time, and by this supervisor's "
            "clock too the controller's is behind: set the clock of the controller's machine",
        )
    return Reply.refused(
        "future",
        f"{sender} comes from {_days(ahead)} days ahead of the controller's clock: set the node's clock",
    )


def _days(seconds: float) -> str:
    return f"{seconds / 86400:.1f}"
