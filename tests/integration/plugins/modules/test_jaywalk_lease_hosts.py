# SPDX-License-Identifier: GPL-3.0-or-later
"""jaywalk_lease for hosts without a key, and for hosts whose key changed."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.jaywalking.mesh.plugins.modules import jaywalk_lease, jaywalk_lease_info

from jaywalk.zone.requests import Request
from tests.ansible_modules import RunModule

from ..conftest import Controller
from .test_jaywalk_lease import ONE, TWO, three_times


def by_name(name: str, **changes: Any) -> dict[str, Any]:
    return {"public_key": None, "name": name, **changes}


def test_a_host_is_reserved_bound_and_rekeyed(run_module: RunModule, controller: Controller) -> None:
    changes = by_name("db1", request_ip=["10.20.0.30"], child_prefixes=["172.20.1.0/24"])
    reserved = three_times(run_module, controller, **changes)
    assert reserved["diff"]["after"].splitlines() == [
        "lease db1 name db1",
        "lease db1 address 10.20.0.30",
        "lease db1 child-prefix 172.20.1.0/24",
        "lease db1 state reserved",
    ]
    assert reserved["lease"]["public_key"] is None
    bound = three_times(run_module, controller, public_key=ONE, name="db1")
    assert bound["lease"] == {**reserved["lease"], "public_key": ONE}
    assert not run_module(jaywalk_lease, **controller.as_operator, **changes)["changed"]
    moved = three_times(run_module, controller, public_key=TWO, name="db1", rekey=True)
    assert f"lease {ONE} address 10.20.0.30\n" in moved["diff"]["before"]
    assert moved["lease"] == {**reserved["lease"], "public_key": TWO}
    shown = run_module(jaywalk_lease_info, **controller.as_operator)["leases"]
    assert shown == [{**moved["lease"], "last_seen": None}]
    three_times(run_module, controller, **by_name("db1", state="absent"))
    assert run_module(jaywalk_lease_info, **controller.as_operator)["leases"] == []


def test_only_the_given_prefixes_are_released(run_module: RunModule, controller: Controller) -> None:
    changes = by_name("db1", child_prefixes=["172.20.1.9/24", "172.20.2.0/24"])
    done = run_module(jaywalk_lease, **controller.as_operator, **changes)
    assert done["lease"]["child_prefixes"] == ["172.20.1.0/24", "172.20.2.0/24"]
    back = three_times(
        run_module, controller, **by_name("db1", state="absent", child_prefixes=["172.20.1.0/24"])
    )
    assert back["lease"]["child_prefixes"] == ["172.20.2.0/24"]


@pytest.mark.parametrize("check", [True, False])
def test_the_name_of_a_host_with_another_key_is_refused(
    run_module: RunModule, controller: Controller, check: bool
) -> None:
    for changes in (by_name("db1"), {"public_key": ONE, "name": "db1"}):
        run_module(jaywalk_lease, **controller.as_operator, **changes)
    done = run_module(jaywalk_lease, check=check, **controller.as_operator, public_key=TWO, name="db1")
    assert f"the host db1 of zone zone-blue has the key {ONE}" in done["msg"]


def test_a_lease_needs_a_key_or_a_name(run_module: RunModule, controller: Controller) -> None:
    assert "public_key, name" in run_module(jaywalk_lease, **controller.as_operator)["msg"]
    alone = run_module(jaywalk_lease, **controller.as_operator, name="db1", rekey=True)
    assert "public_key" in alone["msg"]


def test_a_name_of_another_node_gets_a_number_and_the_second_run_changes_nothing(
    run_module: RunModule, controller: Controller
) -> None:
    run_module(jaywalk_lease, **controller.as_operator, public_key=ONE, name="web")
    joined = Request.validated("join", "zone-blue", ONE, name="web", child_prefixes=["172.20.1.0/24"])
    controller.nodes().ask(joined, 60.0).lease_or_raise()
    second = three_times(run_module, controller, public_key=TWO, name="web")
    assert second["lease"]["name"] == "web-2"


def test_a_reserved_prefix_stays_with_the_lease_even_if_the_node_announced_it_before(
    run_module: RunModule, controller: Controller
) -> None:
    joined = Request.validated("join", "zone-blue", ONE, name="web", child_prefixes=["172.20.1.0/24"])
    controller.nodes().ask(joined, 60.0).lease_or_raise()
    reserved = three_times(run_module, controller, public_key=ONE, child_prefixes=["172.20.1.0/24"])
    assert reserved["diff"]["after"].splitlines() == [
        f"lease {ONE} child-prefix 172.20.1.0/24",
        f"lease {ONE} reserved by an operator",
    ]
    controller.nodes().ask(Request.validated("leave", "zone-blue", ONE), 60.0).lease_or_raise()
    shown = run_module(jaywalk_lease_info, **controller.as_operator, public_key=ONE)["leases"]
    assert [lease["child_prefixes"] for lease in shown] == [["172.20.1.0/24"]]
