# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a peer is tried, in which order, and who tells where it was seen."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from jaywalk.core import ip
from jaywalk.mesh import endpoints
from jaywalk.zone.models import Peer
from tests.strategies import key

NAT, OTHER_NAT = "203.0.113.1", "203.0.113.2"


def peer(number: int, endpoint: str = "", **fields: Any) -> Peer:
    endpoint = endpoint or f"192.168.1.{number + 1}:51820"
    return Peer(key(number), f"node{number}", (f"10.20.0.{number + 1}",), endpoint=endpoint, **fields)


def test_an_open_peer_is_tried_where_it_says() -> None:
    assert endpoints.candidates(peer(0), peer(1)) == ("192.168.1.2:51820",)


def test_endpoints_of_an_ip_version_without_a_way_are_left_out() -> None:
    theirs = peer(1, "[2001:db8::7]:51820", local=("192.168.1.7", "fd00::7"))
    assert endpoints.candidates(peer(0), theirs, {4}) == ("192.168.1.7:51820",)
    assert endpoints.candidates(peer(0), theirs, {6}) == ("[2001:db8::7]:51820", "[fd00::7]:51820")
    assert endpoints.candidates(peer(0), theirs._replace(local=()), {4}) == ()
    relay = theirs._replace(relay=51821)
    dual = peer(0, "[2001:db8::9]:51820", local=("192.168.1.9",))
    assert endpoints.relay_endpoint(dual, relay) == "[2001:db8::7]:51821"
    assert endpoints.relay_endpoint(dual, relay, {4}) == "192.168.1.7:51821"


def test_no_peer_is_tried_where_no_machine_is() -> None:
    """A stolen controller aims the packets of all nodes at an address."""
    theirs = peer(
        1, "169.254.169.254:80", local=("255.255.255.255", "10.20.0.9", "192.168.1.255", "192.168.1.7")
    )
    seen = theirs._replace(observed="240.0.0.1:1")
    excluded = ip.networks(["10.20.0.0/20", "192.168.1.255/32"])
    assert endpoints.candidates(peer(0), seen, {4}, excluded) == ("192.168.1.7:80",)


def test_behind_another_nat_the_way_by_the_outside_comes_first() -> None:
    mine = peer(0, observed=f"{NAT}:1024")
    theirs = peer(1, observed=f"{OTHER_NAT}:4711", local=("fd00::1",))
    assert endpoints.candidates(mine, theirs) == (
        f"{OTHER_NAT}:4711",
        "192.168.1.2:51820",
        "[fd00::1]:51820",
    )


def test_behind_the_same_nat_the_way_by_the_local_network_comes_first() -> None:
    mine, theirs = peer(0, observed=f"{NAT}:1024"), peer(1, observed=f"{NAT}:4711")
    assert endpoints.candidates(mine, theirs) == ("192.168.1.2:51820", f"{NAT}:4711")


def test_the_operators_word_comes_first() -> None:
    theirs = peer(1, "198.51.100.1:51820", fixed=True, observed=f"{OTHER_NAT}:4711")
    assert endpoints.candidates(peer(0), theirs)[0] == "198.51.100.1:51820"


def test_a_peer_without_an_address_is_tried_where_it_was_seen_or_nowhere() -> None:
    silent = Peer(key(1), "node1", ("10.20.0.2",))
    assert endpoints.candidates(None, silent) == ()
    assert endpoints.candidates(None, silent._replace(observed=f"{NAT}:1")) == (f"{NAT}:1",)


def test_a_relay_that_is_seen_behind_a_nat_is_none() -> None:
    good, bad, silent = peer(1, relay=51821), peer(2, relay=51821, observed=f"{NAT}:9"), peer(3)
    assert endpoints.relays([good, bad, silent]) == [good]
    assert endpoints.relay_endpoint(peer(0), good) == "192.168.1.2:51821"


def test_a_relay_is_spoken_to_by_an_ip_version_that_both_have() -> None:
    relay, six = peer(1, relay=51821, local=("fd00::1",)), peer(2, "[fd00::2]:51820")
    assert endpoints.relay_endpoint(six, relay) == "[fd00::1]:51821"
    assert endpoints.relay_endpoint(peer(0, local=("fd00::9",)), relay) == "192.168.1.2:51821"
    unplaced = Peer(key(3), "node3", ("10.20.0.4",))
    assert endpoints.relay_endpoint(unplaced, relay) == "192.168.1.2:51821"
    assert endpoints.relay_endpoint(six, relay._replace(local=())) == "192.168.1.2:51821"


def test_of_many_relays_every_node_takes_the_same_few() -> None:
    everyone = [peer(number, relay=51821) for number in range(9)]
    taken = endpoints.relays(everyone)
    assert len(taken) == endpoints.MAX_RELAYS
    assert taken == endpoints.relays(reversed(everyone))


def test_relays_and_three_others_tell_of_a_peer_at_once_and_none_behind_a_nat() -> None:
    nodes = [peer(number) for number in range(20)]
    nodes[4] = nodes[4]._replace(relay=51821)
    nodes[5] = nodes[5]._replace(observed=f"{NAT}:9")
    asked: Counter[str] = Counter()
    for node in nodes:
        chosen = endpoints.observers(nodes, node.key)
        assert node.key not in chosen
        assert nodes[5].key not in chosen
        assert (nodes[4].key in chosen) == (node is not nodes[4])
        assert len(chosen) == endpoints.OBSERVERS_PER_PEER + (node is not nodes[4])
        asked.update(chosen)
    del asked[nodes[4].key]
    assert max(asked.values()) < len(nodes) / 2, "the work is spread"


@given(st.lists(st.integers(0, 30), unique=True, max_size=6), st.integers(40, 50), st.integers(51, 60))
def test_both_ends_of_a_pair_choose_the_same_relay(alive: list[int], one: int, other: int) -> None:
    relays = [key(number) for number in alive]
    chosen = endpoints.relay_for(key(one), key(other), relays)
    assert chosen == endpoints.relay_for(key(other), key(one), list(reversed(relays)))
    assert (chosen in relays) if alive else chosen is None
