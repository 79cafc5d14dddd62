# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's options: collected from flags, variables and service files, and each in one table."""

from __future__ import annotations

from pathlib import Path

import pytest

from jaywalk.core.errors import InvalidValue, JaywalkError
from jaywalk_agent.cli.main import build_parser
from jaywalk_agent.config import AgentConfig
from jaywalk_agent.options import OPTIONS, Option, collect_options

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
SWITCHES = [option for option in OPTIONS.values() if option.is_switch]


def collected(
    argv: list[str], environment: dict[str, str] | None = None, folder: Path = NOWHERE
) -> dict[str, str]:
    return collect_options(build_parser().parse_args(argv), environment or {}, folder)


@pytest.mark.parametrize(("variable", "name"), ORIGINAL_NAMES.items())
def test_has_the_originals_variables(variable: str, name: str) -> None:
    text = "true" if OPTIONS[name].is_switch else "text"
    assert collected([], {variable: text}) == {name: text}


@pytest.mark.parametrize("option", OPTIONS.values(), ids=lambda option: option.name)
def test_a_flag_has_one_dash_or_two_and_its_value_behind_it_or_joined(option: Option) -> None:
    flag, text = option.flag, "true" if option.is_switch else "-odd=value"
    apart = [] if option.is_switch else [text]
    for form in ([f"{flag[1:]}={text}"], [f"{flag}={text}"], [flag[1:], *apart], [flag, *apart]):
        options = collected([*form, "-zone", "a", "status"])
        assert options[option.name] == (text if option.name != "zone" else "a")


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        *((text, "true") for text in ("1", "t", "T", "TRUE", "true", "True", "yes", "on")),
        *((text, "false") for text in ("0", "f", "F", "FALSE", "false", "False", "no", "off")),
    ],
)
@pytest.mark.parametrize("switch", SWITCHES, ids=lambda option: option.name)
def test_a_switch_is_read_as_go_reads_it(switch: Option, text: str, meaning: str) -> None:
    assert collected([], {switch.variable: text}) == {switch.name: meaning}
    assert collected([f"{switch.flag}={text}"]) == {switch.name: meaning}


@pytest.mark.parametrize("switch", SWITCHES, ids=lambda option: option.name)
def test_a_switch_that_is_neither_on_nor_off_is_an_error_that_names_it(
    switch: Option, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InvalidValue, match=f"{switch.variable} is neither true nor false"):
        collected([], {switch.variable: "maybe"})
    (tmp_path / "zone-red.env").write_text(f"{switch.variable}=2\n")
    with pytest.raises(InvalidValue, match=f"{switch.variable} is neither true nor false"):
        collected([], folder=tmp_path)
    with pytest.raises(InvalidValue, match=f"{switch.flag} is neither true nor false"):
        switch.value({switch.name: "maybe"})
    with pytest.raises(SystemExit):
        collected([f"{switch.flag}=maybe"])
    assert f"{switch.flag}: give true or false" in capsys.readouterr().err


def test_off_by_flag_wins_over_on_by_variable() -> None:
    assert collected(["--relay=false"], {"JAYWALK_RELAY": "1"}) == {"relay": "false"}
    assert AgentConfig.read({"relay": "false", "forward": "0"}).relay_port == 0


def test_a_flag_wins_over_its_variable_and_a_variable_over_the_default() -> None:
    environment = {"JAYWALK_ZONE": "zone-red", "JAYWALK_LISTEN_PORT": "4000"}
    config = AgentConfig.read(collected(["--zone", "zone-green"], environment))
    assert (config.zone, config.listen_port, config.interface) == ("zone-green", 4000, "wg0")


def test_a_flag_stands_before_or_behind_the_command() -> None:
    assert collected(["--zone", "a", "status"]) == collected(["status", "--zone", "a"]) == {"zone": "a"}


