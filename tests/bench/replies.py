# SPDX-License-Identifier: GPL-3.0-or-later
"""What answers leave in Redis after a flood: a member of the zone repeats its join under fresh nonces."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from jaywalk.zone.models import Zone
from jaywalk.zone.redis_keys import ZoneKeys
from jaywalk.zone.requests import new_nonce
from jaywalk_supervisor.store.store import Store
from tests.bench.joins import request
from tests.bench.results import Figure
from tests.bench.service import DEAD_AFTER_SECONDS, await_served, redis_with, supervisor
from tests.replies import read_reply

ZONE = Zone("bench", ("10.64.0.0/12",))
KEYS = ZoneKeys(ZONE.name)
REQUESTS = 100_000
AT_ONCE = 500
WAITING = 8_000
OWN_STREAM = 4_400
"""Bytes of an answer in a stream of its own, since Redis allocates 4 kB for a stream's first entries."""


def measure(say: Callable[[str], None]) -> dict[str, Figure]:
    """Bytes of Redis for each answer, those of the zone's log and lists left out."""
    say(f"{REQUESTS} requests with fresh nonces to one supervisor")
    with redis_with(ZONE) as (server, store), supervisor(server):
        await_served(store, ZONE.name)
        ask(store, 1)
        before = used(store)
        ask(store, REQUESTS)
        spent = used(store) - before
    peer = f"a stream for each: {OWN_STREAM} bytes"
    each = spent / REQUESTS
    return {"reply_bytes": Figure(round(each, 1), "bytes", REQUESTS, peer, round(each / OWN_STREAM, 4))}


def ask(store: Store, count: int) -> None:
    """Sends ``count`` requests of one node, and returns once the last is answered."""
    asked, nonce = request(ZONE.name, 1), ""
    for begin in range(0, count, AT_ONCE):
        nonces = [new_nonce() for _ in range(min(AT_ONCE, count - begin))]
        nonce = nonces[-1]
        while store.redis.llen(KEYS.inbox) > WAITING:
            time.sleep(0.005)
        store.redis.rpush(KEYS.inbox, *(replace(asked, nonce=each).to_wire() for each in nonces))
    deadline = time.monotonic() + DEAD_AFTER_SECONDS
    while read_reply(store.redis, KEYS, nonce) is None:
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"the last of {count} requests was not answered within {DEAD_AFTER_SECONDS:.0f} s"
            )
        time.sleep(0.01)


def used(store: Store) -> int:
    """Bytes that Redis uses for its data."""
    return int(store.redis.info("memory")["used_memory_dataset"])
