# SPDX-License-Identifier: GPL-3.0-or-later
"""What the log says of peers that fall silent and come back, and of addresses that this node lost.  Pure."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from jaywalk.core import ip
from jaywalk.wireguard import describe
from jaywalk.zone.view import ZoneView

SETTLE_SECONDS = 3.0
"""For which news are gathered, since a cut network silences many peers one after the other."""
Line = tuple[int, str]
"""A level of ``logging`` and a sentence."""


@dataclass(frozen=True)
class _Silence:
    since: float
    known: bool
    """Whether the peer answered before, as long as this agent runs."""


class Silences:
    """Tells changes of who answers, in one line each or one for many.  Times are in seconds since 1970."""

    def __init__(self) -> None:
        self._heard: set[str] = set()
        self._silent: dict[str, _Silence] = {}
        """The silences that were told."""
        self._went: dict[str, _Silence] = {}
        self._came: dict[str, float] = {}
        self._due = 0.0

    def observe(
        self, silences: Mapping[str, float | None], names: Mapping[str, str], now: float
    ) -> list[Line]:
        """Takes in for how many seconds each peer is silent, and returns what to log at ``now``.

        0 is a peer that answers, None one of which that is not known yet.
        """
        for known in (self._silent, self._went, self._came):
            for key in known.keys() - silences.keys():
                del known[key]
        self._heard &= silences.keys()
        for key, seconds in silences.items():
            if seconds is not None:
                self._take(key, seconds, now)
        if not (self._went or self._came) or now < self._due:
            return []
        lines = [*self._departures(names), *self._returns(names, now)]
        self._went, self._came = {}, {}
        return lines

    def _take(self, key: str, seconds: float, now: float) -> None:
        before = len(self._went) + len(self._came)
        if not seconds:
            self._heard.add(key)
            if self._went.pop(key, None) is None and key in self._silent:
                self._came.setdefault(key, now)
        elif key in self._came:
            del self._came[key]
        elif key not in self._silent:
            self._went.setdefault(key, _Silence(now - seconds, key in self._heard))
        if not before:
            self._due = now + SETTLE_SECONDS

    def _departures(self, names: Mapping[str, str]) -> Iterable[Line]:
        self._silent |= self._went
        lost = [key for key, each in self._went.items() if each.known]
        never = [key for key, each in self._went.items() if not each.known]
        if lost:
            clock = time.strftime("%H:%M:%S", time.localtime(min(self._went[key].since for key in lost)))
            yield logging.WARNING, f"{_named(lost, names, 'is', 'are')} silent since {clock}"
        if never:
            yield logging.WARNING, f"{_named(never, names, 'does', 'do')} not answer"

    def _returns(self, names: Mapping[str, str], now: float) -> Iterable[Line]:
        ended = {key: self._silent.pop(key) for key in self._came}
        again = [key for key, each in ended.items() if each.known]
        first = [key for key, each in ended.items() if not each.known]
        for keys, word in ((again, " again"), (first, "")):
            if keys:
                away = max(self._came[key] - ended[key].since for key in keys)
                most = " at most" if len(keys) > 1 else ""
                yield (
                    logging.INFO,
                    f"{_named(keys, names, 'answers', 'answer')}{word} after {_span(away)}{most}",
                )


def _named(keys: list[str], names: Mapping[str, str], one: str, many: str) -> str:
    """``peer web2 is``, or ``37 peers (a, b, c and 34 more) are``."""
    shown = sorted(names.get(key, key) for key in keys)
    if len(keys) == 1:
        return f"peer {shown[0]} {one}"
    return f"{len(shown)} peers ({describe.listed(shown)}) {many}"


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


class OwnAddresses:
    """Notices that the zone gave this node's addresses to another one."""

    def __init__(self, own_key: str, view: ZoneView | None) -> None:
        self._own_key = own_key
        own = view.peers.get(own_key) if view is not None else None
        self._addresses = own.addresses if own is not None else ()

    def observe(self, view: ZoneView) -> list[str]:
        """A sentence for each address that this node had and another one has now."""
        own = view.peers.get(self._own_key)
        if own is None or own.addresses == self._addresses:
            return []
        before, self._addresses = self._addresses, own.addresses
        holders = {host: view.holder(ip.host_prefix(host)) for host in before if host not in own.addresses}
        return [
            f"this node lost {host} to peer {holder.name}, and has {', '.join(own.addresses)} now: "
            f"what speaks to it by {host} reaches {holder.name}"
            for host, holder in holders.items()
            if holder is not None and holder.key != self._own_key
        ]
