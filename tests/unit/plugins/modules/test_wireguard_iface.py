# SPDX-License-Identifier: GPL-3.0-or-later
"""The module on a scripted machine: declarations, rejections, DNS names and commands."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.jaywalking.mesh.plugins.modules import wireguard_iface

from tests.ansible_modules import LINK, Machine, RunModule

ONE = "IHTAKJ7xQYBmO7lh3NrNPrfv0LAAM8GlD1o1Yh0U4hE="
TWO = "7W4Yu4U2lW2f3c1aQvLT1b7vD3lXb2h0ZQbq0dZ0lUU="


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    return {
        "name": "wg0",
        "private_key_file": str(tmp_path / "keys" / "wg0.key"),
        "addresses": ["10.9.0.1/24"],
    }


def test_check_mode_predicts_the_run_and_changes_nothing(
    run_module: RunModule, machine: Machine, options: dict[str, Any]
) -> None:
    options["peers"] = [{"public_key": ONE, "allowed_ips": ["10.9.0.2/32", "172.20.1.9/24"]}]
    key_file = Path(options["private_key_file"])
    predicted = run_module(wireguard_iface, check=True, **options)
    assert predicted["changed"]
    assert predicted["interface"] is None
    assert machine.calls == []
    assert not key_file.parent.exists()
    done = run_module(wireguard_iface, **options)
    assert done["changed"]
    assert done["diff"] == predicted["diff"]
    assert done["commands"] == predicted["commands"]
    assert f"peer {ONE} allowed-ips 172.20.1.0/24\n" in done["diff"]["after"]
    assert "route 172.20.1.0/24\n" in done["diff"]["after"]
    assert "route 10.9.0.2/32\n" not in done["diff"]["after"]
    assert key_file.stat().st_mode & 0o777 == 0o600
    assert machine.words()[0] == "ip link add dev wg0 type wireguard"


def test_no_result_contains_the_private_key(
    run_module: RunModule, machine: Machine, options: dict[str, Any]
) -> None:
    done = run_module(wireguard_iface, **options)
    private = Path(options["private_key_file"]).read_text().strip()
    assert private not in str(done)
    assert private not in str(machine.calls)


def test_a_removed_interface_stays_removed(run_module: RunModule, machine: Machine) -> None:
    assert not run_module(wireguard_iface, name="wg0", state="absent")["changed"]
    machine.link = dict(LINK)
    predicted = run_module(wireguard_iface, check=True, name="wg0", state="absent")
    assert machine.calls == []
    done = run_module(wireguard_iface, name="wg0", state="absent")
    assert done["diff"] == predicted["diff"]
    assert done["commands"] == ["ip link delete dev wg0"] == machine.words()
    assert done["interface"] is None


def test_an_interface_whose_setup_fails_is_removed(
    run_module: RunModule, machine: Machine, options: dict[str, Any]
) -> None:
    machine.breaks = "addr replace"
    done = run_module(wireguard_iface, **options)
    assert "it broke" in done["msg"]
    assert machine.words()[-1] == "ip link delete dev wg0"


@pytest.mark.parametrize("route_allowed_ips", [True, False])
def test_routes_are_the_declared_ones_and_those_of_allowed_ips(
    run_module: RunModule, machine: Machine, options: dict[str, Any], route_allowed_ips: bool
) -> None:
    options["peers"] = [{"public_key": ONE, "allowed_ips": ["10.9.0.0/25", "172.20.1.0/24"]}]
    done = run_module(
        wireguard_iface,
        check=True,
        routes=["10.8.1.1/16", "10.9.0.0/24"],
        route_allowed_ips=route_allowed_ips,
        **options,
    )
    routes = [line for line in done["diff"]["after"].splitlines() if line.startswith("route ")]
    assert routes == ["route 10.8.0.0/16", *(["route 172.20.1.0/24"] if route_allowed_ips else [])]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"name": "a-name-of-17-chars"}, "the interface name 'a-name-of-17-chars' is not usable"),
        ({"listen_port": 65536}, "the listen port '65536' is out of range"),
        ({"mtu": 1279}, "the MTU '1279' is out of range"),
        ({"addresses": ["10.9.0.1", "10.9.0.1/24"]}, "the address 10.9.0.1 is declared with two prefix"),
        ({"routes": ["10.8.0.0/40"]}, "the route '10.8.0.0/40' is no prefix"),
        ({"peers": [{"public_key": "c2hvcnQ="}]}, "'c2hvcnQ=' is no WireGuard public key"),
        ({"peers": [{"public_key": ONE}, {"public_key": ONE}]}, f"the peer {ONE} is declared twice"),
        (
            {"peers": [{"public_key": key, "allowed_ips": ["172.20.1.0/24"]} for key in (ONE, TWO)]},
            f"the peers {ONE} and {TWO} both claim the allowed IP 172.20.1.0/24",
        ),
        (
            {"peers": [{"public_key": ONE, "endpoint": "192.0.2.1"}]},
            "'192.0.2.1' does not parse",
        ),
        ({"peers": [{"public_key": ONE, "endpoint": "host.example:0"}]}, "the endpoint's port '0' is out of"),
        ({"peers": [{"public_key": ONE, "endpoint": "2001:db8::1:5"}]}, "IPv6 address without brackets"),
        ({"routes": ["198.51.100.0/24"]}, "the machine already routes 198.51.100.0/24 by eth0"),
        (
            {"peers": [{"public_key": ONE, "endpoint": "192.0.2.1:1", "allowed_ips": ["192.0.2.0/24"]}]},
            "the route 192.0.2.0/24 would lead the packets for endpoint 192.0.2.1:1",
        ),
        ({"generate_key": False}, "cannot read the private key in "),
    ],
)
def test_an_invalid_option_fails_before_any_change(
    run_module: RunModule, machine: Machine, options: dict[str, Any], wrong: dict[str, Any], message: str
) -> None:
    machine.elsewhere = [{"dst": "default", "dev": "eth0"}, {"dst": "198.51.100.0/24", "dev": "eth0"}]
    result = run_module(wireguard_iface, **{**options, **wrong})
    assert result["failed"]
    assert message in result["msg"]
    assert "Traceback" not in result["msg"]
    assert machine.calls == []
    assert not Path(options["private_key_file"]).exists()


def test_own_key_among_the_peers_is_refused(
    run_module: RunModule, machine: Machine, options: dict[str, Any]
) -> None:
    run_module(wireguard_iface, **options)
    private = Path(options["private_key_file"]).read_text()
    own = machine.run_command(["wg", "pubkey"], data=private)[1].strip()
    result = run_module(wireguard_iface, **options, peers=[{"public_key": own}])
    assert f"the peer {own} has this interface's own key" in result["msg"]


@pytest.mark.parametrize(("program", "package"), [("wg", "wireguard-tools"), ("ip", "iproute2")])
def test_a_missing_program_is_reported_with_its_package(
    run_module: RunModule, machine: Machine, options: dict[str, Any], program: str, package: str
) -> None:
    machine.missing = {program}
    result = run_module(wireguard_iface, **options)
    assert result["msg"] == f"{program} is missing on this machine: install the package {package}"


def observed_peer(endpoint: str) -> str:
    return f"(none)\t{ONE}\t51820\toff\n{TWO}\t(none)\t{endpoint}\t(none)\t0\t0\t0\toff\n"


@pytest.mark.parametrize(
    ("current", "then"),
    [("192.0.2.2:51820", "192.0.2.2:51820"), ("192.0.2.9:51820", "192.0.2.1:51820")],
)
def test_a_name_with_several_addresses_keeps_the_current_one(
    run_module: RunModule,
    machine: Machine,
    options: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    current: str,
    then: str,
) -> None:
    def lookup(host: str, port: int, **_options: Any) -> list[Any]:
        assert host == "vpn.example.com"
        return [(2, 2, 17, "", (address, port)) for address in ("192.0.2.1", "192.0.2.2")]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    machine.link = dict(LINK)
    machine.dump = observed_peer(current)
    options["peers"] = [{"public_key": TWO, "endpoint": "vpn.example.com:51820"}]
    done = run_module(wireguard_iface, check=True, **options)
    assert (f"peer {TWO} endpoint {then}\n" in done["diff"]["after"]) == (current != then)


def test_an_unresolvable_name_is_reported(
    run_module: RunModule, machine: Machine, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lookup(*_arguments: Any, **_options: Any) -> list[Any]:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    options["peers"] = [{"public_key": TWO, "endpoint": "vpn.example.com:51820"}]
    result = run_module(wireguard_iface, **options)
    assert f"the endpoint 'vpn.example.com:51820' of peer {TWO} does not resolve" in result["msg"]
    assert machine.calls == []


@pytest.mark.parametrize("more_options", [{}, {"state": "absent"}])
def test_an_interface_of_the_mesh_is_unchanged(
    run_module: RunModule, machine: Machine, options: dict[str, Any], more_options: dict[str, str]
) -> None:
    machine.link, machine.zones = dict(LINK), {"wg0": "zone-blue"}
    for check in (True, False):
        result = run_module(wireguard_iface, check=check, **options, **more_options)
        assert "the interface wg0 is the mesh's, of zone zone-blue: name another interface" in result["msg"]
    assert machine.calls == []


def test_an_address_of_the_mesh_is_refused(
    run_module: RunModule, machine: Machine, options: dict[str, Any]
) -> None:
    machine.zones = {"wg0": "zone-blue"}
    machine.elsewhere = [{"dst": "10.9.0.0/20", "dev": "wg0"}]
    result = run_module(wireguard_iface, **{**options, "name": "wg5"})
    assert "the address 10.9.0.1/24 lies in 10.9.0.0/20, which is the mesh's" in result["msg"]
    assert machine.calls == []


def test_a_change_that_the_kernel_rejects_is_rolled_back(
    run_module: RunModule, machine: Machine, options: dict[str, Any]
) -> None:
    machine.link = dict(LINK, addr_info=[{"local": "10.8.0.1", "prefixlen": 24}])
    machine.breaks = "addr replace 10.9.0.1/24"
    result = run_module(wireguard_iface, **options)
    assert result["failed"]
    assert (["wg", "syncconf", "wg0", "/dev/stdin"], "[Interface]\n") in machine.calls
