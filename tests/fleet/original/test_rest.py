# SPDX-License-Identifier: GPL-3.0-or-later
"""REST: the README's curl lines, and answers in the shapes of its samples."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.fleet.original.hand import PAGE, Hand, written

MIXED_KEY = """
until echo "$public" | grep -q / && echo "$public" | grep -qF +; do
    private=$(wg genkey); public=$(echo "$private" | wg pubkey)
done
echo "$public $private"
"""
"""A key that has a slash and a plus, as every fifth has."""


def sample_below(title: str) -> Any:
    """The original's sample that the page shows below a command."""
    after = PAGE.read_text(encoding="utf-8").split(f"# {title}\n", 1)[1]
    found = re.search(r"```json\n(.*?)```", after, re.DOTALL)
    assert found
    return json.loads(found[1])


def has_shape(answer: Any, sample: Any) -> bool:
    """Whether an answer has all fields of a sample, in its types; a list is held to its first entry."""
    if isinstance(sample, list):
        return (
            isinstance(answer, list) and bool(answer) and all(has_shape(each, sample[0]) for each in answer)
        )
    if isinstance(sample, dict) and "Cidr" in sample:
        return isinstance(answer["Cidr"], str) and set(answer["IPs"].values()) == {True}
    if isinstance(sample, dict):
        return all(name in answer and has_shape(answer[name], value) for name, value in sample.items())
    return isinstance(answer, type(sample))


def ask(hand: Hand, title: str, **values: str) -> Any:
    command = f"export PATH=/opt/jaywalk/bin:$PATH; {written(title, **values)}"
    return json.loads(hand.fleet.controller.run(command).stdout)


def test_curl_lines_of_the_readme_answer_in_the_shapes_of_its_samples(hand: Hand) -> None:
    public, private = hand["node1"].run(MIXED_KEY).stdout.split()
    hand.start("node1", "zone blue", NODE_WIREGUARD_PUBLIC_KEY=public, NODE_WIREGUARD_PRIVATE_KEY=private)
    hand.start("node2", "zone red", **hand.make_key("node2"))
    for name in ("node1", "node2"):
        hand.joined(name)

    peers = ask(hand, "get all peers")
    assert has_shape(peers, sample_below("get all peers"))
    assert {peer["Zone"] for peer in peers} == {"zone-blue", "zone-red"}

    peer = ask(hand, "get a peer by key", PUBLIC_KEY=public)
    assert has_shape(peer, sample_below("get a peer by key"))
    assert (peer["PublicKey"], peer["AllowedIPs"]) == (public, "10.20.0.30/32")
    assert peer["EndpointIP"] == f"{hand['node1'].address}:51820"

    zones = ask(hand, "get zone details")
    assert has_shape(zones, sample_below("get zone details"))
    assert {zone["IpCidr"] for zone in zones} == {"10.20.0.0/20"}

    leases = ask(hand, "get leases")
    assert has_shape(leases, sample_below("get leases"))
    assert {"10.20.0.0", "10.20.0.30", "10.20.15.255"} <= set(leases[0]["IPs"])
