# SPDX-License-Identifier: GPL-3.0-or-later
"""Who serves the zones while several supervisors run: the one whose connection the key ``jw:leader`` names.

Redis itself knows whether that connection lives, and when it last said something, so that nothing is written
while one supervisor leads: a lease that is renewed costs the append-only file 14 MB a day, and for each zone.
It spares conflicts and nothing else.  A leader that was paused and goes on, or two that both believe to
lead, lose time and no address, since each commit compares where it stands before it writes.

One that had better not lead, since its clock is off, says so in the key, and leads until another takes over.
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

# How often a leader speaks and the others look: one that was killed is replaced within that time.
CLAIM_SECONDS = 0.3
# Of silence, after which another supervisor takes over from a leader whose connection still stands.
STALLED_SECONDS = 3
# The name of a candidate's connection: ids of connections begin anew with each server.
CLIENT = "jaywalk-leader-{}"
# How the key ends while its holder had better not lead; older supervisors take such a holder for gone.
RELUCTANT = " reluctant"
# A Redis whose memory is full needs a leader most of all, who takes the requests out of it.
_ACQUIRE = """\
#!lua flags=allow-oom
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""
# What Redis takes for the id of a connection; anything may have been written into the key.
CLIENT_ID = re.compile("[0-9]{1,18}")


class Leadership:
    """One supervisor's candidature, on a connection of its own.

    It is for all zones, or, in a cluster, for the one zone of ``where``, on its shard.  While it is
    ``reluctant``, it leads only until another one is there that is not.
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
            log.warning("the controller does not say who leads (%s): each supervisor decides on all", error)
            self._unsupported = True

    def close(self) -> None:
        """Ends the connection, and the leading with it."""
        self._redis.close()

    def claim(self) -> bool:
        """Whether this supervisor leads now; it takes the lead from one that is gone, silent or reluctant."""
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
        """Gives the lead back."""
        if not self._unsupported and self._redis.get(self._key) in (self._mark, self._mark + RELUCTANT):
            self._redis.delete(self._key)

    def _holder(self) -> str | None:
        """What the key holds; one that somebody made something else than a text goes."""
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
            each["name"] == CLIENT.format(token) and int(each["idle"]) < STALLED_SECONDS
            for each in self._redis.client_list(client_id=[number])
        )

    def _acquire(self, holder: str | None, mark: str) -> bool:
        """Takes the lead, or says anew how, unless somebody else was quicker."""
        return bool(self._redis.eval(_ACQUIRE, 1, self._key, holder or "", mark))


def _is_reluctant(holder: str | None) -> bool:
    return holder is not None and holder.endswith(RELUCTANT)
