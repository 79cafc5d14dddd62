# SPDX-License-Identifier: GPL-3.0-or-later
"""The interface: by delta or by a full look, it ends up the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaywalk.core.errors import CommandFailed, InvalidValue, JaywalkError
from jaywalk.core.runner import Finished
from jaywalk.mesh import node_interface
from jaywalk.mesh.node_interface import LocalNode
from jaywalk.wireguard import keys, userspace, wg
from jaywalk.wireguard.linux import Linux
from jaywalk.zone.models import Peer
from jaywalk.zone.view import ZoneView
from jaywalk_agent.dataplane.interface import DataPlane
from tests.agent_support import event, peer, view_of
from tests.netns import Namespace
from tests.strategies import key
from tests.zone_model import NAME, ModelInterface

OWN = LocalNode(key(0), "/etc/key0", NAME)
PREFIXES = ("172.20.1.0/24", "172.20.2.0/24", "172.20.3.0/24", "192.168.7.0/24")
LOCAL = ["192.168.7.9/24"]
"""So the last of the prefixes is one that this node does not take."""


class Machine(ModelInterface):
    """The model, with the looks that the agent takes at a machine."""

    @contextmanager
    def looked_at(self, local: list[str]) -> Iterator[None]:
        with (
            mock.patch.object(Linux, "observe", lambda self, name: self.runner.observed()),
            mock.patch.object(Linux, "local_networks", return_value=local),
            mock.patch.object(Linux, "path_mtus", return_value={}),
            mock.patch.object(Linux, "require_wireguard"),
            mock.patch.object(Linux, "listen_ports", return_value={}),
        ):
            yield


def machine() -> Machine:
    return Machine(key_files={OWN.private_key_file: OWN.public_key})


@st.composite
def batches(draw: st.DrawFn) -> list[Any]:
    """What a zone's log may bring between two reads: peers that come, move and go; prefixes that move."""
    numbers = st.integers(1, 4)
    words = st.one_of(
        st.tuples(st.just("come"), numbers, st.integers(0, 2)),
        st.tuples(st.just("go"), numbers),
        st.tuples(st.just("renumber"), st.integers(0, 4), st.integers(0, 1)),
        st.tuples(st.just("give"), numbers, st.sampled_from(PREFIXES)),
    )
    return draw(st.lists(st.lists(words, min_size=1, max_size=4), max_size=6))


def commit(view: ZoneView, word: Any) -> set[str]:
    """One event of the log; the zone gives each address and prefix to one peer."""
    number = word[1]
    before = view.peers.get(key(number), peer(number))
    if word[0] == "go":
        return event(view, gone=(before.key,))
    if word[0] == "come":
        endpoint = ["", "192.0.2.1:51820", "192.0.2.2:51820"][word[2]]
        return event(view, before._replace(endpoint=endpoint))
    if word[0] == "renumber":
        return event(view, before._replace(addresses=(f"10.20.{word[2]}.{number + 1}",)))
    losers = [each for each in view.peers.values() if word[2] in each.prefixes and each.key != before.key]
    changed = [each._replace(prefixes=tuple(set(each.prefixes) - {word[2]})) for each in losers]
    kept = tuple(sorted({*before.prefixes, word[2]}))
    return event(view, *changed, before._replace(prefixes=kept))


@given(log=batches())
def test_a_delta_ends_where_a_full_look_ends(log: list[list[Any]]) -> None:
    view = view_of(peer(0), peer(1))
    by_delta, by_look = machine(), machine()
    with by_delta.looked_at(LOCAL):
        delta = DataPlane(Linux(by_delta), OWN)
        delta.apply(view)
        DataPlane(Linux(by_look), OWN).apply(view)
        for batch in log:
            changed = set().union(*(commit(view, word) for word in batch))
            delta.apply(view, changed)
            DataPlane(Linux(by_look), OWN).apply(view)
            assert without_endpoints(by_delta) == without_endpoints(by_look)
            assert not delta.plan(view)[1], "a look finds nothing left to do"


