# SPDX-License-Identifier: GPL-3.0-or-later
"""REST: the README's curl lines, and answers in the shapes of its samples."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.fleet.original.manual_operator import PAGE, ManualOperator, commands

# A key with a slash and a plus, as every fifth key has.
MIXED_KEY = """
until echo "$public" | grep -q / && echo "$public" | grep -qF +; do
    private=$(wg genkey); public=$(echo "$private" | wg pubkey)
done
echo "$public $private"
"""


def sample_below(title: str) -> Any:
    """Return the original's sample output below a command of the page."""
    after = PAGE.read_text(encoding="utf-8").split(f"# {title}\n", 1)[1]
    match = re.search(r"```json\n(.*?)```", after, re.DOTALL)
    assert match
    return json.loads(match[1])


def has_shape(answer: Any, sample: Any) -> bool:
    """Return whether an answer has all fields of a sample with their types; a list by its first entry."""
    if isinstance(sample, list):
        return (
            isinstance(answer, list) and bool(answer) and all(has_shape(entry, sample[0]) for entry in answer)
        )
    if isinstance(sample, dict) and "Cidr" in sample:
        return isinstance(answer["Cidr"], str) and set(answer["IPs"].values()) == {True}
    if isinstance(sample, dict):
        return all(name in answer and has_shape(answer[name], value) for name, value in sample.items())
    return isinstance(answer, type(sample))


def ask(operator: ManualOperator, title: str, **values: str) -> Any:
    command = f"export PATH=/opt/jaywalk/bin:$PATH; {commands(title, **values)}"
    return json.loads(operator.fleet.controller.run(command).stdout)


def test_curl_lines_of_the_readme_answer_in_the_shapes_of_its_samples(operator: ManualOperator) -> None:
    public, private = operator["node1"].run(MIXED_KEY).stdout.split()
    operator.start("node1", "zone blue", NODE_WIREGUARD_PUBLIC_KEY=public, NODE_WIREGUARD_PRIVATE_KEY=private)
    operator.start("node2", "zone red", **operator.make_key("node2"))
    for name in ("node1", "node2"):
        operator.joined(name)

    peers = ask(operator, "get all peers")
    assert has_shape(peers, sample_below("get all peers"))
    assert {peer["Zone"] for peer in peers} == {"zone-blue", "zone-red"}

    peer = ask(operator, "get a peer by key", PUBLIC_KEY=public)
    assert has_shape(peer, sample_below("get a peer by key"))
    assert (peer["PublicKey"], peer["AllowedIPs"]) == (public, "10.20.0.30/32")
    assert peer["EndpointIP"] == f"{operator['node1'].address}:51820"

    zones = ask(operator, "get zone details")
    assert has_shape(zones, sample_below("get zone details"))
    assert {zone["IpCidr"] for zone in zones} == {"10.20.0.0/20"}

    leases = ask(operator, "get leases")
    assert has_shape(leases, sample_below("get leases"))
    assert {"10.20.0.0", "10.20.0.30", "10.20.15.255"} <= set(leases[0]["IPs"])
