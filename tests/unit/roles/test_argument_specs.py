# SPDX-License-Identifier: GPL-3.0-or-later
"""The roles describe the options of a zone as the filters and the library check them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.jaywalking.mesh.plugins.filter import variables

from jaywalk.zone.options import (
    ZONE_OPTIONS,
    BooleanOption,
    ChoiceOption,
    CountOption,
    NetworksOption,
    SecondsOption,
)

ROLES = Path(__file__).parents[3] / "roles"


def zone_options(role: str) -> dict[str, Any]:
    specs = yaml.safe_load((ROLES / role / "meta/argument_specs.yml").read_text())
    options: dict[str, Any] = specs["argument_specs"]["main"]["options"]["jaywalk_zones"]["options"]
    return options


@pytest.mark.parametrize("role", ["agent", "supervisor"])
def test_a_role_describes_every_option_of_a_zone_with_its_default(role: str) -> None:
    options = zone_options(role)
    assert set(options) == set(variables.ZONE_FIELDS)
    for option in ZONE_OPTIONS:
        described = options[option.name]
        if option.default not in (None, "", ()):
            texts = [str(option.default).lower(), *option.texts(option.default)]
            assert any(text in str(described["description"]) for text in texts), option.name
        if isinstance(option, ChoiceOption):
            assert described["choices"] == list(option.choices)
        elif isinstance(option, BooleanOption):
            assert described["type"] == "bool"
        elif isinstance(option, CountOption):
            assert described["type"] == "str", "a number, or none"
        elif isinstance(option, NetworksOption):
            assert (described["type"], described["elements"]) == ("list", "str")
        elif isinstance(option, SecondsOption):
            assert described["type"] == ("str" if option.or_never else "int")


def test_both_roles_describe_the_same_options() -> None:
    assert zone_options("agent") == zone_options("supervisor")
