# SPDX-License-Identifier: GPL-3.0-or-later
"""The memory of replies in Redis after a flood: a member of the zone repeats its join with fresh nonces."""

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
from tests.bench.service import TIMEOUT_SECONDS, await_served, redis_with, supervisor
from tests.replies import read_reply

ZONE = Zone("bench", ("10.64.0.0/12",))
KEYS = ZoneKeys(ZONE.name)
REQUESTS = 100_000
AT_ONCE = 500
WAITING = 8_000
# A reply in its own stream: Redis allocates 4 kB for a stream's first entries.
OWN_STREAM_BYTES = 4_400


def measure(log: Callable[[str], None]) -> dict[str, Figure]:
    """Measure Redis's bytes per reply, without those of the zone's log and lists."""
    log(f"{REQUESTS} requests with fresh nonces to one supervisor")
    with redis_with(ZONE) as (server, store), supervisor(server):
        await_served(store, ZONE.name)
        repeat_join(store, 1)
        before = used(store)
        repeat_join(store, REQUESTS)
        spent = used(store) - before
    peer = f"a stream for each: {OWN_STREAM_BYTES} bytes"
    each = spent / REQUESTS
    return {"reply_bytes": Figure(round(each, 1), "bytes", REQUESTS, peer, round(each / OWN_STREAM_BYTES, 4))}


def repeat_join(store: Store, count: int) -> None:
    """Send ``count`` requests of one node, and wait for the reply to the last."""
    repeated, nonce = request(ZONE.name, 1), ""
    for begin in range(0, count, AT_ONCE):
        nonces = [new_nonce() for _ in range(min(AT_ONCE, count - begin))]
        nonce = nonces[-1]
        while store.redis.llen(KEYS.inbox) > WAITING:
            time.sleep(0.005)
        store.redis.rpush(KEYS.inbox, *(replace(repeated, nonce=each).to_wire() for each in nonces))
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while read_reply(store.redis, KEYS, nonce) is None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"the last of {count} requests got no reply within {TIMEOUT_SECONDS:.0f} s")
        time.sleep(0.01)


def used(store: Store) -> int:
    """Return the bytes that Redis uses for its data."""
    return int(store.redis.info("memory")["used_memory_dataset"])
