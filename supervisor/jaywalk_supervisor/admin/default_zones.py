# SPDX-License-Identifier: GPL-3.0-or-later
"""The zones that a supervisor creates by itself, and the marks in Redis that keep it from that."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import redis

from jaywalk.controller.errors import is_full
from jaywalk.zone.models import Zone
from jaywalk.zone.policy import Policy
from jaywalk.zone.redis_keys import DECLARED, REMOVED_ZONES

from ..store.connection import REDIS_UNAVAILABLE
from ..store.store import Origin, Store

log = logging.getLogger(__name__)

DEFAULT_ZONES = (
    Zone("zone-red", ("10.20.0.0/20",), "Tenancy Zone Red", Policy.parse()),
    Zone("zone-blue", ("10.20.0.0/20",), "Tenancy Zone Blue", Policy.parse()),
)
# The mark ``restored`` of a default zone: any copy of a zone of that name may replace it.
NO_COPY_POSITION = "0-0"


def create_missing_zones(store: Store, defaults: Sequence[Zone]) -> list[str]:
    """Creates the zones of ``defaults`` that are missing, and returns the names of all zones.

    It creates no zone that an operator removed, and none at all once an operator declared the zones.  It
    reads both marks only if a zone is missing.
    """
    names = store.zones()
    missing = [zone for zone in defaults if zone.name not in names]
    if missing and store.redis.exists(DECLARED):
        return names
    removed = store.redis.smembers(REMOVED_ZONES) if missing else ()
    for zone in missing:
        if zone.name not in removed and _create(store, zone):
            names.append(zone.name)
    return names


def _create(store: Store, zone: Zone) -> bool:
    """Creates a zone; returns False if its shard is away or full, so that no other zone waits for it."""
    try:
        created = store.create(zone, Origin(restored=NO_COPY_POSITION))
    except REDIS_UNAVAILABLE:
        if not store.where.nodes:
            raise
        return False
    except redis.ResponseError as error:
        if not is_full(error):
            raise
        return False
    if created:
        log.info("created zone %s with %s", zone.name, ", ".join(zone.pools))
    return True
