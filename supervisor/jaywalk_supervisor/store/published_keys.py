# SPDX-License-Identifier: GPL-3.0-or-later
"""The supervisors' public keys in a zone's meta data, for nodes that were given none.

They also tell supervisors of one installation from others: two that have different keys would each refuse
what nodes prove to the other, so that the later one does not serve the zone.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import redis

from jaywalk.controller.errors import is_full
from jaywalk.core.errors import InvalidValue
from jaywalk.trust.supervisor_keys import parse_keys
from jaywalk.zone import codec
from jaywalk.zone.redis_keys import SUPERVISOR_KEYS, ZoneKeys

from .audit import MAX_ENTRIES, ZONE_RECORD, AuditEntry
from .store import Store

log = logging.getLogger(__name__)


class OtherKeys(InvalidValue):
    """A zone belongs to supervisors with other keys than ours."""


def published(store: Store, zone: str) -> tuple[str, ...]:
    """Returns the keys that a zone publishes, newest first; none if they do not parse."""
    try:
        return parse_keys(store.redis.hget(ZoneKeys(zone).meta, SUPERVISOR_KEYS) or "")
    except InvalidValue:
        return ()


def check(store: Store, zone: str, own: Sequence[str]) -> None:
    """Raises ``OtherKeys`` if ``zone`` belongs to supervisors with other keys than ``own``."""
    found = published(store, zone)
    if own and found and found[0] not in own and own[0] not in found:
        raise OtherKeys(
            f"zone {zone} belongs to supervisors with the key {found[0]}, and this one has {own[0]}",
            "copy their key file to this machine (docs/proof.md); if no supervisor has that key any more, "
            "'jaywalk-supervisor key publish' publishes this one's",
        )


def publish(store: Store, zone: str, own: Sequence[str]) -> None:
    """Publishes the keys ``own`` in ``zone``, unless another supervisor has newer ones.

    Raises ``OtherKeys``.  A Redis whose memory is full keeps what it has.
    """
    if not own:
        return
    meta, text = ZoneKeys(zone).meta, ",".join(own)
    try:
        # Of two supervisors that publish first, one finds the other's keys.
        if not published(store, zone) and store.redis.hsetnx(meta, SUPERVISOR_KEYS, text):
            return
        check(store, zone, own)
        found = published(store, zone)
        if found and found[0] not in own:
            log.warning(
                "zone %s: another supervisor has a newer key, %s: copy its key file to this machine",
                zone,
                found[0],
            )
        elif found != tuple(own):
            replace(store, zone, own)
    except redis.ResponseError as error:
        if not is_full(error):
            raise


def replace(store: Store, zone: str, own: Sequence[str]) -> None:
    """Publishes the keys ``own`` in ``zone`` in place of any others."""
    keys, before = ZoneKeys(zone), published(store, zone)
    texts = (codec.compact({SUPERVISOR_KEYS: list(each)}) for each in (before, own))
    entry = AuditEntry(store.author, "supervisor-key", ZONE_RECORD, *texts)
    with store.redis.pipeline() as pipe:
        pipe.hset(keys.meta, SUPERVISOR_KEYS, ",".join(own))
        if before:
            pipe.xadd(keys.audit, entry._asdict(), maxlen=MAX_ENTRIES)
        pipe.execute()
