# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides on operators' requests; called by :mod:`.agent_requests`, and pure like it.

A request names its lease by the public key or by the name of a host.  A reservation by name is stored under a
key that no node has, until the first node of that name joins or a rekey names the host's key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from jaywalk.core.errors import RequestRefused
from jaywalk.zone.events import Change
from jaywalk.zone.requests import SIGN, Reply, Request
from jaywalk.zone.reservations import (
    check_host_is_free,
    requested_key,
    reserved_lease,
    source_lease,
    without_prefixes,
)

from ..state.zone_state import ZoneState
from . import blocks
from .admission import TOKEN_HANDLERS
from .allocation import Claimant, Grant, check_prefixes, choose
from .authority import without_authority
from .decision import ABSENT, Decision, admit, displacements, end_lease, grant_time, leave_unknown
from .naming import renamed
from .signing import sign


def _reserve(state: ZoneState, request: Request, now: float) -> Decision:
    """Reserves a lease for a node that is joined, was joined, or has not joined yet."""
    check_host_is_free(state.leases, request)
    return _settle(state, request, now)


def _rekey(state: ZoneState, request: Request, now: float) -> Decision:
    """Gives a host a new key: the lease that it had under another key moves to the new one."""
    if not request.key or not request.name:
        raise RequestRefused("rekey", "a rekey needs the host's name and its new key: give both")
    return _settle(state, request, now)


def _settle(state: ZoneState, request: Request, now: float) -> Decision:
    """Grants the requested lease; the lease that its addresses come from ends."""
    key, source = requested_key(state.leases, request), source_lease(state.leases, request)
    peer, lease = state.peers.get(key), state.leases.get(key)
    held = source or lease
    keys = frozenset({key, source.key} if source else {key})
    grant = choose(state, Claimant(held.addresses if held else (), keys), request.request_ip, now)
    is_taken = partial(state.is_taken, keys)
    desired = reserved_lease(request, key, lease, source, grant.addresses, is_taken)
    desired = replace(desired, since=grant_time(lease, grant, now))
    check_prefixes(state, keys, desired.prefixes)
    freed = end_lease(state, source, now) if source else ()
    renames = renamed(state, desired.host, keys) if desired.host and request.key else {}
    if peer is not None:
        record = peer._replace(
            name=desired.name,
            addresses=desired.addresses,
            prefixes=desired.prefixes,
            host=desired.host,
            reserved_prefixes=desired.reserved_prefixes,
            requested_name=desired.requested_name,
            signed=desired.signed,
            since=desired.since,
            grants=desired.grants,
            rev=state.rev + 1,
        )
        record = without_authority(state, record)
        return admit(state, record, grant, now, freed, renames)
    if desired == lease and not freed and not renames:
        return Decision(Reply.granted(lease, changed=False))
    changes = (*freed, *displacements(state, grant, now, renames), Change("=", key, desired.to_wire()))
    return Decision(Reply.granted(desired, changed=True), changes)


def _release(state: ZoneState, request: Request, now: float) -> Decision:
    """Releases a key's lease, and a joined peer leaves; or releases only the prefixes named."""
    lease = state.leases.get(requested_key(state.leases, request))
    if lease is None:
        return Decision(ABSENT) if request.child_prefixes else leave_unknown(state, request.key, now)
    if not request.child_prefixes:
        return Decision(replace(ABSENT, changed=True), end_lease(state, lease, now))
    rest = without_prefixes(lease, request.child_prefixes)
    peer = state.peers.get(lease.key)
    if peer is not None:
        record = peer._replace(
            prefixes=rest.prefixes, reserved_prefixes=rest.reserved_prefixes, rev=state.rev + 1
        )
        return admit(state, record, Grant(peer.addresses), now)
    changes = () if rest == lease else (Change("=", lease.key, rest.to_wire()),)
    return Decision(Reply.granted(rest, changed=bool(changes)), changes)


def _show(state: ZoneState, request: Request, now: float) -> Decision:
    lease = state.leases.get(requested_key(state.leases, request))
    return Decision(ABSENT if lease is None else Reply.granted(lease, changed=False))


OPERATOR_HANDLERS: Mapping[str, Callable[[ZoneState, Request, float], Decision]] = {
    "reserve": _reserve,
    "release": _release,
    "rekey": _rekey,
    "show": _show,
    SIGN: sign,
    "block": blocks.block,
    "allow": blocks.allow,
    **TOKEN_HANDLERS,
}
