# SPDX-License-Identifier: GPL-3.0-or-later
"""What node requests and operators' orders have in common: a decision, and a peer's way into the zone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from jaywalk.zone.events import Change
from jaywalk.zone.models import Lease, Peer, reservation_key
from jaywalk.zone.requests import Reply
from jaywalk.zone.retention import may_be_retained

from ..state.zone_state import ZoneState
from .allocation import Grant

ABSENT = Reply(ok=True, state="absent")


@dataclass(frozen=True)
class Decision:
    """The changes of one request, in order, and its answer.

    ``peer`` is what the ``+`` of its key among them says, so that it need not be read again.
    """

    reply: Reply
    changes: tuple[Change, ...] = ()
    peer: Peer | None = None


def admit(
    state: ZoneState,
    peer: Peer,
    grant: Grant,
    now: float,
    freed: tuple[Change, ...] = (),
    renames: Mapping[str, str] = MappingProxyType({}),
) -> Decision:
    """The peer's record goes out if it says anything new; its seq and rev alone are nothing new.

    ``peer`` is as it would be after this commit.  ``freed`` are changes that go before it, since they give up
    what it takes, and ``renames`` the new names of peers that give up theirs for it.
    """
    known = state.peers.get(peer.key)
    if (
        known is not None
        and not freed
        and not renames
        and peer._replace(seq=known.seq, rev=known.rev) == known
    ):
        return Decision(Reply.granted(peer, changed=False))
    changes = (*freed, *displacements(state, grant, now, renames), Change("+", peer.key, peer.to_wire()))
    return Decision(Reply.granted(peer, changed=True), changes, peer)


def grant_time(held: Lease | None, grant: Grant, now: float) -> int:
    """When a key got the addresses of ``grant``: now, unless it has them already."""
    return held.since if held is not None and held.addresses == grant.addresses else int(now)


def displacements(
    state: ZoneState, grant: Grant, now: float, renames: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Change]:
    """What a grant changes for others: leases that make room, holders that get fresh addresses, and peers
    that get other names.
    """
    for key in grant.evicted:
        yield Change("=", key)
    for key, addresses in grant.displaced:
        peer = state.peers.get(key)
        if peer is not None:
            moved = _renamed(peer, renames.get(key))
            moved = moved._replace(addresses=addresses, since=int(now), rev=state.rev + 1)
            yield Change("+", key, moved.to_wire())
        else:
            yield Change("=", key, replace(state.leases[key], addresses=addresses, since=int(now)).to_wire())
    for key in renames.keys() - dict(grant.displaced).keys():
        yield Change("+", key, _renamed(state.peers[key], renames[key])._replace(rev=state.rev + 1).to_wire())


def _renamed(peer: Peer, name: str | None) -> Peer:
    return peer if name is None else peer._replace(name=name, asked=peer.asked or peer.name)


def end_lease(state: ZoneState, lease: Lease, now: float) -> tuple[Change, ...]:
    """The changes that end a lease; a peer that is in the mesh, or that nodes may retain, leaves it first."""
    gone = Change("=", lease.key)
    waits = lease.key == reservation_key(lease.name)
    listed = lease.key in state.peers or lease.key in state.unreadable
    if listed or (may_be_retained(state.epoch, now) and not waits):
        return Change("-", lease.key, {"t": now, "s": lease.seq}), gone
    return (gone,)


def leave_unknown(state: ZoneState, key: str, now: float) -> Decision:
    """The answer about a key without a lease that is to go.

    The log says so for as long as nodes may retain its peer because Redis lost it.
    """
    if not key or not may_be_retained(state.epoch, now):
        return Decision(ABSENT)
    return Decision(ABSENT, (Change("-", key),))