def without_endpoints(each: Machine) -> set[str]:
    return {line for line in each.facts() if " endpoint " not in line}


def test_one_change_is_one_command_that_names_one_peer() -> None:
    view = view_of(*(peer(number) for number in range(50)))
    model = machine()
    with model.looked_at([]):
        plane = DataPlane(Linux(model), OWN)
        plane.apply(view)
        model.words.clear()
        plane.apply(view, event(view, peer(50, endpoint="192.0.2.5:51820")))
    assert model.words[:5] == ["wg", "set", NAME, "peer", key(50)]
    assert model.words.count("peer") == 1
    assert "ip" not in model.words


def test_no_change_is_no_command() -> None:
    view = view_of(peer(0), peer(1))
    model = machine()
    with model.looked_at([]):
        plane = DataPlane(Linux(model), OWN)
        plane.apply(view)
        model.words.clear()
        assert not plane.apply(view, set())
        assert not plane.apply(view)
    assert model.words == []


def test_after_an_error_it_looks_anew() -> None:
    view = view_of(peer(0), peer(1))
    model = machine()
    with model.looked_at([]):
        plane = DataPlane(Linux(model), OWN)
        plane.apply(view)
        changed = event(view, peer(2))
        failing = mock.patch.object(wg, "set_many", side_effect=CommandFailed(["wg", "set"], 1, "busy"))
        with failing, pytest.raises(CommandFailed):
            plane.apply(view, changed)
        plane.apply(view, event(view, peer(3)))
    assert set(model.peers) == {key(1), key(2), key(3)}


@pytest.mark.parametrize("member", [True, False])
def test_a_pool_over_a_network_of_the_machine_is_refused_even_before_the_join(member: bool) -> None:
    view = view_of(peer(0)) if member else view_of()
    model = machine()
    refused = pytest.raises(InvalidValue, match=r"10\.20\.0\.0/20 overlaps 10\.20\.9\.0/24")
    with model.looked_at(["10.20.9.1/24"]), refused:
        DataPlane(Linux(model), OWN).apply(view)
    assert not model.exists


@pytest.mark.parametrize("member", [True, False])
def test_an_interface_with_another_key_is_left_alone(member: bool) -> None:
    view = view_of(peer(0)) if member else view_of()
    model = machine()
    model.exists, model.public_key = True, key(9)
    plane = DataPlane(Linux(model), OWN)
    with model.looked_at([]):
        for act in (lambda: plane.apply(view), plane.remove):
            with pytest.raises(InvalidValue, match=f"{NAME} is in use with another key"):
                act()
    assert model.words == []


def test_a_prefix_over_the_controller_is_not_taken() -> None:
    view = view_of(peer(0), peer(1, prefixes=("192.0.2.0/24", "172.20.1.0/24")))
    model = machine()
    with model.looked_at([]):
        DataPlane(Linux(model), OWN, ["192.0.2.9"]).apply(view)
    assert model.routes == {"172.20.1.0/24"}
    assert model.peers[key(1)].allowed == {"10.20.0.2/32", "172.20.1.0/24"}


def test_a_network_of_any_kind_on_this_machine_is_no_trouble() -> None:
    view = view_of(peer(0), peer(1))
    model = machine()
    with model.looked_at(["::192.0.2.1/96", "127.8.0.1/8"]):
        DataPlane(Linux(model), OWN).apply(view)
    assert set(model.peers) == {key(1)}


def test_what_a_peer_or_this_node_has_no_newcomer_takes() -> None:
    view = view_of(peer(0, prefixes=("172.20.0.0/24",)), peer(1, prefixes=("172.20.1.0/24",)))
    claimed = ("172.20.0.128/25", "172.20.1.0/24", "172.20.2.0/24")
    greedy = Peer(key(2), "greedy", ("10.20.0.1", "10.20.0.2", "10.20.0.3"), claimed)
    model = machine()
    with model.looked_at([]):
        plane = DataPlane(Linux(model), OWN)
        plane.apply(view)
        plane.apply(view, event(view, greedy))
        assert model.peers[key(1)].allowed == {"10.20.0.2/32", "172.20.1.0/24"}
        assert model.peers[key(2)].allowed == {"10.20.0.3/32", "172.20.2.0/24"}
        assert not plane.apply(view)
        assert len(node_interface.refused_prefixes(view, plane.node)) == 4
        plane.apply(view, event(view, gone=(key(1),)))
        assert model.peers[key(2)].allowed == {"10.20.0.2/32", "10.20.0.3/32", *claimed[1:]}
        assert model.routes == {*claimed[1:]}


