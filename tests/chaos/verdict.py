# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of a round: all agents must come to be equal to Redis, and all that was said must have been so."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_network

import redis

from lab.deadline import Deadline

from .agents import ChaosAgent
from .judge.answers import Answers, judged
from .judge.history import History
from .judge.looks import LOOK_SECONDS, Looks
from .judge.picture import Picture
from .judge.replay import changes_of
from .judge.rest import Rest
from .judge.rules import Rules, Terms
from .judge.tap import Tap
from .real_agents import RealAgent

SAY_SECONDS = 20.0
"""How often people are told what a round waits for."""

SLOWEST = 4.0
"""How many times longer than on an idle host a round may take to come to rest, however busy the host is."""


@dataclass
class Counts:
    """What was judged: answers, those of them that fell into a loss of data and could not be, and events."""

    answers: int = 0
    beyond: int = 0
    events: int = 0
    readings: int = 0

    def __str__(self) -> str:
        return f"judged {self.answers} answers ({self.beyond} fell into a loss) and {self.events} events"


def settle(
    agents: Sequence[ChaosAgent],
    real_agents: Sequence[RealAgent],
    looks: Looks,
    rest: Rest,
    seconds: float,
) -> list[str]:
    """Waits until all agents, and what REST says, are equal to Redis; returns what is not after all."""
    deadline = Deadline(seconds)
    began, said = time.time(), 0.0
    while True:
        if wrong := looks.look(is_calm=True):
            return wrong
        for agent in agents:
            agent.come_back()
        try:
            pictures = {zone: looks.picture(zone) for zone in dict.fromkeys(each.zone for each in agents)}
            unequal = [text for agent in agents for text in _unequal(agent, pictures[agent.zone], began)]
            for real_agent in real_agents:
                real_agent.look_after()
                unequal += real_agent.unequal(pictures[real_agent.zone])
            unequal = unequal or list(rest.unequal(pictures))
        except redis.RedisError as error:
            unequal = [str(error)]
        if not unequal:
            return []
        if deadline.waited > said + SAY_SECONDS:
            said = deadline.waited
            print(f"  after {said:.0f} s {len(unequal)} things are not equal yet: {unequal[0]}", flush=True)
        if deadline.passed or deadline.waited > seconds * SLOWEST:
            return [
                f"not equal to Redis {deadline.waited:.0f} s after the last failure: {each}"
                for each in unequal
            ]
        time.sleep(LOOK_SECONDS)


def _unequal(agent: ChaosAgent, picture: Picture, since: float) -> Iterator[str]:
    follower = agent.follower
    where = f"{agent.zone}/{agent.name}"
    if follower is None or follower.view is None:
        trouble = agent.trouble or (follower.trouble if follower else "it never began")
        yield f"{where} knows nothing of its zone: {trouble}"
        return
    if follower.trouble or agent.trouble or follower.waiting:
        yield f"{where} is not done: {agent.trouble or follower.trouble or 'its request waits'}"
        return
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
        return
    for key in sorted(known.keys() | there.keys()):
        if known.get(key) != there.get(key):
            yield f"{where} has {key} as {known.get(key)}, Redis as {there.get(key)}"
    yield from _unwished(agent, where, picture)
    if agent.key not in picture.seen:
        yield f"{where} reported, and the zone never saw it"
    elif agent.reports_often and picture.seen[agent.key] < int(since):
        yield f"{where} reports, and was last seen at {picture.seen[agent.key]}, before all was calm"


def _unwished(agent: ChaosAgent, where: str, picture: Picture) -> Iterator[str]:
    """Where the agent's own record is not what its operator wants."""
    own = picture.peers[agent.key]
    if own.get("e", "") != agent.endpoint:
        yield f"{where} is at {agent.endpoint}, and the zone says {own.get('e')}"
    announced = [str(ip_network(prefix, strict=False)) for prefix in agent.prefixes]
    if own.get("p", []) != [*own.get("k", []), *announced]:
        yield f"{where} announces {agent.prefixes}, and the zone says {own.get('p')}"


def verdict(picture: Picture, tap: Tap, history: History, terms: Terms, counts: Counts) -> Iterator[str]:
    """What the histories of one zone tell, once its tap knows all."""
    yield from tap.faults
    yield from tap.lost(picture)
    rules = Rules(history, terms, _held(tap) if history.restores else ())
    for reading in tap.distinct():
        counts.readings += 1
        counts.events += len(reading.entries)
        yield from rules.unlawful(reading.entries)
    yield from _false_answers(tap, history, terms, counts)


def _held(tap: Tap) -> set[tuple[str, tuple[str, ...]]]:
    """All addresses that each key ever had."""
    records = (each for entry in tap.seen.values() for each in changes_of(entry.fields) if each.record)
    return {(each.key, tuple((each.record or {}).get("a", ()))) for each in records}


def _false_answers(tap: Tap, history: History, terms: Terms, counts: Counts) -> Iterator[str]:
    courts: dict[int, Answers] = {}
    answers = list(history.answers)
    sound = list(judged(answers, tap.last_of))
    counts.answers += len(sound)
    counts.beyond += len(answers) - len(sound)
    for answer, reading in sound:
        if id(reading) not in courts:
            courts[id(reading)] = Answers(reading, terms)
        if fault := courts[id(reading)].false(answer):
            yield fault
