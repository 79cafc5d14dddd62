# SPDX-License-Identifier: GPL-3.0-or-later
"""The library against real interfaces in network namespaces, of whichever kind this kernel offers."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from jaywalk.core.errors import CommandFailed, JaywalkError, MissingTool
from jaywalk.core.runner import Finished, NamespaceRunner, SubprocessRunner
from jaywalk.wireguard import keys, linux, plan, userspace, wg
from jaywalk.wireguard.interface import Interface, WgPeer
from jaywalk.wireguard.linux import Linux
from tests import strategies as mesh
from tests.netns import Namespace, connect
from tests.waiting import eventually

pytestmark = [
    pytest.mark.wireguard,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]
on_kernel_too = pytest.mark.kernel_wireguard
needs_userspace = pytest.mark.usefixtures("no_kernel_wireguard")
Make = Callable[[str], Namespace]


@pytest.fixture
def node(namespace: Make) -> Namespace:
    return namespace("jwl")


@pytest.fixture
def wish(tmp_path: Path) -> Interface:
    """An interface with a key of its own, and nothing else."""
    return make_wish(tmp_path, "jwl0")


def make_wish(folder: Path, name: str) -> Interface:
    path = folder / f"{name}.key"
    public, _ = keys.ensure_key_file(SubprocessRunner(), str(path))
    return Interface(name, public, str(path))


def bring(node: Namespace, desired: Interface) -> plan.Plan:
    """Plans and applies, and holds that there is nothing left to do; returns what was done."""
    steps = plan.diff(Linux(node.runner).observe(desired.name), desired)
    Linux(node.runner).apply(steps)
    left = plan.diff(Linux(node.runner).observe(desired.name), desired)
    assert not left, Linux(node.runner).commands(left)
    return steps


class MovesAway:
    """A runner on a machine where somebody moves an interface away before its routes are read."""

    def __init__(self, node: Namespace, name: str) -> None:
        self._node, self._name = node, name

    def run(self, argv: Sequence[str], stdin: str | None = None) -> Finished:
        if "route" in argv:
            self._node.runner.run(["ip", "link", "set", self._name, "name", "elsewhere"])
        return self._node.runner.run(argv, stdin)


@on_kernel_too
def test_an_interface_that_is_moved_away_meanwhile_does_not_exist(node: Namespace, wish: Interface) -> None:
    bring(node, replace(wish, addresses=("10.20.0.1/20",)))
    node.run(["ip", "link", "set", "jwl0", "down"])
    assert Linux(MovesAway(node, "jwl0")).observe("jwl0") is None


@on_kernel_too
def test_interface_comes_lives_changes_and_goes(node: Namespace, wish: Interface, tmp_path: Path) -> None:
    assert Linux(node.runner).observe("jwl0") is None
    one = WgPeer(mesh.key(1), ("10.20.0.2/32", "172.20.1.0/24"), "192.0.2.2:51820", 25)
    two = WgPeer(mesh.key(2), ("fd20::3/128",), "[2001:db8::3]:51821")
    first = replace(
        wish,
        listen_port=51900,
        addresses=("10.20.0.1/20", "fd20::1/64"),
        mtu=1380,
        peers={one.key: one, two.key: two},
        routes=frozenset({"172.20.1.0/24", "fd21:1::/64", "172.20.9.9/32"}),
    )
    bring(node, first)
    seen = Linux(node.runner).observe("jwl0")
    assert seen is not None
    assert (seen.public_key, seen.listen_port, seen.mtu, seen.up) == (wish.public_key, 51900, 1380, True)
    assert set(seen.addresses) == {"10.20.0.1/20", "fd20::1/64"}
    assert seen.routes == first.routes
    assert (seen.peers[one.key].allowed_ips, seen.peers[one.key].keepalive) == (one.allowed_ips, 25)
    assert seen.peers[two.key].endpoint == "[2001:db8::3]:51821"

    other_key = make_wish(tmp_path, "other")
    second = replace(
        first,
        public_key=other_key.public_key,
        private_key_file=other_key.private_key_file,
        listen_port=51901,
        mtu=1420,
        peers={one.key: replace(one, endpoint="192.0.2.9:1", keepalive=0)},
        routes=frozenset({"172.20.1.0/24"}),
    )
    index = link_index(node)
    bring(node, second)
    assert link_index(node) == index

    gone = plan.diff(Linux(node.runner).observe("jwl0"), None)
    Linux(node.runner).apply(gone)
    assert Linux(node.runner).observe("jwl0") is None
    for _ in range(3):  # at once again, while the last one may still be ending
        bring(node, second)
        Linux(node.runner).delete("jwl0")


def link_index(node: Namespace) -> str:
    return node.run(["ip", "-o", "link", "show", "dev", "jwl0"]).split(":")[0]


POOLS = ("10.20.0.1/20", "10.30.0.1/16", "fd20::1/64", "fd30::1/48")
CHILD = frozenset({"172.20.1.0/24", "fd21:1::/64"})


def all_routes(node: Namespace) -> list[str]:
    """All routes into the interface, those of the machine to itself too, but for link-local ones.

    The kernel adds the local routes of new IPv6 addresses a moment after the addresses.
    """
    eventually(lambda: not lost_hosts(node), "the kernel has added the local routes of all addresses")
    return listed_routes(node)


def lost_hosts(node: Namespace) -> frozenset[str]:
    observed = Linux(node.runner).observe("jwl0")
    assert observed is not None
    return observed.lost_hosts


def listed_routes(node: Namespace) -> list[str]:
    shown = [
        node.run(["ip", version, "route", "show", "table", "all", "dev", "jwl0"]) for version in ("-4", "-6")
    ]
    return sorted(line for line in "".join(shown).splitlines() if "fe80:" not in line)


@pytest.mark.parametrize(
    "damage",
    [
        "route del 10.20.0.0/20",
        "route del 10.30.0.0/16",
        "route del fd20::/64",
        "route del fd30::/48",
        pytest.param("route del 172.20.1.0/24", marks=on_kernel_too),
        "route del local 10.20.0.1 table local",
        pytest.param("-6 route del local fd20::1 table local", marks=on_kernel_too),
        "addr del 10.20.0.1/20",
        "addr del fd20::1/64",
        pytest.param("addr flush", marks=on_kernel_too),
        pytest.param("link set down", marks=on_kernel_too),
    ],
)
def test_what_somebody_took_of_an_interface_is_put_back_and_nothing_else(
    node: Namespace, wish: Interface, damage: str
) -> None:
    desired = replace(wish, addresses=POOLS, routes=CHILD)
    bring(node, desired)
    before = all_routes(node)
    node.run(["ip", *damage.split(), "dev", "jwl0"])
    assert listed_routes(node) != before
    assert bring(node, desired)
    assert all_routes(node) == before


@pytest.mark.parametrize("instead", [True, False])
@pytest.mark.parametrize(
    ("prefix", "more"),
    [
        ("10.20.0.0/20", ""),
        ("10.20.0.0/20", "metric 50"),
        ("10.20.0.0/20", "proto static metric 5"),
        pytest.param("fd20::/64", "", marks=on_kernel_too),
        ("fd20::/64", "proto static metric 5"),
    ],
)
def test_the_pools_route_made_by_hand_is_as_good_until_the_address_goes(
    node: Namespace, wish: Interface, prefix: str, more: str, instead: bool
) -> None:
    desired = replace(wish, addresses=POOLS, routes=CHILD)
    bring(node, desired)
    if instead:
        node.run(["ip", "route", "del", prefix, "dev", "jwl0"])
    elif prefix == "10.20.0.0/20" and not more:
        return  # the kernel takes it for the one that is there
    node.run(["ip", "route", "add", prefix, "dev", "jwl0", *more.split()])
    before = all_routes(node)
    assert not bring(node, desired)
    assert all_routes(node) == before
    bring(node, replace(desired, addresses=(POOLS[1], POOLS[3])))
    assert not any(line.startswith(prefix) for line in all_routes(node))


def test_a_route_that_leads_nowhere_before_the_pools_own_stays_and_ours_stands_behind_it(
    node: Namespace, wish: Interface
) -> None:
    desired = replace(wish, addresses=POOLS)
    bring(node, desired)
    node.run(["ip", "route", "del", "10.20.0.0/20", "dev", "jwl0"])
    node.run(["ip", "route", "add", "blackhole", "10.20.0.0/20"])
    bring(node, desired)
    shown = node.run(["ip", "route", "show", "10.20.0.0/20"])
    assert shown.startswith("blackhole") and "dev jwl0" in shown


def add_lan(node: Namespace) -> None:
    """Gives the machine a network besides the mesh."""
    node.run(["ip", "link", "add", "dev", "lan", "type", "veth", "peer", "name", "switch"])
    for end in ("lan", "switch"):
        node.run(["ip", "link", "set", "dev", end, "up"])
    node.run(["ip", "addr", "add", "192.168.7.1/24", "dev", "lan"])


FOUR = ["10.20.0.1/20", "10.20.0.2/20", "10.20.0.3/20", "10.20.16.1/20"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (FOUR[:1], FOUR[1:2]),  # a new lease in the same pool
        (FOUR[:1], FOUR[3:]),  # a new lease in another pool
        (FOUR[:1], []),  # IPv6 alone from now on
        (FOUR[:3], FOUR[1:3]),  # the primary goes, its secondaries stay
        (FOUR[:3], FOUR[:1]),  # the secondaries go
        pytest.param(FOUR[:3], [], marks=on_kernel_too),  # all go, and the first takes the others along
        (FOUR[:3], FOUR[2:]),  # some of all
        (["10.20.0.1/20"], ["10.20.0.1/32"]),  # the pool's length changes
    ],
)
def test_change_of_address_takes_nothing_else_along(
    node: Namespace, wish: Interface, before: list[str], after: list[str]
) -> None:
    routes = frozenset({"172.20.1.0/24", "172.20.2.0/24", "fd21:1::/64"})
    ipv6 = ("fd20::1/64",)
    bring(node, replace(wish, addresses=(*before, *ipv6), routes=routes))
    bring(node, replace(wish, addresses=(*after, *ipv6), routes=routes))
    bring(node, replace(wish, addresses=(*before, *ipv6), routes=routes - {"172.20.2.0/24"}))
    bring(node, replace(wish, addresses=(*after, *ipv6), routes=frozenset()))


@on_kernel_too
def test_link_local_address_of_the_kernel_is_left_alone_and_ours_is_kept(
    node: Namespace, wish: Interface
) -> None:
    bring(node, wish)
    by_kernel = node.run(["ip", "-6", "-o", "addr", "show", "dev", "jwl0"])
    assert not bring(node, wish)
    bring(node, replace(wish, addresses=("fe80::5/64",)))
    bring(node, wish)
    addresses = re.compile(r"inet6 (\S+)")
    after = node.run(["ip", "-6", "-o", "addr", "show", "dev", "jwl0"])
    assert addresses.findall(after) == addresses.findall(by_kernel)


@on_kernel_too
def test_prefix_moves_from_one_peer_to_another_and_back(node: Namespace, wish: Interface) -> None:
    low, high = sorted([mesh.key(1), mesh.key(2)])
    ours, theirs = ("10.20.0.2/32", "172.20.1.0/24"), ("10.20.0.3/32", "172.20.2.0/24")
    for one, two in [
        (ours, theirs),
        (theirs, ours),
        (ours, theirs),
        (ours + theirs, ()),
        ((), ours + theirs),
    ]:
        bring(node, replace(wish, peers={low: WgPeer(low, one), high: WgPeer(high, two)}))


@on_kernel_too
def test_thousand_peers_come_in_few_calls_and_one_more_in_one(node: Namespace, wish: Interface) -> None:
    many = {
        mesh.key(n): WgPeer(
            mesh.key(n), (f"10.20.{n // 250}.{n % 250 + 1}/32", f"fd20::{n + 1:x}/128"), "", 25
        )
        for n in range(1001)
    }
    all_but_one = {key: peer for key, peer in many.items() if key != mesh.key(1000)}
    bring(node, replace(wish, addresses=("10.20.15.1/20",), peers=all_but_one))
    node.runner.calls.clear()
    steps = bring(node, replace(wish, addresses=("10.20.15.1/20",), peers=many))
    assert len(steps.steps) == 1
    sets = [call for call in node.runner.calls if call[:2] == ("wg", "set")]
    assert [call[4] for call in sets] == [mesh.key(1000)]
    observed = Linux(node.runner).observe("jwl0")
    assert observed is not None
    assert {key: peer.allowed_ips for key, peer in observed.peers.items()} == {
        key: peer.allowed_ips for key, peer in many.items()
    }


@pytest.mark.parametrize("foreign", ["", "metric 100", "metric 1024"])
def test_route_that_the_machine_has_elsewhere_is_not_taken_over(
    node: Namespace, wish: Interface, foreign: str
) -> None:
    add_lan(node)
    node.run(["ip", "addr", "add", "fd77::1/64", "dev", "lan", "nodad"])
    for prefix in ("172.20.1.0/24", "fd21:1::/64"):
        node.run(["ip", "route", "add", prefix, "dev", "lan", *foreign.split()])
    prefixes = frozenset({"172.20.1.0/24", "fd21:1::/64", "192.168.7.0/24", "172.20.2.0/24"})
    bring(node, replace(wish, addresses=("10.20.0.1/20", "fd20::1/64"), routes=prefixes))
    for host, device in [
        ("172.20.1.9", "lan"),
        ("fd21:1::9", "lan"),
        ("192.168.7.9", "lan"),
        ("172.20.2.9", "jwl0"),
    ]:
        assert f"dev {device} " in node.run(["ip", "route", "get", host])
    bring(node, replace(wish, addresses=("10.20.0.1/20", "fd20::1/64")))
    for prefix in ("172.20.1.0/24", "fd21:1::/64"):
        family = "-6" if ":" in prefix else "-4"
        assert "dev lan" in node.run(["ip", family, "route", "show", prefix])


def test_route_that_cannot_be_had_is_named_and_the_others_come(node: Namespace, wish: Interface) -> None:
    bring(node, replace(wish, addresses=("10.20.0.1/20",)))
    lines = [
        "route add 172.20.1.0/24 dev none metric 9",
        "route add 172.20.2.0/24 dev jwl0 metric 2048",
        "route add 172.20.2.0/24 dev jwl0 metric 2048",
        "route del 172.20.3.0/24 dev jwl0",  # what is to go and is not there is no failure
        "addr del 10.9.9.9/32 dev jwl0",
        "addr add fd20::1/64 dev none",
    ]
    failed = {index: str(error) for index, error in linux.ip_batch(node.runner, lines).items()}
    assert failed.keys() == {0, 2, 5}
    assert re.match(r"'ip route add 172.20.1.0/24 dev none ...' .*find device", failed[0])
    assert re.match(r"'ip route add 172.20.2.0/24 dev jwl0 ...' .*File exists", failed[2])
    assert re.match(r"'ip addr add fd20::1/64 dev none' .*find device", failed[5])
    observed = Linux(node.runner).observe("jwl0")
    assert observed is not None and observed.routes == {"172.20.2.0/24"}


@on_kernel_too
def test_interface_of_another_kind_is_refused_and_left_alone(node: Namespace, wish: Interface) -> None:
    node.run(["ip", "link", "add", "dev", "jwl0", "type", "veth", "peer", "name", "switch"])
    before = node.run(["ip", "-d", "link", "show", "dev", "jwl0"])
    with pytest.raises(JaywalkError, match="jwl0 exists and is not WireGuard: choose another"):
        Linux(node.runner).observe("jwl0")
    with pytest.raises(CommandFailed):
        Linux(node.runner).apply(plan.diff(None, wish))  # even for who did not look
    assert node.run(["ip", "-d", "link", "show", "dev", "jwl0"]) == before


@on_kernel_too
def test_key_file_that_goes_bad_leaves_no_interface_and_no_trace(node: Namespace, wish: Interface) -> None:
    private = Path(wish.private_key_file).read_text().strip()
    Path(wish.private_key_file).write_text(private[:-2] + "!=\n")
    with pytest.raises(CommandFailed) as caught:
        Linux(node.runner).apply(plan.diff(None, wish))
    assert private[:8] not in str(caught.value) + caught.value.stderr
    assert Linux(node.runner).observe("jwl0") is None


@on_kernel_too
def test_peers_that_are_refused_keep_no_other_away(node: Namespace, wish: Interface) -> None:
    bring(node, wish)
    good = {n: ("peer", mesh.key(n), "allowed-ips", f"10.20.0.{n}/32") for n in range(1, 60)}
    bad = {7: ("peer", mesh.key(7), "endpoint", "192.0.2.1"), 30: ("peer", "no key")}
    parts = [good[1], *({**good, **bad}[n] for n in range(2, 60))]
    node.runner.calls.clear()
    failed = wg.set_many(node.runner, "jwl0", parts)
    assert [index + 1 for index in failed] == [7, 30]
    assert len(node.runner.calls) < 40
    observed = Linux(node.runner).observe("jwl0")
    assert observed is not None and set(observed.peers) == {mesh.key(n) for n in good if n not in bad}


@on_kernel_too
def test_a_tunnel_that_is_gone_is_not_asked_for_each_peer(node: Namespace) -> None:
    parts = [("peer", mesh.key(n), "allowed-ips", f"10.20.0.{n}/32") for n in range(1, 60)]
    node.runner.calls.clear()
    assert len(wg.set_many(node.runner, "jwl0", parts)) == len(parts)
    # To the kernel 59 peers are several messages, of which wg tells by another error (ENOSPC).
    assert len(node.runner.calls) <= 3


def test_what_the_kernel_refuses_of_a_new_interface_is_reported_and_the_rest_is_there(
    node: Namespace, wish: Interface
) -> None:
    """A route of the same metric leads to the prefix already."""
    add_lan(node)
    node.run(["ip", "route", "add", "172.20.1.0/24", "dev", "lan", "metric", "2048"])
    peer = WgPeer(mesh.key(1), ("10.20.0.2/32", "172.20.1.0/24", "172.20.2.0/24"))
    prefixes = frozenset({"172.20.1.0/24", "172.20.2.0/24"})
    desired = replace(wish, addresses=("10.20.0.1/20",), peers={peer.key: peer}, routes=prefixes)
    (failure,) = Linux(node.runner).attempt(plan.diff(None, desired))
    assert not failure.is_fatal
    assert "172.20.1.0/24" in str(failure.error) and "File exists" in str(failure.error)
    (left,) = plan.diff(Linux(node.runner).observe("jwl0"), desired).steps
    assert left.added == ("route 172.20.1.0/24",)
    node.run(["ip", "route", "del", "172.20.1.0/24", "dev", "lan"])
    bring(node, desired)


def path_with(folder: Path, *tools: str) -> str:
    for tool in tools:
        (folder / tool).symlink_to(str(shutil.which(tool)))
    return str(folder)


def test_machine_without_wg_is_told_its_package(
    node: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", path_with(tmp_path, "ip"))
    with pytest.raises(MissingTool, match=r"wg is missing.*install the package wireguard-tools"):
        Linux(node.runner).require_tools()
    with pytest.raises(MissingTool, match="wg is missing"):
        Linux(SubprocessRunner()).require_tools()


@needs_userspace
def test_machine_without_any_wireguard_is_told_what_to_install(
    node: Namespace, wish: Interface, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", path_with(tmp_path, "ip", "wg", "readlink"))
    with pytest.raises(JaywalkError, match="load the wireguard module or install the package wireguard-go"):
        Linux(node.runner).apply(plan.diff(None, wish))
    assert Linux(node.runner).observe("jwl0") is None


@needs_userspace
def test_machine_without_tun_is_told_so(
    node: Namespace, wish: Interface, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(userspace, "TUN", str(tmp_path / "tun"))
    with pytest.raises(JaywalkError, match=r"tun is missing and wireguard-go needs it: .*modprobe tun"):
        Linux(node.runner).apply(plan.diff(None, wish))
    assert Linux(node.runner).observe("jwl0") is None


@needs_userspace
def test_userspace_program_that_fails_is_quoted_in_one_line(
    node: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = path_with(tmp_path, "ip", "wg", "readlink")
    program = tmp_path / "wireguard-go"
    program.write_text(
        "#!/bin/sh\necho '+--- use the kernel ---+' >&2\necho 'cannot open the device' >&2\nexit 3\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", tools)
    with pytest.raises(CommandFailed) as caught:
        Linux(node.runner).create("jwl0")
    assert str(caught.value) == "'wireguard-go jwl0' ended with exit code 3: cannot open the device"


def test_own_networks_are_those_of_the_other_interfaces(node: Namespace, wish: Interface) -> None:
    add_lan(node)
    bring(node, replace(wish, addresses=("10.20.0.1/20",)))
    assert Linux(node.runner).local_networks(without="jwl0") == ["192.168.7.1/24"]
    assert "10.20.0.1/20" in Linux(node.runner).local_networks(without="none")


@on_kernel_too
def test_traffic_loses_nothing_while_other_peers_and_routes_come_and_go(
    namespace: Make, tmp_path: Path
) -> None:
    left, right = namespace("jwl-left"), namespace("jwl-right")
    connect(left, right, "192.0.2.1/24", "192.0.2.2/24")
    wishes = [make_wish(tmp_path, name) for name in ("jwl0", "jwl1")]
    for number, node in ((1, left), (2, right)):
        mine, other = wishes[number - 1], wishes[2 - number]
        peer = WgPeer(other.public_key, (f"10.20.0.{3 - number}/32",), f"192.0.2.{3 - number}:51900", 25)
        wishes[number - 1] = replace(
            mine, listen_port=51900, addresses=(f"10.20.0.{number}/20",), peers={peer.key: peer}
        )
        bring(node, wishes[number - 1])
    left.run(["ping", "-c", "1", "-W", "10", "10.20.0.2"])
    ping = left.start(["ping", "-i", "0.01", "-c", "300", "-W", "5", "10.20.0.2"])
    turn = 0
    while ping.poll() is None:
        for node, mine in ((left, wishes[0]), (right, wishes[1])):
            others = {
                mesh.key(n): WgPeer(mesh.key(n), (f"10.20.1.{n + 1}/32", f"172.20.{n}.0/24"), "", 25)
                for n in range(turn % 4 * 5, 40 - turn % 3 * 7)
            }
            routes = frozenset(peer.allowed_ips[1] for peer in others.values())
            bring(node, replace(mine, peers={**mine.peers, **others}, routes=routes))
        turn += 1
    output, _ = ping.communicate()
    assert "300 packets transmitted, 300 received" in output
    assert turn


@on_kernel_too
def test_an_interface_in_a_namespace_speaks_from_outside_of_it(
    node: Namespace, wish: Interface, namespace: Make
) -> None:
    """The namespace of `node` has the mesh; the socket lies where the runner itself runs."""
    outside = namespace("jwl-out")
    runner = NamespaceRunner(outside.runner, node.name)
    steps = plan.diff(None, replace(wish, name="jwlns0", listen_port=51899, addresses=("10.20.0.1/20",)))
    Linux(runner).apply(steps)
    assert "jwlns0" in node.run(["ip", "link"])
    assert "jwlns0" not in outside.run(["ip", "link"])
    observed = Linux(runner).observe("jwlns0")
    assert observed is not None
    assert (observed.listen_port, observed.addresses, observed.up) == (51899, ("10.20.0.1/20",), True)
    desired = replace(wish, name="jwlns0", listen_port=51899, addresses=("10.20.0.1/20",))
    assert not plan.diff(observed, desired)
    node.run(["ip", "route", "del", "10.20.0.0/20"])
    Linux(runner).apply(plan.diff(Linux(runner).observe("jwlns0"), desired))
    assert "10.20.0.0/20 dev jwlns0" in node.run(["ip", "route"])
    assert Linux(runner).why_no_ipv6("jwlns0", exists=True) == ""
    node.run(["tee", "/proc/sys/net/ipv6/conf/all/disable_ipv6"], "1")
    assert "jwlns0.disable_ipv6 is 1" in Linux(runner).why_no_ipv6("jwlns0", exists=True)
    Linux(runner).apply(plan.diff(observed, None))
    assert Linux(runner).observe("jwlns0") is None


def test_a_name_that_is_in_use_outside_is_refused_for_a_namespace(
    node: Namespace, wish: Interface, namespace: Make
) -> None:
    outside = namespace("jwl-out")
    outside.run(["ip", "link", "add", "jwlns1", "type", "veth"])
    with pytest.raises(JaywalkError, match="jwlns1 exists outside of the network namespace jwl"):
        Linux(NamespaceRunner(outside.runner, node.name)).create("jwlns1")
    assert "jwlns1" not in node.run(["ip", "link"])
