# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import naming
from lab.errors import LabError

names = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,11}[a-z0-9])?", fullmatch=True)
prefixes = st.from_regex(r"[a-z][a-z0-9]{0,7}", fullmatch=True)


@given(prefixes, names, st.sampled_from((0, 1)))
def test_every_interface_name_fits_the_kernel(prefix: str, name: str, number: int) -> None:
    assert len(naming.bridge_port(naming.check_name(name), number)) <= 15
    assert len(naming.router_port(name)) <= 15
    assert len(naming.host_interface(naming.check_prefix(prefix))) <= 15


@given(prefixes, names)
def test_no_machine_has_the_name_of_one_of_the_labs_own_namespaces(prefix: str, name: str) -> None:
    own = {naming.lab_netns(prefix), naming.internet_netns(prefix), naming.router_netns(prefix, name)}
    assert naming.machine_netns(prefix, name) not in own
    assert len(own) == 3


@pytest.mark.parametrize("name", ["", "Node1", "node_1", "-node", "node-", "a" * 14, "node1\n", "../x"])
def test_a_bad_machine_name_is_refused_and_named(name: str) -> None:
    with pytest.raises(LabError, match=re.escape(repr(name))):
        naming.check_name(name)


@pytest.mark.parametrize("prefix", ["", "1a", "ninechars", "a-b", "a_b", "A"])
def test_a_bad_prefix_is_refused_and_named(prefix: str) -> None:
    with pytest.raises(LabError, match=repr(prefix)):
        naming.check_prefix(prefix)


@given(prefixes, names)
def test_a_mac_is_a_unicast_address_of_one_interface(prefix: str, name: str) -> None:
    mac = naming.mac(prefix, name, 0)
    first = int(mac.split(":")[0], 16)
    assert re.fullmatch(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", mac)
    assert first & 0b11 == 0b10, "locally administered, not multicast"
    assert mac == naming.mac(prefix, name, 0)
    assert mac != naming.mac(prefix, name, 1)


@given(prefixes, names)
def test_a_machine_id_has_the_format_of_systemd(prefix: str, name: str) -> None:
    assert re.fullmatch(r"[0-9a-f]{32}", naming.machine_id(prefix, name))


def test_default_names() -> None:
    assert list(naming.default_names(3)) == ["control", "node1", "node2"]
    assert list(naming.default_names(3, plain=True)) == ["node1", "node2", "node3"]
    with pytest.raises(LabError, match="at least 1"):
        list(naming.default_names(0))
