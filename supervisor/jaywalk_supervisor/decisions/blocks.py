# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides on blocks: an operator removes a key for good, and allows it again."""

from __future__ import annotations

from jaywalk.core.errors import RequestRefused
from jaywalk.zone.blocks import BLOCKED, Block, refusal_text
from jaywalk.zone.events import BLOCK, Change
from jaywalk.zone.requests import AGENT_OPS, Reply, Request

from ..state.zone_state import ZoneState
from .decision import Decision, end_lease

# Requests of operators that would give a blocked key a lease.
_GIVES_LEASE = ("reserve", "rekey")


def check_not_blocked(state: ZoneState, request: Request) -> None:
    """Refuses any request of a blocked key's node, and an operator's that would give the key a lease."""
    if request.key not in state.blocked:
        return
    if request.op in AGENT_OPS:
        raise RequestRefused(BLOCKED, refusal_text(state.zone.name, request.key))
    if request.op in _GIVES_LEASE:
        raise RequestRefused(
            BLOCKED, f"the key {request.key} is blocked in zone {state.zone.name}: allow it first"
        )


def block(state: ZoneState, request: Request, now: float) -> Decision:
    """Ends the lease of a key, so that a joined peer leaves, and blocks the key."""
    key = _key_of(request)
    if key in state.blocked and key not in state.leases and key not in state.peers:
        return Decision(Reply(ok=True, state=BLOCKED))
    changes = block_changes(state, key, Block(int(now), request.by, request.reason), now)
    return Decision(Reply(ok=True, state=BLOCKED, changed=True), changes)


def block_changes(state: ZoneState, key: str, record: Block, now: float) -> tuple[Change, ...]:
    """Returns the changes that end the lease of ``key``, which a joined peer leaves, and block it."""
    lease = state.leases.get(key)
    freed = end_lease(state, lease, now) if lease is not None else (Change("-", key),)
    return (*freed, Change(BLOCK, key, record.to_wire()))


def allow(state: ZoneState, request: Request, now: float) -> Decision:
    """Ends the block of a key; its node may join again."""
    key = _key_of(request)
    changes = (Change(BLOCK, key),) if key in state.blocked else ()
    return Decision(Reply(ok=True, state="absent", changed=bool(changes)), changes)


def _key_of(request: Request) -> str:
    if not request.key:
        raise RequestRefused("key", f"the {request.op} names no key: give the node's public key")
    return request.key
