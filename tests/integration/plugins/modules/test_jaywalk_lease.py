# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules that reserve, release and show leases, against a real Redis and a real supervisor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.jaywalking.mesh.plugins.modules import (
    jaywalk_join,
    jaywalk_lease,
    jaywalk_lease_info,
)

from tests.ansible_modules import Result, RunModule
from tests.supervisor_support import key_of, until

from ..conftest import Controller

ONE, TWO = key_of(1), key_of(2)


def leases(run_module: RunModule, controller: Controller) -> list[Result]:
    """Returns all leases, without the time at which a supervisor last saw each node."""
    found = run_module(jaywalk_lease_info, **controller.as_operator)["leases"]
    return [{**lease, "last_seen": None} for lease in found]


def three_times(run_module: RunModule, controller: Controller, **changes: Any) -> Result:
    """Runs check mode, the run, and a second run; returns the result of the run."""
    options = {**controller.as_operator, "public_key": ONE, **changes}
    before = leases(run_module, controller)
    predicted = run_module(jaywalk_lease, check=True, **options)
    assert leases(run_module, controller) == before
    done = run_module(jaywalk_lease, **options)
    assert predicted["changed"]
    assert done["changed"]
    assert done["diff"] == predicted["diff"]
    again = run_module(jaywalk_lease, **options)
    assert not again["changed"]
    assert again["lease"] == done["lease"]
    return done


def test_lease_is_reserved_changed_and_released(run_module: RunModule, controller: Controller) -> None:
    free = three_times(run_module, controller)
    assert free["lease"]["addresses"] == ["10.20.0.1"]
    assert f"lease {ONE} address (IPv4 assigned by the zone)\n" in free["diff"]["after"]
    changed = three_times(run_module, controller, request_ip=["10.20.0.9"], name="node9")
    assert changed["diff"]["after"].splitlines() == [
        f"lease {ONE} name node9",
        f"lease {ONE} address 10.20.0.9",
    ]
    announced = three_times(run_module, controller, child_prefixes=["172.20.1.0/24"])
    assert announced["lease"] == {
        "zone": "zone-blue",
        "public_key": ONE,
        "name": "node9",
        "addresses": ["10.20.0.9"],
        "child_prefixes": ["172.20.1.0/24"],
        "state": "reserved",
    }
    gone = three_times(run_module, controller, state="absent")
    assert gone["lease"] is None
    assert f"lease {ONE} state reserved\n" in gone["diff"]["before"]
    assert gone["diff"]["after"] == ""


def test_a_key_is_removed_and_blocked(run_module: RunModule, controller: Controller) -> None:
    run_module(jaywalk_lease, **controller.as_operator, public_key=ONE)
    gone = three_times(run_module, controller, state="absent", block=True, reason="stolen")
    assert gone["lease"] is None
    assert gone["diff"]["after"] == f"blocked {ONE}\n"
    back = run_module(jaywalk_lease, **controller.as_operator, public_key=ONE)
    assert "allow it first" in back["msg"]
    unclear = run_module(jaywalk_lease, **controller.as_operator, name="db1", block=True)
    assert "block is given without a key" in unclear["msg"]


def test_the_name_of_a_host_with_another_key_is_refused_also_for_a_numbered_node(
    run_module: RunModule, controller: Controller, tmp_path: Path
) -> None:
    operator = controller.as_operator
    run_module(jaywalk_lease, **operator, name="db1")
    run_module(jaywalk_lease, **operator, public_key=ONE, name="db1")
    node = {"private_key_file": str(tmp_path / "key"), "name": "db1", "endpoint": "192.0.2.1"}
    joined = run_module(jaywalk_join, **controller.as_agent, **node)["lease"]
    assert joined["name"] == "db1-2"
    for check in (True, False):
        done = run_module(jaywalk_lease, check=check, **operator, public_key=joined["public_key"], name="db1")
        assert f"the host db1 of zone zone-blue has the key {ONE}" in done["msg"]


def test_a_release_of_a_key_that_redis_lost_reaches_the_nodes_that_retain_it(
    run_module: RunModule, controller: Controller
) -> None:
    def removals() -> list[str]:
        with controller.redis.client() as redis:
            events = redis.xrange("{zone-blue}:events")
        return [fields["o"] for _, fields in events if fields.get("o", "").startswith('[["-"')]

    options = {**controller.as_operator, "public_key": ONE, "state": "absent"}
    assert not run_module(jaywalk_lease, check=True, **options)["changed"]
    assert not run_module(jaywalk_lease, **options)["changed"]
    until(lambda: removals() == [f'[["-","{ONE}"]]'])


