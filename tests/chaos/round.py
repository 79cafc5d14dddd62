# SPDX-License-Identifier: GPL-3.0-or-later
"""One round: a fresh controller, supervisors and agents, what the seed does to them, and the verdict."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from ipaddress import ip_network
from pathlib import Path

import redis

from jaywalk.controller import agent_user
from lab.patience import Deadline

from .agents import ChaosAgent
from .judge import Picture, Tap, faults
from .machines import Controller, SupervisorProcess
from .relay import Relay
from .schedule import Step, schedule
from .stages import KINDS, ZONES

PASSWORD = "agents-of-the-chaos-0123"
POOLS = ("10.30.0.0/27", "fd00:30::/64")
AGENTS = 24
GROUPS = 4
LOOK_SECONDS = 0.5
PATIENCE = 60.0
"""Seconds for an answer of Redis once nothing is wrong any more."""
SETTLE_SECONDS = 40.0
"""Failures last no longer than the waits of a supervisor (5 s) and of an agent (see ``conftest``)."""


class Round:
    """``run`` returns the sentences of what went wrong, none if all is well."""

    def __init__(self, seed: int, folder: Path, seconds: float, kind: str) -> None:
        self.rng = random.Random(seed)
        self.folder = folder
        self.eras = dict.fromkeys(ZONES, 0)
        self.stage = KINDS[kind]()
        supervisors = self.rng.choice((2, 3))
        # Groups of agents come first, then each supervisor with a way of its own.
        groups = GROUPS + supervisors
        self.steps = schedule(self.rng, seconds, supervisors, self.stage.outages, groups, AGENTS)
        self._groups, self._supervisors = groups, supervisors
        self.done: Counter[str] = Counter()

    def run(self) -> list[str]:
        with ExitStack() as stack:
            stack.enter_context(self.stage)
            self._set_up(stack)
            wrong = self._befall() or self._settle() or self._verdict()
            if wrong:
                self.stage.keep(self.folder)
            return wrong

    def _set_up(self, stack: ExitStack) -> None:
        controller = Controller(self.stage.password, self.folder, PASSWORD)
        for zone in ZONES:
            controller.add_zone(self.stage.text(self.stage.direct()), zone, POOLS)
        self.stage.begin_of_tail()
        ports = list(self.stage.direct())
        self.relays = [stack.enter_context(Relay(ports)) for _ in range(self._groups)]
        ways = [self.stage.text(relay.ports) for relay in self.relays[GROUPS:]]
        self.supervisors = [SupervisorProcess(controller, number, way) for number, way in enumerate(ways)]
        for supervisor in self.supervisors:
            stack.callback(supervisor.kill)
            supervisor.start()
        self.taps = {zone: self._tap(zone) for zone in ZONES}
        for tap in self.taps.values():
            stack.callback(tap.stop)
            tap.start()
        self.agents = [self._agent(number) for number in range(AGENTS)]
        for agent in self.agents:
            stack.callback(agent.end)
            agent.live(pause=self.rng.uniform(0, 3))

    def _tap(self, zone: str) -> Tap:
        return Tap(lambda: self.stage.server_of(zone).client(LOOK_SECONDS * 4), zone, lambda: self.eras[zone])

    def _agent(self, number: int) -> ChaosAgent:
        """Some ask for an address or announce a prefix; some of those want the same."""
        zone = ZONES[number % len(ZONES)]
        agent = ChaosAgent(number, zone, self.folder, lambda: self.eras[zone])
        if self.rng.random() < 0.4:
            agent.requested = (f"10.30.0.{self.rng.randint(1, 20)}",)
        if self.rng.random() < 0.4:
            agent.prefixes = (f"172.20.{self.rng.randint(0, 15)}.0/{self.rng.choice((23, 24, 25))}",)
        ports = self.relays[self.rng.randrange(GROUPS)].ports
        agent.agents_way = lambda: self.stage.address(zone, ports, agent_user(zone), PASSWORD)
        agent.operators_way = self.stage.address(zone, self.stage.direct(), "supervisor", self.stage.password)
        return agent

    def _befall(self) -> list[str]:
        """Does the steps at their time and looks at all zones in between."""
        began = time.monotonic()
        look = 0.0
        for step in self.steps:
            while (left := began + step.at - time.monotonic()) > 0:
                time.sleep(min(left, 0.05))
                if time.monotonic() >= look:
                    if wrong := self._look():
                        return wrong
                    look = time.monotonic() + LOOK_SECONDS
            self._do(step)
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
            "cut": relay.cut,
            "freeze": relay.freeze,
            "heal": relay.heal,
            **dict.fromkeys(("stop", "crash", "lose", "start", "hold", "let-go"), lambda: self._fail(step)),
            "move": lambda: self._move(agent),
            "announce": lambda: self._announce(agent, step),
        }
        deeds.get(step.deed, lambda: agent.live(step.deed, step.value))()

    def _fail(self, step: Step) -> None:
        """What is asked for from now on is of another era; what was asked before may be lost."""
        for zone in self.stage.befall(step.deed, step.target, step.value):
            self.eras[zone] += 1

    def _move(self, agent: ChaosAgent) -> None:
        agent.port += 1

    def _announce(self, agent: ChaosAgent, step: Step) -> None:
        """Its operator gives it another prefix of its own and starts it anew."""
        agent.prefixes = (f"172.21.{agent.number}.0/24",)
        agent.live("restart", step.value)

    def _pictures(self, timeout: float) -> Iterator[tuple[str, Picture]]:
        for zone in ZONES:
            with self.stage.server_of(zone).client(timeout) as client:
                yield zone, Picture.take(client, zone)

    def _look(self) -> list[str]:
        wrong = [f"{zone}: {fault}" for zone, tap in self.taps.items() for fault in tap.faults]
        with suppress(redis.RedisError):  # it is away, or held
            pictures = list(self._pictures(LOOK_SECONDS))
            wrong += [f"{zone}: {fault}" for zone, picture in pictures for fault in faults(picture)]
        codes = [supervisor.ended for supervisor in self.supervisors]
        wrong += [
            f"supervisor {number} ended: {code}" for number, code in enumerate(codes) if code is not None
        ]
        return wrong

    def _settle(self) -> list[str]:
        """Waits until all agents are equal to Redis; returns what still is not after a long time."""
        deadline = Deadline(SETTLE_SECONDS)
        while True:
            if wrong := self._look():
                return wrong
            try:
                unequal = [text for agent in self.agents for text in self._unequal(agent)]
            except redis.RedisError as error:
                unequal = [str(error)]
            if not unequal:
                return []
            if deadline.passed:
                return [
                    f"not equal to Redis {deadline.waited:.0f} s after the last failure: {each}"
                    for each in unequal
                ]
            time.sleep(LOOK_SECONDS)

    def _unequal(self, agent: ChaosAgent) -> Iterator[str]:
        follower = agent.follower
        where = f"{agent.zone}/{agent.name}"
        if follower is None or follower.view is None:
            yield f"{where} knows nothing of its zone: {agent.trouble}"
            return
        if follower.trouble or agent.trouble or follower._pending is not None:
            yield f"{where} is not done: {agent.trouble or follower.trouble or follower._pending}"
            return
        with self.stage.server_of(agent.zone).client(PATIENCE) as client:
            picture = Picture.take(client, agent.zone)
        known = {
            key: (peer.name, list(peer.addresses), list(peer.prefixes), peer.endpoint, peer.rev)
            for key, peer in dict(follower.view.peers).items()
        }
        there = {
            key: (peer["n"], peer["a"], peer.get("p", []), peer.get("e", ""), peer["r"])
            for key, peer in picture.peers.items()
        }
        if agent.key not in there:
            yield f"{where} is not in its zone, and content"
        for key in sorted(known.keys() | there.keys()):
            if known.get(key) != there.get(key):
                yield f"{where} has {key} as {known.get(key)}, Redis as {there.get(key)}"
        own = there.get(agent.key)
        if own and own[3] != agent.endpoint:
            yield f"{where} is at {agent.endpoint}, and the zone says {own[3]}"
        if own and own[2] != [str(ip_network(prefix, strict=False)) for prefix in agent.prefixes]:
            yield f"{where} announces {agent.prefixes}, and the zone says {own[2]}"

    def _verdict(self) -> list[str]:
        wrong: list[str] = []
        for zone, picture in self._pictures(PATIENCE):
            wrong += [f"{zone}: {fault}" for fault in self.taps[zone].lost(picture)]
            holders = {address: key for key, lease in picture.leases.items() for address in lease["a"]}
            members = [agent for agent in self.agents if agent.zone == zone]
            asked = {(agent.key, address) for agent in members for address in agent.asked_for}
            for agent in members:
                wrong += self._broken_promises(agent, holders, asked)
        return wrong

    def _broken_promises(
        self, agent: ChaosAgent, holders: dict[str, str], asked: set[tuple[str, str]]
    ) -> Iterator[str]:
        """Where the last lease that ``agent`` was told is not its own, although nothing took it away."""
        if not agent.acks:
            yield f"{agent.zone}/{agent.name} was never told a lease"
            return
        last = agent.acks[-1]
        for address in last.addresses if last.era == self.eras[agent.zone] else ():
            holder = holders.get(address)
            if holder != agent.key and (holder, address) not in asked:
                yield f"{agent.zone}/{agent.name} was told {address}, and {holder or 'nobody'} has it"
