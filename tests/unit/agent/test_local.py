# SPDX-License-Identifier: GPL-3.0-or-later
"""This machine's own place in the network."""

from __future__ import annotations

from pathlib import Path

import pytest

from jaywalk_agent import local
from tests.unit.agent.support import settings_in


def test_the_operators_word_comes_first(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, local_endpoint_ip="2001:db8::7", listen_port="4000")
    assert local.own_endpoint(settings, "127.0.0.1") == "[2001:db8::7]:4000"


def test_the_address_that_faces_the_controller_is_offered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "source_address", {"192.0.2.9": "192.0.2.5"}.get)
    assert local.own_endpoint(settings_in(tmp_path), "192.0.2.9") == "192.0.2.5:51820"


@pytest.mark.parametrize("facing", ["127.0.0.1", "::1", "fe80::1%eth0", ""])
def test_an_address_that_no_peer_reaches_is_not_offered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, facing: str
) -> None:
    monkeypatch.setattr(local, "source_address", {"ctl": facing, local.ELSEWHERE: "192.0.2.6"}.get)
    assert local.own_endpoint(settings_in(tmp_path), "ctl") == "192.0.2.6:51820"
    monkeypatch.setattr(local, "source_address", {"ctl": facing}.get)
    assert local.own_endpoint(settings_in(tmp_path), "ctl") == ""


def test_finds_the_address_of_a_real_route() -> None:
    assert local.source_address("127.0.0.1") == "127.0.0.1"
    assert local.source_address("no such name") == ""


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
def test_the_controllers_address_as_a_prefix(host: str, prefixes: list[str]) -> None:
    assert local.host_prefixes(host) == prefixes
