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
from jaywalk.zone.redis_keys import SUPERVISOR_KEYS, ZoneKeys
from jaywalk.zone.reply_streams import ReplyTo
from jaywalk.zone.requests import Reply, Request
from jaywalk_supervisor.decisions.agent_requests import decide
from jaywalk_supervisor.possession.keyring import Keyring
from jaywalk_supervisor.possession.proofs import ProofChecker
from jaywalk_supervisor.store.commit_args import CommitArgs, commit_args
from jaywalk_supervisor.store.connection import script_of
from jaywalk_supervisor.store.store import Store, new_mark
from tests.bench.apply import random_key
from tests.bench.results import Figure
from tests.bench.service import TIMEOUT_SECONDS, await_served, cpu_seconds, redis_with, supervisor
from tests.chaos.machines import SupervisorProcess
from tests.replies import read_reply

ZONE = Zone("bench", ("10.64.0.0/12",))
BARE = Zone("bare", ZONE.pools)
KEYS = ZoneKeys(ZONE.name)
ROUNDS = 3
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
        endpoint=f"192.0.2.{1 + number % 250}:51820",
        machine_id=f"{number:08x}",
    )


def send(
    where: ControllerAddress, number: int, count: int, ready: Barrier, nonces: Any, supervisor_key: str
) -> None:
    """Run a sender: create requests, wait for the other senders, keep the inbox filled, put some nonces.

    Each node proves its request to ``supervisor_key``, unless that is empty.
    """
    requests = [request(ZONE.name, number * count + index) for index in range(count)]
    if supervisor_key:
        pairs = [KeyPair.generate()[0] for _each in requests]
        requests = [replace(each, key=pair.public) for each, pair in zip(requests, pairs, strict=True)]
        texts = [
            Prover(pair, TrustedKeys(ZONE.name, [supervisor_key])).wire(each)
            for each, pair in zip(requests, pairs, strict=True)
        ]
    else:
        texts = [each.to_wire() for each in requests]
    client = client_to(where, f"bench-{number}")
    client.ping()
    ready.wait(TIMEOUT_SECONDS)
    for begin in range(0, count, AT_ONCE):
        if client.rpush(KEYS.inbox, *texts[begin : begin + AT_ONCE]) > WAITING:
            while client.llen(KEYS.inbox) > WAITING // 2:
                time.sleep(0.005)
    nonces.put([each.nonce for each in requests[:: max(1, count // SAMPLE)]])


def load(process: SupervisorProcess, store: Store, joins: int = JOINS, *, proven: bool = False) -> Load:
    """Let the supervisor commit ``joins`` more joins, ``proven`` or not, and check its replies."""
    supervisor_key = store.redis.hget(KEYS.meta, SUPERVISOR_KEYS) if proven else ""
    peers, rev = store.redis.hlen(KEYS.peers), int(store.redis.hget(KEYS.meta, "rev"))
    context = multiprocessing.get_context("spawn")
    ready, nonces = context.Barrier(SENDERS + 1), context.Queue()
    share = joins // SENDERS
    senders = [
        context.Process(target=send, args=(store.where, number, share, ready, nonces, supervisor_key))
        for number in range(SENDERS)
    ]
    for each in senders:
        each.start()
    ready.wait(TIMEOUT_SECONDS)
    used, begun = cpu_seconds(process.pid), time.monotonic()
    while store.redis.hlen(KEYS.peers) < peers + joins:
        if time.monotonic() - begun > TIMEOUT_SECONDS:
            raise TimeoutError(f"{joins} joins were not committed within {TIMEOUT_SECONDS:.0f} s")
        time.sleep(0.02)
    took, used = time.monotonic() - begun, cpu_seconds(process.pid) - used
    _check(store, [nonce for _ in senders for nonce in nonces.get(timeout=TIMEOUT_SECONDS)], peers + joins)
    for each in senders:
        each.join(TIMEOUT_SECONDS)
    commits = int(store.redis.hget(KEYS.meta, "rev")) - rev
    return Load(joins / took, used / joins * 1e6, round(joins / commits))


def _check(store: Store, nonces: Sequence[str], peers: int) -> None:
    """Check that no address has two owners, and that the sampled requests got a lease.

    Redis no longer has the oldest replies.
    """
    held = [host for lease in store.load(ZONE.name).leases.values() for host in lease.addresses]
    assert len(held) == len(set(held)) == peers
    found = [reply for nonce in nonces if (reply := read_reply(store.redis, KEYS, nonce)) is not None]
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
    """Measure joins of nodes that prove their keys, compared with joins without a proof, in turns."""
    proven, plain = [], []
    with redis_with(ZONE, appendfsync="everysec") as (server, store), supervisor(server) as process:
        await_served(store, ZONE.name)
        for _ in range(ROUNDS):
            plain.append(load(process, store))
            proven.append(load(process, store, proven=True))
    value, other = (median(each.per_second for each in loads) for loads in (proven, plain))
    cores = [median(each.microseconds for each in loads) for loads in (proven, plain)]
    return Figure(
        round(value),
        "1/s",
        ROUNDS * JOINS,
        f"without proofs: {other:.0f} joins/s; {cores[0]:.0f} us of the supervisor's core a join, "
        f"without proofs {cores[1]:.0f}",
        round(value / other, 2),
    )


def proof_cost() -> Figure:
    """Measure the check of one proof and the proof of the answer: of a new key, and of a known one."""
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
        begun = time.perf_counter()
        for text in texts:
            proof, _body = checker.check(text, ZONE.name)
            proof.answer("join", 1, "0" * 32, reply)
        took.append((time.perf_counter() - begun) / PROOFS * 1e6)
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
    log(f"{ROUNDS} x {JOINS} joins with proofs, and as many without")
    figures["joins_per_s_proven"] = with_proofs()
    figures["proof_us"] = proof_cost()
    return figures
