# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings: from flags, variables and defaults, each checked."""

from __future__ import annotations

from pathlib import Path

import pytest

from jaywalk.core.errors import InvalidValue, JaywalkError
from jaywalk.core.runner import SubprocessRunner
from jaywalk.mesh import local_addresses
from jaywalk.mesh.local_addresses import host_label
from jaywalk_agent.cli.main import build_parser
from jaywalk_agent.config import ENVIRONMENT, SWITCHES, AgentConfig, said
from tests.agent_support import config_in

ORIGINAL_NAMES = {
    "JAYWALK_PUB_KEY": "public_key",
    "JAYWALK_PRIVATE_KEY": "private_key",
    "JAYWALK_LISTEN_PORT": "listen_port",
    "JAYWALK_CONTROLLER": "controller",
    "JAYWALK_CONTROLLER_PASSWD": "controller_password",
    "JAYWALK_ZONE": "zone",
    "JAYWALK_REQUESTED_IP": "request_ip",
    "JAYWALK_LOCAL_ENDPOINT_IP": "local_endpoint_ip",
    "JAYWALK_REQUESTED_CHILD_PREFIX": "child_prefix",
    "JAYWALK_AGENT_MODE": "agent_mode",
    "JAYWALK_LOG_LEVEL": "log_level",
}


NOWHERE = Path("/nowhere")


def words(
    argv: list[str], environment: dict[str, str] | None = None, folder: Path = NOWHERE
) -> dict[str, str]:
    return said(build_parser().parse_args(argv), environment or {}, folder)


@pytest.mark.parametrize(("variable", "option"), ORIGINAL_NAMES.items())
def test_takes_the_originals_variables(variable: str, option: str) -> None:
    said = "true" if option in SWITCHES else "said"
    assert words([], {variable: said}) == {option: said}


@pytest.mark.parametrize("option", ENVIRONMENT)
def test_takes_each_flag_with_one_dash_or_two_and_its_value_behind_it_or_joined(option: str) -> None:
    flag, said = option.replace("_", "-"), "true" if option in SWITCHES else "-odd=value"
    apart = [] if option in SWITCHES else [said]
    for form in ([f"-{flag}={said}"], [f"--{flag}={said}"], [f"-{flag}", *apart], [f"--{flag}", *apart]):
        assert words([*form, "-zone", "a", "status"])[option] == (said if option != "zone" else "a")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        *((each, "true") for each in ("1", "t", "T", "TRUE", "true", "True", "yes", "on")),
        *((each, "false") for each in ("0", "f", "F", "FALSE", "false", "False", "no", "off")),
    ],
)
@pytest.mark.parametrize("option", SWITCHES)
def test_a_setting_that_is_on_or_off_is_read_as_go_reads_it(option: str, text: str, meant: str) -> None:
    assert words([], {ENVIRONMENT[option]: text}) == {option: meant}
    assert words([f"-{option.replace('_', '-')}={text}"]) == {option: meant}


@pytest.mark.parametrize("option", SWITCHES)
def test_a_setting_that_is_neither_on_nor_off_is_an_error_that_names_it(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InvalidValue, match=f"{ENVIRONMENT[option]} is neither true nor false"):
        words([], {ENVIRONMENT[option]: "maybe"})
    (tmp_path / "zone-red.env").write_text(f"{ENVIRONMENT[option]}=2\n")
    with pytest.raises(InvalidValue, match=f"{ENVIRONMENT[option]} is neither true nor false"):
        words([], folder=tmp_path)
    flag = option.replace("_", "-")
    with pytest.raises(SystemExit):
        words([f"--{flag}=maybe"])
    assert f"--{flag}: give true or false" in capsys.readouterr().err


def test_off_by_flag_wins_over_on_by_variable() -> None:
    assert words(["--relay=false"], {"JAYWALK_RELAY": "1"}) == {"relay": "false"}
    assert AgentConfig.read({"relay": "false", "forward": "0"}).relay_port == 0


def test_a_flag_wins_over_its_variable_and_a_variable_over_the_default() -> None:
    environment = {"JAYWALK_ZONE": "zone-red", "JAYWALK_LISTEN_PORT": "4000"}
    config = AgentConfig.read(words(["--zone", "zone-green"], environment))
    assert (config.zone, config.listen_port, config.interface) == ("zone-green", 4000, "wg0")


def test_a_flag_holds_before_and_behind_the_command() -> None:
    assert words(["--zone", "a", "status"]) == words(["status", "--zone", "a"]) == {"zone": "a"}


def test_a_command_typed_by_hand_speaks_of_what_the_service_runs(tmp_path: Path) -> None:
    (tmp_path / "zone-red.env").write_text(
        "# by hand\nJAYWALK_ZONE=zone-red\nJAYWALK_INTERFACE='wg7'\nOTHER=x\n"
    )
    assert words(["status"], folder=tmp_path) == {"zone": "zone-red", "interface": "wg7"}
    assert words(["status", "--interface", "wg1"], folder=tmp_path)["interface"] == "wg1"
    assert words(["status"], {"JAYWALK_ZONE": "zone-green"}, tmp_path) == {"zone": "zone-green"}


