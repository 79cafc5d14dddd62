# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend for macOS against recorded programs (tests/mac.py)."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from jaywalk.core.errors import CommandFailed, JaywalkError
from jaywalk.wireguard import darwin, linux, plan
from jaywalk.wireguard.interface import Interface, ObservedInterface, WgPeer
from jaywalk.wireguard.mtu import PathMtu
from jaywalk.wireguard.steps import (
    AddAddress,
    AddConnectedRoute,
    AddLocalRoute,
    AddRoute,
    DelAddress,
    DelRoute,
    LinkStep,
    LinkUp,
    RestoreAddress,
    RestoreRoute,
    SetListenPort,
    SetMtu,
)
from tests.mac import ANSWERS, INET, INET_OF_OLD, REFUSED, Recorded, a_mac, backend
from tests.strategies import key

ADD = ("route", "-q", "-n", "add")
DELETE = ("route", "-q", "-n", "delete")
DESIRED = Interface(
    "wg0",
    key(0),
    "/usr/local/etc/wireguard/zone-blue.key",
    51820,
    ("10.20.0.5/20", "fd20::5/64"),
    1420,
    {key(1): WgPeer(key(1), ("10.20.0.1/32", "172.20.1.0/24"), "192.0.2.1:51820", 25)},
    frozenset({"172.20.1.0/24", "fd21:1::/64"}),
)


