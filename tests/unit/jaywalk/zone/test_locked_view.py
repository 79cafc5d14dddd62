# SPDX-License-Identifier: GPL-3.0-or-later
"""A copy of a zone under a mesh lock holds what is signed, and keeps it whatever comes later."""

from __future__ import annotations

from dataclasses import replace

from jaywalk.zone import retention
from jaywalk.zone.models import Peer
from jaywalk.zone.policy import Policy
from jaywalk.zone.retention import Shared
from jaywalk.zone.view import ZoneView, locked_zone
from tests.agent_support import ZONE, event, peer
from tests.lock_support import lock_of, signed, zone_statement

LOCKED = replace(ZONE, signed=zone_statement())


def locked_view(*peers: Peer, rev: int = 0) -> ZoneView:
    lock = lock_of()
    view = ZoneView(locked_zone(LOCKED, lock), 7, rev, lock=lock)
    for record in peers:
        view.put(record.key, record.to_wire())
    return view


def test_an_event_with_a_signed_record_is_taken_and_one_without_is_not() -> None:
    view = locked_view()
    assert event(view, signed(peer(1)), peer(2)) == {peer(1).key}
    assert set(view.peers) == {peer(1).key}
    assert "the lock key of zone zone-blue did not sign it" in view.rejected[peer(2).key]
    event(view, signed(peer(2)))
    assert set(view.peers) == {peer(1).key, peer(2).key}
    assert not view.rejected


def test_a_signed_peer_stays_as_it_is_when_a_record_beyond_its_statement_arrives() -> None:
    view = locked_view(signed(peer(1)))
    before = view.peers[peer(1).key]
    stolen = signed(peer(1))._replace(prefixes=("8.0.0.0/8",), endpoint="192.0.2.66:51820")
    assert event(view, stolen, peer(1)._replace(addresses=("10.20.0.99",))) == set()
    assert view.peers[peer(1).key] == before
    assert "10.20.0.99" not in str(view.peers)
    assert peer(1).key in view.rejected


def test_an_address_of_another_node_under_another_key_is_not_taken() -> None:
    view = locked_view(signed(peer(1)), signed(peer(2)))
    thief = signed(peer(2))._replace(addresses=peer(1).addresses)
    event(view, thief)
    owner = view.owner_of(f"{peer(1).addresses[0]}/32")
    assert owner is not None and owner.key == peer(1).key


def test_pools_that_are_not_signed_are_not_those_of_the_copy() -> None:
    stolen = replace(LOCKED, pools=("8.0.0.0/7",), policy=Policy(excluded=("8.0.0.0/9",)))
    lock = lock_of()
    assert locked_zone(stolen, lock).pools == ZONE.pools
    assert locked_zone(stolen, lock).policy.excluded == ()
    assert "8.0.0.0/7" in lock.problem
    assert locked_zone(stolen, None) == stolen


def test_a_revoked_peer_goes_although_the_copy_before_had_it() -> None:
    before = locked_view(signed(peer(1)), signed(peer(2)), rev=4)
    assert before.lock is not None
    revoking = replace(LOCKED, signed=zone_statement(2, revoked=[(peer(2).key, 1)]))
    after = ZoneView(locked_zone(revoking, before.lock), 8, 5, lock=before.lock)
    for record in (signed(peer(1)), signed(peer(2))):
        after.put(record.key, record.to_wire())
    for shared in (Shared((7, 4), (7, 4)), Shared((0, 0), (7, 4))):
        retention.merge(after, before, shared, (), peer(0).key, 0.0)
        assert set(after.peers) == {peer(1).key}
        assert "its key was revoked" in after.rejected[peer(2).key]


def test_peers_that_a_controller_lost_stay_although_their_new_records_are_not_signed() -> None:
    """Redis lost everything, with the statements, and the nodes joined again."""
    before = locked_view(signed(peer(1)), rev=4)
    after = ZoneView(before.zone, 8, 5, lock=before.lock)
    after.put(peer(1).key, peer(1).to_wire())
    assert not after.peers
    retention.merge(after, before, Shared((0, 0), (0, 0)), (), peer(0).key, 0.0)
    assert after.peers == before.peers
    assert not retention.expired(after, retention.RETAIN_SECONDS + 1)


def test_when_statements_end_their_peers_go_and_this_node_stays() -> None:
    view = locked_view(signed(peer(0)), signed(peer(1)), signed(peer(2), serial=2))
    assert view.drop_unsigned(peer(0).key) == set()
    assert view.lock is not None
    revoked = [(peer(0).key, 1), (peer(1).key, 1), (peer(2).key, 1)]
    view.lock.take_zone(zone_statement(2, revoked=revoked), ZONE.pools)
    assert view.drop_unsigned(peer(0).key) == {peer(1).key}
    assert set(view.peers) == {peer(0).key, peer(2).key}
    assert set(view.rejected) == {peer(0).key, peer(1).key}
