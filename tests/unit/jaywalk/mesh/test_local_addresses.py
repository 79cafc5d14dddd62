# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine says about its own place."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from jaywalk.core import ip, validation
from jaywalk.core.errors import InvalidValue
from jaywalk.mesh import local_addresses
from jaywalk.mesh.local_addresses import DeclaredEndpoint


@pytest.mark.parametrize(
    ("host", "label"),
    [
        ("node1", "node1"),
        ("Web_01.example.com", "web-01"),
        ("-odd-", "odd"),
        ("a" * 62 + "_b", "a" * 62),
    ],
)
def test_host_name_becomes_a_label(monkeypatch: pytest.MonkeyPatch, host: str, label: str) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    assert local_addresses.host_label() == label
    assert validation.dns_label(label) == label


@pytest.mark.parametrize("host", ["localhost", "localhost.localdomain", "localhost-localdomain", "___"])
def test_a_machine_that_nobody_named_is_called_by_its_machine_id(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, host: str
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    monkeypatch.setattr(local_addresses, "MACHINE_ID", tmp_path / "machine-id")
    assert local_addresses.host_label() == "node"
    local_addresses.MACHINE_ID.write_text("0123456789abcdef0123456789abcdef\n")
    label = local_addresses.host_label()
    assert re.fullmatch("node-[0-9a-f]{6}", label)
    local_addresses.MACHINE_ID.write_text("fedcba9876543210fedcba9876543210\n")
    assert local_addresses.host_label() != label


def test_loopback_is_no_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    assert local_addresses.source_address("127.0.0.1") == "127.0.0.1"
    monkeypatch.setattr(ip, "DEFAULT_ROUTE_TARGETS", ("127.0.0.1", "::1"))
    assert local_addresses.endpoint_fields("127.0.0.1", 51820)["endpoint"] == ""


def test_the_ip_versions_are_those_by_which_something_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    sources = {ip.DEFAULT_ROUTE_TARGETS[0]: "192.0.2.9", "fd00::7": "fd00::9", "fe80::7": "fe80::9"}
    monkeypatch.setattr(local_addresses, "source_address", lambda target: sources.get(target, ""))
    assert local_addresses.ip_versions([]) == {4}
    assert local_addresses.ip_versions(["2001:db8::7", "fe80::7"]) == {4}
    assert local_addresses.ip_versions(["2001:db8::7", "fd00::7"]) == {4, 6}, (
        "a network without a default route"
    )
    sources.clear()
    assert local_addresses.ip_versions(["192.0.2.7"]) == {4, 6}, "it has no network yet"


def test_address_towards_the_controller_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    sources = {"controller.example": "2001:db8::1", ip.DEFAULT_ROUTE_TARGETS[0]: "192.0.2.9"}
    monkeypatch.setattr(local_addresses, "source_address", lambda target: sources.get(target, ""))
    assert local_addresses.endpoint_fields("controller.example", 51820)["endpoint"] == "[2001:db8::1]:51820"
    assert local_addresses.endpoint_fields("unknown.example", 51820)["endpoint"] == "192.0.2.9:51820"


def test_addresses_of_both_default_routes_come_along_none_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    sources = dict(zip(("ctl", *ip.DEFAULT_ROUTE_TARGETS), ("192.0.2.9", "192.0.2.9", "2001:db8::9")))
    monkeypatch.setattr(local_addresses, "source_address", sources.get)
    assert local_addresses.own_addresses("ctl") == ["192.0.2.9", "2001:db8::9"]


@pytest.mark.parametrize("facing", ["127.0.0.1", "::1", "fe80::1%eth0", ""])
def test_address_that_no_peer_reaches_is_not_offered(monkeypatch: pytest.MonkeyPatch, facing: str) -> None:
    sources = {"ctl": facing, ip.DEFAULT_ROUTE_TARGETS[0]: "192.0.2.6"}
    monkeypatch.setattr(local_addresses, "source_address", lambda target: sources.get(target, ""))
    assert local_addresses.endpoint_fields("ctl", 51820)["endpoint"] == "192.0.2.6:51820"
    del sources[ip.DEFAULT_ROUTE_TARGETS[0]]
    assert local_addresses.endpoint_fields("ctl", 51820)["endpoint"] == ""


@pytest.mark.parametrize(
    ("host", "prefixes"),
    [
        ("192.0.2.9", ["192.0.2.9/32"]),
        ("2001:db8::9", ["2001:db8::9/128"]),
        ("127.0.0.1", []),
        ("no such name", []),
        ("", []),
    ],
)
def test_controllers_address_as_a_prefix(host: str, prefixes: list[str]) -> None:
    assert local_addresses.host_prefixes(host) == prefixes


def test_name_that_does_not_resolve_is_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    def lookup(*_arguments: object, **_options: object) -> None:
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    assert local_addresses.source_address("nowhere.invalid") == ""
    assert local_addresses.host_prefixes("nowhere.invalid") == []


def resolver(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Names have these addresses from now on; none at all is a name that does not resolve."""

    def look(_name: str, port: int, **_options: object) -> list[tuple[object, ...]]:
        if not addresses:
            raise socket.gaierror("Name or service not known")
        return [(0, 0, 0, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", look)


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("198.51.100.7", "198.51.100.7:51820"),
        ("198.51.100.7:4000", "198.51.100.7:4000"),
        ("2001:db8::7", "[2001:db8::7]:51820"),
        ("[2001:db8::7]", "[2001:db8::7]:51820"),
        ("[2001:db8::7]:4000", "[2001:db8::7]:4000"),
        ("home.example.org", "203.0.113.9:51820"),
        ("home.example.org.", "203.0.113.9:51820"),
        ("home.example.org:4000", "203.0.113.9:4000"),
        ("my_box", "203.0.113.9:51820"),
    ],
)
def test_a_local_endpoint_is_an_address_or_a_name_with_or_without_a_port(
    monkeypatch: pytest.MonkeyPatch, text: str, endpoint: str
) -> None:
    resolver(monkeypatch, "203.0.113.9")
    assert DeclaredEndpoint.parse(text, 51820).endpoint() == endpoint
    assert validation.endpoint(endpoint) == endpoint


@pytest.mark.parametrize(
    "text",
    [
        *("10.0.0.999", "10.0.0.9:70000", "10.0.0.9:0", "10.0.0.9:", ":51820", "[home.example.org]:1", "a b"),
        *(
            "[10.0.0.9]:x",
            "home.example.org:http",
            "2001:db8::7]:4000",
            "-home",
            "home..org",
            "a" * 64,
            "",
            "1.2.3",
        ),
    ],
)
def test_a_local_endpoint_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue, match="local endpoint"):
        DeclaredEndpoint.parse(text, 51820)


def test_a_dynamic_name_is_looked_up_again_and_its_last_address_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    declared = DeclaredEndpoint.parse("home.example.org:4000", 51820)
    resolver(monkeypatch, "127.0.1.1")
    assert declared.endpoint() == ""
    assert "this node's own addresses stand for it" in declared.problem
    resolver(monkeypatch, "203.0.113.9", "203.0.113.10")
    assert (declared.endpoint(), declared.problem) == ("203.0.113.9:4000", "")
    resolver(monkeypatch, "203.0.113.10", "203.0.113.9")
    assert declared.endpoint() == "203.0.113.9:4000", "a server that turns its answers moves nobody"
    resolver(monkeypatch)
    assert declared.endpoint() == "203.0.113.9:4000"
    assert "home.example.org" in declared.problem
    assert "203.0.113.9 stays" in declared.problem
    resolver(monkeypatch, "203.0.113.20")
    assert (declared.endpoint(), declared.problem) == ("203.0.113.20:4000", "")


def test_a_name_that_does_not_resolve_at_the_start_stands_for_what_the_zone_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolver(monkeypatch)
    assert DeclaredEndpoint.parse("home.example.org", 51820).endpoint("203.0.113.9") == "203.0.113.9:51820"
