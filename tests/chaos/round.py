# SPDX-License-Identifier: GPL-3.0-or-later
"""One round: a fresh controller, supervisors and agents, and what the seed does to them."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from jaywalk.controller.address import agent_user

from .agents import ChaosAgent, pace
from .conditions import Conditions
from .judge.history import History
from .judge.looks import LOOK_SECONDS, Looks
from .judge.picture import Picture
from .judge.rest import Rest
from .judge.rules import other_zone
from .judge.tap import Tap
from .machines import Controller, SupervisorProcess
from .operators import Operators
from .real_agents import RealAgent, may_run, two_real_agents
from .relay import Relay
from .schedule import Parts, Step, schedule
from .topologies import KINDS, MORE, ZONES
from .verdict import Counts, settle, verdict

PASSWORD = "agents-of-the-chaos-0123"
AGENTS = 24
GROUPS = 4
REDIS = ("crash", "stop", "lose", "start", "hold", "let-go", *MORE, "free", "go-on", "copy")
"""What befalls Redis."""
CLOCKS = (-86400, -3600, -600, -40, 40, 600, 3600, 86400)
"""Seconds by which a supervisor's clock may be wrong."""


class Round:
    """``run`` returns the sentences of what went wrong, none if all is well."""

    def __init__(self, seed: int, folder: Path, seconds: float, kind: str, also: Sequence[str] = ()) -> None:
        self.rng = random.Random(seed)
        self.folder = folder
        self.conditions = Conditions.of(seed, self.rng, also)
        self.histories = {zone: self._history() for zone in ZONES}
        self.topology = KINDS[kind]()
        supervisors = self.rng.choice((2, 3))
        # Groups of agents come first, then each supervisor with a way of its own.
        groups = GROUPS + supervisors
        more = {each: fault for each, fault in MORE.items() if each in self.conditions.faults}
        parts = Parts(
            supervisors,
            self.topology.outages,
            groups,
            AGENTS,
            len(ZONES),
            more,
            "clock" in self.conditions.faults,
        )
        self.steps = schedule(self.rng, seconds, parts)
        self._groups = groups
        self.done: Counter[str] = Counter()
        self.counts = Counts()
        self.grown: dict[str, tuple[int, str]] = {}

    def _history(self) -> History:
        faults = self.conditions.faults
        return History(forks="roll-back" in faults, restores="empty" in faults)

    def run(self) -> list[str]:
        with ExitStack() as stack:
            stack.enter_context(self.conditions.waits())
            stack.enter_context(self.topology)
            self.topology.sync(self.conditions.sync)
            self._set_up(stack)
            wrong = self._befall() or self._calm()
            if wrong:
                self.topology.keep(self.folder)
            return wrong

    def _set_up(self, stack: ExitStack) -> None:
        self.controller = controller = Controller(self.topology.password, self.folder, PASSWORD)
        where = self.topology.text(self.topology.direct())
        for zone, terms in self.conditions.terms.items():
            controller.add_zone(where, zone, terms.pools, *self.conditions.policy_of(terms))
        self.topology.begin_of_tail()
        ports = list(self.topology.direct())
        self.relays = [stack.enter_context(Relay(ports)) for _ in range(self._groups)]
        ways = [self.topology.text(relay.ports) for relay in self.relays[GROUPS:]]
        self.supervisors = [SupervisorProcess(controller, number, way) for number, way in enumerate(ways)]
        for supervisor in self.supervisors:
            stack.callback(supervisor.kill)
            if "clock" in self.conditions.faults:
                supervisor.fake_clock()
            supervisor.start()
        self.rest = Rest(self.supervisors)
        self.rest.wait()
        self.taps = {zone: self._tap(zone) for zone in ZONES}
        for tap in self.taps.values():
            stack.callback(tap.stop)
            tap.start()
        self.agents = [self._agent(number) for number in range(AGENTS)]
        stack.callback(self._end_agents)
        for agent in self.agents:
            agent.live(pause=self.rng.uniform(0, 3))
        self.real_agents = self._real_agents(stack) if self.conditions.has_real_agents and may_run() else []
        self.operators = stack.enter_context(Operators())
        self.looks = Looks(self.topology, self.taps, self.supervisors)

    def _tap(self, zone: str) -> Tap:
        return Tap(lambda: self.topology.server_of(zone).client(LOOK_SECONDS * 4), zone, self.histories[zone])

    def _agent(self, number: int) -> ChaosAgent:
        """Some ask for an address or announce a prefix; some of those want the same."""
        zone = ZONES[number % len(ZONES)]
        agent = ChaosAgent(number, zone, self.folder, self.histories[zone])
        agent.reports_often = not self.conditions.real_waits
        if self.rng.random() < 0.4:
            agent.requested = (f"10.30.0.{self.rng.randint(1, 20)}",)
        if self.rng.random() < 0.4:
            agent.prefixes = (f"172.20.{self.rng.randint(0, 15)}.0/{self.rng.choice((23, 24, 25))}",)
        ports = self.relays[self.rng.randrange(GROUPS)].ports
        agent.agents_way = lambda: self.topology.address(zone, ports, agent_user(zone), PASSWORD)
        agent.operators_way = self.topology.address(
            zone, self.topology.direct(), "supervisor", self.topology.password
        )
        return agent

    def _end_agents(self) -> None:
        """All at once: each may wait for an answer of Redis."""
        for agent in self.agents:
            agent.halt()
        for agent in self.agents:
            agent.end()

    def _real_agents(self, stack: ExitStack) -> list[RealAgent]:
        zone, has_short_waits = self.conditions.roomy_zone, not self.conditions.real_waits
        agents = two_real_agents(stack, zone, self.folder, has_short_waits)
        for agent in agents:
            self.histories[zone].unwatched.add(agent.key)
            stack.callback(agent.end)
            relay = stack.enter_context(Relay(self.topology.direct(), agent.netns))
            self.relays.append(relay)
            agent.reach(self.topology.text(relay.ports), PASSWORD)
            agent.look_after()
        return agents

    def _befall(self) -> list[str]:
        """Does the steps at their time, later on a busy host, and looks at all zones in between."""
        began, slow = time.monotonic(), pace()
        look = 0.0
        for step in self.steps:
            while (left := began + step.at * slow - time.monotonic()) > 0:
                time.sleep(min(left, 0.05))
                if time.monotonic() >= look:
                    if wrong := self.looks.look():
                        return wrong
                    self.operators.run(self.rest.look)
                    look = time.monotonic() + LOOK_SECONDS
            self._do(step)
            for agent in self.real_agents:
                agent.look_after()
            self.done[step.deed] += 1
        return []

    def _do(self, step: Step) -> None:
        supervisor = self.supervisors[step.target % len(self.supervisors)]
        relay = self.relays[step.target % len(self.relays)]
        agent = self.agents[step.target % len(self.agents)]
        deeds: dict[str, Callable[[], None]] = {
            "kill": supervisor.kill,
            "revive": supervisor.start,
            "pause": supervisor.pause,
            "resume": supervisor.resume,
            "clock": lambda: supervisor.set_clock(self._wrong_by(step.value)),
            "clock-right": lambda: supervisor.set_clock(0),
            "grow": lambda: self._grow(ZONES[step.target]),
            "cut": relay.cut,
            "freeze": relay.freeze,
            "heal": relay.heal,
            **dict.fromkeys(REDIS, lambda: self._fail(step)),
            "move": agent.move,
            "announce": lambda: agent.announce(step.value),
            "reserve": lambda: self.operators.reserve(agent, step.value),
            "kill-agent": lambda: self._kill_real_agent(step.target),
            "visit": lambda: self._visit(step),
            "expect": lambda: self._expect(agent, step.value),
            "show": lambda: self.operators.show(agent),
        }
        deeds.get(step.deed, lambda: agent.live(step.deed, step.value))()

    def _fail(self, step: Step) -> None:
        """What is asked for from now on is of another era; what was asked before may be lost."""
        with ExitStack() as stack:
            for zone in self.topology.losing(step.deed, step.target):
                stack.enter_context(self.histories[zone].loses())
            self.topology.befall(step.deed, step.target, step.value)

    def _visit(self, step: Step) -> None:
        """Guests fill the pool with addresses in quarantine."""
        host, number = self.agents[step.target], self.done[step.deed]
        self.operators.run(lambda: host.visit(number))

    def _expect(self, agent: ChaosAgent, value: float) -> None:
        """Only where there is room for leases of nobody."""
        if agent.zone == self.conditions.roomy_zone:
            self.operators.expect(agent, value)

    def _kill_real_agent(self, number: int) -> None:
        for agent in self.real_agents[number : number + 1]:
            agent.kill()

    @staticmethod
    def _wrong_by(value: float) -> int:
        return CLOCKS[int(value * len(CLOCKS)) % len(CLOCKS)]

    def _grow(self, zone: str) -> None:
        """The zone gets wider pools, and a longer quarantine."""
        terms, where = self.conditions.terms[zone], self.topology.text(self.topology.direct())
        words = ("set", zone, "--cidr", terms.later[0], "--quarantine", f"{terms.later_quarantine}")

        def grow() -> None:
            era = self.histories[zone].era
            self.grown[zone] = (era, self.controller.zone(where, *words))

        self.operators.run(grow)

    def _other_zone(self, zone: str, picture: Picture) -> Iterator[str]:
        """Where the zone is not what it was made, or what ``zone set`` said that it is since."""
        era, failed = self.grown.get(zone, (-1, ""))
        if "Traceback" in failed:
            yield f"zone set failed: {failed}"
        is_grown = not failed and era == self.histories[zone].era
        yield from other_zone(picture.meta, self.conditions.terms[zone], is_grown)

    def _calm(self) -> list[str]:
        """Waits until all is equal again, and judges what was said meanwhile."""
        self.operators.tidy(self.agents)
        wrong = settle(self.agents, self.real_agents, self.looks, self.rest, self.conditions.settle_seconds)
        return wrong or list(self._judged())

    def _judged(self) -> Iterator[str]:
        for zone, history in self.histories.items():
            tap, terms = self.taps[zone], self.conditions.terms[zone]
            self.looks.tapped(zone)
            tap.stop()
            picture = self.looks.picture(zone)
            faults = verdict(picture, tap, history, terms, self.counts)
            for fault in (*faults, *self._other_zone(zone, picture)):
                yield f"{zone}: {fault}"
        yield from self.rest.invented(self.taps)
        for agent in self.agents:
            if not agent.granted:
                yield f"{agent.zone}/{agent.name} was never told a lease"
