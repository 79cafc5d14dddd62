# SPDX-License-Identifier: GPL-3.0-or-later
"""The module that makes and removes join tokens, and a node that joins with one, on a real supervisor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.jaywalking.mesh.plugins.modules import jaywalk_join, jaywalk_token

from tests.ansible_modules import Machine, RunModule

from ..conftest import Controller

UNKNOWN = "jwj_00000000_" + 48 * "0"


@pytest.fixture
def node(controller: Controller, tmp_path: Path) -> dict[str, Any]:
    """The options of a node that is new to the zone, which wants a join token."""
    controller.set_zone("--admission", "token")
    own = {"private_key_file": str(tmp_path / "node.key"), "name": "web-1", "endpoint": "192.0.2.1"}
    return {**controller.as_agent, **own}


def test_a_node_joins_with_the_token_that_the_module_made(
    run_module: RunModule, machine: Machine, controller: Controller, node: dict[str, Any]
) -> None:
    limits = {"names": ["web-*"], "grants": ["relay"]}
    predicted = run_module(jaywalk_token, check=True, **controller.as_operator, **limits)
    assert predicted["changed"] and "token" not in predicted
    made = run_module(jaywalk_token, **controller.as_operator, **limits)
    assert made["diff"] == predicted["diff"]
    assert made["diff"]["after"].splitlines()[1] == "join token for names web-*"
    assert made["token"] not in str(made["diff"]) + str(made["join_token"])
    assert "with a join token only" in run_module(jaywalk_join, **node)["msg"]
    assert "is not valid" in run_module(jaywalk_join, **node, join_token=UNKNOWN)["msg"]
    wrong = run_module(jaywalk_join, **node, join_token="jwj_half")
    assert "does not begin with jwj_" in wrong["msg"] and "half" not in wrong["msg"]
    joined = run_module(jaywalk_join, **node, join_token=made["token"])
    assert joined["lease"]["name"] == "web-1"


def test_a_token_is_removed_once(run_module: RunModule, controller: Controller, node: dict[str, Any]) -> None:
    made = run_module(jaywalk_token, **controller.as_operator)
    absent = {**controller.as_operator, "state": "absent", "id": made["join_token"]["id"]}
    assert run_module(jaywalk_token, check=True, **absent)["changed"]
    removed = run_module(jaywalk_token, **absent)
    assert removed["diff"]["before"] == "join token for 1 nodes\n"
    assert not run_module(jaywalk_token, **absent)["changed"]
    assert "is not valid" in run_module(jaywalk_join, **node, join_token=made["token"])["msg"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"uses": 0}, "a join token for 0 nodes is not possible: give 1 to 1000"),
        ({"lifetime": 0}, "the lifetime of 0 seconds is not possible"),
        ({"names": ["Web"]}, "the name pattern 'Web' matches no name"),
        ({"addresses": ["192.0.2.0/24"]}, "lie in no pool of zone-blue"),
        ({"state": "absent"}, "state is absent but all of the following are missing: id"),
        ({"state": "absent", "id": UNKNOWN}, "that is no id of a join token"),
    ],
)
def test_an_invalid_value_is_refused(
    run_module: RunModule, lasting_controller: Controller, options: dict[str, Any], message: str
) -> None:
    assert message in run_module(jaywalk_token, **lasting_controller.as_operator, **options)["msg"]
