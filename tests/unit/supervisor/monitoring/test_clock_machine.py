# SPDX-License-Identifier: GPL-3.0-or-later
"""Quarantine and silence last by real time, however often Redis's clock jumps."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from jaywalk.zone.models import Zone
from jaywalk.zone.policy import Policy
from jaywalk.zone.requests import Reply, Request
from jaywalk_supervisor.decisions.agent_requests import decide
from jaywalk_supervisor.monitoring.clock import JUMP_SECONDS, SharedClock
from jaywalk_supervisor.state.zone_state import ZoneState
from tests.supervisor_support import key_of

QUARANTINE = 3600
STALE_AFTER = 900
LIVE, GONE, GREEDY = key_of(1), key_of(2), key_of(3)
ZONE = Zone.validated(
    "zone-blue",
    ["10.20.0.0/24"],
    "",
    Policy(takeover="stale", quarantine=QUARANTINE, stale_after=STALE_AFTER),
)
jumps = st.one_of(st.sampled_from([86_400.0, -2 * 86_400.0]), st.floats(-10_000, 10_000)).filter(
    lambda jump: abs(jump) > JUMP_SECONDS + 1
)


class ClockMachine(RuleBasedStateMachine):
    """A node that reports each minute, one that leaves and returns, and one that requests both addresses."""

    @initialize()
    def start(self) -> None:
        self.real = 1_000_000.0
        self.offset = 700_000_000.0
        self.clock = SharedClock(lambda: self.real, lambda: 0.0)
        self.clock.update(self.redis_time)
        self.state = ZoneState(ZONE, 1000, 0)
        self.seen: dict[str, int] = {}
        self.seq = 0
        self.left: float | None = None
        self.jumped = self.real
        for key in (LIVE, GONE):
            assert self.ask("join", key).ok
        self.wanted = {key: self.state.leases[key].addresses[0] for key in (LIVE, GONE)}

    def redis_time(self) -> float:
        return self.real + self.offset

    def ask(self, op: str, key: str, *wished: str, apply: bool = True) -> Reply:
        self.seq += 1
        now = self.clock.now()
        self.state.last_seen_at = self.seen
        request = replace(Request.validated(op, "zone-blue", key, request_ip=wished), seq=self.seq)
        decision = decide(self.state, request, now)
        for change in decision.changes if apply else ():
            self.state.apply(change, decision.peer)
        if apply:
            self.seen[key] = int(now)
        return decision.reply

    @rule(seconds=st.integers(1, 5000), since_report=st.integers(0, 60))
    def time_passes(self, seconds: int, since_report: int) -> None:
        self.real += seconds - min(seconds, since_report)
        self.seen[LIVE] = int(self.clock.now())
        self.real += min(seconds, since_report)
        self.nobody_is_robbed()

    @rule(jump=jumps)
    def redis_clock_jumps(self, jump: float) -> None:
        self.offset += jump
        noticed = self.clock.update(self.redis_time)
        assert noticed
        self.state.restart_listening(self.clock.now(), noticed)
        self.jumped = self.real

    @rule()
    def another_supervisor_looks_at_what_is_there(self) -> None:
        """A supervisor that ran all the time has the same clock and the same state."""
        former = self.state
        self.state = ZoneState(ZONE, 1000, former.rev)
        for key, lease in former.leases.items():
            self.state.put(key, former.peers.get(key), lease)
        self.state.inherit(former)

    @rule()
    def it_leaves(self) -> None:
        if self.left is None:
            assert self.ask("leave", GONE).ok
            self.left = self.real

    @rule()
    def it_comes_back(self) -> None:
        assert self.ask("join", GONE).addresses[0] == self.wanted[GONE]
        self.left = None

    def nobody_is_robbed(self) -> None:
        assert self.ask("join", GREEDY, self.wanted[LIVE], apply=False).code == "address-taken"
        if self.left is None:
            return
        refused = self.ask("join", GREEDY, self.wanted[GONE], apply=False).code
        gone = self.real - self.left
        if gone < QUARANTINE - JUMP_SECONDS:
            assert refused == "address-quarantined"
        elif min(gone, self.real - self.jumped) > QUARANTINE + JUMP_SECONDS:
            assert not refused


ClockMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=20, deadline=None)
TestClockMachine = ClockMachine.TestCase


def test_a_clock_that_was_set_back_before_a_node_left_keeps_its_address_no_longer() -> None:
    """The clock shows the moment of its join for a second time shortly before the quarantine ends."""
    machine = ClockMachine()
    machine.start()
    machine.redis_clock_jumps(-3300.0)
    machine.it_leaves()
    machine.time_passes(QUARANTINE + 10, 0)