def test_while_this_node_is_not_in_the_zone_the_interface_stays() -> None:
    view = view_of(peer(0), peer(1))
    model = machine()
    with model.looked_at([]):
        plane = DataPlane(Linux(model), OWN)
        plane.apply(view)
        before = model.facts()
        plane.apply(view, event(view, gone=(key(0),)))
    assert model.facts() == before


@pytest.mark.wireguard
@pytest.mark.kernel_wireguard
def test_makes_mends_and_removes_a_real_interface(
    namespace: Callable[[str], Namespace], tmp_path: Path
) -> None:
    inside = namespace("jwu-plane")
    file = tmp_path / "key"
    public, _ = keys.ensure_key_file(inside.runner, str(file))
    own = peer(0)._replace(key=public)
    view = view_of(own, peer(1, prefixes=("172.20.1.0/24",), endpoint="192.0.2.1:51820"))
    plane = DataPlane(Linux(inside.runner), LocalNode(public, str(file), "jwuplane0", 51999))
    assert plane.apply(view)
    assert not plane.apply(view)
    inside.run(["ip", "route", "del", "172.20.1.0/24"])
    inside.run(["wg", "set", "jwuplane0", "peer", key(1), "remove"])
    assert plane.apply(view)
    assert "172.20.1.0/24" in inside.run(["ip", "route"])
    assert key(1) in inside.run(["wg", "show", "jwuplane0", "peers"])
    assert plane.remove()
    assert not plane.remove()
    assert "jwuplane0" not in inside.run(["ip", "link"])


@pytest.mark.wireguard
def test_an_interface_gets_no_key_of_a_file_that_changed_since_the_start(
    namespace: Callable[[str], Namespace], tmp_path: Path
) -> None:
    inside = namespace("jwu-agent")
    file = tmp_path / "key"
    before, _ = keys.ensure_key_file(inside.runner, str(file))
    plane = DataPlane(Linux(inside.runner), LocalNode(before, str(file), "jwunit0"))
    plane.apply(view_of(peer(0)._replace(key=before), peer(1)))
    kept = file.read_text()
    file.write_text(keys.generate(inside.runner) + "\n")
    inside.run(["ip", "link", "delete", "jwunit0"])
    with pytest.raises(InvalidValue, match=r"key has changed.*restart the agent"):
        plane.restore("jwunit0")
    file.write_text(kept)
    assert plane.restore("jwunit0").found == ("interface jwunit0 was gone",)
    assert inside.run(["wg", "show", "jwunit0", "public-key"]).strip() == before


