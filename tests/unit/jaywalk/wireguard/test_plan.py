# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans: lead from any state to any other, with no step for what does not differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaywalk.core.errors import CommandFailed
from jaywalk.core.runner import Finished
from jaywalk.wireguard import plan, userspace, wg
from jaywalk.wireguard.interface import Interface, ObservedInterface, ObservedPeer, WgPeer, networks_of
from jaywalk.wireguard.linux import Linux
from jaywalk.wireguard.steps import SetPeer, WgStep
from tests import strategies as mesh
from tests.zone_model import NAME, ModelInterface, Refused, settled

NOW = 1_000_000
KEY_FILES = {f"/etc/key{number}": mesh.key(100 + number) for number in range(3)}
ADDRESSES = [
    "10.20.0.1/20",
    "10.20.0.2/20",
    "10.20.0.3/20",
    "10.21.0.1/24",
    "10.20.0.1/32",
    "fd20::1/64",
    "fe80::5/64",
]
ROUTES = ["172.20.1.0/24", "172.20.2.0/24", "172.20.3.7/32", "fd21:1::/64", "fd21:2::/64"]
OWN_ROUTES = ["10.20.0.0/20", "10.21.0.0/24", "10.20.0.1/32", "fd20::/64", "fe80::/64"]
"""Networks of some of the addresses, which the kernel routes, and a person may route by hand."""
PREFIXES = [f"10.20.0.{n}/32" for n in range(10, 18)] + ["fd20::a/128", "172.20.1.0/24", "172.20.2.0/24"]

subsets_of_addresses = st.lists(st.sampled_from(ADDRESSES), unique=True).map(tuple)
subsets_of_routes = st.frozensets(st.sampled_from(ROUTES))
mtus = st.sampled_from([1280, 1380, 1420])
handshakes = st.sampled_from([0, NOW - 5, NOW - 179, NOW - 181, NOW - 9999])


