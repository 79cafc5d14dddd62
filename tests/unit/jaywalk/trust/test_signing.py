# SPDX-License-Identifier: GPL-3.0-or-later
"""What is signed anew, and with which serial."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jaywalk.core.errors import InvalidValue
from jaywalk.trust.lock_keys import LockKey, is_signed_by
from jaywalk.trust.signing import (
    StoredNode,
    StoredZone,
    check_apart,
    next_serial,
    resign,
    revoke,
    sign_node,
    sign_zone,
    with_lock_keys,
    zone_wish,
)
from jaywalk.trust.statements import NodeStatement, ZoneStatement
from tests.strategies import key

NOW = 1_800_000_000.0
OWN, NEXT = LockKey.generate(), LockKey.generate()
POOLS = ("10.20.0.0/20",)
WEB = NodeStatement("zone-blue", key(1), "web1", ("10.20.0.5",))
ZONE = ZoneStatement("zone-blue", POOLS, (OWN.public,))


def test_what_is_signed_already_is_not_signed_again() -> None:
    first = sign_node(WEB, None, OWN, NOW)
    assert sign_node(WEB, first, OWN, NOW + 10) == first
    assert sign_node(WEB, first, NEXT, NOW + 10) != first
    anew = sign_node(WEB, first, OWN, NOW, revoked=int(NOW) + 5)
    assert NodeStatement.parse(anew.statement).serial == int(NOW) + 6
    moved = sign_node(WEB._replace(addresses=("10.20.0.6",)), first, OWN, NOW - 10)
    assert NodeStatement.parse(moved.statement).serial == int(NOW) + 1
    zone = sign_zone(ZONE, None, OWN, NOW)
    assert sign_zone(ZONE, zone, OWN, NOW + 10) == zone


def test_a_statement_with_a_lifetime_is_renewed_when_half_of_it_is_over() -> None:
    first = sign_node(WEB, None, OWN, NOW, lifetime=100)
    assert NodeStatement.parse(first.statement).expires == int(NOW) + 100
    assert sign_node(WEB, first, OWN, NOW + 49, lifetime=100) == first
    assert sign_node(WEB, first, OWN, NOW + 51, lifetime=100) != first
    assert NodeStatement.parse(sign_node(WEB, first, OWN, NOW + 1).statement).expires == 0


def test_a_serial_is_the_time_unless_that_is_taken() -> None:
    assert next_serial(0, NOW) == int(NOW)
    assert next_serial(int(NOW) + 7, NOW) == int(NOW) + 8
    assert next_serial(2**53 - 1, NOW) == int(NOW)


def test_a_zone_keeps_what_its_statement_says_and_another_key_does_not_sign_for_it() -> None:
    node = StoredNode(key(1), "web1", (), signed=OWN.sign(WEB._replace(serial=8)))
    revoked = revoke(ZONE, [node], 3.0)
    assert revoke(revoked, [node], NOW) == revoked
    stored = StoredZone("zone-blue", POOLS, OWN.sign(revoked))
    assert zone_wish(stored, ("10.20.0.0/16",), OWN, NOW) == revoked._replace(pools=("10.20.0.0/16",))
    assert revoked.revoked == ((key(1), 8),)
    with pytest.raises(InvalidValue, match="does not sign for zone zone-blue"):
        zone_wish(stored, POOLS, NEXT, NOW, [OWN.public])
    first = zone_wish(StoredZone("zone-blue", POOLS), POOLS, NEXT, NOW)
    assert (first.lock_keys, first.least_serial) == ((NEXT.public,), int(NOW))
    with pytest.raises(InvalidValue, match="5 lock keys"):
        with_lock_keys(ZONE, [key(n) for n in range(5)])


def test_only_what_the_key_signed_is_signed_by_its_successor() -> None:
    good, forged = OWN.sign(WEB), LockKey.generate().sign(WEB._replace(key=key(2), name="evil"))
    nodes = [StoredNode(key(1), "web1", (), signed=good), StoredNode(key(2), "evil", (), signed=forged)]
    nodes += [StoredNode(key(3), "none", ()), StoredNode(key(4), "copy", (), signed=good)]
    (found,) = resign(StoredZone("zone-blue", POOLS, OWN.sign(ZONE), nodes), NEXT, [OWN.public], NOW)
    assert is_signed_by(NEXT.public, found)
    assert NodeStatement.parse(found.statement) == WEB._replace(serial=int(NOW))


def test_the_list_for_whoever_signs_elsewhere_comes_back_as_it_went_and_junk_is_refused() -> None:
    node = StoredNode(key(1), "web1", ("10.20.0.5",), ("172.20.1.0/24",), True, OWN.sign(WEB))
    zone = StoredZone("zone-blue", POOLS, OWN.sign(ZONE), [node])
    assert StoredZone.from_json(json.loads(json.dumps(zone.to_json()))) == zone
    broken = {"zone": "zone-blue", "pools": 3, "signed": None, "nodes": []}
    junk: list[Any] = [{}, broken, [], {"nodes": [1]}]
    for value in junk:
        with pytest.raises(InvalidValue):
            StoredZone.from_json(value)


def test_what_somebody_else_signed_is_never_built_upon() -> None:
    """A stolen controller names its own key beside the operator's, and the operator signs again."""
    forged = NEXT.sign(with_lock_keys(ZONE, [OWN.public, NEXT.public]))
    with pytest.raises(InvalidValue, match="signed by none of the given keys"):
        zone_wish(StoredZone("zone-blue", POOLS, forged), POOLS, OWN, NOW)


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (NodeStatement("zone-blue", key(2), "web2", ("10.20.0.5",)), "both web1 and web2 would be signed"),
        (NodeStatement("zone-blue", key(2), "web2", ("192.0.2.1",)), "lies outside of 10.20.0.0/20"),
    ],
)
def test_addresses_that_a_stolen_supervisor_assigned_twice_are_not_signed(
    other: NodeStatement, why: str
) -> None:
    with pytest.raises(InvalidValue, match=why):
        check_apart([WEB, other], POOLS)
    check_apart([WEB, WEB], POOLS)
