# SPDX-License-Identifier: GPL-3.0-or-later
"""One round: a new controller, supervisors and agents, and the faults of a seed."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from jaywalk.controller.address import agent_user

from .agents import ChaosAgent, pace
from .checker.history import History
from .checker.log_reader import LogReader
from .checker.log_rules import settings_faults
from .checker.observer import OBSERVATION_SECONDS, ZoneObserver
from .checker.rest_api import RestChecker
from .checker.snapshot import ZoneSnapshot
from .conditions import Conditions
from .final_checks import Counts, check_zone, wait_until_converged
from .machines import Controller, SupervisorProcess
from .operators import Operators
from .real_agents import RealAgent, create_real_agents, may_run
from .relay import Relay
from .schedule import Parts, Step, schedule
from .topologies import KINDS, MORE, ZONES

PASSWORD = "agents-of-the-chaos-0123"
AGENTS = 24
GROUPS = 4
# Faults and repairs of Redis.
REDIS = ("crash", "stop", "lose", "start", "hold", "let-go", *MORE, "free", "go-on", "copy")
# The errors of a supervisor's clock, in seconds.
CLOCKS = (-86400, -3600, -600, -40, 40, 600, 3600, 86400)


class Round:
    """``run`` returns a sentence for each fault of the product."""

    def __init__(self, seed: int, folder: Path, seconds: float, kind: str, also: Sequence[str] = ()) -> None:
        self.rng = random.Random(seed)
        self.folder = folder
        self.conditions = Conditions.of(seed, self.rng, also)
        self.histories = {zone: self._history() for zone in ZONES}
        self.topology = KINDS[kind]()
        supervisors = self.rng.choice((2, 3))
        # A relay for each group of agents, then one for each supervisor.
        groups = GROUPS + supervisors
        more = {name: fault for name, fault in MORE.items() if name in self.conditions.faults}
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
            wrong = self._inject_faults() or self._final_checks()
            if wrong:
                self.topology.keep(self.folder)
            return wrong

    def _set_up(self, stack: ExitStack) -> None:
        self.controller = controller = Controller(self.topology.password, self.folder, PASSWORD)
        where = self.topology.text(self.topology.direct())
        for zone, settings in self.conditions.settings.items():
            controller.add_zone(where, zone, settings.pools, *self.conditions.policy_of(settings))
        self.topology.protect_present_data()
        ports = list(self.topology.direct())
        self.relays = [stack.enter_context(Relay(ports)) for _ in range(self._groups)]
        addresses = [self.topology.text(relay.ports) for relay in self.relays[GROUPS:]]
        self.supervisors = [
            SupervisorProcess(controller, number, address) for number, address in enumerate(addresses)
        ]
        for supervisor in self.supervisors:
            stack.callback(supervisor.kill)
            if "clock" in self.conditions.faults:
                supervisor.fake_clock()
            supervisor.start()
        self.rest = RestChecker(self.supervisors)
        self.rest.wait()
        self.log_readers = {zone: self._log_reader(zone) for zone in ZONES}
        for reader in self.log_readers.values():
            stack.callback(reader.stop)
            reader.start()
        self.agents = [self._agent(number) for number in range(AGENTS)]
        stack.callback(self._end_agents)
        for agent in self.agents:
            agent.live(pause=self.rng.uniform(0, 3))
        self.real_agents = self._real_agents(stack) if self.conditions.has_real_agents and may_run() else []
        self.operators = stack.enter_context(Operators())
        self.observer = ZoneObserver(self.topology, self.log_readers, self.supervisors)

    def _log_reader(self, zone: str) -> LogReader:
        timeout = OBSERVATION_SECONDS * 4
        return LogReader(lambda: self.topology.server_of(zone).client(timeout), zone, self.histories[zone])

    def _agent(self, number: int) -> ChaosAgent:
        """Some request an address or announce a prefix; some of those request the same one."""
        zone = ZONES[number % len(ZONES)]
        agent = ChaosAgent(number, zone, self.folder, self.histories[zone])
        agent.reports_often = not self.conditions.real_waits
        if self.rng.random() < 0.4:
            agent.requested = (f"10.30.0.{self.rng.randint(1, 20)}",)
        if self.rng.random() < 0.4:
            agent.prefixes = (f"172.20.{self.rng.randint(0, 15)}.0/{self.rng.choice((23, 24, 25))}",)
        ports = self.relays[self.rng.randrange(GROUPS)].ports
        agent.agent_address = lambda: self.topology.address(zone, ports, agent_user(zone), PASSWORD)
        agent.operator_address = self.topology.address(
            zone, self.topology.direct(), "supervisor", self.topology.password
        )
        return agent

    def _end_agents(self) -> None:
        """End all agents together: each may be waiting for a reply of Redis."""
        for agent in self.agents:
            agent.halt()
        for agent in self.agents:
            agent.end()

    def _real_agents(self, stack: ExitStack) -> list[RealAgent]:
        zone, has_short_waits = self.conditions.roomy_zone, not self.conditions.real_waits
        agents = create_real_agents(stack, zone, self.folder, has_short_waits)
        for agent in agents:
            self.histories[zone].unrecorded.add(agent.key)
            stack.callback(agent.end)
            relay = stack.enter_context(Relay(self.topology.direct(), agent.netns))
            self.relays.append(relay)
            agent.set_controller(self.topology.text(relay.ports), PASSWORD)
            agent.start_if_ended()
        return agents

    def _inject_faults(self) -> list[str]:
        """Inject the faults at their time, later on a busy host, and observe all zones in between."""
        began, slow = time.monotonic(), pace()
        next_observation = 0.0
        for step in self.steps:
            while (left := began + step.at * slow - time.monotonic()) > 0:
                time.sleep(min(left, 0.05))
                if time.monotonic() >= next_observation:
                    if wrong := self.observer.observe():
                        return wrong
                    self.operators.run(self.rest.observe)
                    next_observation = time.monotonic() + OBSERVATION_SECONDS
            self._do(step)
            for agent in self.real_agents:
                agent.start_if_ended()
            self.done[step.action] += 1
        return []

    def _do(self, step: Step) -> None:
        supervisor = self.supervisors[step.target % len(self.supervisors)]
        relay = self.relays[step.target % len(self.relays)]
        agent = self.agents[step.target % len(self.agents)]
        actions: dict[str, Callable[[], None]] = {
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
        actions.get(step.action, lambda: agent.live(step.action, step.value))()

    def _fail(self, step: Step) -> None:
        """Inject a fault of Redis; requests after a loss of data belong to another era."""
        with ExitStack() as stack:
            for zone in self.topology.losing(step.action, step.target):
                stack.enter_context(self.histories[zone].loses())
            self.topology.inject(step.action, step.target, step.value)

    def _visit(self, step: Step) -> None:
        """Join and leave with new keys, which fills the pool with addresses in quarantine."""
        host, number = self.agents[step.target], self.done[step.action]
        self.operators.run(lambda: host.visit(number))

    def _expect(self, agent: ChaosAgent, value: float) -> None:
        """Reserve a lease by name, only in the zone with free addresses."""
        if agent.zone == self.conditions.roomy_zone:
            self.operators.expect(agent, value)

    def _kill_real_agent(self, number: int) -> None:
        for agent in self.real_agents[number : number + 1]:
            agent.kill()

    @staticmethod
    def _wrong_by(value: float) -> int:
        return CLOCKS[int(value * len(CLOCKS)) % len(CLOCKS)]

    def _grow(self, zone: str) -> None:
        """Give the zone larger pools and a longer quarantine."""
        settings, where = self.conditions.settings[zone], self.topology.text(self.topology.direct())
        arguments = ("set", zone, "--cidr", settings.later[0], "--quarantine", f"{settings.later_quarantine}")

        def grow() -> None:
            era = self.histories[zone].era
            self.grown[zone] = (era, self.controller.zone(where, *arguments))

        self.operators.run(grow)

    def _settings_faults(self, zone: str, snapshot: ZoneSnapshot) -> Iterator[str]:
        """Yield the differences of the zone from its settings, including a later ``zone set``."""
        era, failed = self.grown.get(zone, (-1, ""))
        if "Traceback" in failed:
            yield f"zone set failed: {failed}"
        is_grown = not failed and era == self.histories[zone].era
        yield from settings_faults(snapshot.meta, self.conditions.settings[zone], is_grown)

    def _final_checks(self) -> list[str]:
        """Wait until everything is equal again, and check the history."""
        self.operators.tidy(self.agents)
        seconds = self.conditions.settle_seconds
        wrong = wait_until_converged(self.agents, self.real_agents, self.observer, self.rest, seconds)
        return wrong or list(self._history_faults())

    def _history_faults(self) -> Iterator[str]:
        for zone, history in self.histories.items():
            reader, settings = self.log_readers[zone], self.conditions.settings[zone]
            self.observer.wait_for_log(zone)
            reader.stop()
            snapshot = self.observer.snapshot(zone)
            faults = check_zone(snapshot, reader, history, settings, self.counts)
            for fault in (*faults, *self._settings_faults(zone, snapshot)):
                yield f"{zone}: {fault}"
        yield from self.rest.peers_without_event(self.log_readers)
        for agent in self.agents:
            if not agent.granted:
                yield f"{agent.zone}/{agent.name} never received a lease"
