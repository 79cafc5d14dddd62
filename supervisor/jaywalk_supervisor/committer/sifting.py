# SPDX-License-Identifier: GPL-3.0-or-later
"""Sifts an inbox that grows faster than it is served: drops what is no request, and repetitions of one key.

It looks at the form of an entry only, at a few million entries a second in C, so that a node's request behind
a flood is found; what remains is checked like any other request.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import redis

from jaywalk.zone.redis_keys import ZoneKeys
from jaywalk.zone.requests import MAX_REQUEST_BYTES

from ..store.store import Store

# Entries of one key that stay: an agent repeats a request with pauses, and sends few different ones.
MAX_OF_KEY = 4
# Entries that are taken from Redis at once, and the bytes that they may have together.
CHUNK = 20_000
CHUNK_BYTES = 16 << 20
# Entries that are written back by one command.
PUSHED = 1000
# Chunks in a row; then other zones have their turn.
MAX_CHUNKS = 5
# The key of a request, in front of a proof and in a request without one.
KEY = re.compile(r'jw2 [0-9a-f]+ ([A-Za-z0-9+/]{43}=) |\{.{0,200}?"key":"([A-Za-z0-9+/]{43}=)"')


def sift(texts: Sequence[str], of_keys: Counter[str]) -> list[str]:
    """Returns those of ``texts`` that may be requests; ``of_keys`` counts those of each key, also before."""
    kept = []
    for text in texts:
        found = KEY.match(text)
        if found is None or len(text) > MAX_REQUEST_BYTES:
            continue
        key = found[1] or found[2]
        of_keys[key] += 1
        if of_keys[key] <= MAX_OF_KEY:
            kept.append(text)
    return kept


def sift_inbox(store: Store, zone: str, bound: int) -> tuple[int, int]:
    """Sifts the head of an inbox of agents, and cuts the rest of that to its ``bound`` oldest entries.

    Returns how many entries it sifted out, and how many it cut.
    """
    inbox, taken = ZoneKeys(zone).inbox, 0
    kept: list[str] = []
    of_keys: Counter[str] = Counter()
    for _ in range(MAX_CHUNKS):
        texts = store.redis.lpop(inbox, _chunk(store, inbox)) or []
        taken += len(texts)
        kept += sift(texts, of_keys)
        if len(texts) < CHUNK:
            break
    stays = kept[:bound]
    for at in range(len(stays), 0, -PUSHED):
        store.redis.lpush(inbox, *reversed(stays[max(at - PUSHED, 0) : at]))
    return taken - len(kept), len(kept) - len(stays)


def _chunk(store: Store, inbox: str) -> int:
    """Returns how many entries to take at once, by their size."""
    length = int(store.redis.llen(inbox))
    try:
        used = int(store.redis.memory_usage(inbox) or 0)
    except redis.ResponseError:  # a managed server may refuse it
        used = length * MAX_REQUEST_BYTES
    return max(1, min(CHUNK, length * CHUNK_BYTES // used if used else CHUNK))
