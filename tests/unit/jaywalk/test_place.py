# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine says about its own place."""

from __future__ import annotations

import socket

import pytest

from jaywalk import place, values


@pytest.mark.parametrize(
    ("host", "label"),
    [
        ("node1", "node1"),
        ("Web_01.example.com", "web-01"),
        ("-odd-", "odd"),
        ("___", "node"),
        ("a" * 62 + "_b", "a" * 62),
    ],
)
def test_host_name_becomes_a_label(monkeypatch: pytest.MonkeyPatch, host: str, label: str) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    assert place.host_label() == label
    assert values.dns_label(label) == label


def test_loopback_is_no_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    assert place.source_address("127.0.0.1") == "127.0.0.1"
    monkeypatch.setattr(place, "ELSEWHERE", ("127.0.0.1", "::1"))
    assert place.whereabouts("127.0.0.1", 51820)["endpoint"] == ""


def test_address_towards_the_controller_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    sources = {"controller.example": "2001:db8::1", place.ELSEWHERE[0]: "192.0.2.9"}
    monkeypatch.setattr(place, "source_address", lambda target: sources.get(target, ""))
    assert place.whereabouts("controller.example", 51820)["endpoint"] == "[2001:db8::1]:51820"
    assert place.whereabouts("unknown.example", 51820)["endpoint"] == "192.0.2.9:51820"


def test_addresses_of_both_default_routes_come_along_none_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    sources = dict(zip(("ctl", *place.ELSEWHERE), ("192.0.2.9", "192.0.2.9", "2001:db8::9")))
    monkeypatch.setattr(place, "source_address", sources.get)
    assert place.own_addresses("ctl") == ["192.0.2.9", "2001:db8::9"]


@pytest.mark.parametrize("facing", ["127.0.0.1", "::1", "fe80::1%eth0", ""])
def test_address_that_no_peer_reaches_is_not_offered(monkeypatch: pytest.MonkeyPatch, facing: str) -> None:
    sources = {"ctl": facing, place.ELSEWHERE[0]: "192.0.2.6"}
    monkeypatch.setattr(place, "source_address", lambda target: sources.get(target, ""))
    assert place.whereabouts("ctl", 51820)["endpoint"] == "192.0.2.6:51820"
    del sources[place.ELSEWHERE[0]]
    assert place.whereabouts("ctl", 51820)["endpoint"] == ""


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
    assert place.host_prefixes(host) == prefixes


def test_name_that_does_not_resolve_is_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    def lookup(*_arguments: object, **_options: object) -> None:
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    assert place.source_address("nowhere.invalid") == ""
    assert place.host_prefixes("nowhere.invalid") == []
