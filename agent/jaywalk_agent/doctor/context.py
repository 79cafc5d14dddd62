# SPDX-License-Identifier: GPL-3.0-or-later
"""The context and the grades that all checks of ``jaywalk doctor`` share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from jaywalk.core.runner import Runner
from jaywalk.wireguard.backend import Backend
from jaywalk.wireguard.interface import ObservedPeer
from jaywalk.zone.models import Peer
from jaywalk.zone.view import ZoneView

from ..config import AgentConfig
from ..host.platform import PLATFORM

GOOD, WARNING, BAD = "good", "warning", "bad"


@dataclass(frozen=True)
class Finding:
    """The result of one check: its grade (``good``, ``warning`` or ``bad``), its subject and a sentence."""

    grade: str
    about: str
    sentence: str


@dataclass(frozen=True)
class DoctorContext:
    """The known state of a node before the first check; ``key`` is "" if the node has none."""

    config: AgentConfig
    runner: Runner
    key: str
    view: ZoneView | None
    own: Peer | None

    @property
    def backend(self) -> Backend:
        """The backend of this machine's platform."""
        return PLATFORM.backend(self.runner)

    def observed_peers(self) -> dict[str, ObservedPeer]:
        """The current peers of the interface."""
        return self.backend.observe_peers(self.config.interface)


# Yields grades and sentences.
Check = Callable[[DoctorContext], Iterator[tuple[str, str]]]


def keys_with_session(peers: Mapping[str, ObservedPeer]) -> set[str]:
    """The keys of the peers with a WireGuard session."""
    return {key for key, peer in peers.items() if peer.has_session(time.time())}