def test_with_services_of_several_zones_the_zone_must_be_said(tmp_path: Path) -> None:
    for zone in ("zone-red", "zone-blue"):
        (tmp_path / f"{zone}.env").write_text(f"JAYWALK_ZONE={zone}\nJAYWALK_INTERFACE=wg-{zone[5:]}\n")
    assert words(["status"], folder=tmp_path) == {}
    assert words(["status", "--zone", "zone-blue"], folder=tmp_path)["interface"] == "wg-blue"


def test_settings_that_cannot_be_read_are_an_error_and_not_a_default(tmp_path: Path) -> None:
    (tmp_path / "zone-red.env").write_text("JAYWALK_INTERFACE='wg7\n")
    with pytest.raises(InvalidValue, match=r"zone-red.env do not parse"):
        words(["status"], folder=tmp_path)
    (tmp_path / "zone-red.env").unlink()
    (tmp_path / "zone-red.env").mkdir()
    with pytest.raises(JaywalkError, match=r"cannot read the settings .*zone-red.env \(Is a directory\)"):
        words(["status", "--zone", "zone-red"], folder=tmp_path)
    with pytest.raises(JaywalkError, match=r"cannot read the settings in /dev/null \(Not a directory\)"):
        words(["status"], folder=Path("/dev/null"))


def test_with_services_of_other_zones_alone_the_zone_must_be_said(tmp_path: Path) -> None:
    for zone in ("zone-red", "zone-green"):
        (tmp_path / f"{zone}.env").write_text(f"JAYWALK_ZONE={zone}\n")
    with pytest.raises(InvalidValue, match="several zones: zone-green, zone-red: name one by --zone"):
        words(["status"], folder=tmp_path)
    assert words(["status", "--zone", "zone-red"], folder=tmp_path) == {"zone": "zone-red"}


@pytest.mark.parametrize("secret", ["hunter2", "4GgaQCy68nzNsUE5aJ9fuLzHhB65tAlwbm/72MWnOm8="])
def test_a_secret_given_in_place_of_its_files_name_is_not_quoted(secret: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="cannot read the controller's password") as raised:
        config_in(tmp_path, controller="c", controller_password_file=secret).controller_address()
    assert secret not in str(raised.value)
    if len(secret) > 20:
        with pytest.raises(InvalidValue, match="holds a key and not a file's name") as raised:
            config_in(tmp_path, private_key_file=secret)
        assert secret not in str(raised.value)


def test_an_empty_variable_says_nothing_but_an_empty_flag_is_a_mistake() -> None:
    assert words([], {"JAYWALK_ZONE": ""}) == {}
    with pytest.raises(InvalidValue, match="zone ''"):
        AgentConfig.read(words(["--zone", ""]))


def test_lists_come_repeated_or_with_commas() -> None:
    repeated = words(["--child-prefix", "172.20.1.0/24", "--child-prefix", "172.20.2.0/24, 172.20.3.0/24"])
    assert AgentConfig.read(repeated).child_prefixes == ("172.20.1.0/24", "172.20.2.0/24", "172.20.3.0/24")


def test_defaults_follow_the_zone() -> None:
    config = AgentConfig.read({"zone": "zone-red"})
    assert config.controller_user == "agent-zone-red"
    assert str(config.private_key_file) == "/etc/jaywalk/zone-red.key"
    assert str(config.snapshot_file) == "/var/lib/jaywalk/zone-red.json"
    assert str(config.lock_file) == "/run/jaywalk/zone-red.lock"
    assert config.name == host_label()


def test_a_local_endpoint_name_is_told_of_when_it_is_lost_and_found(
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
def test_a_public_key_that_is_none_is_not_quoted_since_it_may_be_the_private_one(text: str) -> None:
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
    ("said_words", "remedy"),
    [
        ({}, "--controller HOST"),
        ({"controller": "192.0.2.1"}, "--controller-password-file"),
        ({"controller": "192.0.2.1", "controller_password_file": "/nonexistent/file"}, "/nonexistent/file"),
    ],
)
def test_what_is_missing_for_the_controller_is_named(said_words: dict[str, str], remedy: str) -> None:
    with pytest.raises(InvalidValue, match=remedy):
        AgentConfig.read(said_words).controller_address()


def test_a_wrong_private_key_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue) as caught:
        config_in(tmp_path, private_key="c2VjcmV0LWJ1dC1zaG9ydA==").own_key(SubprocessRunner())
    assert "c2VjcmV0" not in str(caught.value)
    assert "--private-key" in str(caught.value)


def test_every_setting_has_a_flag_and_a_variable() -> None:
    text = build_parser().format_help()
    for option, variable in ENVIRONMENT.items():
        assert f"--{option.replace('_', '-')}" in text
        assert f"[{variable}]" in text.replace("\n", "")


def test_a_namespace_that_is_not_there_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="no network namespace jwnone: make it: ip netns add jwnone"):
        config_in(tmp_path, netns="jwnone").runner()
    with pytest.raises(InvalidValue, match="'a/b' is not usable"):
        config_in(tmp_path, netns="a/b")
