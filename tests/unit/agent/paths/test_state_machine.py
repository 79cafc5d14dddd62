# SPDX-License-Identifier: GPL-3.0-or-later
"""The path state machine on a simulated clock: seven traps of WireGuard and NAT, and random events."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from hypothesis import example, given
from hypothesis import strategies as st

from jaywalk.mesh.node_interface import KEEPALIVE_SECONDS, PeerEndpoint
from jaywalk_agent.paths.liveness import (
    ACTIVE_PROBE_SECONDS,
    DEAD_AFTER_SECONDS,
    IDLE_PROBE_SECONDS,
    PLAIN_PROBE_SECONDS,
    PLAIN_PROBE_SPACING_SECONDS,
)
from jaywalk_agent.paths.path import (
    ATTEMPT_SECONDS,
    PROBE_WIRE_BYTES,
    RESPONDER_DELAY_SECONDS,
    WIREGUARD_REPLY_SECONDS,
    PeerStats,
    State,
    Target,
)
from jaywalk_agent.paths.state_machine import (
    POLL_FAST_SECONDS,
    POLL_NORMAL_SECONDS,
    POLL_SLOW_SECONDS,
    ROUND_BACKOFF_SECONDS,
    VERIFY_SECONDS,
    PathActions,
    PathStateMachine,
)
from tests.strategies import key

SMALL, LARGE = sorted((key(1), key(2)))
R1, R2 = sorted((key(11), key(12)))
PUBLIC, LOCAL = "203.0.113.7:4711", "192.168.1.9:51820"
EPOCH = 1_800_000_000.0
# The time after which Linux forgets a UDP packet without a reply.
ROUTER_FORGETS_SECONDS = 30.0


@dataclass
class World:
    """One node with one peer: the counters of WireGuard, and an agent at the other end that may reply."""

    own: str = SMALL
    other: str = LARGE
    relays: tuple[str, ...] = ()
    now: float = 1000.0
    handshake: int = 0
    received: int = 0
    sent: int = 0
    answers: bool = False
    relay_answers: tuple[str, ...] = ()
    carries: tuple[str, ...] = ()
    alive_since: float | None = None
    resets: list[tuple[float, str]] = field(default_factory=list)
    probes: list[tuple[float, str | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.machine = PathStateMachine(self.own, random.Random(1))

    def update(self, *candidates: str, plain: bool = False, nats: bool = False, own: str = "") -> None:
        self.machine.use_relays(self.relays)
        self.machine.update_targets([Target(self.other, candidates, own, plain, nats)], [], self.now)

    def observe(self) -> None:
        stats = {self.other: PeerStats(self.handshake, self.received, self.sent)}
        self.machine.on_stats(stats, self.now, EPOCH + self.now)

    def connect(self) -> None:
        """WireGuard completes a new handshake."""
        self.handshake = int(EPOCH + self.now)
        self.received += 92

    def turn(self) -> PathActions:
        if not (self.handshake and self.answers):
            self.alive_since = None
        elif self.alive_since is None:
            self.alive_since = self.now
        self.observe()
        actions = self.machine.tick(self.now)
        for peer, endpoint in actions.reset_endpoints:
            assert peer == self.other
            settled = ACTIVE_PROBE_SECONDS + POLL_FAST_SECONDS
            alive = self.alive_since is not None and self.now - self.alive_since > settled
            assert not alive, "a live path was reset"
            self.resets.append((self.now, endpoint))
            self.handshake = self.received = self.sent = 0
        for peer, relay in actions.probes:
            self.probes.append((self.now, relay))
            self._reply(peer, relay)
        return actions

    def _reply(self, peer: str, relay: str | None) -> None:
        if relay is None and self.answers and self.handshake:
            self.machine.on_reply(peer, None, self.now)
        elif relay is not None and peer == relay and relay in self.relay_answers:
            self.machine.on_reply(relay, relay, self.now)
        elif relay is not None and relay in self.carries:
            self.machine.on_reply(peer, relay, self.now)

    def run(self, seconds: float, step: float = POLL_FAST_SECONDS) -> None:
        until = self.now + seconds
        while self.now < until:
            self.turn()
            self.now += step

    @property
    def path(self) -> State:
        return self.machine.paths[self.other].state

    @property
    def peer_endpoint(self) -> PeerEndpoint:
        return self.machine.peer_endpoints()[self.other]

    @property
    def status(self) -> tuple[str, str | None]:
        return self.machine.path_status(self.other, self.now)


def direct_pair(**fields: object) -> World:
    """A pair behind NATs with a proven direct path."""
    world = World(answers=True, **fields)  # type: ignore[arg-type]
    world.update(PUBLIC, LOCAL, own="198.51.100.1:1")
    world.connect()
    world.run(1)
    assert world.status == ("direct", None)
    return world


def relayed_pair(relays: tuple[str, ...] = (R1,)) -> World:
    """A pair without a direct path, and a relay that carries it."""
    world = World(relays=relays, relay_answers=relays, carries=relays)
    world.update(PUBLIC, nats=True)
    world.run(ATTEMPT_SECONDS * 3)
    assert world.status[0] == "relayed"
    return world


def open_pair(answers: bool = True) -> World:
    """A pair that WireGuard connects by itself."""
    world = World(answers=answers)
    world.update(PUBLIC, plain=True)
    world.connect()
    world.run(1)
    return world


def test_open_peers_get_few_probes_and_no_reset() -> None:
    world = open_pair()
    assert world.status == ("plain", None)
    assert world.peer_endpoint == PeerEndpoint(PUBLIC, KEEPALIVE_SECONDS)
    assert world.machine.poll_interval(world.now) == POLL_SLOW_SECONDS
    world.probes.clear()
    world.run(600, step=1)
    assert 600 / PLAIN_PROBE_SECONDS - 1 <= len(world.probes) <= 600 / PLAIN_PROBE_SECONDS * 1.2
    assert world.resets == []
    assert world.machine.silent_seconds(world.other, world.now) == 0
    assert not world.machine.needs_relays(world.now)


def test_the_rate_of_probes_to_open_peers_has_a_limit() -> None:
    world = open_pair()
    others = [Target(key(number), (PUBLIC,)) for number in range(100, 1100)]
    world.machine.update_targets(others, [], world.now)
    world.run(ATTEMPT_SECONDS * 2)
    for number in range(100, 1100):
        world.machine.on_reply(key(number), None, world.now)
    count = 0
    for _ in range(120):
        world.now += 1
        for peer, _ in world.machine.tick(world.now).probes:
            count += 1
            world.machine.on_reply(peer, None, world.now)
    assert 120 / PLAIN_PROBE_SPACING_SECONDS * 0.6 <= count <= 120 / PLAIN_PROBE_SPACING_SECONDS * 1.3


def test_an_open_peer_behind_a_blocked_port_is_silent_within_half_a_minute_and_recovers() -> None:
    world = open_pair()
    world.run(60, step=1)
    world.answers = False
    until_silent = 0.0
    while world.status[0] != "none":
        world.received += 32  # its own packets arrive, since the port is blocked in one direction
        world.run(1, step=1)
        until_silent += 1
    assert until_silent <= PLAIN_PROBE_SECONDS + WIREGUARD_REPLY_SECONDS + POLL_NORMAL_SECONDS + 1
    assert (world.machine.silent_seconds(world.other, world.now) or 0) > WIREGUARD_REPLY_SECONDS
    assert (world.resets, world.path) == ([], State.PLAIN)
    world.answers = True
    world.run(PLAIN_PROBE_SECONDS, step=1)
    assert world.status == ("plain", None)
    assert world.machine.silent_seconds(world.other, world.now) == 0


def test_a_probe_or_handshake_of_a_silent_open_peer_leads_to_a_probe_at_once() -> None:
    for event in ("probe", "handshake"):
        world = open_pair()
        world.answers = False
        world.run(60, step=1)
        assert world.status == ("none", None)
        world.answers = True
        if event == "probe":
            assert world.machine.on_probe(world.other, world.now)
        else:
            world.connect()
        world.run(1, step=1)
        assert world.status == ("plain", None), event


def test_an_open_peer_whose_kernel_rejects_probes_is_alive() -> None:
    world = open_pair()
    world.answers = False
    for _ in range(120):
        world.run(1, step=1)
        if world.probes and world.probes[-1][0] >= world.now - 1:
            world.machine.on_port_unreachable(world.other, world.now)
    assert world.status == ("plain", None)


def test_an_open_peer_that_drops_all_probes_is_alive_while_wireguard_receives_packets() -> None:
    world = open_pair(answers=False)
    for _ in range(20):
        world.run(9, step=1)
        world.received += 32
    assert world.status == ("plain", None)
    for _ in range(20):  # its own probes do not count, since they arrive even if ours do not
        world.run(9, step=1)
        world.received += PROBE_WIRE_BYTES
        world.machine.on_probe(world.other, world.now)
    assert world.status == ("none", None)


def test_traffic_without_any_reply_leads_to_a_probe_at_once() -> None:
    world = open_pair()
    world.run(3, step=1)
    world.probes.clear()
    world.sent += 5000
    world.run(2, step=1)
    assert world.probes != []


def test_trap_2_the_larger_key_starts_half_a_second_after_the_smaller() -> None:
    first = World(own=SMALL, other=LARGE)
    second = World(own=LARGE, other=SMALL)
    for world in (first, second):
        world.update(PUBLIC, plain=True)
    assert (first.peer_endpoint.keepalive, second.peer_endpoint.keepalive) == (KEEPALIVE_SECONDS, 0)
    second.run(RESPONDER_DELAY_SECONDS - 0.1)
    assert second.peer_endpoint.keepalive == 0
    second.run(0.5)
    assert second.peer_endpoint.keepalive == KEEPALIVE_SECONDS


def test_traps_1_and_2_both_ends_reset_to_a_new_endpoint_one_after_the_other() -> None:
    at = {}
    for own, other in ((SMALL, LARGE), (LARGE, SMALL)):
        world = World(own=own, other=other)
        world.update(LOCAL)
        world.run(ATTEMPT_SECONDS + 0.5)
        world.resets.clear()
        started = world.now
        world.update(PUBLIC, LOCAL)
        world.run(ATTEMPT_SECONDS)
        when, endpoint = world.resets[0]
        assert endpoint == PUBLIC, "removed and added, since WireGuard sends an initiation only once in 5 s"
        at[own] = when - started
    assert at[SMALL] < 0.1
    assert RESPONDER_DELAY_SECONDS <= at[LARGE] < RESPONDER_DELAY_SECONDS + 2 * POLL_FAST_SECONDS


def test_an_end_that_already_has_a_handshake_does_not_reset() -> None:
    world = World(own=LARGE, other=SMALL, answers=True)
    world.update(LOCAL)
    world.run(ATTEMPT_SECONDS + 0.5)
    world.resets.clear()
    world.update(PUBLIC, LOCAL)
    world.turn()
    world.connect()
    world.run(1)
    assert world.resets == []
    assert world.status == ("direct", None)


def test_trap_3_an_initiation_that_came_too_early_costs_one_attempt_and_not_the_round() -> None:
    world = World(answers=True)
    world.update(PUBLIC, LOCAL)
    world.run(ATTEMPT_SECONDS * 2)
    assert [endpoint for _, endpoint in world.resets] == [LOCAL]
    world.run(ATTEMPT_SECONDS + ROUND_BACKOFF_SECONDS[0] * 1.3)
    assert world.resets[1][1] == PUBLIC


def test_trap_4_probes_detect_a_silent_path_before_handshakes_do() -> None:
    world = direct_pair(relays=(R1,), relay_answers=(R1,), carries=(R1,))
    world.answers = False
    world.machine.paths[world.other].active_until = world.now + 60
    started = world.now
    while world.status[0] == "direct":
        world.turn()
        world.now += POLL_FAST_SECONDS
    assert world.now - started < 2 + DEAD_AFTER_SECONDS + 3 * POLL_FAST_SECONDS
    world.run(1)
    assert world.status == ("relayed", R1)


def test_trap_5_a_direct_path_is_proven_while_the_relay_carries() -> None:
    world = relayed_pair()
    world.run(ROUND_BACKOFF_SECONDS[0] * 1.3 + 0.3)
    assert world.machine.relayed_peers() == {world.other: R1}
    world.connect()
    world.turn()
    assert world.machine.relayed_peers() == {world.other: R1}, "a handshake alone is no proof"
    world.answers = True
    world.run(0.5)
    assert world.status == ("direct", None)
    assert world.machine.relayed_peers() == {}


def seconds_until_the_inner_side_begins(seed: int) -> float:
    """The time until a pair connects if the router of the larger key accepts stray packets."""
    random_of = random.Random(seed)
    sides = {own: PathStateMachine(own, random.Random(random_of.random())) for own in (SMALL, LARGE)}
    for own, other in ((SMALL, LARGE), (LARGE, SMALL)):
        sides[own].update_targets([Target(other, (PUBLIC, LOCAL), "198.51.100.1:1", plain=False)], [], 0.0)
    stray_until, mapped_until = ROUTER_FORGETS_SECONDS, -1.0
    for now in (tick * POLL_FAST_SECONDS for tick in range(round(3600 / POLL_FAST_SECONDS))):
        for own, side in sides.items():
            if not any(endpoint == PUBLIC for _, endpoint in side.tick(now).reset_endpoints):
                continue
            if own == LARGE and now > stray_until:
                mapped_until = now + ROUTER_FORGETS_SECONDS
            elif own == SMALL and now <= mapped_until:
                return now
            elif own == SMALL:
                stray_until = now + ROUTER_FORGETS_SECONDS
    return float("inf")


def test_trap_6_a_pair_behind_a_router_that_accepts_stray_packets_connects_after_minutes() -> None:
    taken = sorted(seconds_until_the_inner_side_begins(seed) for seed in range(40))
    assert taken[len(taken) // 2] < 240
    assert taken[len(taken) * 3 // 4] < 480


def test_trap_7_a_node_with_a_new_address_probes_all_paths_at_once() -> None:
    world = direct_pair(relays=(R1,), relay_answers=(R1,))
    world.run(3)
    world.probes.clear()
    world.machine.on_address_change()
    world.turn()
    assert {relay for _, relay in world.probes} == {None, R1}


def test_a_peer_whose_agent_is_gone_keeps_its_tunnel() -> None:
    world = direct_pair(relays=(R1,), relay_answers=(R1,))
    world.answers = False
    for _ in range(30):
        # WireGuard itself replies to traffic, ten seconds later at most.
        world.run(9, step=0.5)
        world.received += 32
    assert world.resets == []
    assert world.machine.relayed_peers() == {}
    assert world.status == ("direct", None)


def test_a_peer_that_never_had_an_agent_is_reached_directly() -> None:
    world = World()
    world.update(PUBLIC, own="198.51.100.1:1")
    world.connect()
    world.run(9)
    world.received += 32
    world.run(1)
    assert world.status == ("direct", None)
    assert world.resets == []


def test_handshake_initiations_alone_are_no_live_path() -> None:
    world = direct_pair()
    world.answers = False
    initiations = 0
    while world.path is State.DIRECT:
        world.received += 148
        initiations += 1
        world.run(5, step=0.5)
        assert initiations < 15
    assert world.path is not State.DIRECT


def test_without_a_direct_path_each_endpoint_gets_its_attempt_and_pauses_grow() -> None:
    world = World()
    world.update(PUBLIC, LOCAL)
    world.run(1500, step=POLL_FAST_SECONDS)
    rounds = [when for when, endpoint in world.resets if endpoint == PUBLIC]
    gaps = [later - earlier for earlier, later in zip(rounds, rounds[1:], strict=False)]
    for gap, pause in zip(gaps, ROUND_BACKOFF_SECONDS[1:], strict=False):
        assert 0.75 * pause <= gap <= 1.25 * pause + 2 * ATTEMPT_SECONDS + 1
    assert world.status == ("none", None)
    assert world.peer_endpoint == PeerEndpoint(PUBLIC, KEEPALIVE_SECONDS), (
        "without a relay WireGuard continues to try by itself"
    )
    world.connect()
    world.observe()
    assert world.peer_endpoint.endpoint == "", "a peer with a new handshake keeps its observed endpoint"


def test_a_relayed_peer_has_no_keepalive_between_two_rounds() -> None:
    world = relayed_pair()
    assert world.path is State.RELAY
    assert world.peer_endpoint == PeerEndpoint("", 0)


def test_a_pair_behind_two_nats_starts_by_the_relay_and_others_after_the_first_attempt() -> None:
    nats = World(relays=(R1,), relay_answers=(R1,), carries=(R1,))
    nats.update(PUBLIC, nats=True)
    nats.turn()
    assert nats.machine.relayed_peers() == {nats.other: R1}
    easy = World(relays=(R1,), relay_answers=(R1,), carries=(R1,))
    easy.update(PUBLIC)
    easy.run(ATTEMPT_SECONDS - 0.1)
    assert easy.machine.relayed_peers() == {}
    easy.run(0.5)
    assert easy.machine.relayed_peers() == {easy.other: R1}


def test_a_dead_relay_is_replaced_by_another() -> None:
    world = relayed_pair((R1, R2))
    used = world.machine.relayed_peers()[world.other]
    spare = R1 if used == R2 else R2
    world.relay_answers = world.carries = (spare,)
    world.run(2 + DEAD_AFTER_SECONDS + 1)
    assert world.machine.relayed_peers() == {world.other: spare}
    world.run(1)
    assert world.status == ("relayed", spare)


def test_a_relay_that_does_not_reach_the_peer_is_replaced() -> None:
    world = relayed_pair((R1, R2))
    used = world.machine.relayed_peers()[world.other]
    world.carries = (R1 if used == R2 else R2,)
    world.run(2 * IDLE_PROBE_SECONDS + DEAD_AFTER_SECONDS + 5)
    assert world.status == ("relayed", world.carries[0])


def test_without_a_live_relay_the_path_is_none() -> None:
    world = relayed_pair()
    world.relay_answers = world.carries = ()
    world.run(IDLE_PROBE_SECONDS + DEAD_AFTER_SECONDS + 5)
    assert world.status == ("none", None)


def test_a_peer_with_a_new_endpoint_has_one_second_to_reply_at_the_old_one() -> None:
    world = direct_pair()
    world.answers = False
    started = world.now
    world.update("203.0.113.8:1", LOCAL, own="198.51.100.1:1")
    world.run(VERIFY_SECONDS + 2 * POLL_FAST_SECONDS)
    assert world.resets[-1][1] == "203.0.113.8:1"
    assert world.resets[-1][0] - started <= VERIFY_SECONDS + 2 * POLL_FAST_SECONDS


def test_a_peer_that_still_replies_at_the_old_endpoint_keeps_it() -> None:
    world = direct_pair()
    world.update("203.0.113.8:1", LOCAL, own="198.51.100.1:1")
    world.run(10)
    assert world.resets == []
    assert world.status == ("direct", None)


def test_a_session_from_before_the_agent_started_is_proven_without_a_reset() -> None:
    world = World(own=LARGE, other=SMALL, answers=True)
    world.connect()
    world.update(PUBLIC, LOCAL)
    world.observe()
    assert world.peer_endpoint.keepalive == KEEPALIVE_SECONDS
    world.run(1)
    assert world.status == ("direct", None)
    assert world.resets == []


def test_a_relayed_peer_keeps_its_relay_after_a_restart_of_the_agent() -> None:
    world = World(relays=(R1, R2), relay_answers=(R1, R2), carries=(R1, R2))
    world.update(PUBLIC, nats=True)
    world.machine.restore(world.other, R2, world.now)
    world.turn()
    assert world.machine.relayed_peers() == {world.other: R2}


def test_a_plain_pair_gets_connectivity_checks_once_a_relay_appears() -> None:
    world = World(answers=True)
    world.update(PUBLIC, plain=True)
    world.connect()
    world.turn()
    world.relays = world.relay_answers = (R1,)
    world.update(PUBLIC)
    world.run(1)
    assert world.status == ("direct", None)
    assert world.resets == []
    assert world.machine.poll_interval(world.now) == POLL_NORMAL_SECONDS


def test_an_idle_path_costs_two_probes_a_minute_and_a_busy_one_thirty() -> None:
    world = direct_pair()
    world.run(60, step=1)
    world.probes.clear()
    world.run(300, step=1)
    assert 9 <= len(world.probes) <= 11
    world.probes.clear()
    for _ in range(60):
        world.sent += 1200
        world.received += 1200
        world.run(1, step=1)
    assert 25 <= len(world.probes) <= 31


events = st.sampled_from(
    ("handshake", "reply", "silence", "move", "data", "relays", "norelays", "wait", "probe")
)


@example(script=[("handshake", 1.0), ("norelays", 1.0), ("handshake", 10.0), ("reply", 5.0)], seed=0)
@example(
    script=[("handshake", 10.0), ("norelays", 1.0), ("handshake", 1.0), ("reply", 2.0), ("relays", 3.0)],
    seed=0,
)
@example(
    script=[("handshake", 10.0), ("silence", 7.0), ("handshake", 12.0), ("reply", 3.0), ("move", 1.0)],
    seed=0,
)
@given(script=st.lists(st.tuples(events, st.floats(0.2, 20)), max_size=25), seed=st.integers(0, 9))
def test_after_any_events_a_live_path_is_kept_and_a_dead_one_is_soon_relayed(
    script: list[tuple[str, float]], seed: int
) -> None:
    world = World(relays=(R1, R2), relay_answers=(R1, R2), carries=(R1, R2))
    world.machine = PathStateMachine(SMALL, random.Random(seed))
    world.update(PUBLIC, LOCAL, nats=True)
    lost = 0.0
    for event, seconds in script:
        if event == "handshake":
            world.connect()
        elif event == "move":
            world.update(f"203.0.113.{int(seconds) + 1}:9", LOCAL, nats=True)
        elif event == "data":
            world.received += 5000
        elif event == "probe":
            world.machine.on_probe(world.other, world.now)
        elif event in ("reply", "silence"):
            world.answers = event == "reply"
        elif event in ("relays", "norelays"):
            world.relay_answers = world.carries = (R1, R2) if event == "relays" else ()
        until = world.now + seconds
        while world.now < until:
            world.turn()  # asserts that no live path is reset
            works = world.answers and world.handshake
            reached = works or world.machine.relayed_peers() or not world.carries
            lost = 0.0 if reached else lost + POLL_FAST_SECONDS
            most = IDLE_PROBE_SECONDS + WIREGUARD_REPLY_SECONDS + DEAD_AFTER_SECONDS
            assert lost <= most, "neither straight nor by a relay for too long"
            world.now += POLL_FAST_SECONDS
