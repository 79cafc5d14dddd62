# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of a round: all agents must become equal to Redis, and the history must be correct."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_network

import redis

from lab.deadline import Deadline

from .agents import ChaosAgent
from .checker.history import History
from .checker.log_reader import LogReader
from .checker.log_rules import LogRules, ZoneSettings
from .checker.observer import OBSERVATION_SECONDS, ZoneObserver
from .checker.replay import changes_of
from .checker.replies import ReplyChecker, checkable
from .checker.rest_api import RestChecker
from .checker.snapshot import ZoneSnapshot
from .real_agents import RealAgent

# The interval of progress messages.
PROGRESS_SECONDS = 20.0

# The longest wait on a busy host, as a multiple of that on an idle one.
MAX_SLOWNESS = 4.0


@dataclass
class Counts:
    """The numbers of checked replies, of uncheckable replies around a loss of data, and of events."""

    answers: int = 0
    beyond: int = 0
    events: int = 0
    readings: int = 0

    def __str__(self) -> str:
        return f"checked {self.answers} replies ({self.beyond} around a loss not) and {self.events} events"


def wait_until_converged(
    agents: Sequence[ChaosAgent],
    real_agents: Sequence[RealAgent],
    observer: ZoneObserver,
    rest: RestChecker,
    seconds: float,
) -> list[str]:
    """Wait until all agents and the REST API are equal to Redis; return the remaining differences."""
    deadline = Deadline(seconds)
    began, reported = time.time(), 0.0
    while True:
        if wrong := observer.observe(is_calm=True):
            return wrong
        for agent in agents:
            agent.restart_if_released()
        try:
            snapshots = {
                zone: observer.snapshot(zone) for zone in dict.fromkeys(agent.zone for agent in agents)
            }
            unequal = [text for agent in agents for text in _unequal(agent, snapshots[agent.zone], began)]
            for real_agent in real_agents:
                real_agent.start_if_ended()
                unequal += real_agent.unequal(snapshots[real_agent.zone])
            unequal = unequal or list(rest.unequal(snapshots))
        except redis.RedisError as error:
            unequal = [str(error)]
        if not unequal:
            return []
        if deadline.waited > reported + PROGRESS_SECONDS:
            reported = deadline.waited
            print(
                f"  after {reported:.0f} s {len(unequal)} things are not equal yet: {unequal[0]}", flush=True
            )
        if deadline.passed or deadline.waited > seconds * MAX_SLOWNESS:
            return [
                f"not equal to Redis {deadline.waited:.0f} s after the last failure: {difference}"
                for difference in unequal
            ]
        time.sleep(OBSERVATION_SECONDS)


def _unequal(agent: ChaosAgent, snapshot: ZoneSnapshot, since: float) -> Iterator[str]:
    follower = agent.follower
    where = f"{agent.zone}/{agent.name}"
    if follower is None or follower.view is None:
        error = agent.error or (follower.membership.error if follower else "it never started")
        yield f"{where} has no copy of its zone: {error}"
        return
    if follower.membership.error or agent.error or follower.membership.waiting:
        yield f"{where} is not done: {agent.error or follower.membership.error or 'its request waits'}"
        return
    known = {
        key: (peer.name, list(peer.addresses), list(peer.prefixes), peer.endpoint, peer.rev)
        for key, peer in dict(follower.view.peers).items()
    }
    there = {
        key: (peer["n"], peer["a"], peer.get("p", []), peer.get("e", ""), peer["r"])
        for key, peer in snapshot.peers.items()
    }
    if agent.key not in there:
        yield f"{where} is not in its zone, and reports no error"
        return
    for key in sorted(known.keys() | there.keys()):
        if known.get(key) != there.get(key):
            yield f"{where} has {key} as {known.get(key)}, Redis as {there.get(key)}"
    yield from _record_differences(agent, where, snapshot)
    if agent.key not in snapshot.seen:
        yield f"{where} reported, and the zone has no time of it"
    elif agent.reports_often and snapshot.seen[agent.key] < int(since):
        yield f"{where} reports, and was last seen at {snapshot.seen[agent.key]}, before the last fault ended"


def _record_differences(agent: ChaosAgent, where: str, snapshot: ZoneSnapshot) -> Iterator[str]:
    """Yield the differences of the agent's own record from its operator's settings."""
    own = snapshot.peers[agent.key]
    if own.get("e", "") != agent.endpoint:
        yield f"{where} is at {agent.endpoint}, and in the zone is {own.get('e')}"
    announced = [str(ip_network(prefix, strict=False)) for prefix in agent.prefixes]
    if own.get("p", []) != [*own.get("k", []), *announced]:
        yield f"{where} announces {agent.prefixes}, and in the zone is {own.get('p')}"


def check_zone(
    snapshot: ZoneSnapshot, reader: LogReader, history: History, settings: ZoneSettings, counts: Counts
) -> Iterator[str]:
    """Yield the faults of one zone's history, once its log reader has everything."""
    yield from reader.faults
    yield from reader.lost_events(snapshot)
    rules = LogRules(history, settings, _held(reader) if history.restores else ())
    for reading in reader.distinct_readings():
        counts.readings += 1
        counts.events += len(reading.entries)
        yield from rules.violations(reading.entries)
    yield from _wrong_replies(reader, history, settings, counts)


def _held(reader: LogReader) -> set[tuple[str, tuple[str, ...]]]:
    """Return all addresses that each key ever had."""
    records = (
        change for entry in reader.seen.values() for change in changes_of(entry.fields) if change.record
    )
    return {(change.key, tuple((change.record or {}).get("a", ()))) for change in records}


def _wrong_replies(
    reader: LogReader, history: History, settings: ZoneSettings, counts: Counts
) -> Iterator[str]:
    checkers: dict[int, ReplyChecker] = {}
    answers = list(history.answers)
    checked = list(checkable(answers, reader.longest_of))
    counts.answers += len(checked)
    counts.beyond += len(answers) - len(checked)
    for answer, reading in checked:
        if id(reading) not in checkers:
            checkers[id(reading)] = ReplyChecker(reading, settings)
        if fault := checkers[id(reading)].fault_of(answer):
            yield fault
