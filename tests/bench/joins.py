# SPDX-License-Identifier: GPL-3.0-or-later
"""Joins that one supervisor process commits per second, compared with bare script calls of the same size.

Other processes send the requests as nodes do, several joins per RPUSH, and keep the inbox well below the
limit at which a supervisor trims it. They create all requests before the measured time starts.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.synchronize import Barrier
from statistics import median
from typing import Any

from jaywalk.controller.address import ControllerAddress
from jaywalk.controller.connection import client_to
from jaywalk.controller.prover import Prover
from jaywalk.trust.secrets import KeyPair
from jaywalk.trust.supervisor_keys import TrustedKeys
from jaywalk.zone.events import Change
from jaywalk.zone.models import Zone
from jaywalk.zone.policy import Policy
from jaywalk.zone.redis_keys import SUPERVISOR_KEYS, ZoneKeys
from jaywalk.zone.reply_streams import ReplyTo
from jaywalk.zone.requests import Reply, Request
from jaywalk_supervisor.decisions.agent_requests import decide
from jaywalk_supervisor.possession.keyring import Keyring
from jaywalk_supervisor.possession.proofs import ProofChecker
from jaywalk_supervisor.store.commit_args import CommitArgs, commit_args
from jaywalk_supervisor.store.connection import script_of
from jaywalk_supervisor.store.store import Store, new_mark
from lab.deadline import Deadline
from tests.bench.apply import random_key
from tests.bench.results import Figure
from tests.bench.service import TIMEOUT_SECONDS, await_served, cpu_seconds, redis_with, supervisor
from tests.chaos.machines import SupervisorProcess
from tests.replies import read_reply

ZONE = Zone("bench", ("10.64.0.0/12",))
BARE = Zone("bare", ZONE.pools)
# As an operator makes a zone now: it requires proofs, and its nodes get Redis users of their own.
CLOSED = Zone("closed", ZONE.pools, policy=Policy.parse(proof="required"))
ROUNDS = 3
# Rounds with proofs and without, in turns: the other load of a machine changes from one to the next.
TURNS = 6
PROVEN_JOINS = 10_000
JOINS = 20_000
BARE_JOINS = 10_000
# Script calls that the bare client sends before it reads their replies.
PIPELINED = 4
SENDERS = 2
AT_ONCE = 100
# Requests in the inbox at which the senders pause; a supervisor trims it at 20,000.
WAITING = 8_000
SAMPLE = 500
PROOFS = 5000


@dataclass(frozen=True)
class Load:
    """Joins per second, the supervisor's processor microseconds per join, and joins per commit of a run."""

    per_second: float
    microseconds: float
    batch: int


def request(zone: str, number: int) -> Request:
    """Return a join request as the agent of a public node sends it."""
    return Request.validated(
        "join",
        zone,
        random_key(),
        name=f"node{number}",
        endpoint=f"198.18.{number // 250 % 250}.{1 + number % 250}:51820",
        machine_id=f"{number:08x}",
    )


