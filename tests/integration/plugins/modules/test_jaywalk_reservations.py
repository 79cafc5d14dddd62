# SPDX-License-Identifier: GPL-3.0-or-later
"""The module that reserves what the machines of an inventory may have, against a real supervisor."""

from __future__ import annotations

from typing import Any

from ansible_collections.jaywalking.mesh.plugins.modules import (
    jaywalk_lease,
    jaywalk_lease_info,
    jaywalk_reservations,
)

from jaywalk.zone.requests import Request
from tests.ansible_modules import Result, RunModule
from tests.supervisor_support import key_of

from ..conftest import Controller

WEB = {"key": key_of(1), "name": "web1"}
GATEWAY = {
    "key": key_of(2),
    "name": "gateway1",
    "addresses": ["10.20.0.30"],
    "prefixes": ["198.51.100.0/24"],
    "relay": True,
    "endpoint": True,
}


def reserve(
    run_module: RunModule, controller: Controller, *members: dict[str, Any], check: bool = False
) -> Result:
    return run_module(jaywalk_reservations, check=check, **controller.as_operator, members=list(members))


def leases(run_module: RunModule, controller: Controller) -> dict[str, Result]:
    found = run_module(jaywalk_lease_info, **controller.as_operator)["leases"]
    return {lease["public_key"]: lease for lease in found}


def test_all_machines_are_reserved_in_one_run_and_a_second_run_changes_nothing(
    run_module: RunModule, controller: Controller
) -> None:
    predicted = reserve(run_module, controller, WEB, GATEWAY, check=True)
    assert leases(run_module, controller) == {}
    done = reserve(run_module, controller, WEB, GATEWAY)
    assert (done["changed"], done["refused"]) == (True, [])
    assert done["diff"] == predicted["diff"]
    assert f"lease {key_of(2)} granted relay\n" in done["diff"]["after"]
    held = leases(run_module, controller)
    assert held[key_of(2)]["addresses"] == ["10.20.0.30"]
    assert held[key_of(2)]["child_prefixes"] == ["198.51.100.0/24"]
    assert not reserve(run_module, controller, WEB, GATEWAY)["changed"]


def test_what_the_inventory_no_longer_gives_is_taken_back(
    run_module: RunModule, controller: Controller
) -> None:
    reserve(run_module, controller, GATEWAY)
    done = reserve(run_module, controller, {"key": key_of(2), "name": "gateway1"})
    assert f"lease {key_of(2)} granted relay\n" in done["diff"]["before"]
    assert leases(run_module, controller)[key_of(2)]["child_prefixes"] == []


def test_a_machine_that_is_refused_keeps_no_other_from_its_reservation(
    run_module: RunModule, controller: Controller
) -> None:
    reserve(run_module, controller, GATEWAY)
    thief = {**WEB, "prefixes": ["198.51.100.128/25"]}
    for check in (True, False):
        done = reserve(run_module, controller, thief, {"key": key_of(3), "name": "web3"}, check=check)
        [refused] = done["refused"]
        assert (refused["key"], refused["name"]) == (key_of(1), "web1")
        assert "overlaps 198.51.100.0/24 of gateway1" in refused["error"]
    assert set(leases(run_module, controller)) == {key_of(2), key_of(3)}


def test_a_machine_gets_the_reservation_of_its_name(run_module: RunModule, controller: Controller) -> None:
    where = {**controller.as_operator, "name": "web1", "request_ip": ["10.20.0.40"]}
    run_module(jaywalk_lease, **where)
    reserve(run_module, controller, WEB)
    assert leases(run_module, controller)[key_of(1)]["addresses"] == ["10.20.0.40"]
    reinstalled = reserve(run_module, controller, {**WEB, "key": key_of(4)})
    assert reinstalled["refused"] == [], "the name stays the other key's until a rekey"
    assert leases(run_module, controller)[key_of(1)]["name"] == "web1"
    assert leases(run_module, controller)[key_of(4)]["name"] != "web1"


def test_a_machine_in_the_mesh_keeps_what_it_has(run_module: RunModule, controller: Controller) -> None:
    """A fleet moves over to reservations: its relay stays one, with its address and its prefixes."""
    client = controller.nodes()
    fields: dict[str, Any] = {"name": "gateway1", "child_prefixes": ["192.168.40.0/24"]}
    joined = client.ask(Request.validated("join", "zone-blue", key_of(2), **fields), 20)
    member = {**WEB, "key": key_of(2), "name": "gateway1", "prefixes": ["192.168.40.0/24"], "relay": True}
    assert reserve(run_module, controller, member)["changed"]
    held = leases(run_module, controller)[key_of(2)]
    assert (held["state"], held["addresses"]) == ("active", list(joined.addresses))
    assert held["child_prefixes"] == ["192.168.40.0/24"]
    assert not reserve(run_module, controller, member)["changed"]
