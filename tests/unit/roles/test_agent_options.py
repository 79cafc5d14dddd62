# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's role sets the variables that the agent reads, and documents the agent's defaults."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from jaywalk_agent.options import OPTIONS, Option

ROLE = Path(__file__).parents[3] / "roles/agent"
TEMPLATE = (ROLE / "templates/zone.env.j2").read_text()
VARS = (ROLE / "vars/main.yml").read_text()
# A file that the role writes, or of another name in the role.
DERIVED = ("controller", "controller_password_file", "controller_ca", "private_key_file", "lock_key")
# For commands typed by hand, and the flag in the unit.
BY_HAND = (
    *("controller_user", "controller_password", "controller_cert", "controller_key"),
    *("private_key", "public_key", "state_dir", "config", "join_token_file"),
)
UNIT_FLAG = "agent_mode"
GIVEN = [option for option in OPTIONS.values() if option.name not in (*DERIVED, *BY_HAND, UNIT_FLAG)]


def role_option(option: Option) -> str:
    return "jaywalk_child_prefixes" if option.name == "child_prefix" else f"jaywalk_{option.name}"


def specification() -> dict[str, Any]:
    document = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text())
    options: dict[str, Any] = document["argument_specs"]["main"]["options"]
    return options


def test_the_service_file_has_the_variable_of_each_option_but_those_for_commands_by_hand() -> None:
    written = re.findall(r"^(JAYWALK_\w+)=", TEMPLATE, re.MULTILINE)
    expected = {option.variable for name, option in OPTIONS.items() if name not in (*BY_HAND, UNIT_FLAG)}
    assert len(written) == len(set(written))
    assert set(written) == expected


def test_the_unit_has_the_flag_of_the_agent() -> None:
    assert f"jaywalk {OPTIONS[UNIT_FLAG].flag}" in (ROLE / "files/jaywalk-agent@.service").read_text()


@pytest.mark.parametrize("option", GIVEN, ids=lambda option: option.name)
def test_the_role_has_an_option_with_its_type_and_default_and_writes_it(
    option: Option,
) -> None:
    name = role_option(option)
    described = specification()[name]
    assert f"{name} " in TEMPLATE + VARS
    if option.is_switch:
        assert (described["type"], str(described["default"]).lower()) == ("bool", option.default)
    elif option.repeatable:
        assert (described["type"], described["elements"]) == ("list", "str")
    else:
        number = option.metavar in ("PORT", "BYTES")
        assert described.get("type", "str") == ("int" if number else "str")
        if option.default:
            assert str(described["default"]) == option.default


def test_log_levels_are_those_of_the_help() -> None:
    levels = specification()["jaywalk_log_level"]["choices"]
    assert ", ".join(levels[:-1]) + f" or {levels[-1]}" == OPTIONS["log_level"].help
