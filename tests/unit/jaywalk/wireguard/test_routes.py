# SPDX-License-Identifier: GPL-3.0-or-later
"""Which routes a tunnel may have beside those of its machine."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from jaywalk.core.errors import InvalidValue
from jaywalk.core.runner import Finished
from jaywalk.wireguard import routes
from jaywalk.wireguard.routes import Route


def test_allowed_ips_in_an_own_network_need_no_route() -> None:
    allowed = ["10.9.0.2/32", "10.9.0.0/24", "10.0.0.0/8", "fd00::2/128", "fd01::/64", "fe80::/64"]
    assert routes.needed(allowed, ["10.9.0.1/24", "fd00::1/64"]) == {"10.0.0.0/8", "fd01::/64"}


def test_all_allowed_ips_need_a_route_without_an_address() -> None:
    assert routes.needed(["10.9.0.2/32"], []) == {"10.9.0.2/32"}


TAKEN = [Route("0.0.0.0/0", "eth0"), Route("192.0.2.0/24", "eth0"), Route("198.51.100.0/24", "")]


@pytest.mark.parametrize(
    ("desired", "message"),
    [
        ("0.0.0.0/0", "the machine already routes 0.0.0.0/0 by eth0"),
        ("198.51.100.0/24", "the machine already routes 198.51.100.0/24 another way"),
    ],
)
def test_same_prefix_is_refused(desired: str, message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        routes.check_not_taken([desired], TAKEN)


def test_other_prefixes_pass() -> None:
    routes.check_not_taken(["192.0.2.0/25", "192.0.0.0/16", "::/0"], TAKEN)


@pytest.mark.parametrize(
    ("desired", "endpoint", "loops"),
    [
        ("203.0.113.0/24", "203.0.113.9:1", True),  # the default route would have carried it
        ("192.0.0.0/16", "192.0.2.9:1", False),  # the machine's own route is more specific
        ("192.0.2.0/25", "192.0.2.9:1", True),
        ("192.0.2.0/25", "192.0.2.200:1", False),
        ("2001:db8::/32", "[2001:db8::9]:1", True),
        ("203.0.113.0/24", "[2001:db8::9]:1", False),
    ],
)
def test_route_over_an_endpoint_is_refused(desired: str, endpoint: str, loops: bool) -> None:
    if not loops:
        routes.check_no_loops([desired], TAKEN, {"key": endpoint})
        return
    with pytest.raises(InvalidValue) as refusal:
        routes.check_no_loops([desired], TAKEN, {"key": endpoint})
    assert desired in str(refusal.value)
    assert endpoint in str(refusal.value)


class Tables:
    """Answers ``ip route show`` for both families."""

    V4 = (
        {"dst": "default", "dev": "eth0"},
        {"dst": "192.0.2.7", "dev": "eth0"},
        {"dst": "10.0.0.0/8", "dev": "wg0"},
        {"type": "blackhole", "dst": "10.66.0.0/16"},
        {"dst": "224.0.0.0/4", "dev": "eth0"},
    )
    V6 = ({"dst": "default", "dev": "eth0"}, {"dst": "fe80::/64", "dev": "eth0"})

    def run(self, argv: Sequence[str], stdin: str | None = None) -> Finished:
        return Finished(0, json.dumps(self.V4 if "-4" in argv else self.V6), "")


def test_own_routes_are_not_the_machines_others() -> None:
    assert routes.other_routes(Tables(), "wg0") == [
        Route("0.0.0.0/0", "eth0"),
        Route("192.0.2.7/32", "eth0"),
        Route("10.66.0.0/16", ""),
        Route("224.0.0.0/4", "eth0"),
        Route("::/0", "eth0"),
        Route("fe80::/64", "eth0"),
    ]
