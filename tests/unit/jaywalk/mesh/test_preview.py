# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be said about a request before a supervisor decides."""

from __future__ import annotations

from typing import Any

import pytest

from jaywalk.core.errors import InvalidValue
from jaywalk.mesh import preview
from jaywalk.zone.models import Lease, Peer, Zone
from jaywalk.zone.requests import Request
from tests import strategies as mesh

ZONE = Zone.validated("zone-blue", ["10.20.0.0/20", "fd20::/64"])
HELD = Peer(mesh.key(2), "node2", ("10.20.0.2", "fd20::2"), ("172.20.2.0/24",))


def asking(request_ip: tuple[str, ...] = (), child_prefixes: tuple[str, ...] = ()) -> Request:
    return Request.validated(
        "join", "zone-blue", mesh.key(1), request_ip=request_ip, child_prefixes=child_prefixes
    )


def check(request: Request) -> None:
    preview.check_addresses(ZONE, request.request_ip)
    preview.check_prefixes(ZONE, request.child_prefixes)


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (asking(("10.21.0.1",)), "10.21.0.1 lies outside the pools of zone zone-blue: request one inside"),
        (asking((), ("10.20.4.0/24",)), "10.20.4.0/24 overlaps the pool 10.20.0.0/20"),
        (asking((), ("fd20::/48",)), "fd20::/48 overlaps the pool fd20::/64"),
        (asking(("10.20.0.5", "10.20.0.6")), "both 10.20.0.5 and 10.20.0.6 are requested"),
        (asking(("10.20.0.0",)), "10.20.0.0 is the network's own in 10.20.0.0/20"),
        (asking(("fd20::",)), "fd20:: is the network's own"),
        (asking((), ("172.20.0.0/16", "172.20.1.0/24")), "172.20.1.0/24 and 172.20.0.0/16 overlap"),
    ],
)
def test_pools_alone_refuse(request_: Request, says: str) -> None:
    with pytest.raises(InvalidValue, match=says):
        check(request_)


def test_what_pools_allow_passes() -> None:
    check(asking(("10.20.15.254", "fd20::9"), ("172.20.1.0/24", "fd21::/48")))


@pytest.mark.parametrize(
    "request_", [asking(("10.20.0.2",)), asking((), ("172.20.2.128/25",)), asking((), ("172.20.0.0/16",))]
)
def test_what_another_key_has_is_refused(request_: Request) -> None:
    with pytest.raises(InvalidValue, match=r"of node2|belongs to node2"):
        preview.check_not_taken([HELD], request_)


def test_own_things_may_be_asked_for_again() -> None:
    own = Lease(mesh.key(1), "node1", ("10.20.0.1",), ("172.20.1.0/24",), released=0)
    preview.check_not_taken([HELD, own], asking(("10.20.0.1",), ("172.20.1.0/24",)))


@pytest.mark.parametrize(
    ("held", "request_ip", "known", "told"),
    [
        (None, (), (), ("(IPv4 assigned by the zone)", "(IPv6 assigned by the zone)")),
        (None, ("fd20::9",), ("fd20::9",), ("(IPv4 assigned by the zone)", "fd20::9")),
        (HELD, (), ("10.20.0.2", "fd20::2"), ("10.20.0.2", "fd20::2")),
        (HELD, ("10.20.0.9",), ("10.20.0.9", "fd20::2"), ("10.20.0.9", "fd20::2")),
    ],
)
def test_addresses_are_known_if_wished_or_held(
    held: Peer | None, request_ip: tuple[str, ...], known: tuple[str, ...], told: tuple[str, ...]
) -> None:
    assert preview.expected_addresses(held, asking(request_ip)) == known
    assert preview.preview_addresses(ZONE, known, known) == told


def test_address_that_was_not_known_is_told_in_the_same_words_afterwards() -> None:
    before = preview.preview_addresses(ZONE, ("10.20.0.9",), ("10.20.0.9",))
    assert preview.preview_addresses(ZONE, ("10.20.0.9", "fd20::1"), ("10.20.0.9",)) == before


def test_lines_hold_only_what_is_there() -> None:
    assert preview.lines("zone z", "", (), ()) == ()
    assert preview.lines("zone z", "n", ("a",), ("p",), "e", "s") == (
        "zone z name n",
        "zone z address a",
        "zone z child-prefix p",
        "zone z endpoint e",
        "zone z state s",
    )


def test_the_name_of_a_second_node_is_foretold() -> None:
    def called(number: int, name: str, **fields: Any) -> Peer:
        return Peer(mesh.key(number), name, (f"10.20.0.{number}",), **fields)

    web, other = called(1, "web1"), called(2, "web1-2", requested_name="web1")
    assert preview.preview_name("web1", None, []) == "web1"
    assert preview.preview_name("web1", None, [web]) == "web1-2"
    assert preview.preview_name("web1", None, [web, other]) == "web1-3"
    assert preview.preview_name("web1", other, [web]) == "web1-2"
    assert preview.preview_name("web1", other, []) == "web1-2"
    assert preview.preview_name("db1", other, [web]) == "db1"
    assert preview.preview_name("db1", None, [called(3, "x", host="db1")]) == "db1-2"
