# SPDX-License-Identifier: GPL-3.0-or-later
"""Log lines about peers that stop and start answering, and about addresses that this node lost.  Pure."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from jaywalk.core import ip
from jaywalk.wireguard import describe
from jaywalk.zone.view import ZoneView

# Changes are collected for this time, since a cut network silences many peers one after the other.
SETTLE_SECONDS = 3.0
# A level of ``logging`` and a sentence.
Line = tuple[int, str]


@dataclass(frozen=True)
class _Silence:
    """``answered_before``: whether the peer answered since this agent started."""

    since: float
    answered_before: bool


class Silences:
    """Reports changes, in one line per peer or one for many.  Times are in seconds since 1970."""

    def __init__(self) -> None:
        self._answering: set[str] = set()
        self._silent: dict[str, _Silence] = {}
        self._stopped: dict[str, _Silence] = {}
        self._resumed: dict[str, float] = {}
        self._due = 0.0

    def observe(
        self, silences: Mapping[str, float | None], names: Mapping[str, str], now: float
    ) -> list[Line]:
        """Returns the lines to log at ``now``, for the seconds of silence of each peer.

        0 is a peer that answers, None a peer whose state is not known yet.
        """
        for known in (self._silent, self._stopped, self._resumed):
            for key in known.keys() - silences.keys():
                del known[key]
        self._answering &= silences.keys()
        for key, seconds in silences.items():
            if seconds is not None:
                self._update(key, seconds, now)
        if not (self._stopped or self._resumed) or now < self._due:
            return []
        lines = [*self._departures(names), *self._returns(names, now)]
        self._stopped, self._resumed = {}, {}
        return lines

    def _update(self, key: str, seconds: float, now: float) -> None:
        before = len(self._stopped) + len(self._resumed)
        if not seconds:
            self._answering.add(key)
            if self._stopped.pop(key, None) is None and key in self._silent:
                self._resumed.setdefault(key, now)
        elif key in self._resumed:
            del self._resumed[key]
        elif key not in self._silent:
            self._stopped.setdefault(key, _Silence(now - seconds, key in self._answering))
        if not before:
            self._due = now + SETTLE_SECONDS

    def _departures(self, names: Mapping[str, str]) -> Iterable[Line]:
        self._silent |= self._stopped
        lost = [key for key, silence in self._stopped.items() if silence.answered_before]
        never = [key for key, silence in self._stopped.items() if not silence.answered_before]
        if lost:
            clock = time.strftime("%H:%M:%S", time.localtime(min(self._stopped[key].since for key in lost)))
            yield logging.WARNING, f"{_named(lost, names, 'is', 'are')} silent since {clock}"
        if never:
            yield logging.WARNING, f"{_named(never, names, 'does', 'do')} not answer"

    def _returns(self, names: Mapping[str, str], now: float) -> Iterable[Line]:
        ended = {key: self._silent.pop(key) for key in self._resumed}
        again = [key for key, silence in ended.items() if silence.answered_before]
        first = [key for key, silence in ended.items() if not silence.answered_before]
        for keys, word in ((again, " again"), (first, "")):
            if keys:
                away = max(self._resumed[key] - ended[key].since for key in keys)
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
    """Detects that the zone gave addresses of this node to another one."""

    def __init__(self, own_key: str, view: ZoneView | None) -> None:
        self._own_key = own_key
        own = view.peers.get(own_key) if view is not None else None
        self._addresses = own.addresses if own is not None else ()

    def observe(self, view: ZoneView) -> list[str]:
        """A sentence for each address of this node that another node has now."""
        own = view.peers.get(self._own_key)
        if own is None or own.addresses == self._addresses:
            return []
        before, self._addresses = self._addresses, own.addresses
        holders = {host: view.owner_of(ip.host_prefix(host)) for host in before if host not in own.addresses}
        return [
            f"this node lost {host} to peer {holder.name}, and has {', '.join(own.addresses)} now: "
            f"packets to {host} reach {holder.name}"
            for host, holder in holders.items()
            if holder is not None and holder.key != self._own_key
        ]
