# SPDX-License-Identifier: GPL-3.0-or-later
"""Every value that a person or a node can get wrong, and the sentence that it earns."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaywalk.core import ip, validation
from jaywalk.core.errors import InvalidValue
from tests import strategies

ODD = [
    None,
    True,
    1.5,
    b"10.20.0.1",
    [],
    {},
    object(),
    "",
    " ",
    "\n",
    "\x00",
    "\ud800",
    "9" * 5000,
    10**5000,
    -1,
]

REFUSED: list[tuple[Callable[[Any], object], list[Any]]] = [
    (
        validation.zone_name,
        ["Zone", "zone_blue", "-zone", "zone-", "z" * 64, "zone.blue", "zone\n", "zoné", "{zone}"],
    ),
    (
        validation.interface_name,
        ["wg 0", "wg/0", "..", ".wg", "-wg", "a" * 16, "wg0\n", "all", "default", "wg;rm"],
    ),
    (validation.port, [0, 65536, "0", "65536", "-1", "1.0", "0x50", "\u0661", " 1", "port"]),
    (validation.keepalive, [65536, "off", "-5"]),
    (validation.mtu, [1279, 65536, "1279"]),
    (
        validation.address,
        [
            "10.20.0",
            "10.20.0.256",
            "010.20.0.1",
            "10.20.0.1/32",
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "ff02::1",
            "fe80::1%eth0",
        ],
    ),
    (validation.address, ["::ffff:10.20.0.1", "::ffff:a14:1", "::10.20.0.1", "host.example"]),
    (
        validation.network,
        ["10.20.0.0/33", "10.20.0.0/-1", "10.20.0.0/x", "127.0.0.0/8", "::1/128", "224.0.0.0/4"],
    ),
    (validation.network, ["ff00::/8", "fe80::1%eth0/64", "::ffff:10.0.0.0/104", "::/96"]),
    (validation.child_prefix, ["0.0.0.0/0", "::/0", "172.20.1.0/24,172.20.2.0/24"]),
    (validation.child_prefix, ["0.0.0.0/1", "128.0.0.0/1", "169.254.169.254/32", "fe80::/64", "::/1"]),
    (
        validation.interface_address,
        ["10.20.0.1/33", "0.0.0.0/0", "fe80::1%eth0/64", "ff02::1/64", "10.20.0.1/20/20"],
    ),
    (
        validation.endpoint,
        [
            "192.0.2.1",
            "192.0.2.1:",
            ":51820",
            "192.0.2.1:0",
            "192.0.2.1:65536",
            "2001:db8::1:51820",
            "[2001:db8::1]",
        ],
    ),
    (
        validation.endpoint,
        [
            "host.example:51820",
            "127.0.0.1:51820",
            "[::1]:51820",
            "0.0.0.0:1",
            "192.0.2.1:\u0661",
            "192.0.2.1:5 1",
        ],
    ),
]


@pytest.mark.parametrize(
    ("check", "value"),
    [
        pytest.param(check, value, id=f"{check.__name__}-{index}")
        for check, bad in REFUSED
        for index, value in enumerate((*bad, *ODD))
    ],
)
def test_bad_value_is_refused_in_one_clear_sentence(check: Callable[[Any], object], value: Any) -> None:
    with pytest.raises(InvalidValue) as caught:
        check(value)
    sentence = str(caught.value)
    assert caught.value.remedy
    assert sentence.isprintable()
    assert len(sentence) < 300
    if isinstance(value, str) and 0 < len(value) < 40 and value.isprintable():
        host, _, length = value.rpartition("/") if "/" in value else value.rpartition(":")
        assert any(part in sentence for part in (host, length) if part)


@pytest.mark.parametrize(
    ("check", "value", "canonical"),
    [
        (validation.zone_name, "zone-blue", "zone-blue"),
        (validation.interface_name, "wg0", "wg0"),
        (validation.port, "51820", 51820),
        (validation.keepalive, 0, 0),
        (validation.mtu, 1280, 1280),
        (validation.address, "2001:DB8:0:0::1", "2001:db8::1"),
        (validation.network, "172.20.1.9/24", "172.20.1.0/24"),
        (validation.network, "172.20.1.0/255.255.255.0", "172.20.1.0/24"),
        (validation.network, "10.20.0.7", "10.20.0.7/32"),
        (validation.network, "::/0", "::/0"),
        (validation.interface_address, "FD20::1/64", "fd20::1/64"),
        (validation.endpoint, "[2001:DB8::1]:51820", "[2001:db8::1]:51820"),
        (validation.endpoint, "[192.0.2.1]:51820", "192.0.2.1:51820"),
    ],
)
def test_good_value_comes_back_in_its_canonical_spelling(
    check: Callable[[Any], object], value: Any, canonical: object
) -> None:
    assert check(value) == canonical
    assert check(canonical) == canonical


@given(st.one_of(strategies.json_values, st.binary(), st.text()))
def test_whatever_comes_only_invalid_value_goes(value: Any) -> None:
    sentences = []
    for check, _ in REFUSED:
        try:
            once = check(value)
        except InvalidValue as refused:
            sentences.append(str(refused))
        else:
            assert check(once) == once
    assert all(sentence.isprintable() for sentence in sentences)


@given(
    st.one_of(
        st.ip_addresses().map(str),
        st.from_regex(r"[0-9]{1,4}(\.[0-9]{1,4}){1,4}", fullmatch=True),
        st.from_regex(r"[0-9a-fA-F:]{0,4}(:(0|[0-9a-fA-F]{0,4})){2,8}", fullmatch=True),
    )
)
def test_the_short_way_takes_what_ipaddress_takes_and_spells_it_so(text: str) -> None:
    try:
        parsed = ipaddress.ip_address(text)
        mapped = parsed.version == 6 and int(parsed) >> 32 in (0, 0xFFFF) and not parsed.is_loopback
        good = not parsed.is_unspecified and not parsed.is_multicast and not mapped
    except ValueError:
        good = False
    if good:
        assert validation.address(text) == str(parsed)
    else:
        with pytest.raises(InvalidValue):
            validation.address(text)


@given(st.ip_addresses(), st.ip_addresses(), st.integers(1, 32))
def test_holding_and_overlapping_agree_with_arithmetic(
    host: ipaddress.IPv4Address | ipaddress.IPv6Address,
    start: ipaddress.IPv4Address | ipaddress.IPv6Address,
    length: int,
) -> None:
    pool = ipaddress.ip_network(f"{start}/{length}", strict=False)
    first, last = int(pool.network_address), int(pool.broadcast_address)
    inside = host.version == pool.version and first <= int(host) <= last
    assert (ip.holding([pool], str(host)) is not None) == inside
    assert (ip.overlapping([pool], ip.host_prefix(str(host))) is not None) == inside
