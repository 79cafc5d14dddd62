# SPDX-License-Identifier: GPL-3.0-or-later
"""Selects one of several supervisors to serve the zones: the key ``jw:leader`` names its connection.

Redis knows whether that connection is alive and how long it has been idle.  So nothing is written while one
supervisor leads; a renewed lease would cost the append-only file 14 MB a day for each zone.  Leadership only
avoids conflicts.  A leader that was suspended and resumes, or two supervisors that both assume to lead, lose
time but no address, since each commit compares its position with the zone's before it writes.

A supervisor that should not lead, since its clock is off, marks itself as reluctant in the key and leads
until another supervisor takes over.
"""

from __future__ import annotations

import logging
import re
import secrets
from typing import Any

import redis

from jaywalk.controller.address import ControllerAddress
from jaywalk.controller.connection import client_to, locate
from jaywalk.zone.redis_keys import LEADER, ZoneKeys

from ..state.wrong_type import is_wrong_type

log = logging.getLogger(__name__)

# Interval at which a leader uses its connection and the others check it: within this time a killed leader is
# replaced.
CLAIM_SECONDS = 0.3
# Idle time after which another supervisor takes over from a leader whose connection is still open.
STALLED_SECONDS = 3
# Name of a candidate's connection. Connection ids alone are not unique: they start again with each server.
CLIENT = "jaywalk-leader-{}"
# Suffix of the key's value while its holder should not lead; older supervisors take such a holder for gone.
RELUCTANT = " reluctant"
# Allowed when Redis's memory is full: the leader is needed then, since it removes requests from Redis.
_ACQUIRE = """\
#!lua flags=allow-oom
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""
# What Redis accepts as the id of a connection; the key may hold anything.
CLIENT_ID = re.compile("[0-9]{1,18}")


class Leadership:
    """One supervisor's candidacy, on a connection of its own.

    It covers all zones or, in a cluster, the one zone of ``where``, on its shard.  While it is ``reluctant``,
    it leads only until a candidate that is not reluctant appears.
    """

    def __init__(self, where: ControllerAddress) -> None:
        self.reluctant = False
        token = secrets.token_hex(8)
        self._key = ZoneKeys(where.zone).leader if where.nodes else LEADER
        # redis-py types each command for its synchronous and its asynchronous client at once.
        self._redis: Any = client_to(locate(where), CLIENT.format(token))
        try:
            number = self._redis.client_id()
            self._mark = f"{token} {number}"
            self._redis.client_list(client_id=[number])  # Valkey takes no 0
            self._unsupported = False
        except redis.ResponseError as error:
            log.warning("the controller supports no leader (%s): each supervisor serves all zones", error)
            self._unsupported = True

    def close(self) -> None:
        """Closes the connection, which also ends the leadership."""
        self._redis.close()

    def claim(self) -> bool:
        """Returns whether this supervisor leads; takes over from a leader that is gone, idle or reluctant."""
        if self._unsupported:
            return True
        holder, mark = self._holder(), self._mark + RELUCTANT * self.reluctant
        if holder == mark:
            return True
        leads = holder in (self._mark, self._mark + RELUCTANT)
        if not leads and self._is_alive(holder) and (self.reluctant or not _is_reluctant(holder)):
            return False
        return self._acquire(holder, mark)

    def resign(self) -> None:
        """Gives up the leadership."""
        if not self._unsupported and self._redis.get(self._key) in (self._mark, self._mark + RELUCTANT):
            self._redis.delete(self._key)

    def _holder(self) -> str | None:
        """Returns the value of the key; deletes a key of another type, which was written by hand."""
        try:
            holder: str | None = self._redis.get(self._key)
        except redis.ResponseError as error:
            if not is_wrong_type(error):
                raise
            self._redis.delete(self._key)
            return None
        return holder

    def _is_alive(self, holder: str | None) -> bool:
        token, _, number = (holder or "").removesuffix(RELUCTANT).partition(" ")
        if not CLIENT_ID.fullmatch(number):
            return False
        return any(
            client["name"] == CLIENT.format(token) and int(client["idle"]) < STALLED_SECONDS
            for client in self._redis.client_list(client_id=[number])
        )

    def _acquire(self, holder: str | None, mark: str) -> bool:
        """Writes ``mark`` into the key unless it changed from ``holder``; returns whether it was written."""
        return bool(self._redis.eval(_ACQUIRE, 1, self._key, holder or "", mark))


def _is_reluctant(holder: str | None) -> bool:
    return holder is not None and holder.endswith(RELUCTANT)