@pytest.fixture
def mac(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    return a_mac(tmp_path, monkeypatch)


def observe(mac: Recorded) -> ObservedInterface | None:
    return backend(mac).observe("wg0")


def test_an_interface_is_made_set_up_and_then_left_alone(mac: Recorded, tmp_path: Path) -> None:
    assert observe(mac) is None
    backend(mac).apply(plan.diff(None, DESIRED))
    peer = ("endpoint", "192.0.2.1:51820", "persistent-keepalive", "25")
    assert mac.calls == [
        ("env", f"WG_TUN_NAME_FILE={tmp_path}/wg0.name", "wireguard-go", "utun"),
        (
            *("wg", "set", "utun3", "private-key", DESIRED.private_key_file, "listen-port", "51820"),
            *("peer", key(1), *peer, "allowed-ips", "10.20.0.1/32,172.20.1.0/24"),
        ),
        ("ifconfig", "utun3", "mtu", "1420"),
        ("ifconfig", "utun3", "inet", "10.20.0.5/20", "10.20.0.5", "alias"),
        (*ADD, "-inet", "10.20.0.0/20", "-interface", "utun3"),
        ("ifconfig", "utun3", "inet6", "fd20::5/64", "alias"),
        (*ADD, "-inet6", "fd20::/64", "-interface", "utun3"),
        ("ifconfig", "utun3", "up"),
        (*ADD, "-inet", "172.20.1.0/24", "-interface", "utun3"),
        (*ADD, "-inet6", "fd21:1::/64", "-interface", "utun3"),
    ]
    assert not plan.diff(observe(mac), DESIRED)


def test_what_differs_is_changed_and_nothing_else(mac: Recorded) -> None:
    backend(mac).apply(plan.diff(None, DESIRED))
    added = WgPeer(key(2), ("10.20.0.2/32",), "", 25)
    changed = Interface(
        DESIRED.name,
        DESIRED.public_key,
        DESIRED.private_key_file,
        DESIRED.listen_port,
        ("10.20.0.6/20", "fd20::5/64"),
        DESIRED.mtu,
        {**DESIRED.peers, added.key: added},
        frozenset({"fd21:1::/64"}),
    )
    steps = plan.diff(observe(mac), changed)
    mac.calls.clear()
    backend(mac).apply(steps)
    assert mac.calls == [
        ("wg", "set", "utun3", "peer", key(2), "persistent-keepalive", "25", "allowed-ips", "10.20.0.2/32"),
        (*DELETE, "-inet", "10.20.0.0/20", "-interface", "utun3"),
        ("ifconfig", "utun3", "inet", "10.20.0.5", "-alias"),
        ("ifconfig", "utun3", "inet", "10.20.0.6/20", "10.20.0.6", "alias"),
        (*ADD, "-inet", "10.20.0.0/20", "-interface", "utun3"),
        (*DELETE, "-inet", "172.20.1.0/24", "-interface", "utun3"),
    ]


def test_the_pools_route_that_somebody_deleted_is_put_back(
    mac: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend(mac).apply(plan.diff(None, DESIRED))
    without = "".join(line for line in INET.splitlines(keepends=True) if not line.startswith("10.20/20"))
    monkeypatch.setitem(ANSWERS, ("netstat", "-nr", "-f", "inet"), without)
    steps = plan.diff(observe(mac), DESIRED)
    assert steps.diff()["after"] == "route 10.20.0.0/20\n"
    mac.calls.clear()
    backend(mac).apply(steps)
    assert mac.calls == [(*ADD, "-inet", "10.20.0.0/20", "-interface", "utun3")]


def test_the_commands_for_people_are_those_of_the_mac(mac: Recorded, tmp_path: Path) -> None:
    create, *_, last = backend(mac).commands(plan.diff(None, DESIRED))
    assert create == f"env WG_TUN_NAME_FILE={tmp_path}/wg0.name wireguard-go utun"
    assert last == "route -q -n add -inet6 fd21:1::/64 -interface utun"
    backend(mac).apply(plan.diff(None, DESIRED))
    mac.calls.clear()
    steps = plan.diff(observe(mac), replace(DESIRED, listen_port=51821, routes=frozenset({"fd21:1::/64"})))
    shown = backend(mac).commands(steps)
    backend(mac).apply(steps)
    assert shown == [
        "wg set utun3 listen-port 51821",
        "route -q -n delete -inet 172.20.1.0/24 -interface utun3",
    ]
    assert shown == [" ".join(call) for call in mac.calls if call[:2] != ("wg", "show")][-2:]
    gone = plan.diff(observe(mac), None)
    assert backend(mac).commands(gone) == [f"rm -f {tmp_path}/utun3.sock {tmp_path}/wg0.name"]


def test_each_step_of_a_link_has_its_commands() -> None:
    """But for the local route, which macOS does not list and so never misses."""
    steps: list[LinkStep] = [
        SetMtu(0, 1420),
        LinkUp(),
        AddAddress("10.20.0.5/20"),
        DelAddress("10.20.0.5/20"),
        RestoreAddress("10.20.0.5/20"),
        AddRoute("172.20.1.0/24", 2048),
        DelRoute("172.20.1.0/24"),
        RestoreRoute("172.20.1.0/24", 2048),
        AddConnectedRoute("10.20.0.0/20", "10.20.0.5"),
    ]
    assert {*map(type, steps), AddLocalRoute} == kinds_of(LinkStep)
    assert all(darwin.link_commands(step, "utun3") for step in steps)
    assert all(linux.ip_lines(step, "wg0") for step in (*steps, AddLocalRoute("10.20.0.5/20")))


def kinds_of(base: type) -> set[type]:
    """The kinds of step that have no kind below them."""
    below: list[type] = base.__subclasses__()
    return set().union(*map(kinds_of, below)) if below else {base}


def test_a_route_that_the_machine_has_elsewhere_stays_and_another_fault_is_named(mac: Recorded) -> None:
    taken = (*ADD, "-inet", "172.20.1.0/24", "-interface", "utun3")
    mac.refused[taken] = "route: writing to routing socket: File exists"
    backend(mac).apply(plan.diff(None, DESIRED))
    down = ("ifconfig", "utun3", "up")
    mac.refused[down] = "ifconfig: ioctl (SIOCSIFFLAGS): Operation not permitted"
    with pytest.raises(CommandFailed, match=r"ifconfig utun3 up.*not permitted"):
        backend(mac).apply(plan.diff(None, DESIRED))
    assert mac.calls[-2][:4] == ADD, "the lines behind it were tried"
    assert mac.calls[-1][0] == "rm", "a tunnel that cannot be set up is taken away"
    assert observe(mac) is None


def test_a_port_is_known_by_our_name_for_its_tunnel(mac: Recorded) -> None:
    macos = backend(mac)
    assert (macos.listen_ports(), macos.observe_peers("wg0")) == ({"utun9": 41414}, {})
    backend(mac).apply(plan.diff(None, DESIRED))
    assert macos.listen_ports() == {"wg0": 51820, "utun9": 41414}
    assert macos.observe_peers("wg0")[key(1)].endpoint == "192.0.2.1:51820"


def test_the_links_of_the_default_routes_are_found_with_their_mtu(mac: Recorded) -> None:
    macos = backend(mac)
    assert macos.path_mtus(["203.0.113.7"]) == {"192.0.2.1": PathMtu("en0", 1500, routed=True)}
    assert macos.path_mtus([]) == {}


def test_a_tunnel_that_is_taken_down_leaves_no_file(mac: Recorded, tmp_path: Path) -> None:
    backend(mac).apply(plan.diff(None, DESIRED))
    backend(mac).apply(plan.diff(observe(mac), None))
    assert list(tmp_path.iterdir()) == []


def test_a_name_whose_program_died_is_no_interface(mac: Recorded, tmp_path: Path) -> None:
    (tmp_path / "wg0.name").write_text("utun3\n")
    assert observe(mac) is None
    (tmp_path / "wg0.name").write_text("../../etc/passwd\n")
    assert observe(mac) is None
    with pytest.raises(JaywalkError, match="tunnel wg0 is gone"):
        backend(mac).execute("wg0", [SetListenPort(0, 1)])


def test_a_tunnel_whose_program_was_killed_is_made_anew(mac: Recorded) -> None:
    backend(mac).apply(plan.diff(None, DESIRED))
    shown = ("wg", "show", "utun3", "dump")
    mac.refused[shown] = "Unable to access interface: Operation not permitted"
    with pytest.raises(CommandFailed, match="not permitted"):
        observe(mac)
    mac.refused[shown] = REFUSED
    assert observe(mac) is None
    mac.refused.clear()
    backend(mac).apply(plan.diff(None, DESIRED))
    assert not plan.diff(observe(mac), DESIRED)


def test_without_the_rights_to_observe_the_error_says_so(mac: Recorded, tmp_path: Path) -> None:
    (tmp_path / "wg0.name").mkdir()
    with pytest.raises(JaywalkError, match=r"wg0\.name cannot be read .*run as root"):
        observe(mac)


def test_own_networks_are_those_of_the_other_interfaces(mac: Recorded) -> None:
    backend(mac).apply(plan.diff(None, DESIRED))
    macos, others = backend(mac), ["192.168.7.20/24", "2001:db8:7::20/64"]
    assert macos.local_networks(without="wg0") == others
    assert macos.local_networks(without="wg1") == [*others, "10.20.0.5/20", "fd20::5/64"]


def test_routes_are_read_in_the_columns_of_every_release() -> None:
    assert [str(network) for network in darwin.routes(INET_OF_OLD, "utun3")] == [
        "172.20.1.0/24",
        "172.20.2.9/32",
    ]
    assert [str(network) for network in darwin.routes(INET, "en0")] == [
        *("0.0.0.0/0", "169.254.0.0/16", "192.168.7.0/24", "192.168.7.1/32")
    ]


def test_without_wireguard_the_error_names_what_to_install(
    mac: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _program: None)
    with pytest.raises(JaywalkError, match="brew install wireguard-go"):
        backend(mac).apply(plan.diff(None, DESIRED))
    assert mac.calls == []
