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
    monkeypatch.setattr(place, "ELSEWHERE", "127.0.0.1")
    assert place.own_endpoint("127.0.0.1", 51820) == ""
    assert place.controller_prefix("127.0.0.1") == []


def test_address_towards_the_controller_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    sources = {"controller.example": "2001:db8::1", place.ELSEWHERE: "192.0.2.9"}
    monkeypatch.setattr(place, "source_address", lambda target: sources.get(target, ""))
    assert place.own_endpoint("controller.example", 51820) == "[2001:db8::1]:51820"
    assert place.own_endpoint("unknown.example", 51820) == "192.0.2.9:51820"


def test_controllers_address_is_a_prefix_of_one() -> None:
    assert place.controller_prefix("192.0.2.7") == ["192.0.2.7/32"]


def test_name_that_does_not_resolve_is_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    def lookup(*_arguments: object, **_options: object) -> None:
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    assert place.source_address("nowhere.invalid") == ""
    assert place.controller_prefix("nowhere.invalid") == []
