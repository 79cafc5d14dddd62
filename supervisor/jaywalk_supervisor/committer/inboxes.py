# SPDX-License-Identifier: GPL-3.0-or-later
"""The lists in which requests wait: which is served next, how large it may be, and what its texts say."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from jaywalk.core.errors import BadRequest, InvalidValue
from jaywalk.service.repeat_filter import RepeatFilter
from jaywalk.zone.redis_keys import ZoneKeys
from jaywalk.zone.reply_streams import ReplyTo
from jaywalk.zone.requests import AGENT_OPS, OPERATOR_OPS, REPORT, Reply, Request, readable_reply_to

from ..monitoring import request_log
from ..monitoring.health import Health
from ..store.store import BATCH, Store

log = logging.getLogger(__name__)

# Requests that may wait in one inbox. What waits longest stays: it is served first, and who was cut off
# asks again within 2 to 60 s. As much as is served in the 2 s after which agents repeat, so that no storm
# of joins comes near it.
INBOX_BOUND = 20_000
# Of one inbox: as many requests of 3 kB, where most have 400 bytes and Redis takes texts of 1 MB.
INBOX_BYTES = 64 << 20


@dataclass
class InboxEntry:
    """A request that was taken, or the refusal of one that does not parse."""

    reply_to: ReplyTo | None
    request: Request | None = None
    refusal: Reply | None = None
    repeats: bool = False

    @property
    def reports(self) -> bool:
        """Whether this only says that a node is there."""
        return self.request is not None and self.request.op == REPORT and not self.request.observed


@dataclass
class InboxBatch:
    """Requests of one zone that were taken from a list and read; ``full`` if there may well be more."""

    zone: str
    entries: list[InboxEntry]
    full: bool


class Inboxes:
    """The lists of all zones that are served, in the order in which they are looked at."""

    def __init__(self, health: Health, repeats: RepeatFilter) -> None:
        self._health = health
        self._repeats = repeats
        self._inboxes: dict[str, tuple[str, Sequence[str]]] = {}
        self._deep: set[str] = set()

    def add(self, zone: str) -> None:
        """Takes up the lists of a zone.

        Operators come first: theirs are few, and a flooded inbox must not keep them waiting.
        """
        keys = ZoneKeys(zone)
        self._inboxes = {keys.orders: (zone, OPERATOR_OPS), **self._inboxes, keys.inbox: (zone, AGENT_OPS)}
        self._deep.add(zone)

    def remove(self, zone: str) -> None:
        """Leaves the lists of a zone alone from now on."""
        keys = ZoneKeys(zone)
        for each in (keys.inbox, keys.orders):
            self._inboxes.pop(each, None)

    def clear(self) -> None:
        """Leaves all lists alone."""
        self._inboxes.clear()

    def led(self) -> list[str]:
        """The Redis keys of the lists of all zones that this supervisor leads."""
        return [name for name, (zone, _) in self._inboxes.items() if zone in self._health.led]

    def read(self, name: str, texts: Sequence[str]) -> InboxBatch:
        """What was taken from the list ``name``; that list then goes last, so that none starves."""
        zone, ops = self._inboxes[name] = self._inboxes.pop(name)
        log.debug("zone %s: took %d requests from %s", zone, len(texts), name)
        if len(texts) == BATCH:
            self._deep.add(zone)
        return InboxBatch(zone, [self.decode(text, zone, ops) for text in texts], len(texts) == BATCH)

    def decode(self, text: str, zone: str, ops: Sequence[str]) -> InboxEntry:
        """One entry of a list of ``zone``, in which only ``ops`` may be asked for."""
        try:
            request = Request.from_wire(text, zone, ops)
        except InvalidValue as error:
            reply_to = readable_reply_to(text)
            self._health.bad[error.reason if isinstance(error, BadRequest) else "value"] += 1
            if reply_to is None:
                self._health.drops["unanswerable"] += 1
            request_log.log_unparseable_request(zone, str(error), self._repeats)
            return InboxEntry(reply_to, refusal=Reply.refused("bad-request", str(error)))
        except Exception:
            log.exception("zone %s: a request could not be read", zone)
            self._health.drops["unreadable"] += 1
            return InboxEntry(None)
        return InboxEntry(request.reply_to, request)

    def trim(self, store: Store) -> None:
        """Keeps inboxes bounded, whoever floods them; one from which no whole batch came needs no look."""
        for zone in self._deep & self._health.led:
            self._deep.discard(zone)
            cut = store.trim(ZoneKeys(zone).inbox, INBOX_BOUND, INBOX_BYTES)
            if cut:
                self._health.drops["inbox-full"] += cut
                log.warning("zone %s: dropped %d requests from the end of a full inbox", zone, cut)