def send(
    where: ControllerAddress,
    zone: str,
    number: int,
    count: int,
    ready: Barrier,
    nonces: Any,
    supervisor_key: str,
) -> None:
    """Run a sender: create requests, wait for the other senders, keep the inbox filled, put some nonces.

    Each node proves its request to ``supervisor_key``, unless that is empty.
    """
    requests = [request(zone, number * count + index) for index in range(count)]
    if supervisor_key:
        pairs = [KeyPair.generate()[0] for _each in requests]
        requests = [replace(each, key=pair.public) for each, pair in zip(requests, pairs, strict=True)]
        texts = [
            Prover(pair, TrustedKeys(zone, [supervisor_key])).wire(each)
            for each, pair in zip(requests, pairs, strict=True)
        ]
    else:
        texts = [each.to_wire() for each in requests]
    client = client_to(where, f"bench-{number}")
    client.ping()
    inbox = ZoneKeys(zone).inbox
    ready.wait(Deadline(TIMEOUT_SECONDS).left)
    for begin in range(0, count, AT_ONCE):
        if client.rpush(inbox, *texts[begin : begin + AT_ONCE]) > WAITING:
            while client.llen(inbox) > WAITING // 2:
                time.sleep(0.005)
    nonces.put([each.nonce for each in requests[:: max(1, count // SAMPLE)]])


def load(process: SupervisorProcess, store: Store, joins: int = JOINS, zone: Zone = ZONE) -> Load:
    """Let the supervisor commit ``joins`` more joins to ``zone``, and check its replies.

    Nodes prove their requests if the zone requires that.
    """
    keys = ZoneKeys(zone.name)
    supervisor_key = store.redis.hget(keys.meta, SUPERVISOR_KEYS) if zone.policy.proof == "required" else ""
    peers, rev = store.redis.hlen(keys.peers), int(store.redis.hget(keys.meta, "rev"))
    context = multiprocessing.get_context("spawn")
    ready, nonces = context.Barrier(SENDERS + 1), context.Queue()
    share = joins // SENDERS
    senders = [
        context.Process(
            target=send, args=(store.where, zone.name, number, share, ready, nonces, supervisor_key)
        )
        for number in range(SENDERS)
    ]
    for each in senders:
        each.start()
    ready.wait(Deadline(TIMEOUT_SECONDS).left)
    used, begun, deadline = cpu_seconds(process.pid), time.monotonic(), Deadline(TIMEOUT_SECONDS)
    while store.redis.hlen(keys.peers) < peers + joins:
        if deadline.passed:
            raise TimeoutError(f"{joins} joins were not committed within {deadline.waited:.0f} s")
        time.sleep(0.02)
    took, used = time.monotonic() - begun, cpu_seconds(process.pid) - used
    sampled = [nonce for _ in senders for nonce in nonces.get(timeout=TIMEOUT_SECONDS)]
    _check(store, zone.name, sampled, peers + joins)
    for each in senders:
        each.join(TIMEOUT_SECONDS)
    commits = int(store.redis.hget(keys.meta, "rev")) - rev
    return Load(joins / took, used / joins * 1e6, round(joins / commits))


def _check(store: Store, zone: str, nonces: Sequence[str], peers: int) -> None:
    """Check that no address has two owners, and that the sampled requests got a lease.

    Redis no longer has the oldest replies.
    """
    held = [host for lease in store.load(zone).leases.values() for host in lease.addresses]
    assert len(held) == len(set(held)) == peers
    replies = (read_reply(store.redis, ZoneKeys(zone), nonce) for nonce in nonces)
    found = [reply for reply in replies if reply is not None]
    assert all(reply.lease_or_raise().changed for reply in found)
    assert len(found) > 0.9 * len(nonces)


def bare(store: Store, batch: int, joins: int = BARE_JOINS) -> float:
    """Return the joins per second of a client that only sends prepared script calls, ``batch`` joins each."""
    calls = _calls(store, batch, joins)
    digest = store.redis.script_load(script_of("commit", when_full=False)[0])
    begun = time.monotonic()
    for begin in range(0, len(calls), PIPELINED):
        with store.redis.pipeline(transaction=False) as pipe:
            for keys, arguments in calls[begin : begin + PIPELINED]:
                pipe.evalsha(digest, len(keys), *keys, *arguments)
            assert set(pipe.execute()) == {"OK"}
    return batch * len(calls) / (time.monotonic() - begun)


def _calls(store: Store, batch: int, joins: int) -> list[CommitArgs]:
    """Return the commits that a supervisor would make of ``joins`` joins."""
    state = store.load(BARE.name)
    calls = []
    for begin in range(0, joins, batch):
        changes: list[Change] = []
        replies: dict[ReplyTo, str] = {}
        for number in range(begin, begin + batch):
            joined = request(BARE.name, number)
            decision = decide(state, joined, time.time())
            for change in decision.changes:
                state.apply(change, decision.peer)
            changes += decision.changes
            replies[ReplyTo(joined.nonce)] = decision.reply.to_wire()
        mark = new_mark()
        calls.append(commit_args(state, changes, replies, mark))
        state.rev, state.mark, state.wait_ms = state.rev + 1, mark, state.desired_wait_ms
    return calls


def with_fsync(fsync: str) -> Figure:
    """Measure with one of Redis's ``appendfsync`` policies; the figures are medians of the rounds."""
    ours, alone = [], []
    with redis_with(ZONE, BARE, appendfsync=fsync) as (server, store), supervisor(server) as process:
        await_served(store, ZONE.name)
        for _ in range(ROUNDS):
            ours.append(load(process, store))
            alone.append(bare(store, ours[-1].batch))
    value, other = median(each.per_second for each in ours), median(alone)
    return Figure(
        round(value),
        "1/s",
        ROUNDS * JOINS,
        f"bare EVALSHA of {ours[-1].batch} joins: {other:.0f} joins/s; appendfsync {fsync}, "
        f"{median(each.microseconds for each in ours):.0f} us of the supervisor's core a join",
        round(value / other, 2),
    )


def with_proofs() -> Figure:
    """Measure joins to a zone with everything on, compared with a zone and nodes without proofs, in turns.

    Each proven join makes a Redis user; both zones have an audit.  The ratio is the median of the turns' own.
    """
    proven, plain = [], []
    with redis_with(ZONE, CLOSED, appendfsync="everysec") as (server, store), supervisor(server) as process:
        for zone in (ZONE, CLOSED):
            await_served(store, zone.name)
        for _ in range(TURNS):
            plain.append(load(process, store, PROVEN_JOINS))
            proven.append(load(process, store, PROVEN_JOINS, CLOSED))
    value, other = (median(each.per_second for each in loads) for loads in (proven, plain))
    cores = [median(each.microseconds for each in loads) for loads in (proven, plain)]
    ratios = [one.per_second / two.per_second for one, two in zip(proven, plain, strict=True)]
    return Figure(
        round(value),
        "1/s",
        TURNS * PROVEN_JOINS,
        f"without proofs: {other:.0f} joins/s; {cores[0]:.0f} us of the supervisor's core a join, "
        f"without proofs {cores[1]:.0f}; ratios of the turns {min(ratios):.2f} to {max(ratios):.2f}",
        round(median(ratios), 2),
    )


def proof_cost() -> Figure:
    """Measure the processor time of a proof's check and its answer's proof: of a new key, and a known one."""
    supervisors = KeyPair.generate()[0]
    checker = ProofChecker(lambda: ring)
    ring = Keyring([supervisors])
    texts = []
    for number in range(PROOFS):
        pair = KeyPair.generate()[0]
        joined = replace(request(ZONE.name, number), key=pair.public)
        texts.append(Prover(pair, TrustedKeys(ZONE.name, [supervisors.public])).wire(joined))
    reply = Reply(ok=True, state="active", name="node1", addresses=("10.64.0.1",), changed=True)
    took = []
    for _each in ("new", "known"):
        begun = time.process_time()
        for text in texts:
            proof, _body = checker.check(text, ZONE.name)
            proof.answer("join", 1, "0" * 32, reply)
        took.append((time.process_time() - begun) / PROOFS * 1e6)
    return Figure(
        round(took[0], 1),
        "us",
        PROOFS,
        f"of a key whose secret is in memory: {took[1]:.1f} us",
        round(took[0] / took[1], 1),
    )


def measure(log: Callable[[str], None]) -> dict[str, Figure]:
    """Measure the rate with the role's ``appendfsync``, and with each commit on the disk before its reply."""
    figures = {}
    for name, fsync in (("joins_per_s", "everysec"), ("joins_per_s_always", "always")):
        log(f"{ROUNDS} x {JOINS} joins to one supervisor, appendfsync {fsync}")
        figures[name] = with_fsync(fsync)
    return figures


def measure_proofs(log: Callable[[str], None]) -> dict[str, Figure]:
    """Measure what proofs and the Redis users of nodes cost a join."""
    figures = {}
    log(f"{TURNS} x {PROVEN_JOINS} joins with proofs, and as many without")
    figures["joins_per_s_proven"] = with_proofs()
    figures["proof_us"] = proof_cost()
    return figures