def test_a_command_by_hand_has_the_options_of_the_service(tmp_path: Path) -> None:
    (tmp_path / "zone-red.env").write_text(
        "# by hand\nJAYWALK_ZONE=zone-red\nJAYWALK_INTERFACE='wg7'\nOTHER=x\n"
    )
    assert collected(["status"], folder=tmp_path) == {"zone": "zone-red", "interface": "wg7"}
    assert collected(["status", "--interface", "wg1"], folder=tmp_path)["interface"] == "wg1"
    assert collected(["status"], {"JAYWALK_ZONE": "zone-green"}, tmp_path) == {"zone": "zone-green"}


def test_with_services_of_several_zones_the_zone_must_be_given(tmp_path: Path) -> None:
    for zone in ("zone-red", "zone-blue"):
        (tmp_path / f"{zone}.env").write_text(f"JAYWALK_ZONE={zone}\nJAYWALK_INTERFACE=wg-{zone[5:]}\n")
    assert collected(["status"], folder=tmp_path) == {}
    assert collected(["status", "--zone", "zone-blue"], folder=tmp_path)["interface"] == "wg-blue"


def test_a_service_file_that_cannot_be_read_is_an_error_and_not_a_default(tmp_path: Path) -> None:
    (tmp_path / "zone-red.env").write_text("JAYWALK_INTERFACE='wg7\n")
    with pytest.raises(InvalidValue, match=r"zone-red.env do not parse"):
        collected(["status"], folder=tmp_path)
    (tmp_path / "zone-red.env").unlink()
    (tmp_path / "zone-red.env").mkdir()
    with pytest.raises(JaywalkError, match=r"cannot read the settings .*zone-red.env \(Is a directory\)"):
        collected(["status", "--zone", "zone-red"], folder=tmp_path)
    with pytest.raises(JaywalkError, match=r"cannot read the settings in /dev/null \(Not a directory\)"):
        collected(["status"], folder=Path("/dev/null"))


def test_with_services_of_other_zones_alone_the_zone_must_be_given(tmp_path: Path) -> None:
    for zone in ("zone-red", "zone-green"):
        (tmp_path / f"{zone}.env").write_text(f"JAYWALK_ZONE={zone}\n")
    with pytest.raises(InvalidValue, match="several zones: zone-green, zone-red: name one by --zone"):
        collected(["status"], folder=tmp_path)
    assert collected(["status", "--zone", "zone-red"], folder=tmp_path) == {"zone": "zone-red"}


def test_an_empty_variable_is_not_given_but_an_empty_flag_is_an_error() -> None:
    assert collected([], {"JAYWALK_ZONE": ""}) == {}
    with pytest.raises(InvalidValue, match="zone ''"):
        AgentConfig.read(collected(["--zone", ""]))


def test_a_list_is_a_repeated_flag_or_has_commas() -> None:
    repeated = collected(
        ["--child-prefix", "172.20.1.0/24", "--child-prefix", "172.20.2.0/24, 172.20.3.0/24"]
    )
    assert AgentConfig.read(repeated).child_prefixes == ("172.20.1.0/24", "172.20.2.0/24", "172.20.3.0/24")


def test_each_option_is_in_the_help_with_its_variable_and_its_default() -> None:
    text = " ".join(build_parser().format_help().split())
    for option in OPTIONS.values():
        assert option.flag in text
        assert f"[{option.variable}]" in text
    assert "UDP port of WireGuard, 51820 [JAYWALK_LISTEN_PORT]" in text


@pytest.mark.parametrize("name", [name for name in OPTIONS if name not in ("agent_mode", "log_level")])
def test_each_option_changes_the_configuration(name: str) -> None:
    """But for those that the command line alone uses."""
    before = AgentConfig.read({"relay": "true"})
    option = OPTIONS[name]
    key = "4GgaQCy68nzNsUE5aJ9fuLzHhB65tAlwbm/72MWnOm8="
    texts = {"PORT": "4000", "BYTES": "1300", "KEY": key, "": "true", "HOST[:PORT]": "192.0.2.1"}
    texts["NETWORKS"] = "default,44.0.0.0/8"
    text = "false" if name == "relay" else texts.get(option.metavar, "other")
    after = AgentConfig.read({"relay": "true", name: text})
    assert before != after
