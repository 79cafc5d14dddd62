# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration of an agent: each value checked, and what derives from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from jaywalk.core.errors import InvalidValue
from jaywalk.core.runner import SubprocessRunner
from jaywalk.mesh import local_addresses
from jaywalk.mesh.local_addresses import host_label
from jaywalk.zone.join_tokens import JoinToken
from jaywalk_agent.config import AgentConfig
from tests.agent_support import config_in


@pytest.mark.parametrize("secret", ["hunter2", "4GgaQCy68nzNsUE5aJ9fuLzHhB65tAlwbm/72MWnOm8="])
def test_a_secret_given_in_place_of_its_files_name_is_not_quoted(secret: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="cannot read the controller's password") as raised:
        config_in(tmp_path, controller="c", controller_password_file=secret).controller_address()
    assert secret not in str(raised.value)
    if len(secret) > 20:
        with pytest.raises(InvalidValue, match="holds a key and not a file's name") as raised:
            config_in(tmp_path, private_key_file=secret)
        assert secret not in str(raised.value)


def test_defaults_follow_the_zone() -> None:
    config = AgentConfig.read({"zone": "zone-red"})
    assert config.controller_user == "agent-zone-red"
    assert str(config.private_key_file) == "/etc/jaywalk/zone-red.key"
    assert str(config.snapshot_file) == "/var/lib/jaywalk/zone-red.json"
    assert str(config.lock_file) == "/run/jaywalk/zone-red.lock"
    assert config.name == host_label()


def test_a_lost_and_a_found_name_of_the_local_endpoint_are_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    config = AgentConfig.read({"local_endpoint_ip": "home.example.org:4000", "name": "node0"})
    found: list[str] = []
    monkeypatch.setattr(local_addresses, "_usable_addresses", lambda _name: found)
    assert not config.endpoint_fields().get("fixed")
    assert config.endpoint_fields("203.0.113.9")["endpoint"] == "203.0.113.9:4000"
    found.append("203.0.113.20")
    assert config.endpoint_fields() == {"endpoint": "203.0.113.20:4000", "fixed": True, "relay": 0}
    config.endpoint_fields()
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 3
    assert "has no address" in lines[0]
    assert lines[2] == "the name home.example.org of the local endpoint is 203.0.113.20:4000"


@pytest.mark.parametrize(
    ("option", "value", "shown"),
    [
        ("zone", "Zone Blue!", "Zone Blue!"),
        ("interface", "all", "all"),
        ("interface", "a-name-of-16-char", "a-name-of-16-char"),
        ("listen_port", "70000", "70000"),
        ("listen_port", "0", "'0'"),
        ("name", "Big_Name", "Big_Name"),
        ("name", "localhost", "any machine calls itself"),
        ("local_endpoint_ip", "10.0.0.999", "10.0.0.999"),
    ],
)
def test_a_bad_value_is_named(option: str, value: str, shown: str) -> None:
    with pytest.raises(InvalidValue, match=shown):
        AgentConfig.read({option: value})


@pytest.mark.parametrize("text", ["AAAA", "4GgaQCy68nzNsUE5aJ9fuLzHhB65tAlwbmA72MWnOm8"])
def test_an_invalid_public_key_is_not_quoted_since_it_may_be_the_private_one(text: str) -> None:
    with pytest.raises(InvalidValue, match="--public-key holds no WireGuard public key") as raised:
        AgentConfig.read({"public_key": text})
    assert text not in str(raised.value)


def test_the_password_file_is_read_anew_each_time(tmp_path: Path) -> None:
    file = tmp_path / "password"
    config = AgentConfig.read({"controller": "192.0.2.1", "controller_password_file": str(file)})
    file.write_text("first-one\n")
    assert config.controller_address().password == "first-one"
    file.write_text("second-one\n")
    where = config.controller_address()
    assert where.password == "second-one"
    assert (where.host, where.port, where.user) == ("192.0.2.1", 6379, "agent-zone-blue")
    assert "second-one" not in f"{where!r} {where}"


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({}, "--controller HOST"),
        ({"controller": "192.0.2.1"}, "--controller-password-file"),
        ({"controller": "192.0.2.1", "controller_password_file": "/nonexistent/file"}, "/nonexistent/file"),
    ],
)
def test_what_is_missing_for_the_controller_is_named(options: dict[str, str], remedy: str) -> None:
    with pytest.raises(InvalidValue, match=remedy):
        AgentConfig.read(options).controller_address()


def test_a_wrong_private_key_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue) as caught:
        config_in(tmp_path, private_key="c2VjcmV0LWJ1dC1zaG9ydA==").own_key(SubprocessRunner())
    assert "c2VjcmV0" not in str(caught.value)
    assert "--private-key" in str(caught.value)


def test_a_namespace_that_is_not_there_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="no network namespace jwnone: make it: ip netns add jwnone"):
        config_in(tmp_path, netns="jwnone").runner()
    with pytest.raises(InvalidValue, match="'a/b' is not usable"):
        config_in(tmp_path, netns="a/b")


def test_a_join_token_in_place_of_its_files_name_is_not_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    _token, text = JoinToken.create(0, 60)
    with pytest.raises(InvalidValue, match="is a join token and not a file's name") as caught:
        config_in(tmp_path, join_token_file=text).join_token()
    assert text not in str(caught.value) + caplog.text


def test_a_node_joins_without_the_file_of_its_join_token_but_not_if_that_cannot_be_read(
    tmp_path: Path,
) -> None:
    assert config_in(tmp_path, join_token_file=str(tmp_path / "gone")).join_token() == ""
    (tmp_path / "no-folder").touch()
    below = config_in(tmp_path, join_token_file=str(tmp_path / "no-folder" / "token"))
    with pytest.raises(InvalidValue, match=r"cannot read the join token in .*check path and mode"):
        below.join_token()