@pytest.mark.parametrize("hashes", [("leases",), ("peers",), ("peers", "leases")])
def test_an_unreadable_lease_is_reported_and_can_be_released(
    run_module: RunModule, controller: Controller, hashes: tuple[str, ...]
) -> None:
    run_module(jaywalk_lease, **controller.as_operator, public_key=TWO)
    with controller.redis.client() as redis:
        for name in hashes:
            redis.hset(f"{{zone-blue}}:{name}", ONE, "spoilt")
        until(lambda: redis.llen("{zone-blue}:inbox") == 0)
        shown = run_module(jaywalk_lease_info, **controller.as_operator)
        assert [lease["public_key"] for lease in shown["leases"]] == [TWO]
        absent = {**controller.as_operator, "public_key": ONE, "state": "absent"}
        assert run_module(jaywalk_lease, check=True, **absent)["changed"]
        gone = run_module(jaywalk_lease, **absent)
        assert gone["diff"]["before"] == f"lease {ONE} cannot be read\n"
        assert not redis.hexists("{zone-blue}:leases", ONE)
        assert not redis.hexists("{zone-blue}:peers", ONE)
        assert not run_module(jaywalk_lease, check=True, **absent)["changed"]


def test_the_info_module_returns_all_leases_or_one(run_module: RunModule, controller: Controller) -> None:
    for key in (TWO, ONE):
        run_module(jaywalk_lease, **controller.as_operator, public_key=key)
    shown = run_module(jaywalk_lease_info, **controller.as_operator)
    assert not shown["changed"]
    assert [(lease["public_key"], lease["addresses"]) for lease in shown["leases"]] == [
        (TWO, ["10.20.0.1"]),
        (ONE, ["10.20.0.2"]),
    ]
    one = run_module(jaywalk_lease_info, **controller.as_operator, public_key=ONE)
    assert one["leases"] == shown["leases"][1:]


def test_reading_needs_no_supervisor(run_module: RunModule, controller: Controller) -> None:
    run_module(jaywalk_lease, **controller.as_operator, public_key=ONE)
    controller.stop()
    assert len(run_module(jaywalk_lease_info, **controller.as_operator)["leases"]) == 1
    assert not run_module(jaywalk_lease, **controller.as_operator, public_key=ONE)["changed"]
    unanswered = {**controller.as_operator, "timeout": 1, "public_key": TWO}
    assert "no supervisor answered" in run_module(jaywalk_lease, **unanswered)["msg"]


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"public_key": "x"}, "'x' is no WireGuard public key"),
        ({"zone": "zone-none"}, "the zone 'zone-none' is unknown to the controller"),
        ({"name": "-"}, "the name '-' is no DNS label"),
        ({"request_ip": ["10.20.0.9"]}, "the requested address 10.20.0.9 belongs to node9"),
        ({"request_ip": ["10.30.0.9"]}, "lies outside the pools of zone zone-blue"),
        ({"child_prefixes": ["172.20.1.128/25"]}, "overlaps 172.20.1.0/24 of node9"),
        ({"controller_user": "nobody"}, "refused user 'nobody'"),
    ],
)
def test_an_invalid_option_fails(
    run_module: RunModule, lasting_controller: Controller, changes: dict[str, Any], message: str, check: bool
) -> None:
    held = {"name": "node9", "request_ip": ["10.20.0.9"], "child_prefixes": ["172.20.1.0/24"]}
    run_module(jaywalk_lease, **lasting_controller.as_operator, public_key=ONE, **held)
    result = run_module(
        jaywalk_lease, check=check, **{**lasting_controller.as_operator, "public_key": TWO, **changes}
    )
    assert result["failed"]
    assert message in result["msg"]
    assert len(run_module(jaywalk_lease_info, **lasting_controller.as_operator)["leases"]) == 1


@pytest.mark.parametrize("module", [jaywalk_lease, jaywalk_lease_info])
def test_an_agent_cannot_manage_leases(
    run_module: RunModule, lasting_controller: Controller, module: Any
) -> None:
    options = {
        **lasting_controller.as_agent,
        "controller_user": lasting_controller.AGENT_USER,
        "public_key": ONE,
    }
    assert "does not let user 'agent-zone-blue' do this" in run_module(module, **options)["msg"]
