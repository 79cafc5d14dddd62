# SPDX-License-Identifier: GPL-3.0-or-later
"""What requests tell of the nodes that sent them: that they are there.  It is kept beside the log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from jaywalk.zone.requests import CHECK, OPERATOR_OPS, REPORT, Request

from ..state.zone_state import ZoneState
from .allocation import owner_of


def refusal(state: ZoneState, request: Request) -> str:
    """Why ``request`` says nothing about the node that has its key, in one word; empty if it does."""
    peer = state.peers.get(request.key)
    if request.op in OPERATOR_OPS:
        return "operator"
    if request.op == CHECK:
        return "check"
    if request.key not in state.leases or (request.op == REPORT and peer is None):
        return "not-joined"
    if peer is not None and request.instance and peer.instance not in ("", request.instance):
        return "superseded"
    return ""


def owners(state: ZoneState, requests: Iterable[Request]) -> set[str]:
    """The keys that have the addresses for which ``requests`` ask."""
    found = (owner_of(state, address) for each in requests for address in each.request_ip)
    return {key for key in found if key is not None}


def partition_senders(
    state: ZoneState, requests: Iterable[Request], now: float
) -> tuple[dict[str, int], Counter[str]]:
    """The keys whose nodes were heard of at the time ``now``, and reports that nobody believes, by reason."""
    heard: dict[str, int] = {}
    dropped: Counter[str] = Counter()
    for request in requests:
        reason = refusal(state, request)
        if not reason:
            heard[request.key] = int(now)
        elif request.op == REPORT:
            dropped[f"report-{reason}"] += 1
    return heard, dropped
