# SPDX-License-Identifier: GPL-3.0-or-later
"""A change of which the kernel refuses a part leaves the interface as it was, on real WireGuard."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from jaywalk.core.errors import CommandFailed
from jaywalk.wireguard import keys, plan
from jaywalk.wireguard.interface import Interface, WgPeer
from jaywalk.wireguard.linux import Linux
from jaywalk.wireguard.rollback import restored_on_failure
from tests.netns import Namespace

pytestmark = pytest.mark.wireguard

NAME = f"jr{os.getpid() % 100_000}"
ONE = "7W4Yu4U2lW2f3c1aQvLT1b7vD3lXb2h0ZQbq0dZ0lUU="
TWO = "IHTAKJ7xQYBmO7lh3NrNPrfv0LAAM8GlD1o1Yh0U4hE="


@pytest.fixture
def node() -> Iterator[Namespace]:
    with Namespace(f"jr-{os.getpid()}") as made:
        yield made


@pytest.fixture
def wish(node: Namespace, tmp_path: Path) -> Interface:
    file = str(tmp_path / "key")
    key, _ = keys.ensure_key_file(node.runner, file)
    peers = {ONE: WgPeer(ONE, ("10.8.0.2/32", "172.20.1.0/24"), "192.0.2.2:51820", 25)}
    routes = frozenset({"172.20.1.0/24"})
    return Interface(NAME, key, file, 51820, ("10.8.0.1/24", "10.8.1.1/24"), 1400, peers, routes)


def state(node: Namespace) -> list[str]:
    """The interface with its keys, as wg and ip show it; 'valid_lft' and handshakes stay out."""
    return [
        node.run(["wg", "showconf", NAME]),
        node.run(["ip", "-o", "addr", "show", "dev", NAME]),
        node.run(["ip", "route", "show", "dev", NAME]),
    ]


def test_a_refused_address_leaves_all_as_it_was(node: Namespace, wish: Interface, tmp_path: Path) -> None:
    Linux(node.runner).apply(plan.diff(None, wish))
    psk = tmp_path / "psk"
    psk.write_text(node.run(["wg", "genpsk"]))
    node.run(["wg", "set", NAME, "peer", ONE, "preshared-key", str(psk)])
    node.run(["sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6"])
    before = state(node)
    other = str(tmp_path / "other")
    key, _ = keys.ensure_key_file(node.runner, other)
    changed = replace(
        wish,
        public_key=key,
        private_key_file=other,
        listen_port=51999,
        addresses=("10.9.0.1/24", "fd00:9::1/64"),
        mtu=1380,
        peers={TWO: WgPeer(TWO, ("10.9.0.2/32",))},
        routes=frozenset({"172.20.9.0/24"}),
    )
    observed = Linux(node.runner).observe(NAME)
    with pytest.raises(CommandFailed, match="fd00:9::1/64"), restored_on_failure(node.runner, observed):
        Linux(node.runner).apply(plan.diff(observed, changed))
    assert state(node) == before
    assert observed is not None and observed.mtu == 1400


def test_what_succeeds_stays(node: Namespace, wish: Interface) -> None:
    Linux(node.runner).apply(plan.diff(None, wish))
    observed = Linux(node.runner).observe(NAME)
    changed = replace(wish, addresses=("10.9.0.1/24",), routes=frozenset())
    with restored_on_failure(node.runner, observed):
        Linux(node.runner).apply(plan.diff(observed, changed))
    after = Linux(node.runner).observe(NAME)
    assert after is not None and after.addresses == ("10.9.0.1/24",)


def test_an_interface_that_was_not_there_is_none_of_its_business(node: Namespace) -> None:
    with pytest.raises(CommandFailed), restored_on_failure(node.runner, None):
        raise CommandFailed(["ip"], 1, "refused")
