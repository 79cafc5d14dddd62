# SPDX-License-Identifier: GPL-3.0-or-later
"""One round: a fresh Redis, supervisors and agents, what the seed does to them, and the verdict."""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import redis

from jaywalk.controller import ControllerAddress, agent_user
from tests.redis_server import RedisServer

from .agents import ChaosAgent
from .judge import Picture, Tap, faults
from .machines import Controller, SupervisorProcess, Tail
from .relay import Relay
from .schedule import Step, schedule

PASSWORD = "agents-of-the-chaos-0123"
POOLS = ("10.30.0.0/27", "fd00:30::/64")
ZONES = ("zone-one", "zone-two")
"""Two tenants with the same pools: what one has never matters to the other."""
AGENTS = 24
GROUPS = 4
LOOK_SECONDS = 0.5
SETTLE_SECONDS = 40.0
"""Failures last no longer than the waits of a supervisor (5 s) and of an agent (see ``conftest``)."""


class Round:
    """``run`` returns the sentences of what went wrong, none if all is well."""

    def __init__(self, seed: int, folder: Path, seconds: float) -> None:
        self.rng = random.Random(seed)
        self.folder = folder
        self.era = 0
        self.server = RedisServer()
        self.up = True
        supervisors = self.rng.choice((2, 3))
        self.steps = schedule(self.rng, seconds, supervisors, GROUPS, AGENTS)
        self._supervisors = supervisors
        self.done: Counter[str] = Counter()
        self.lost_bytes = 0

    def run(self) -> list[str]:
        with ExitStack() as stack:
            stack.enter_context(self.server)
            self._set_up(stack)
            wrong = self._befall() or self._settle() or self._verdict()
            if wrong and self.server._folder is not None:
                shutil.copytree(self.server._folder, self.folder / "redis")
            return wrong

    def _set_up(self, stack: ExitStack) -> None:
        controller = Controller(self.server, self.folder, PASSWORD)
        for zone in ZONES:
            controller.add_zone(zone, POOLS)
        self.tail = Tail(self.server)
        self.supervisors = [SupervisorProcess(controller, number) for number in range(self._supervisors)]
        for supervisor in self.supervisors:
            stack.callback(supervisor.kill)
            supervisor.start()
        self.relays = [stack.enter_context(Relay(self.server.host, self.server.port)) for _ in range(GROUPS)]
        self.taps = {zone: Tap(self.server.client, zone, lambda: self.era) for zone in ZONES}
        for tap in self.taps.values():
            stack.callback(tap.stop)
            tap.start()
        self.agents = [self._agent(number) for number in range(AGENTS)]
        for agent in self.agents:
            stack.callback(agent.end)
            agent.live(pause=self.rng.uniform(0, 3))

    def _agent(self, number: int) -> ChaosAgent:
        """Some ask for an address or announce a prefix; some of those want the same."""
        zone = ZONES[number % len(ZONES)]
        agent = ChaosAgent(number, zone, self.folder, lambda: self.era)
        if self.rng.random() < 0.4:
            agent.requested = (f"10.30.0.{self.rng.randint(1, 20)}",)
        if self.rng.random() < 0.4:
            agent.prefixes = (f"172.20.{self.rng.randint(0, 15)}.0/{self.rng.choice((23, 24, 25))}",)
        relay = self.relays[self.rng.randrange(GROUPS)]
        agent.agents_way = lambda: ControllerAddress(
            "127.0.0.1", relay.port, agent_user(zone), PASSWORD, timeout=1.0
        )
        agent.operators_way = replace(self.server.address, timeout=1.0)
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
            "stop": self._stop,
            "crash": self._crash,
            "lose": lambda: self._lose(step.value),
            "start": self._start,
            "move": lambda: self._move(agent),
            "announce": lambda: self._announce(agent, step),
        }
        deeds.get(step.deed, lambda: agent.live(step.deed, step.value))()

    def _stop(self) -> None:
        self.up = False
        self.server.stop()

    def _crash(self) -> None:
        self.up = False
        self.server.crash()

    def _lose(self, share: float) -> None:
        self._crash()
        self.lost_bytes += self.tail.lose(share)
        self.era += 1

    def _start(self) -> None:
        self.server.start()
        self.up = True

    def _move(self, agent: ChaosAgent) -> None:
        agent.port += 1

    def _announce(self, agent: ChaosAgent, step: Step) -> None:
        """Its operator gives it another prefix of its own and starts it anew."""
        agent.prefixes = (f"172.21.{agent.number}.0/24",)
        agent.live("restart", step.value)

    def _pictures(self) -> Iterator[tuple[str, Picture]]:
        with self.server.client() as client:
            for zone in ZONES:
                yield zone, Picture.take(client, zone)

    def _look(self) -> list[str]:
        wrong = [f"{zone}: {fault}" for zone, tap in self.taps.items() for fault in tap.faults]
        if self.up:
            wrong += [f"{zone}: {fault}" for zone, picture in self._pictures() for fault in faults(picture)]
        codes = [supervisor.ended for supervisor in self.supervisors]
        wrong += [
            f"supervisor {number} ended: {code}" for number, code in enumerate(codes) if code is not None
        ]
        return wrong

    def _settle(self) -> list[str]:
        """Waits until all agents are equal to Redis; returns what still is not after a long time."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            if wrong := self._look():
                return wrong
            try:
                unequal = [text for agent in self.agents for text in self._unequal(agent)]
            except redis.RedisError as error:
                unequal = [str(error)]
            if not unequal:
                return []
            if time.monotonic() > deadline:
                return [
                    f"not equal to Redis {SETTLE_SECONDS:.0f} s after the last failure: {each}"
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
        with self.server.client() as client:
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
        for zone, picture in self._pictures():
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
        for address in last.addresses if last.era == self.era else ():
            holder = holders.get(address)
            if holder != agent.key and (holder, address) not in asked:
                yield f"{agent.zone}/{agent.name} was told {address}, and {holder or 'nobody'} has it"
