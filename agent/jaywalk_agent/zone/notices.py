# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node's own log says of the zone's dealings with it, each sentence once."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable

from jaywalk.zone.view import ZoneView

log = logging.getLogger(__name__)

MOST_REMEMBERED = 100


class Notices:
    """Says each sentence once while it remembers it."""

    def __init__(self) -> None:
        self._said: dict[str, None] = {}

    def say(self, sentences: Iterable[str]) -> None:
        for sentence in sentences:
            if sentence not in self._said:
                log.warning("%s", sentence)
            self._said[sentence] = None
            if len(self._said) > MOST_REMEMBERED:
                del self._said[next(iter(self._said))]


def namesakes(view: ZoneView, own_key: str, changed: Collection[str]) -> list[str]:
    """Sentences about those of ``changed`` that asked for this node's name, and are called otherwise."""
    own = view.peers.get(own_key)
    peers = [view.peers[key] for key in changed if key in view.peers and key != own_key] if own else []
    return [
        f"another node of zone {view.zone.name} asked for the name of this one, {peer.asked}, and is called "
        f"{peer.name} ({', '.join(peer.addresses)}): give each a name of its own (--name)"
        for peer in peers
        if own is not None and peer.asked == own.name
    ]


def supplanted(view: ZoneView, changed: Collection[str]) -> list[str]:
    """Sentences about those of ``changed`` that are retained, and what they had is another node's now."""
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
