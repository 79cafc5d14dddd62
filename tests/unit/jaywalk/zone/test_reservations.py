# SPDX-License-Identifier: GPL-3.0-or-later
"""The effect of an operator's request on the leases of a zone."""

from __future__ import annotations

from typing import Any

import pytest

from jaywalk.core.errors import RequestRefused
from jaywalk.zone.models import Lease, reservation_key
from jaywalk.zone.requests import Request
from jaywalk.zone.reservations import (
    check_host_is_free,
    requested_key,
    reserved_lease,
    source_lease,
    without_prefixes,
)
from tests import strategies as mesh

ONE, TWO, THREE = mesh.key(1), mesh.key(2), mesh.key(3)


def lease(key: str, name: str, **fields: Any) -> Lease:
    return Lease(key, name, ("10.20.0.1",), **fields)


def ask(op: str, key: str = "", name: str = "", prefixes: tuple[str, ...] = ()) -> Request:
    return Request.validated(op, "zone-blue", key, name=name, child_prefixes=prefixes)


def test_the_key_of_a_host_takes_over_what_waits_for_its_name() -> None:
    waiting = lease(reservation_key("db1"), "db1", host="db1", released=0)
    leases = {waiting.key: waiting}
    assert source_lease(leases, ask("reserve", ONE, "db1")) == waiting
    assert source_lease(leases, ask("reserve", ONE)) is None
    assert requested_key(leases, ask("reserve", name="db1")) == waiting.key


def test_a_host_has_one_key_until_a_rekey_gives_it_another() -> None:
    leases = {ONE: lease(ONE, "db1", host="db1")}
    check_host_is_free(leases, ask("reserve", ONE, "db1"))
    with pytest.raises(RequestRefused, match=f"the host db1 of zone zone-blue has the key {ONE}"):
        check_host_is_free(leases, ask("reserve", TWO, "db1"))
    assert source_lease(leases, ask("rekey", TWO, "db1")) == leases[ONE]
    assert source_lease(leases, ask("rekey", ONE, "db1")) is None


def test_a_rekey_by_a_name_that_no_operator_reserved_needs_a_single_lease() -> None:
    leases = {ONE: lease(ONE, "web"), TWO: lease(TWO, "web-2", requested_name="web")}
    with pytest.raises(RequestRefused, match="2 other keys of zone zone-blue are called web"):
        source_lease(leases, ask("rekey", THREE, "web"))
    assert source_lease(leases, ask("rekey", TWO, "web")) == leases[ONE]


def test_a_reservation_keeps_a_prefix_that_the_node_only_announced() -> None:
    held = lease(ONE, "web", prefixes=("172.20.1.0/24", "172.20.2.0/24"))
    request = ask("reserve", ONE, prefixes=("172.20.1.0/24",))
    after = reserved_lease(request, ONE, held, None, held.addresses, lambda _name: False)
    assert after.reserved_prefixes == after.prefixes == ("172.20.1.0/24",)
    unchanged = reserved_lease(ask("reserve", ONE), ONE, held, None, held.addresses, lambda _name: False)
    assert (unchanged.reserved_prefixes, unchanged.prefixes) == ((), held.prefixes)


def test_a_name_of_another_node_gets_a_number_and_keeps_it() -> None:
    request = ask("reserve", ONE, "web")
    first = reserved_lease(request, ONE, None, None, ("10.20.0.1",), {"web"}.__contains__)
    assert (first.name, first.requested_name) == ("web-2", "web")
    assert reserved_lease(request, ONE, first, None, first.addresses, {"web"}.__contains__) == first


def test_only_the_released_prefixes_end() -> None:
    held = lease(
        ONE, "web", prefixes=("172.20.1.0/24", "172.20.2.0/24"), reserved_prefixes=("172.20.1.0/24",)
    )
    rest = without_prefixes(held, ("172.20.1.0/24",))
    assert (rest.reserved_prefixes, rest.prefixes) == ((), ("172.20.2.0/24",))
