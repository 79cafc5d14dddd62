# SPDX-License-Identifier: GPL-3.0-or-later
"""Which requests show that their sender is alive; the times are stored outside of the log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from jaywalk.zone.requests import CHECK, OPERATOR_OPS, REPORT, Request

from ..state.zone_state import ZoneState
from .allocation import owner_of
from .possession import lacks_proof


def refusal(state: ZoneState, request: Request) -> str:
    """Returns in one word why ``request`` does not show that its key's node is alive; "" if it does."""
    peer = state.peers.get(request.key)
    if request.op in OPERATOR_OPS:
        return "operator"
    if request.op == CHECK:
        return "check"
    if lacks_proof(state, request):
        return "unproven"
    if request.key not in state.leases or (request.op == REPORT and peer is None):
        return "not-joined"
    if peer is not None and request.machine_id and peer.machine_id not in ("", request.machine_id):
        return "superseded"
    return ""


def owners(state: ZoneState, requests: Iterable[Request]) -> set[str]:
    """Returns the keys that have the addresses which ``requests`` request."""
    found = (owner_of(state, address) for request in requests for address in request.request_ip)
    return {key for key in found if key is not None}


def partition_senders(
    state: ZoneState, requests: Iterable[Request], now: float
) -> tuple[dict[str, int], Counter[str]]:
    """Returns the keys whose nodes are alive at ``now``, and the number of ignored reports by reason."""
    times: dict[str, int] = {}
    dropped: Counter[str] = Counter()
    for request in requests:
        reason = refusal(state, request)
        if not reason:
            times[request.key] = int(now)
        elif request.op == REPORT:
            dropped[f"report-{reason}"] += 1
    return times, dropped
