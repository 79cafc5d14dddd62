# SPDX-License-Identifier: GPL-3.0-or-later
"""The machine that finds ways, on a clock of its own: the traps of WireGuard, and any sequence of events."""

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
ROUTER_FORGETS = 30.0
"""Seconds for which Linux keeps in mind a UDP packet that nobody answered."""


@dataclass
class World:
    """One node with one peer: what WireGuard shows of it, and an agent at the other end that may answer."""

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
    fires: list[tuple[float, str]] = field(default_factory=list)
    beats: list[tuple[float, str | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.machine = PathStateMachine(self.own, random.Random(1))

    def learn(self, *candidates: str, plain: bool = False, hard: bool = False, here: str = "") -> None:
        self.machine.use_relays(self.relays)
        self.machine.update_targets([Target(self.other, candidates, here, plain, hard)], [], self.now)

    def look(self) -> None:
        seen = {self.other: PeerStats(self.handshake, self.received, self.sent)}
        self.machine.on_stats(seen, self.now, EPOCH + self.now)

    def shake(self) -> None:
        """WireGuard gets through: there is a new handshake."""
        self.handshake = int(EPOCH + self.now)
        self.received += 92

    def turn(self) -> PathActions:
        if not (self.handshake and self.answers):
            self.alive_since = None
        elif self.alive_since is None:
            self.alive_since = self.now
        self.look()
        actions = self.machine.tick(self.now)
        for who, endpoint in actions.reset_endpoints:
            assert who == self.other
            settled = ACTIVE_PROBE_SECONDS + POLL_FAST_SECONDS
            alive = self.alive_since is not None and self.now - self.alive_since > settled
            assert not alive, "a live path was touched"
            self.fires.append((self.now, endpoint))
            self.handshake = self.received = self.sent = 0
        for who, relay in actions.probes:
            self.beats.append((self.now, relay))
            self._answer(who, relay)
        return actions

    def _answer(self, who: str, relay: str | None) -> None:
        if relay is None and self.answers and self.handshake:
            self.machine.on_reply(who, None, self.now)
        elif relay is not None and who == relay and relay in self.relay_answers:
            self.machine.on_reply(relay, relay, self.now)
        elif relay is not None and relay in self.carries:
            self.machine.on_reply(who, relay, self.now)

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
    def outcome(self) -> tuple[str, str | None]:
        return self.machine.path_status(self.other, self.now)


def direct_pair(**fields: object) -> World:
    """A pair behind NATs whose direct path is proven."""
    world = World(answers=True, **fields)  # type: ignore[arg-type]
    world.learn(PUBLIC, LOCAL, here="198.51.100.1:1")
    world.shake()
    world.run(1)
    assert world.outcome == ("direct", None)
    return world


def relayed_pair(relays: tuple[str, ...] = (R1,)) -> World:
    """A pair that no endpoint connects, and a relay that does."""
    world = World(relays=relays, relay_answers=relays, carries=relays)
    world.learn(PUBLIC, hard=True)
    world.run(ATTEMPT_SECONDS * 3)
    assert world.outcome[0] == "relayed"
    return world


def open_pair(answers: bool = True) -> World:
    """A pair that WireGuard connects by itself."""
    world = World(answers=answers)
    world.learn(PUBLIC, plain=True)
    world.shake()
    world.run(1)
    return world


def test_open_peers_are_asked_seldom_and_left_alone() -> None:
    world = open_pair()
    assert world.outcome == ("plain", None)
    assert world.peer_endpoint == PeerEndpoint(PUBLIC, KEEPALIVE_SECONDS)
    assert world.machine.poll_interval(world.now) == POLL_SLOW_SECONDS
    world.beats.clear()
    world.run(600, step=1)
    assert 600 / PLAIN_PROBE_SECONDS - 1 <= len(world.beats) <= 600 / PLAIN_PROBE_SECONDS * 1.2
    assert world.fires == []
    assert world.machine.silent_seconds(world.other, world.now) == 0
    assert not world.machine.needs_relays(world.now)


def test_however_many_open_peers_there_are_questions_have_a_pace() -> None:
    world = open_pair()
    others = [Target(key(number), (PUBLIC,)) for number in range(100, 1100)]
    world.machine.update_targets(others, [], world.now)
    world.run(ATTEMPT_SECONDS * 2)
    for number in range(100, 1100):
        world.machine.on_reply(key(number), None, world.now)
    asked = 0
    for _ in range(120):
        world.now += 1
        for who, _ in world.machine.tick(world.now).probes:
            asked += 1
            world.machine.on_reply(who, None, world.now)
    assert 120 / PLAIN_PROBE_SPACING_SECONDS * 0.6 <= asked <= 120 / PLAIN_PROBE_SPACING_SECONDS * 1.3


def test_an_open_peer_behind_a_dead_port_is_silent_within_half_a_minute_and_comes_back() -> None:
    world = open_pair()
    world.run(60, step=1)
    world.answers = False
    until_silent = 0.0
    while world.outcome[0] != "none":
        world.received += 32  # its own packets come through, since a port is shut one way only
        world.run(1, step=1)
        until_silent += 1
    assert until_silent <= PLAIN_PROBE_SECONDS + WIREGUARD_REPLY_SECONDS + POLL_NORMAL_SECONDS + 1
    assert (world.machine.silent_seconds(world.other, world.now) or 0) > WIREGUARD_REPLY_SECONDS
    assert (world.fires, world.path) == ([], State.PLAIN)
    world.answers = True
    world.run(PLAIN_PROBE_SECONDS, step=1)
    assert world.outcome == ("plain", None)
    assert world.machine.silent_seconds(world.other, world.now) == 0


def test_a_silent_open_peer_that_asks_or_shakes_hands_is_asked_at_once() -> None:
    for back in ("asks", "shakes"):
        world = open_pair()
        world.answers = False
        world.run(60, step=1)
        assert world.outcome == ("none", None)
        world.answers = True
        if back == "asks":
            assert world.machine.on_probe(world.other, world.now)
        else:
            world.shake()
        world.run(1, step=1)
        assert world.outcome == ("plain", None), back


def test_an_open_peer_whose_kernel_refuses_questions_is_there() -> None:
    world = open_pair()
    world.answers = False
    for _ in range(120):
        world.run(1, step=1)
        if world.beats and world.beats[-1][0] >= world.now - 1:
            world.machine.on_port_unreachable(world.other, world.now)
    assert world.outcome == ("plain", None)


def test_an_open_peer_that_drops_all_questions_is_there_while_wireguard_hears_it() -> None:
    world = open_pair(answers=False)
    for _ in range(20):
        world.run(9, step=1)
        world.received += 32
    assert world.outcome == ("plain", None)
    for _ in range(20):  # but for its own questions, which come whether ours arrive or not
        world.run(9, step=1)
        world.received += PROBE_WIRE_BYTES
        world.machine.on_probe(world.other, world.now)
    assert world.outcome == ("none", None)


def test_traffic_without_any_answer_is_asked_about_at_once() -> None:
    world = open_pair()
    world.run(3, step=1)
    world.beats.clear()
    world.sent += 5000
    world.run(2, step=1)
    assert world.beats != []


def test_trap_2_the_larger_key_speaks_half_a_second_later_unless_the_smaller_got_through() -> None:
    first = World(own=SMALL, other=LARGE)
    second = World(own=LARGE, other=SMALL)
    for world in (first, second):
        world.learn(PUBLIC, plain=True)
    assert (first.peer_endpoint.keepalive, second.peer_endpoint.keepalive) == (KEEPALIVE_SECONDS, 0)
    second.run(RESPONDER_DELAY_SECONDS - 0.1)
    assert second.peer_endpoint.keepalive == 0
    second.run(0.5)
    assert second.peer_endpoint.keepalive == KEEPALIVE_SECONDS


def test_traps_1_and_2_a_new_endpoint_is_fired_at_anew_and_one_after_the_other() -> None:
    at = {}
    for own, other in ((SMALL, LARGE), (LARGE, SMALL)):
        world = World(own=own, other=other)
        world.learn(LOCAL)
        world.run(ATTEMPT_SECONDS + 0.5)
        world.fires.clear()
        started = world.now
        world.learn(PUBLIC, LOCAL)
        world.run(ATTEMPT_SECONDS)
        when, endpoint = world.fires[0]
        assert endpoint == PUBLIC, "removed and added, since WireGuard speaks first only once in 5 s"
        at[own] = when - started
    assert at[SMALL] < 0.1
    assert RESPONDER_DELAY_SECONDS <= at[LARGE] < RESPONDER_DELAY_SECONDS + 2 * POLL_FAST_SECONDS


def test_who_heard_the_other_one_first_does_not_fire() -> None:
    world = World(own=LARGE, other=SMALL, answers=True)
    world.learn(LOCAL)
    world.run(ATTEMPT_SECONDS + 0.5)
    world.fires.clear()
    world.learn(PUBLIC, LOCAL)
    world.turn()
    world.shake()
    world.run(1)
    assert world.fires == []
    assert world.outcome == ("direct", None)


def test_trap_3_a_first_message_that_came_too_early_costs_one_slot_not_the_round() -> None:
    world = World(answers=True)
    world.learn(PUBLIC, LOCAL)
    world.run(ATTEMPT_SECONDS * 2)
    assert [endpoint for _, endpoint in world.fires] == [LOCAL]
    world.run(ATTEMPT_SECONDS + ROUND_BACKOFF_SECONDS[0] * 1.3)
    assert world.fires[1][1] == PUBLIC


def test_trap_4_a_path_that_falls_silent_is_noticed_by_questions_not_by_handshakes() -> None:
    world = direct_pair(relays=(R1,), relay_answers=(R1,), carries=(R1,))
    world.answers = False
    world.machine.paths[world.other].active_until = world.now + 60
    started = world.now
    while world.outcome[0] == "direct":
        world.turn()
        world.now += POLL_FAST_SECONDS
    assert world.now - started < 2 + DEAD_AFTER_SECONDS + 3 * POLL_FAST_SECONDS
    world.run(1)
    assert world.outcome == ("relayed", R1)


def test_trap_5_a_direct_path_is_proven_while_the_relay_carries() -> None:
    world = relayed_pair()
    world.run(ROUND_BACKOFF_SECONDS[0] * 1.3 + 0.3)
    assert world.machine.relayed_peers() == {world.other: R1}
    world.shake()
    world.turn()
    assert world.machine.relayed_peers() == {world.other: R1}, "a handshake alone proves nothing"
    world.answers = True
    world.run(0.5)
    assert world.outcome == ("direct", None)
    assert world.machine.relayed_peers() == {}


def seconds_until_an_inner_side_begins(seed: int) -> float:
    """How long a pair takes where the larger key's router lets stray packets in, on clocks of their own."""
    random_of = random.Random(seed)
    sides = {own: PathStateMachine(own, random.Random(random_of.random())) for own in (SMALL, LARGE)}
    for own, other in ((SMALL, LARGE), (LARGE, SMALL)):
        sides[own].update_targets([Target(other, (PUBLIC, LOCAL), "198.51.100.1:1", plain=False)], [], 0.0)
    stray_until, mapped_until = ROUTER_FORGETS, -1.0
    for now in (tick * POLL_FAST_SECONDS for tick in range(round(3600 / POLL_FAST_SECONDS))):
        for own, side in sides.items():
            if not any(endpoint == PUBLIC for _, endpoint in side.tick(now).reset_endpoints):
                continue
            if own == LARGE and now > stray_until:
                mapped_until = now + ROUTER_FORGETS
            elif own == SMALL and now <= mapped_until:
                return now
            elif own == SMALL:
                stray_until = now + ROUTER_FORGETS
    return float("inf")


def test_trap_6_a_router_that_lets_strays_in_is_passed_after_minutes() -> None:
    taken = sorted(seconds_until_an_inner_side_begins(seed) for seed in range(40))
    assert taken[len(taken) // 2] < 240
    assert taken[len(taken) * 3 // 4] < 480


def test_trap_7_a_node_that_moved_asks_all_its_paths_at_once() -> None:
    world = direct_pair(relays=(R1,), relay_answers=(R1,))
    world.run(3)
    world.beats.clear()
    world.machine.on_address_change()
    world.turn()
    assert {relay for _, relay in world.beats} == {None, R1}


def test_a_peer_whose_agent_is_gone_keeps_its_tunnel() -> None:
    world = direct_pair(relays=(R1,), relay_answers=(R1,))
    world.answers = False
    for _ in range(30):
        # WireGuard itself answers what it hears, ten seconds later at most.
        world.run(9, step=0.5)
        world.received += 32
    assert world.fires == []
    assert world.machine.relayed_peers() == {}
    assert world.outcome == ("direct", None)


def test_a_peer_that_never_had_an_agent_is_reached_directly() -> None:
    world = World()
    world.learn(PUBLIC, here="198.51.100.1:1")
    world.shake()
    world.run(9)
    world.received += 32
    world.run(1)
    assert world.outcome == ("direct", None)
    assert world.fires == []


def test_a_stranger_that_only_knocks_is_not_taken_for_a_live_path() -> None:
    world = direct_pair()
    world.answers = False
    world.handshake, knocks = world.handshake, 0
    while world.path is State.DIRECT:
        world.received += 148
        knocks += 1
        world.run(5, step=0.5)
        assert knocks < 15
    assert world.path is not State.DIRECT


def test_without_a_way_through_each_endpoint_gets_its_slot_and_pauses_grow() -> None:
    world = World()
    world.learn(PUBLIC, LOCAL)
    world.run(1500, step=POLL_FAST_SECONDS)
    rounds = [when for when, endpoint in world.fires if endpoint == PUBLIC]
    gaps = [later - earlier for earlier, later in zip(rounds, rounds[1:], strict=False)]
    for gap, pause in zip(gaps, ROUND_BACKOFF_SECONDS[1:], strict=False):
        assert 0.75 * pause <= gap <= 1.25 * pause + 2 * ATTEMPT_SECONDS + 1
    assert world.outcome == ("none", None)
    assert world.peer_endpoint == PeerEndpoint(PUBLIC, KEEPALIVE_SECONDS), (
        "without a relay WireGuard goes on trying by itself"
    )
    world.shake()
    world.look()
    assert world.peer_endpoint.endpoint == "", "who came by itself is answered where it is"


def test_who_is_carried_is_left_in_peace_between_two_rounds() -> None:
    world = relayed_pair()
    assert world.path is State.RELAY
    assert world.peer_endpoint == PeerEndpoint("", 0)


def test_two_nodes_behind_nats_start_by_the_relay_others_only_when_the_first_slot_fails() -> None:
    hard = World(relays=(R1,), relay_answers=(R1,), carries=(R1,))
    hard.learn(PUBLIC, hard=True)
    hard.turn()
    assert hard.machine.relayed_peers() == {hard.other: R1}
    easy = World(relays=(R1,), relay_answers=(R1,), carries=(R1,))
    easy.learn(PUBLIC)
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
    assert world.outcome == ("relayed", spare)


def test_a_relay_that_reaches_us_and_not_the_peer_is_replaced_too() -> None:
    world = relayed_pair((R1, R2))
    used = world.machine.relayed_peers()[world.other]
    world.carries = (R1 if used == R2 else R2,)
    world.run(2 * IDLE_PROBE_SECONDS + DEAD_AFTER_SECONDS + 5)
    assert world.outcome == ("relayed", world.carries[0])


def test_without_a_live_relay_the_outcome_is_none() -> None:
    world = relayed_pair()
    world.relay_answers = world.carries = ()
    world.run(IDLE_PROBE_SECONDS + DEAD_AFTER_SECONDS + 5)
    assert world.outcome == ("none", None)


def test_a_peer_that_is_somewhere_else_has_one_second_to_answer_at_the_old_place() -> None:
    world = direct_pair()
    world.answers = False
    started = world.now
    world.learn("203.0.113.8:1", LOCAL, here="198.51.100.1:1")
    world.run(VERIFY_SECONDS + 2 * POLL_FAST_SECONDS)
    assert world.fires[-1][1] == "203.0.113.8:1"
    assert world.fires[-1][0] - started <= VERIFY_SECONDS + 2 * POLL_FAST_SECONDS


def test_a_peer_that_still_answers_at_the_old_place_stays_there() -> None:
    world = direct_pair()
    world.learn("203.0.113.8:1", LOCAL, here="198.51.100.1:1")
    world.run(10)
    assert world.fires == []
    assert world.outcome == ("direct", None)


def test_a_session_from_before_the_agent_started_is_proven_and_not_touched() -> None:
    world = World(own=LARGE, other=SMALL, answers=True)
    world.shake()
    world.learn(PUBLIC, LOCAL)
    world.look()
    assert world.peer_endpoint.keepalive == KEEPALIVE_SECONDS
    world.run(1)
    assert world.outcome == ("direct", None)
    assert world.fires == []


def test_a_carried_peer_goes_on_where_the_agent_before_left_it() -> None:
    world = World(relays=(R1, R2), relay_answers=(R1, R2), carries=(R1, R2))
    world.learn(PUBLIC, hard=True)
    world.machine.restore(world.other, R2, world.now)
    world.turn()
    assert world.machine.relayed_peers() == {world.other: R2}


def test_a_plain_pair_becomes_one_that_is_watched_when_a_relay_appears() -> None:
    world = World(answers=True)
    world.learn(PUBLIC, plain=True)
    world.shake()
    world.turn()
    world.relays = world.relay_answers = (R1,)
    world.learn(PUBLIC)
    world.run(1)
    assert world.outcome == ("direct", None)
    assert world.fires == []
    assert world.machine.poll_interval(world.now) == POLL_NORMAL_SECONDS


def test_idle_paths_cost_two_questions_a_minute_busy_ones_thirty() -> None:
    world = direct_pair()
    world.run(60, step=1)
    world.beats.clear()
    world.run(300, step=1)
    assert 9 <= len(world.beats) <= 11
    world.beats.clear()
    for _ in range(60):
        world.sent += 1200
        world.received += 1200
        world.run(1, step=1)
    assert 25 <= len(world.beats) <= 31


words = st.sampled_from(("shake", "answer", "silence", "move", "data", "relays", "norelays", "wait", "heard"))


@example(script=[("shake", 1.0), ("norelays", 1.0), ("shake", 10.0), ("answer", 5.0)], seed=0)
@example(
    script=[("shake", 10.0), ("norelays", 1.0), ("shake", 1.0), ("answer", 2.0), ("relays", 3.0)],
    seed=0,
)
@example(
    script=[("shake", 10.0), ("silence", 7.0), ("shake", 12.0), ("answer", 3.0), ("move", 1.0)],
    seed=0,
)
@given(script=st.lists(st.tuples(words, st.floats(0.2, 20)), max_size=25), seed=st.integers(0, 9))
def test_whatever_happens_a_live_path_is_kept_and_a_dead_one_soon_carried(
    script: list[tuple[str, float]], seed: int
) -> None:
    world = World(relays=(R1, R2), relay_answers=(R1, R2), carries=(R1, R2))
    world.machine = PathStateMachine(SMALL, random.Random(seed))
    world.learn(PUBLIC, LOCAL, hard=True)
    lost = 0.0
    for word, seconds in script:
        if word == "shake":
            world.shake()
        elif word == "move":
            world.learn(f"203.0.113.{int(seconds) + 1}:9", LOCAL, hard=True)
        elif word == "data":
            world.received += 5000
        elif word == "heard":
            world.machine.on_probe(world.other, world.now)
        elif word in ("answer", "silence"):
            world.answers = word == "answer"
        elif word in ("relays", "norelays"):
            world.relay_answers = world.carries = (R1, R2) if word == "relays" else ()
        until = world.now + seconds
        while world.now < until:
            world.turn()  # asserts that no live path is fired at
            works = world.answers and world.handshake
            reached = works or world.machine.relayed_peers() or not world.carries
            lost = 0.0 if reached else lost + POLL_FAST_SECONDS
            most = IDLE_PROBE_SECONDS + WIREGUARD_REPLY_SECONDS + DEAD_AFTER_SECONDS
            assert lost <= most, "neither straight nor by a relay for too long"
            world.now += POLL_FAST_SECONDS