@pytest.fixture(scope="module", autouse=True)
def no_program_holds_the_name(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A deletion waits for the end of the interface's program, and this host may have one of that name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(userspace, "CONTROL_SOCKETS", str(tmp_path_factory.mktemp("sockets")))
        yield


@st.composite
def peer_sets(draw: st.DrawFn) -> dict[str, WgPeer]:
    keys = draw(st.lists(mesh.keys, unique=True, max_size=6))
    owners: dict[str, list[str]] = {key: [] for key in keys}
    for prefix in draw(st.lists(st.sampled_from(PREFIXES), unique=True)) if keys else []:
        owners[draw(st.sampled_from(keys))].append(prefix)
    return {
        key: WgPeer(key, tuple(sorted(owned)), draw(mesh.endpoints), draw(st.sampled_from([0, 25])))
        for key, owned in owners.items()
    }


@st.composite
def observations(draw: st.DrawFn) -> ObservedInterface | None:
    if draw(st.integers(0, 9)) == 0:
        return None
    peers = draw(peer_sets())
    up = draw(st.booleans())
    addresses = draw(subsets_of_addresses) if not draw(st.booleans()) else tuple(ADDRESSES[:3])
    routes = draw(subsets_of_routes) | draw(st.frozensets(st.sampled_from(OWN_ROUTES))) if up else frozenset()
    hosts = sorted({each.split("/")[0] for each in addresses})
    networks = sorted(networks_of(addresses))
    lost = draw(st.frozensets(st.sampled_from(networks))) if networks else frozenset()
    return ObservedInterface(
        name=NAME,
        kind=draw(st.sampled_from(["kernel", "userspace"])),
        public_key=draw(st.sampled_from(["", *KEY_FILES.values()])),
        listen_port=draw(st.sampled_from([0, 51820, 40000])),
        addresses=addresses,
        mtu=draw(mtus),
        up=up,
        peers={
            key: ObservedPeer(key, peer.allowed_ips, peer.endpoint, peer.keepalive, draw(handshakes))
            for key, peer in peers.items()
        },
        routes=routes,
        lost_networks=lost - routes if up else frozenset(),
        lost_hosts=draw(st.frozensets(st.sampled_from(hosts))) if up and hosts else frozenset(),
    )


@st.composite
def desired_interfaces(draw: st.DrawFn) -> Interface:
    path = draw(st.sampled_from(sorted(KEY_FILES)))
    return Interface(
        name=NAME,
        public_key=KEY_FILES[path],
        private_key_file=path,
        listen_port=draw(st.sampled_from([None, 51820, 40000])),
        addresses=draw(subsets_of_addresses),
        mtu=draw(st.one_of(st.none(), mtus)),
        peers=draw(peer_sets()),
        routes=draw(subsets_of_routes),
    )


@given(observations(), desired_interfaces())
def test_plan_leads_from_any_state_to_any_other_and_then_there_is_nothing_left(
    observed: ObservedInterface | None, desired: Interface
) -> None:
    model = ModelInterface.of(observed, KEY_FILES)
    Linux(model).apply(plan.diff(observed, desired, NOW))
    assert model.exists and model.up
    assert model.public_key == desired.public_key
    assert desired.listen_port in (None, model.listen_port)
    assert desired.mtu in (None, model.mtu)
    assert set(model.addresses) == set(desired.addresses)
    assert len(model.addresses) == len(desired.addresses)
    assert desired.routes <= model.routes <= desired.routes | desired.accepted_routes
    assert networks_of(model.addresses).keys() <= model.networks | model.routes
    assert {each.split("/")[0] for each in model.addresses} == model.hosts
    found = {key: (peer.allowed, peer.endpoint, peer.keepalive) for key, peer in model.peers.items()}
    assert found == settled(desired, observed, NOW)
    assert not plan.diff(model.observed(), desired, NOW)


@given(observations(), desired_interfaces())
def test_diff_is_what_changes_no_more_and_no_less(
    observed: ObservedInterface | None, desired: Interface
) -> None:
    model = ModelInterface.of(observed, KEY_FILES)
    before = model.facts()
    steps = plan.diff(observed, desired, NOW)
    shown = steps.diff()
    removed, added = (shown[side].splitlines() for side in ("before", "after"))
    assert len(set(removed)) == len(removed) and len(set(added)) == len(added)
    assert set(removed) <= before
    assert before.isdisjoint(added)
    Linux(model).apply(steps)
    unasked = {line for line in ("mtu 1420",) if observed is None and desired.mtu in (None, 1420)}
    # An equal route made by hand may give way to the kernel's own, and is not missed.
    unasked |= _lost_lines(observed) | {f"route {each}" for each in desired.accepted_routes}
    assert (before - set(removed)) | set(added) | unasked == model.facts() | unasked
    assert bool(steps) == bool(removed or added)


def test_an_address_with_two_prefix_lengths_gets_one_local_route() -> None:
    addresses = ("10.20.0.1/32", "10.20.0.1/20")
    desired = Interface(NAME, KEY_FILES["/etc/key1"], "/etc/key1", addresses=addresses)
    model = ModelInterface(key_files=KEY_FILES)
    Linux(model).apply(plan.diff(None, desired, NOW))
    model.hosts.clear()
    steps = plan.diff(model.observed(), desired, NOW)
    assert steps.diff()["after"] == "local route 10.20.0.1\n"
    Linux(model).apply(steps)
    assert not plan.diff(model.observed(), desired, NOW)


def _lost_lines(observed: ObservedInterface | None) -> set[str]:
    """The routes that the kernel made and others deleted; they are no facts of the model while they exist."""
    if observed is None:
        return set()
    networks = {f"route {each}" for each in observed.lost_networks}
    return networks | {f"local route {each}" for each in observed.lost_hosts}


@given(observations(), desired_interfaces())
def test_peer_that_did_not_change_is_in_no_command(
    observed: ObservedInterface | None, desired: Interface
) -> None:
    model = ModelInterface.of(observed, KEY_FILES)
    before = {key: (peer.allowed, peer.endpoint, peer.keepalive) for key, peer in model.peers.items()}
    same = {key for key, wanted in settled(desired, observed, NOW).items() if before.get(key) == wanted}
    Linux(model).apply(plan.diff(observed, desired, NOW))
    assert same.isdisjoint(model.words)


@given(observations(), desired_interfaces())
def test_interface_is_never_deleted_to_be_changed(
    observed: ObservedInterface | None, desired: Interface
) -> None:
    steps = plan.diff(observed, desired, NOW)
    assert not steps.deletes
    assert steps.creates == (observed is None)


@given(observations())
def test_interface_that_should_not_be_is_deleted_in_one_step(observed: ObservedInterface | None) -> None:
    model = ModelInterface.of(observed, KEY_FILES)
    steps = plan.diff(observed, None, NOW)
    assert bool(steps) == model.exists
    Linux(model).apply(steps)
    assert not model.exists
    assert not plan.diff(model.observed(), None, NOW)
    if observed is not None:
        assert steps.diff()["after"] == ""
        assert f"interface {NAME}\n" in steps.diff()["before"]


@given(peer_sets(), peer_sets())
def test_steps_for_the_changed_peers_are_the_steps_for_all(
    before: dict[str, WgPeer], after: dict[str, WgPeer]
) -> None:
    """An event names what differs: the delta of an event leads to the result of the full check."""
    changed = {key for key in {*before, *after} if before.get(key) != after.get(key)}
    assert list(plan.peer_steps(before, after, NOW, only=changed)) == list(
        plan.peer_steps(before, after, NOW)
    )


OLD = "192.0.2.1:51820"
NEW = "192.0.2.2:51820"


@pytest.mark.parametrize(
    ("observed_endpoint", "handshake", "declared", "sets_endpoint"),
    [
        ("", 0, NEW, True),  # it has no endpoint yet
        (OLD, 0, NEW, True),  # it never had a handshake
        (OLD, NOW - 181, NEW, True),  # its session is over
        (OLD, NOW - 179, NEW, False),  # it roamed and has a session there
        (OLD, NOW + 50, NEW, False),  # the clock went back
        (OLD, 0, OLD, False),  # nothing differs
        (OLD, 0, "", False),  # none is declared, so the learnt one stays
    ],
)
def test_peer_that_roamed_and_has_a_session_keeps_its_endpoint(
    observed_endpoint: str, handshake: int, declared: str, sets_endpoint: bool
) -> None:
    key = mesh.key(1)
    observed = {key: ObservedPeer(key, ("10.20.0.1/32",), observed_endpoint, 25, handshake)}
    desired = {key: WgPeer(key, ("10.20.0.1/32",), declared, 25)}
    words = [
        wg.set_arguments(step) for step in plan.peer_steps(observed, desired, NOW) if isinstance(step, WgStep)
    ]
    assert words == ([("peer", key, "endpoint", declared)] if sets_endpoint else [])


def test_live_peer_that_gets_a_prefix_keeps_the_endpoint_in_the_diff_too() -> None:
    key = mesh.key(1)
    observed = {key: ObservedPeer(key, ("10.20.0.1/32",), OLD, 25, NOW - 5)}
    desired = {key: WgPeer(key, ("10.20.0.1/32", "172.20.1.0/24"), NEW, 25)}
    (step,) = plan.peer_steps(observed, desired, NOW)
    assert step.added == (f"peer {key} allowed-ips 172.20.1.0/24",)
    assert step.removed == ()
    assert isinstance(step, SetPeer) and not step.endpoint


def test_commands_name_what_apply_calls_and_nothing_secret() -> None:
    desired = Interface(
        NAME,
        KEY_FILES["/etc/key1"],
        "/etc/key1",
        51820,
        ("10.20.0.1/20",),
        routes=frozenset(["172.20.1.0/24"]),
    )
    assert Linux(ModelInterface()).commands(plan.diff(None, desired, NOW)) == [
        f"ip link add dev {NAME} type wireguard",
        f"wg set {NAME} private-key /etc/key1",
        f"wg set {NAME} listen-port 51820",
        f"ip addr replace 10.20.0.1/20 dev {NAME}",
        f"ip link set dev {NAME} up",
        f"ip route add 172.20.1.0/24 dev {NAME} metric 2048",
    ]


class Refusing(ModelInterface):
    """An interface whose ``wg set`` fails."""

    def run(self, argv: Any, stdin: str | None = None) -> Finished:
        if argv[:2] == ["wg", "set"]:
            return Finished(1, "", "Unable to modify interface: Address already in use")
        return super().run(argv, stdin)


def test_interface_that_cannot_be_set_up_is_not_left_half_made() -> None:
    desired = Interface(NAME, KEY_FILES["/etc/key1"], "/etc/key1")
    model = Refusing(key_files=KEY_FILES)
    with pytest.raises(CommandFailed, match="Address already in use"):
        Linux(model).apply(plan.diff(None, desired, NOW))
    assert not model.exists


def test_interface_that_was_there_stays_when_a_change_fails() -> None:
    desired = Interface(NAME, KEY_FILES["/etc/key1"], "/etc/key1")
    model = Refusing(exists=True, up=True, key_files=KEY_FILES)
    with pytest.raises(CommandFailed):
        Linux(model).apply(plan.diff(model.observed(), desired, NOW))
    assert model.exists


def test_thousand_peers_and_a_change_of_one_make_one_call_with_one_peer() -> None:
    peers = {mesh.key(n): WgPeer(mesh.key(n), (f"10.20.{n // 250}.{n % 250 + 1}/32",)) for n in range(1000)}
    desired = Interface(NAME, KEY_FILES["/etc/key1"], "/etc/key1", peers=peers)
    model = ModelInterface(key_files=KEY_FILES)
    Linux(model).apply(plan.diff(None, desired, NOW))
    assert len(model.peers) == 1000
    model.words.clear()
    moved = replace(peers[mesh.key(7)], endpoint=NEW)
    Linux(model).apply(plan.diff(model.observed(), replace(desired, peers={**peers, moved.key: moved}), NOW))
    assert model.words == ["wg", "set", NAME, "peer", moved.key, "endpoint", NEW]


class RefusesSome(ModelInterface):
    """An interface that refuses some peers by their keys, and addresses or routes that are ``bad``."""

    bad_keys: frozenset[str] = frozenset()
    bad: frozenset[str] = frozenset()

    def run(self, argv: Any, stdin: str | None = None) -> Finished:
        if argv[:2] == ["wg", "set"] and not self.bad_keys.isdisjoint(argv):
            return Finished(1, "", "Unable to modify interface: Invalid argument")
        return super().run(argv, stdin)

    def _ip(self, words: list[str]) -> None:
        if not self.bad.isdisjoint(words):
            raise Refused("Invalid argument")
        super()._ip(words)


@given(
    desired_interfaces(),
    st.frozensets(mesh.keys),
    st.frozensets(st.sampled_from(ROUTES)),
    st.sampled_from(ADDRESSES),
)
def test_all_steps_but_the_refused_ones_are_done_and_those_are_returned(
    desired: Interface, bad_keys: frozenset[str], bad_routes: frozenset[str], bad_address: str
) -> None:
    model = RefusesSome(key_files=KEY_FILES)
    model.bad_keys, model.bad = bad_keys, bad_routes | {bad_address}
    failures = Linux(model).attempt(plan.diff(None, desired, NOW))
    assert model.exists and model.up
    assert model.peers.keys() == desired.peers.keys() - bad_keys
    assert model.routes == desired.routes - bad_routes
    assert set(model.addresses) == set(desired.addresses) - {bad_address}
    refused = {f"peer {each}" for each in bad_keys & desired.peers.keys()}
    refused |= {f"route {each}" for each in bad_routes & desired.routes}
    refused |= {f"address {bad_address}"} if bad_address in desired.addresses else set()
    assert {failure.step.subject for failure in failures} == refused
    model.bad_keys = model.bad = frozenset()
    Linux(model).apply(plan.diff(model.observed(), desired, NOW))
    assert not plan.diff(model.observed(), desired, NOW)
