# SPDX-License-Identifier: GPL-3.0-or-later
"""The relation of a zone to a copy of it, and the leases of the copy that can be restored."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from jaywalk.zone.models import Lease
from jaywalk_supervisor.recovery.copies import Position, ZoneCopy
from jaywalk_supervisor.recovery.plan import Relation, missing_leases, outdated_reservations, relation
from jaywalk_supervisor.state.zone_state import ZoneState
from tests.supervisor_support import key_of

NOW = 2_000_000_000.0


@pytest.mark.parametrize(
    ("known", "now", "history", "wanted"),
    [
        ((10, 5), (10, 5), [], Relation.NEWER),
        ((10, 5), (10, 9), [], Relation.NEWER),
        ((10, 5), (20, 8), [(10, 7)], Relation.NEWER),
        ((10, 5), (10, 4), [], Relation.OLDER),
        ((10, 5), (20, 6), [(10, 4)], Relation.OLDER),
        ((10, 5), (9, 9), [], Relation.OLDER),
        ((15, 5), (20, 6), [(10, 4)], Relation.OLDER),
        ((10, 5), (20, 0), [], Relation.RECREATED),
        ((10, 5), (30, 3), [(20, 1)], Relation.RECREATED),
        ((10, 5), (99, 99), [(20 + each, each) for each in range(16)], Relation.NEWER),
        ((0, 0), (10, 0), [], Relation.NEWER),
    ],
)
def test_a_zones_history_says_whether_it_contains_the_copy(
    known: Position, now: Position, history: list[Position], wanted: Relation
) -> None:
    assert relation(known, now, history) is wanted


def lease(number: int, address: str, **fields: Any) -> Lease:
    return Lease(key_of(number), f"node{number}", (address, f"fd00:20::{number}"), **fields)


def copy_with(state: ZoneState, *leases: Lease) -> ZoneCopy:
    return ZoneCopy(state.zone, (900, 9), leases={each.key: each for each in leases}, saved=1000)


def test_a_reservation_goes_before_a_node_that_left_and_who_is_there_keeps_what_it_has(
    blue: ZoneState,
) -> None:
    blue.put(key_of(1), None, lease(1, "10.20.0.1"))
    copy = copy_with(
        blue,
        lease(2, "10.20.0.1"),
        lease(3, "10.20.0.2"),
        lease(4, "10.20.0.2", released=0.0, host="node4", reserved_prefixes=("192.0.2.0/24",)),
        lease(5, "10.20.0.1", released=0.0, host="node5"),
        lease(6, "10.20.0.3"),
        lease(7, "192.0.2.77", released=0.0, host="node7"),
    )
    changes, left_out = missing_leases(blue, copy, NOW)
    assert [change.key for change in changes] == [key_of(4), key_of(6)]
    assert blue.leases[key_of(4)].state == "reserved"
    assert (blue.leases[key_of(6)].state, blue.leases[key_of(6)].released) == ("released", NOW)
    assert blue.leases[key_of(1)].addresses[0] == "10.20.0.1"
    assert "node5" in left_out[0] and "belongs to node1" in left_out[0]
    assert "node7" in left_out[1] and "outside the pools" in left_out[1]


def test_a_prefix_that_somebody_has_by_now_is_not_given_back(blue: ZoneState) -> None:
    blue.put(key_of(1), None, lease(1, "10.20.0.1", prefixes=("192.0.2.0/25",)))
    missing_leases(
        blue, copy_with(blue, lease(2, "10.20.0.2", host="node2", reserved_prefixes=("192.0.2.0/24",))), NOW
    )
    assert (blue.leases[key_of(2)].prefixes, blue.leases[key_of(2)].reserved_prefixes) == ((), ())


def test_of_the_reservations_that_a_newer_copy_lacks_only_older_ones_end(blue: ZoneState) -> None:
    blue.put(key_of(1), None, lease(1, "10.20.0.1", released=0.0, since=999))
    blue.put(key_of(2), None, lease(2, "10.20.0.2", released=0.0, since=1001))
    blue.put(key_of(3), None, lease(3, "10.20.0.3", since=1))
    assert [change.key for change in outdated_reservations(blue, copy_with(blue))] == [key_of(1)]


def test_what_an_operator_made_and_moved_addresses_are_written_at_once(blue: ZoneState) -> None:
    plain, host = lease(1, "10.20.0.1"), lease(2, "10.20.0.2", host="node2", released=0.0)
    copy = copy_with(blue, plain, host)
    assert not copy_with(blue, plain, host, lease(3, "10.20.0.3")).differs_much(copy)
    assert not copy_with(blue, replace(plain, seq=7), replace(host, seq=7, released=None)).differs_much(copy)
    assert copy_with(blue, plain).differs_much(copy)
    assert copy_with(
        blue, plain, host, lease(3, "10.20.0.3", reserved_prefixes=("192.0.2.0/24",))
    ).differs_much(copy)
    assert copy_with(blue, lease(1, "10.20.0.4"), host).differs_much(copy)
    assert copy_with(blue, replace(plain, host="node1"), host).differs_much(copy)
    assert copy_with(blue, plain, replace(host, reserved_prefixes=("192.0.2.0/24",))).differs_much(copy)
    assert replace(copy, digest="0" * 64).differs_much(copy)
