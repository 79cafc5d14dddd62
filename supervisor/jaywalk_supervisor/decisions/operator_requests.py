# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator's order changes in a zone; like :mod:`.decide`, and called by it.

An order names its lease by the public key, or by the name of a host.  A reservation by name waits under a
key that nobody has, until the first node of that name joins or an order says which key the host has.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from jaywalk.core.errors import RequestRefused
from jaywalk.core.key_format import default_name
from jaywalk.mesh.preview import with_kept
from jaywalk.zone.events import Change
from jaywalk.zone.models import Lease, reservation_key
from jaywalk.zone.requests import Reply, Request

from ..state.zone_state import ZoneState
from .allocation import Asker, Grant, check_prefixes, choose
from .decision import ABSENT, Decision, admit, dropped, moves, since, unclaimed, unknown_left
from .naming import renamed, unique_name


def _reserve(state: ZoneState, request: Request, now: float) -> Decision:
    """A lease for a node that is in the mesh, was, or is still to come."""
    if not request.key:
        return _settle(state, request, now, None)
    bound = host_lease(state, request.name) if request.name else None
    if bound is None or bound.key == request.key:
        return _settle(state, request, now, None)
    if bound.key == reservation_key(request.name):
        return _settle(state, request, now, bound)
    raise RequestRefused(
        "name-reserved",
        f"the host {request.name} of zone {state.zone.name} has the key {bound.key}: "
        "order a rekey if it was reinstalled, or give this one another name",
    )


def _rekey(state: ZoneState, request: Request, now: float) -> Decision:
    """The host called so has this key: what it held under another key is its own, and that key's no more."""
    if not request.key or not request.name:
        raise RequestRefused("rekey", "a rekey needs the host's name and its new key: give both")
    old = host_lease(state, request.name) or _only_lease_called(state, request)
    return _settle(state, request, now, None if old is None or old.key == request.key else old)


def _settle(state: ZoneState, request: Request, now: float, source: Lease | None) -> Decision:
    """The lease that ``request`` asks for, with what ``source`` held, which ends."""
    key = request.key or _key_of(state, request.name)
    peer, lease = state.peers.get(key), state.leases.get(key)
    held = source or lease
    keys = frozenset({key, source.key} if source else {key})
    grant = choose(state, Asker(held.addresses if held else (), keys), request.request_ip, now)
    wanted = _wanted(request, key, lease, source, grant)
    wanted = replace(_uniquely_named(state, keys, wanted, lease), since=since(lease, grant, now))
    check_prefixes(state, keys, wanted.prefixes)
    freed = dropped(state, source, now) if source else ()
    renames = renamed(state, wanted.host, keys) if wanted.host and request.key else {}
    if peer is not None:
        record = peer._replace(
            name=wanted.name,
            addresses=wanted.addresses,
            prefixes=wanted.prefixes,
            host=wanted.host,
            kept=wanted.kept,
            asked=wanted.asked,
            since=wanted.since,
            rev=state.rev + 1,
        )
        return admit(state, record, grant, now, freed, renames)
    if wanted == lease and not freed and not renames:
        return Decision(Reply.granted(lease, changed=False))
    changes = (*freed, *moves(state, grant, now, renames), Change("=", key, wanted.to_wire()))
    return Decision(Reply.granted(wanted, changed=True), changes)


def _uniquely_named(state: ZoneState, keys: Collection[str], wanted: Lease, lease: Lease | None) -> Lease:
    """``wanted`` with a name that no other has; what is reserved by a host's name has that one."""
    if wanted.host:
        return replace(wanted, name=wanted.host, asked="")
    name, asked = unique_name(state, keys, wanted.name, lease)
    return replace(wanted, name=name, asked=asked)


def _wanted(request: Request, key: str, lease: Lease | None, source: Lease | None, grant: Grant) -> Lease:
    """The lease that is to be, as a reservation; the order's word comes first, then what was held."""
    kept = request.child_prefixes or (source.kept if source else ()) or (lease.kept if lease else ())
    announced = () if request.child_prefixes or lease is None else lease.prefixes
    host = (source.host if source else "") or (lease.host if lease else "")
    if request.name and (host or not request.key or request.op == "rekey"):
        host = request.name
    return Lease(
        key,
        request.name or (lease.asked or lease.name if lease else default_name(key)),
        grant.addresses,
        with_kept(kept, announced),
        released=0,
        seq=lease.seq if lease else 0,
        host=host,
        kept=kept,
    )


def _release(state: ZoneState, request: Request, now: float) -> Decision:
    """Frees a key's addresses, and a peer that is in the mesh leaves it; or frees the prefixes named."""
    lease = state.leases.get(request.key or _key_of(state, request.name))
    if lease is None:
        return Decision(ABSENT) if request.child_prefixes else unknown_left(state, request.key, now)
    if not request.child_prefixes:
        return Decision(replace(ABSENT, changed=True), dropped(state, lease, now))
    prefixes = tuple(each for each in lease.prefixes if each not in request.child_prefixes)
    kept = tuple(each for each in lease.kept if each not in request.child_prefixes)
    peer = state.peers.get(lease.key)
    if peer is not None:
        record = peer._replace(prefixes=prefixes, kept=kept, rev=state.rev + 1)
        return admit(state, record, Grant(peer.addresses), now)
    rest = replace(lease, prefixes=prefixes, kept=kept)
    changes = () if rest == lease else (Change("=", lease.key, rest.to_wire()),)
    return Decision(Reply.granted(rest, changed=bool(changes)), changes)


def _show(state: ZoneState, request: Request, now: float) -> Decision:
    lease = state.leases.get(request.key or _key_of(state, request.name))
    return Decision(ABSENT if lease is None else Reply.granted(lease, changed=False))


ORDERS: Mapping[str, Callable[[ZoneState, Request, float], Decision]] = {
    "reserve": _reserve,
    "release": _release,
    "rekey": _rekey,
    "show": _show,
}


def host_lease(state: ZoneState, name: str) -> Lease | None:
    """The lease that is reserved for the host ``name``, claimed or not."""
    waiting = unclaimed(state, name)
    return waiting or next((lease for lease in state.leases.values() if lease.host == name), None)


def _key_of(state: ZoneState, name: str) -> str:
    lease = host_lease(state, name)
    return reservation_key(name) if lease is None else lease.key


def _only_lease_called(state: ZoneState, request: Request) -> Lease | None:
    """The lease of a host that nobody reserved by name; nodes choose their names, so there may be several."""
    called = [lease for lease in state.leases.values() if request.name in (lease.name, lease.asked)]
    others = [lease for lease in called if lease.key != request.key]
    if len(others) > 1:
        raise RequestRefused(
            "name-ambiguous",
            f"{len(others)} other keys of zone {state.zone.name} are called {request.name} "
            f"({', '.join(lease.key for lease in others[:3])}): release those that are gone first",
        )
    return others[0] if others else None