@pytest.mark.wireguard
@pytest.mark.usefixtures("no_kernel_wireguard")
def test_without_any_wireguard_nothing_is_touched(
    namespace: Callable[[str], Namespace], monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = namespace("jwu-notun")
    monkeypatch.setattr(userspace, "TUN", "/nonexistent/tun")
    plane = DataPlane(Linux(inside.runner), LocalNode(key(0), "/etc/key0", "jwunotun0"))
    with pytest.raises(JaywalkError, match="/nonexistent/tun is missing"):
        plane.apply(view_of())
    assert not any("add" in call for call in inside.runner.calls)


@pytest.mark.wireguard
@pytest.mark.kernel_wireguard
def test_two_interfaces_on_one_port_are_refused_by_name(
    namespace: Callable[[str], Namespace], tmp_path: Path
) -> None:
    inside = namespace("jwu-port")
    file = tmp_path / "key"
    public, _ = keys.ensure_key_file(inside.runner, str(file))
    view = view_of(peer(0)._replace(key=public))
    DataPlane(Linux(inside.runner), LocalNode(public, str(file), "jwuport0", 51999)).apply(view)
    other = DataPlane(Linux(inside.runner), LocalNode(public, str(file), "jwuport1", 51999))
    with pytest.raises(InvalidValue, match="UDP port 51999 is the interface jwuport0's"):
        other.apply(view_of(peer(0)._replace(key=public)))
    assert "jwuport1" not in inside.run(["ip", "link"])


@pytest.mark.wireguard
@pytest.mark.kernel_wireguard
def test_a_preshared_key_that_somebody_gave_a_peer_is_taken_away_and_told(
    namespace: Callable[[str], Namespace], tmp_path: Path
) -> None:
    inside = namespace("jwu-psk")
    file = tmp_path / "key"
    public, _ = keys.ensure_key_file(inside.runner, str(file))
    view = view_of(peer(0)._replace(key=public), peer(1), peer(2))
    plane = DataPlane(Linux(inside.runner), LocalNode(public, str(file), "jwupsk0", 51999))
    plane.apply(view)
    assert not plane.peers_differ(Linux(inside.runner).observe_peers("jwupsk0"))
    (tmp_path / "psk").write_text(keys.generate(inside.runner) + "\n")
    inside.run(["wg", "set", "jwupsk0", "peer", key(1), "preshared-key", str(tmp_path / "psk")])
    assert plane.peers_differ(Linux(inside.runner).observe_peers("jwupsk0"))
    done = plane.restore("jwupsk0")
    assert done.found == ("peer node1 had a preshared key",)
    assert len(done.steps) == 1
    assert not any(each.preshared for each in Linux(inside.runner).observe_peers("jwupsk0").values())
    assert not plane.apply(view)


@pytest.mark.wireguard
@pytest.mark.kernel_wireguard
def test_what_others_did_to_a_real_interface_is_put_right_and_told(
    namespace: Callable[[str], Namespace], tmp_path: Path
) -> None:
    inside = namespace("jwu-drift")
    file = tmp_path / "key"
    public, _ = keys.ensure_key_file(inside.runner, str(file))
    view = view_of(peer(0)._replace(key=public), peer(1, prefixes=("172.20.1.0/24",)))
    plane = DataPlane(Linux(inside.runner), LocalNode(public, str(file), "jwudrift0", 51999))
    assert plane.apply(view).found == ()
    for damage, found in {
        "ip route del 10.20.0.0/20": "route 10.20.0.0/20 was gone",
        "ip link set jwudrift0 down": "link jwudrift0 was down",
        "ip addr del 10.20.0.1/20 dev jwudrift0": "address 10.20.0.1/20 was gone",
        "ip addr add 198.51.100.1/32 dev jwudrift0": "removed address 198.51.100.1/32, which zone zone-blue",
        f"wg set jwudrift0 peer {key(9)}": f"removed peer {key(9)}, which zone zone-blue does not have",
        f"wg set jwudrift0 peer {key(1)} remove": "peer node1 was gone",
        "ip link del jwudrift0": "interface jwudrift0 was gone",
    }.items():
        inside.run(damage.split())
        assert any(found in sentence for sentence in plane.apply(view).found), damage
        assert not plane.apply(view), damage
    event(view, gone=(key(1),))
    done = plane.apply(view)
    assert done and done.found == (), "the zone removed the peer"


@pytest.mark.wireguard
def test_a_route_that_is_refused_keeps_no_peer_away_and_comes_when_it_may(
    namespace: Callable[[str], Namespace], tmp_path: Path
) -> None:
    inside = namespace("jwu-refuse")
    file = tmp_path / "key"
    public, _ = keys.ensure_key_file(inside.runner, str(file))
    inside.run(["ip", "route", "add", "172.20.1.0/24", "dev", "lo", "metric", "2048"])
    view = view_of(peer(0)._replace(key=public), peer(1, prefixes=("172.20.1.0/24", "172.20.2.0/24")))
    plane = DataPlane(Linux(inside.runner), LocalNode(public, str(file), "jwurefuse0", 51999))
    plane.apply(view)
    assert plane.refused == {"route 172.20.1.0/24": "route 172.20.1.0/24 was refused: File exists"}
    plane.apply(view, event(view, peer(2, prefixes=("172.20.3.0/24",))))
    assert plane.refused, "an event about another peer says nothing about this one"
    assert plane.apply(view).found == (), "what never came about nobody took away"
    assert "172.20.3.0/24" in inside.run(["ip", "route", "show", "dev", "jwurefuse0"])
    inside.run(["ip", "route", "del", "172.20.1.0/24", "dev", "lo"])
    plane.apply(view)
    assert plane.refused == {}
    assert "172.20.1.0/24" in inside.run(["ip", "route", "show", "dev", "jwurefuse0"])


class RefusesPeer(Machine):
    """A machine whose WireGuard takes every peer but one."""

    bad = key(2)

    def run(self, argv: Sequence[str], stdin: str | None = None) -> Finished:
        if argv[:2] == ["wg", "set"] and self.bad in argv:
            return Finished(1, "", "Unable to modify interface: Invalid argument\n")
        return super().run(argv, stdin)


def test_a_peer_that_is_refused_keeps_no_other_away_be_it_by_look_or_by_event() -> None:
    view = view_of(*(peer(number) for number in range(20)))
    model = RefusesPeer(key_files={OWN.private_key_file: OWN.public_key})
    with model.looked_at([]):
        plane = DataPlane(Linux(model), OWN)
        plane.apply(view)
        assert set(model.peers) == {key(number) for number in range(1, 20)} - {model.bad}
        sentence = f"peer {model.bad} was refused: Unable to modify interface: Invalid argument"
        assert list(plane.refused.values()) == [sentence]
        model.words.clear()
        plane.apply(view, event(view, peer(20)))
        assert model.bad not in model.words, "an event is about its own peer alone"
        assert key(20) in model.peers and list(plane.refused.values()) == [sentence]
        plane.apply(view, event(view, peer(2, endpoint="192.0.2.2:51820"), peer(21)))
        assert key(21) in model.peers and plane.refused
        plane.set_endpoints(
            {key(n): node_interface.PeerEndpoint("192.0.2.9:1") for n in (2, 3)}, [key(2), key(3)], {}
        )
        assert model.peers[key(3)].endpoint == "192.0.2.9:1"
        plane.apply(view, event(view, gone=(model.bad,)))
        assert plane.refused == {}


@pytest.mark.wireguard
def test_what_is_refused_is_not_told_as_taken_away(
    namespace: Callable[[str], Namespace], tmp_path: Path
) -> None:
    inside = namespace("jwu-again")
    file = tmp_path / "key"
    public, _ = keys.ensure_key_file(inside.runner, str(file))
    inside.run(["ip", "route", "add", "172.20.1.0/24", "dev", "lo", "metric", "2048"])
    own = Peer(public, "node0", ("10.20.0.1", "fd20::1"))
    view = view_of(own, peer(1, prefixes=("172.20.1.0/24",)))
    view.zone = replace(view.zone, pools=("10.20.0.0/20", "fd20::/64"))
    plane = DataPlane(Linux(inside.runner), LocalNode(public, str(file), "jwuagain0", 51999))
    with mock.patch.object(Linux, "why_no_ipv6", return_value=""):
        switch_ipv6(inside, "all", "1")
        for _ in range(3):
            assert plane.apply(view).found == ()
            assert plane.refused.keys() == {"address fd20::1/64", "route 172.20.1.0/24"}


def test_without_a_port_there_is_no_tunnel_and_that_is_an_error() -> None:
    class NoPort(Machine):
        def run(self, argv: Sequence[str], stdin: str | None = None) -> Finished:
            if argv[:2] == ["wg", "set"] and "listen-port" in argv:
                return Finished(1, "", "Unable to modify interface: Address already in use\n")
            return super().run(argv, stdin)

    model = NoPort(key_files={OWN.private_key_file: OWN.public_key})
    with model.looked_at([]), pytest.raises(CommandFailed, match="Address already in use"):
        DataPlane(Linux(model), OWN).apply(view_of(peer(0), peer(1)))
    assert not model.exists


def switch_ipv6(inside: Namespace, interface: str, value: str) -> None:
    inside.run(["tee", f"/proc/sys/net/ipv6/conf/{interface}/disable_ipv6"], value)


@pytest.mark.wireguard
@pytest.mark.parametrize(
    "setting", ["all", "default", pytest.param("jwuno6", marks=pytest.mark.kernel_wireguard)]
)
def test_where_the_kernel_takes_no_ipv6_ipv4_comes_up_and_ipv6_follows_when_it_may(
    namespace: Callable[[str], Namespace], tmp_path: Path, setting: str
) -> None:
    inside = namespace("jwu-no6")
    file = tmp_path / "key"
    public, _ = keys.ensure_key_file(inside.runner, str(file))
    own = Peer(public, "node0", ("10.20.0.1", "fd20::1"))
    other = Peer(key(1), "node1", ("10.20.0.2", "fd20::2"), ("172.20.1.0/24", "fd21:1::/64"))
    view = view_of(own, other)
    view.zone = replace(view.zone, pools=("10.20.0.0/20", "fd20::/64"))
    plane = DataPlane(Linux(inside.runner), LocalNode(public, str(file), "jwuno6", 51999))
    if setting == "jwuno6":
        plane.apply(view)
        assert plane.without_ipv6 == ""
    switch_ipv6(inside, setting, "1")
    plane.apply(view)
    shown = setting if setting == "jwuno6" else "default"
    assert f"left out of jwuno6, since net.ipv6.conf.{shown}.disable_ipv6 is 1" in plane.without_ipv6
    assert plane.refused == {}
    assert not plane.apply(view), "nothing is left to do"
    assert "net.ipv6.conf.jwuno6.disable_ipv6=0' allows it" in plane.without_ipv6
    third = Peer(key(2), "node2", ("10.20.0.3", "fd20::3"), ("fd21:2::/64",))
    plane.apply(view, event(view, third))
    assert plane.refused == {}
    assert "10.20.0.1/20" in inside.run(["ip", "addr", "show", "dev", "jwuno6"])
    assert "172.20.1.0/24" in inside.run(["ip", "route", "show", "dev", "jwuno6"])
    assert "fd21:2::/64" in inside.run(["wg", "show", "jwuno6", "allowed-ips"])
    switch_ipv6(inside, "jwuno6", "0")
    plane.apply(view)
    assert plane.without_ipv6 == "" and plane.refused == {}
    routes = inside.run(["ip", "-6", "route", "show", "dev", "jwuno6"])
    assert all(prefix in routes for prefix in ("fd20::/64", "fd21:1::/64", "fd21:2::/64"))
    assert not plane.apply(view)


@pytest.mark.wireguard
def test_a_pool_that_a_zone_adds_later_is_left_out_too_where_it_cannot_be(
    namespace: Callable[[str], Namespace], tmp_path: Path
) -> None:
    inside = namespace("jwu-add6")
    file = tmp_path / "key"
    public, _ = keys.ensure_key_file(inside.runner, str(file))
    view = view_of(peer(0)._replace(key=public), peer(1))
    plane = DataPlane(Linux(inside.runner), LocalNode(public, str(file), "jwuadd6", 51999, mtu=1200))
    plane.apply(view)
    assert plane.without_ipv6 == "", "an IPv4 zone asks for none"
    view.zone = replace(view.zone, pools=("10.20.0.0/20", "fd20::/64"))
    changed = event(view, peer(0)._replace(key=public, addresses=("10.20.0.1", "fd20::1")), peer(2))
    plane.apply(view, changed)
    assert "its MTU is 1200, and IPv6 needs 1280 bytes" in plane.without_ipv6
    assert plane.refused == {}
    assert key(2) in inside.run(["wg", "show", "jwuadd6", "peers"])
