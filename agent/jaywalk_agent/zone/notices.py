# SPDX-License-Identifier: GPL-3.0-or-later
"""Warnings about names and addresses in the zone, each logged once."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable

from jaywalk.zone.view import ZoneView

log = logging.getLogger(__name__)

# Sentences.
MAX_REMEMBERED = 100


class Notices:
    """Logs each sentence once while it remembers it."""

    def __init__(self) -> None:
        self._logged: dict[str, None] = {}

    def warn(self, sentences: Iterable[str]) -> None:
        for sentence in sentences:
            if sentence not in self._logged:
                log.warning("%s", sentence)
            self._logged[sentence] = None
            if len(self._logged) > MAX_REMEMBERED:
                del self._logged[next(iter(self._logged))]


def name_conflicts(view: ZoneView, own_key: str, changed: Collection[str]) -> list[str]:
    """Sentences about those of ``changed`` that requested this node's name, and got another one."""
    own = view.peers.get(own_key)
    peers = [view.peers[key] for key in changed if key in view.peers and key != own_key] if own else []
    return [
        f"another node of zone {view.zone.name} asked for the name of this one, {peer.requested_name}, "
        f"and is called {peer.name} ({', '.join(peer.addresses)}): give each a name of its own (--name)"
        for peer in peers
        if own is not None and peer.requested_name == own.name
    ]


def reassigned(view: ZoneView, changed: Collection[str]) -> list[str]:
    """Sentences about retained peers of ``changed`` whose addresses or prefixes another node has now."""
    taken = [
        (view.peers[key].name, allowed, holder.name)
        for key in changed
        if key in view.retained
        for allowed in view.peers[key].allowed_ips
        if (holder := view.owner_of(allowed)) is not None and holder.key != key
    ]
    return [
        f"{allowed} of {name}, which the controller of zone {view.zone.name} lost, is now {other}'s: "
        f"start the agent of {name}, which then gets another address, or release its key"
        for name, allowed, other in sorted(taken)
    ]
