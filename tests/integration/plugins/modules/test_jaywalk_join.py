# SPDX-License-Identifier: GPL-3.0-or-later
"""The module against a real Redis and a real supervisor, on a node whose interface is scripted."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.controller import (
    address,
    bounded,
    connection,
    prover,
)
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.controller.client import ZoneClient
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.mesh import local_addresses
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.trust.supervisor_keys import (
    TrustedKeys,
)
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.zone.requests import Request
from ansible_collections.jaywalking.mesh.plugins.modules import (
    jaywalk_join,
    jaywalk_lease,
    jaywalk_lease_info,
)

from jaywalk.core.runner import SubprocessRunner
from jaywalk.wireguard import keys
from tests.ansible_modules import LINK, Machine, Result, RunModule

from ..conftest import Controller

KEY = "IHTAKJ7xQYBmO7lh3NrNPrfv0LAAM8GlD1o1Yh0U4hE="


def node_options(controller: Controller, folder: Path) -> dict[str, Any]:
    own = {"private_key_file": str(folder / "node.key"), "name": "node1", "endpoint": "192.0.2.1"}
    return {**controller.as_agent, **own}


@pytest.fixture
def options(controller: Controller, tmp_path: Path) -> dict[str, Any]:
    return node_options(controller, tmp_path)


@pytest.fixture
def refused_options(lasting_controller: Controller, tmp_path: Path) -> dict[str, Any]:
    return node_options(lasting_controller, tmp_path)


def leases(run_module: RunModule, controller: Controller) -> list[Result]:
    found: list[Result] = run_module(jaywalk_lease_info, **controller.as_operator)["leases"]
    return found


def zone_of(controller: Controller) -> ZoneClient:
    """Connects to the zone as an operator."""
    where = address.ControllerAddress.parse(
        controller.as_operator["controller"], "supervisor", controller.redis.password
    )
    return ZoneClient(connection.connect(where, name="operator"), where, "zone-blue")


def settle(machine: Machine, key_file: str, address: str) -> None:
    """Sets the scripted interface to the state that the last run gives a real one."""
    private = Path(key_file).read_text()
    public = subprocess.run(
        ["wg", "pubkey"], input=private, capture_output=True, text=True, check=True
    ).stdout
    machine.dump = f"(none)\t{public.strip()}\t51820\toff\n"
    host, length = address.split("/")
    entry = {"local": host, "prefixlen": int(length), "scope": "global"}
    machine.link = dict(LINK, addr_info=[entry])
    machine.calls.clear()


def test_check_mode_predicts_the_first_join_without_a_request(
    run_module: RunModule, machine: Machine, controller: Controller, options: dict[str, Any]
) -> None:
    predicted = run_module(jaywalk_join, check=True, **options)
    assert predicted["changed"]
    assert predicted["lease"]["addresses"] == []
    assert predicted["lease"]["public_key"] == ""
    assert machine.calls == []
    assert not Path(options["private_key_file"]).exists()
    assert leases(run_module, controller) == []
    done = run_module(jaywalk_join, **options)
    assert done["diff"] == predicted["diff"]
    assert done["lease"]["addresses"] == ["10.20.0.1"]
    assert done["lease"]["endpoint"] == "192.0.2.1:51820"
    assert "addr replace 10.20.0.1/20 dev wg0" in machine.words()
    assert [lease["state"] for lease in leases(run_module, controller)] == ["active"]


def test_an_unchanged_node_sends_no_request(
    run_module: RunModule, machine: Machine, controller: Controller, options: dict[str, Any]
) -> None:
    run_module(jaywalk_join, **options)
    settle(machine, options["private_key_file"], "10.20.0.1/20")
    controller.stop()
    again = run_module(jaywalk_join, **options, request_ip=["10.20.0.1"])
    assert not again["changed"]
    assert again["diff"]["before"] == again["diff"]["after"] == ""
    assert again["lease"]["addresses"] == ["10.20.0.1"]
    assert machine.calls == []


def test_a_reserved_prefix_is_granted_although_a_peer_has_its_endpoint_in_it(
    run_module: RunModule, controller: Controller, options: dict[str, Any], tmp_path: Path
) -> None:
    run_module(jaywalk_join, **options)
    file = tmp_path / "other.key"
    key, _ = keys.ensure_key_file(SubprocessRunner(), str(file))
    run_module(jaywalk_lease, **controller.as_operator, public_key=key, child_prefixes=["192.0.2.0/28"])
    other = {**options, "private_key_file": str(file), "name": "node2"}
    done = run_module(jaywalk_join, **{**other, "endpoint": "198.51.100.2"}, child_prefixes=["192.0.2.0/28"])
    assert done["lease"]["child_prefixes"] == ["192.0.2.0/28"]


def test_changed_options_are_requested_and_shown(
    run_module: RunModule, machine: Machine, options: dict[str, Any]
) -> None:
    run_module(jaywalk_join, **options)
    settle(machine, options["private_key_file"], "10.20.0.1/20")
    options.update(request_ip=["10.20.0.9"], child_prefixes=["172.20.1.7/24"], endpoint="192.0.2.1:9")
    predicted = run_module(jaywalk_join, check=True, **options)
    assert predicted["diff"]["after"].splitlines() == [
        "zone zone-blue address 10.20.0.9",
        "zone zone-blue child-prefix 172.20.1.0/24",
        "zone zone-blue endpoint 192.0.2.1:9",
        "address 10.20.0.9/20",
    ]
    assert predicted["diff"]["before"].splitlines() == [
        "zone zone-blue address 10.20.0.1",
        "zone zone-blue endpoint 192.0.2.1:51820",
        "address 10.20.0.1/20",
    ]
    done = run_module(jaywalk_join, **options)
    assert done["diff"] == predicted["diff"]
    assert done["lease"]["addresses"] == ["10.20.0.9"]
    assert done["lease"]["child_prefixes"] == ["172.20.1.0/24"]


def test_omitted_options_keep_the_values_of_the_agent(
    run_module: RunModule, machine: Machine, controller: Controller, options: dict[str, Any]
) -> None:
    first = run_module(jaywalk_join, **options)
    settle(machine, options["private_key_file"], "10.20.0.1/20")
    zone, own = zone_of(controller), first["lease"]["public_key"]
    of_agent = Request.validated(
        "join",
        "zone-blue",
        own,
        name="web",
        child_prefixes=["172.20.1.0/24"],
        endpoint="203.0.113.9:51820",
        fixed=True,
        relay=51821,
    )
    zone.prover = prover.Prover.of_key_file(options["private_key_file"], TrustedKeys("zone-blue"))
    zone.follow_supervisor_keys()
    zone.ask(of_agent, 10.0).lease_or_raise()
    before = zone.snapshot().peers[own]
    del options["name"], options["endpoint"]
    assert not run_module(jaywalk_join, **options)["changed"]
    assert run_module(jaywalk_join, **options, request_ip=["10.20.0.9"])["changed"]
    after = zone.snapshot().peers[own]
    assert after == before._replace(addresses=("10.20.0.9",), seq=after.seq, rev=after.rev, since=after.since)


def test_given_options_win_and_the_machines_own_addresses_are_reported(
    run_module: RunModule,
    machine: Machine,
    controller: Controller,
    options: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(local_addresses, "own_addresses", lambda _controller: ["192.0.2.7", "2001:db8::7"])
    own = run_module(jaywalk_join, **options, child_prefixes=["172.20.1.0/24"])["lease"]["public_key"]
    settle(machine, options["private_key_file"], "10.20.0.1/20")
    done = run_module(jaywalk_join, **{**options, "endpoint": ""}, child_prefixes=[])
    assert done["diff"]["before"].splitlines()[:3] == [
        "zone zone-blue child-prefix 172.20.1.0/24",
        "zone zone-blue endpoint 192.0.2.1:51820",
        "zone zone-blue endpoint is fixed",
    ]
    peer = zone_of(controller).snapshot().peers[own]
    assert (peer.prefixes, peer.endpoint, peer.fixed) == ((), "192.0.2.7:51820", False)
    assert peer.local == ("2001:db8::7",)


def test_leaving_removes_the_peer_and_the_interface(
    run_module: RunModule, machine: Machine, controller: Controller, options: dict[str, Any]
) -> None:
    run_module(jaywalk_join, **options)
    settle(machine, options["private_key_file"], "10.20.0.1/20")
    predicted = run_module(jaywalk_join, check=True, **options, state="absent")
    assert machine.calls == []
    done = run_module(jaywalk_join, **options, state="absent")
    assert done["diff"] == predicted["diff"]
    assert "zone zone-blue address 10.20.0.1\n" in done["diff"]["before"]
    assert done["lease"] is None
    assert done["interface"] is None
    assert machine.words() == ["ip link delete dev wg0"]
    assert [lease["state"] for lease in leases(run_module, controller)] == ["released"]
    assert not run_module(jaywalk_join, **options, state="absent")["changed"]
    assert run_module(jaywalk_join, **options)["lease"]["addresses"] == ["10.20.0.1"]


def test_a_refused_join_leaves_no_interface(
    run_module: RunModule, machine: Machine, controller: Controller, options: dict[str, Any]
) -> None:
    run_module(jaywalk_lease, **controller.as_operator, public_key=KEY, request_ip=["10.20.0.9"])
    done = run_module(jaywalk_join, **options, request_ip=["10.20.0.9"])
    assert "the requested address 10.20.0.9 belongs to peer-" in done["msg"]
    assert machine.words() == ["ip link add dev wg0 type wireguard", "ip link delete dev wg0"]


def test_a_missing_supervisor_is_reported(
    run_module: RunModule, machine: Machine, controller: Controller, options: dict[str, Any]
) -> None:
    controller.stop()
    options["timeout"] = 1
    done = run_module(jaywalk_join, **options)
    assert "no supervisor answered the request for zone 'zone-blue' within 1 seconds" in done["msg"]
    assert machine.link is None


def test_a_node_that_cannot_have_an_interface_requests_no_lease(
    run_module: RunModule, machine: Machine, controller: Controller, options: dict[str, Any]
) -> None:
    machine.breaks = "link add"
    assert "it broke" in run_module(jaywalk_join, **options)["msg"]
    assert leases(run_module, controller) == []


def test_an_error_of_the_machine_after_the_grant_fails_and_keeps_the_tunnels(
    run_module: RunModule, machine: Machine, controller: Controller, options: dict[str, Any]
) -> None:
    machine.breaks = "-batch"
    assert "it broke" in run_module(jaywalk_join, **options)["msg"]
    assert machine.link is not None
    assert len(leases(run_module, controller)) == 1


def test_a_node_without_ipv6_joins_with_ipv4_and_a_warning(
    run_module: RunModule, machine: Machine, controller: Controller, options: dict[str, Any]
) -> None:
    controller.set_zone("--cidr6", "fd20::/64")
    machine.ipv6 = False
    predicted = run_module(jaywalk_join, check=True, **options)
    done = run_module(jaywalk_join, **options)
    for result in (predicted, done):
        assert "IPv6 is left out of wg0" in str(result["warnings"])
        assert "(IPv6 assigned by the zone)" not in result["diff"]["after"].split("interface wg0")[-1]
    assert "addr replace fd20:" not in " ".join(machine.words())
    assert "addr replace 10.20.0.1/20" in " ".join(machine.words())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"zone": "Blue"}, "the zone 'Blue' is no DNS label"),
        ({"zone": "zone-none"}, "refused user 'agent-zone-none'"),
        ({"name": "node_1"}, "the name 'node_1' is no DNS label"),
        ({"interface": "a/b"}, "the interface name 'a/b' is not usable"),
        ({"netns": "../jw"}, "'../jw'"),
        ({"netns": "jw-none"}, "there is no network namespace jw-none: make it: ip netns add jw-none"),
        ({"listen_port": 0}, "the listen port '0' is out of range"),
        ({"timeout": 0}, "the timeout 0 is out of range"),
        ({"endpoint": "127.0.0.1"}, "is a loopback address"),
        ({"request_ip": ["10.20.0.256"]}, "the requested address '10.20.0.256' is no IP address"),
        ({"request_ip": ["192.0.2.1"]}, "lies outside the pools of zone zone-blue"),
        ({"child_prefixes": ["0.0.0.0/0"]}, "is the default route"),
        ({"child_prefixes": ["10.20.3.0/24"]}, "overlaps the pool 10.20.0.0/20"),
        ({"controller": "127.0.0.1:1"}, "the controller 127.0.0.1:1 cannot be reached"),
        ({"controller": "127.0.0.1:x"}, "the controller's port 'x' is out of range"),
        ({"controller_password_file": "/nonexistent"}, "cannot read the controller's password in /nonexist"),
    ],
)
@pytest.mark.parametrize("check", [True, False])
def test_an_invalid_option_fails_before_any_change(
    run_module: RunModule,
    machine: Machine,
    refused_options: dict[str, Any],
    wrong: dict[str, Any],
    message: str,
    check: bool,
) -> None:
    result = run_module(jaywalk_join, check=check, **{**refused_options, **wrong})
    assert result["failed"]
    assert message in result["msg"]
    assert "Traceback" not in result["msg"]
    assert machine.calls == []
    assert not Path(refused_options["private_key_file"]).exists()


def test_wrong_password_is_not_repeated(
    run_module: RunModule, machine: Machine, refused_options: dict[str, Any]
) -> None:
    del refused_options["controller_password_file"]
    result = run_module(jaywalk_join, **refused_options, controller_password="open-sesame-9")
    assert "refused user 'agent-zone-blue'" in result["msg"]
    assert "open-sesame-9" not in str(result)


def test_a_password_is_required(
    run_module: RunModule, machine: Machine, refused_options: dict[str, Any]
) -> None:
    del refused_options["controller_password_file"]
    result = run_module(jaywalk_join, **refused_options)
    assert "one of the following is required: controller_password, controller_password_file" in result["msg"]


def test_an_interface_of_another_key_is_unchanged(
    run_module: RunModule, machine: Machine, refused_options: dict[str, Any]
) -> None:
    machine.link = dict(LINK)
    machine.dump = f"(none)\t{KEY}\t51820\toff\n"
    for state in ("present", "absent"):
        result = run_module(jaywalk_join, **refused_options, state=state)
        assert "the interface wg0 is in use with another key" in result["msg"]
    assert machine.calls == []


def test_a_missing_redis_library_is_reported(
    run_module: RunModule, machine: Machine, refused_options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded, "HAS_REDIS", False)
    result = run_module(jaywalk_join, **refused_options)
    assert "Failed to import the required Python library (redis)" in result["msg"]
    assert machine.calls == []
