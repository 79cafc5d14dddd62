# SPDX-License-Identifier: GPL-3.0-or-later
"""What decisions on requests of nodes and of operators share: their result, and the admission of a peer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from jaywalk.zone.events import Change
from jaywalk.zone.models import Lease, Peer
from jaywalk.zone.requests import Reply
from jaywalk.zone.retention import may_be_retained

from ..state.zone_state import ZoneState
from .allocation import Grant

ABSENT = Reply(ok=True, state="absent")


@dataclass(frozen=True)
class Decision:
    """The changes of one request, in order, and the reply.

    ``peer`` is the parsed record of the ``+`` of its key among the changes, so that it is not parsed again.
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
    """Emits a change of the peer's record if anything but its seq and rev differs.

    ``peer`` is the record after this commit.  ``freed`` are changes that come first, since they release what
    the peer gets; ``renames`` are the new names of peers whose names it gets.
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
    """Returns the time since which a key has the addresses of ``grant``: now, unless it had them before."""
    return held.since if held is not None and held.addresses == grant.addresses else int(now)


def displacements(
    state: ZoneState, grant: Grant, now: float, renames: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Change]:
    """Yields the changes of a grant for other keys: ended leases, new addresses and new names."""
    for key in grant.evicted:
        yield Change("=", key)
    for key, addresses in grant.displaced:
        peer = state.peers.get(key)
        if peer is not None:
            record = _renamed(peer, renames.get(key))
            record = record._replace(addresses=addresses, since=int(now), rev=state.rev + 1)
            yield Change("+", key, record.to_wire())
        else:
            yield Change("=", key, replace(state.leases[key], addresses=addresses, since=int(now)).to_wire())
    for key in renames.keys() - dict(grant.displaced).keys():
        yield Change("+", key, _renamed(state.peers[key], renames[key])._replace(rev=state.rev + 1).to_wire())


def _renamed(peer: Peer, name: str | None) -> Peer:
    return peer if name is None else peer._replace(name=name, requested_name=peer.requested_name or peer.name)


def end_lease(state: ZoneState, lease: Lease, now: float) -> tuple[Change, ...]:
    """Returns the changes that end a lease; a peer that is joined, or that nodes may retain, leaves first."""
    gone = Change("=", lease.key)
    waits = lease.has_placeholder_key
    listed = lease.key in state.peers or lease.key in state.unreadable
    if listed or (may_be_retained(state.epoch, now) and not waits):
        # A join that changed nothing left no seq: all that the node sent until now is older than this.
        return Change("-", lease.key, {"t": now, "s": max(lease.seq, int(now * 1_000_000))}), gone
    return (gone,)


def leave_unknown(state: ZoneState, key: str, now: float) -> Decision:
    """Decides on the removal of a key that has no lease.

    The removal is logged as long as nodes may retain the key's peer because Redis lost it.
    """
    if not key or not may_be_retained(state.epoch, now):
        return Decision(ABSENT)
    return Decision(ABSENT, (Change("-", key),))
