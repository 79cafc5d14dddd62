# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaywalk_supervisor.state.pool import Pool
from jaywalk_supervisor.state.prefix_index import PrefixIndex


@pytest.mark.parametrize(
    ("cidr", "lowest", "capacity"),
    [
        ("10.20.0.0/20", "10.20.0.1", 4094),
        ("10.20.0.4/30", "10.20.0.5", 2),
        ("10.20.0.4/31", "10.20.0.4", 2),
        ("10.20.0.4/32", "10.20.0.4", 1),
        ("fd00::/64", "fd00::1", 2**64 - 1),
        ("fd00::2/127", "fd00::2", 2),
        ("fd00::2/128", "fd00::2", 1),
        ("10.0.0.0/8", "10.0.0.1", 2**24 - 2),
    ],
)
def test_lowest_address_and_capacity(cidr: str, lowest: str, capacity: int) -> None:
    pool = Pool(cidr)
    assert (pool.lowest_free(), pool.capacity) == (lowest, capacity)


def test_the_lowest_free_address_of_a_part_is_found_behind_many_others() -> None:
    """A join token permits a part of a pool, or the whole of one with thousands of nodes."""
    pool = Pool("10.20.0.0/16", ["10.20.32.0/24"])
    for number in range(0x0A140001, 0x0A142000):
        pool.allocate(pool.text(number), "key")
    found = {
        cidr: pool.lowest_free_in(ipaddress.ip_network(cidr))
        for cidr in (
            "10.20.0.0/16",
            "10.0.0.0/8",
            "10.20.0.0/24",
            "10.20.32.0/24",
            "10.20.40.0/24",
            "10.21.0.0/16",
        )
    }
    assert found == {
        "10.20.0.0/16": "10.20.33.0",
        "10.0.0.0/8": "10.20.33.0",
        "10.20.0.0/24": None,
        "10.20.32.0/24": None,
        "10.20.40.0/24": "10.20.40.0",
        "10.21.0.0/16": None,
    }


STEPS = st.lists(st.tuples(st.sampled_from(["hold", "lowest", "drop"]), st.integers(0, 15)), max_size=80)


@given(steps=STEPS, cidr=st.sampled_from(["10.0.0.0/28", "10.0.0.0/29", "10.0.0.0/31", "fd00::/125"]))
def test_lowest_free_is_what_a_search_finds(steps: list[tuple[str, int]], cidr: str) -> None:
    pool, network = Pool(cidr), list(ipaddress.ip_network(cidr))
    held: dict[str, str] = {}
    for action, number in steps:
        address = str(network[number % len(network)])
        if action == "lowest":
            address = pool.lowest_free() or address
        if action == "drop":
            pool.free(address, "key")
            held.pop(address, None)
        elif not pool.is_reserved(address):
            pool.allocate(address, "key")
            held[address] = "key"
        free = [str(each) for each in network if str(each) not in held and not pool.is_reserved(str(each))]
        assert pool.lowest_free() == (free[0] if free else None)
        assert {pool.text(each) for each in pool.owners} == held.keys()


@pytest.mark.parametrize(
    ("cidr", "excluded", "lowest", "capacity"),
    [
        ("10.20.0.0/24", ["10.20.0.1/32"], "10.20.0.2", 253),
        ("10.20.0.0/24", ["10.20.0.0/28", "10.20.0.16/28", "10.20.0.8/29"], "10.20.0.32", 223),
        ("10.20.0.0/30", ["10.20.0.0/30"], None, 0),
        ("10.0.0.0/8", ["10.0.0.0/9"], "10.128.0.0", 2**23 - 1),
        ("fd00::/64", ["fd00::/65", "fd01::1/128"], "fd00::8000:0:0:0", 2**63),
    ],
)
def test_excluded_addresses_are_nobodys(
    cidr: str, excluded: list[str], lowest: str | None, capacity: int
) -> None:
    pool = Pool(cidr, excluded)
    assert (pool.lowest_free(), pool.capacity) == (lowest, capacity)
    assert pool.is_reserved(excluded[0].partition("/")[0])
    assert lowest is None or not pool.is_reserved(lowest)


@pytest.mark.parametrize("cidr", ["10.0.0.0/8", "fd00::/16"])
@given(data=st.data())
def test_an_address_is_spelled_as_ipaddress_spells_it(cidr: str, data: st.DataObject) -> None:
    pool = Pool(cidr)
    number = data.draw(st.integers(pool.first, pool.last))
    text = str(ipaddress.ip_address(number))
    pool.allocate(text, "key")
    assert (pool.text(number), pool.owners, text in pool) == (text, {number: "key"}, True)


def test_only_the_holder_frees_an_address() -> None:
    pool = Pool("10.0.0.0/24")
    pool.allocate("10.0.0.1", "one")
    pool.free("10.0.0.1", "two")
    assert pool.owner_of("10.0.0.1") == "one"


PREFIX = st.builds(
    lambda number, length: str(ipaddress.ip_network((number, length), strict=False)),
    st.integers(0, 2**32 - 1).map(lambda number: number & 0x0A0F_FF00 | 0x0A00_0000),
    st.integers(8, 28),
)


@given(prefixes=st.lists(PREFIX, max_size=40), query=PREFIX)
def test_overlaps_are_what_a_search_finds(prefixes: list[str], query: str) -> None:
    index, taken = PrefixIndex(), {}
    for number, prefix in enumerate(prefixes):
        if not list(index.overlapping(prefix)):
            index.add(prefix, f"key{number}")
            taken[prefix] = f"key{number}"
    wanted = ipaddress.ip_network(query)
    naive = {prefix for prefix in taken if ipaddress.ip_network(prefix).overlaps(wanted)}
    assert {each.prefix for each in index.overlapping(query)} == naive
    for prefix in naive:
        index.remove(prefix, taken[prefix])
    assert not list(index.overlapping(query))


def test_versions_do_not_overlap() -> None:
    index = PrefixIndex()
    index.add("10.0.0.0/8", "four")
    index.add("fd00::/16", "six")
    assert [each.key for each in index.overlapping("fd00:1::/32")] == ["six"]
    assert not list(index.overlapping("::/96"))
