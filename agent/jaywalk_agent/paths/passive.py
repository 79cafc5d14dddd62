# SPDX-License-Identifier: GPL-3.0-or-later
"""The path manager of a platform without path repair: WireGuard alone reaches its peers."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

from jaywalk.core.runner import Runner
from jaywalk.mesh.node_interface import PeerEndpoint
from jaywalk.zone.view import ZoneView

from ..host.platform import PLATFORM
from ..zone.background_sender import BackgroundSender
from .endpoint_reporter import EndpointReporter

log = logging.getLogger(__name__)

# For the log and for ``jaywalk doctor``.
LIMITATION = (
    "this platform repairs no paths: it reaches a peer at its own or observed endpoint, never by a relay"
)


class PassivePathManager:
    """Reports the observed endpoints of peers, as every node does, and changes no peer."""

    def __init__(self, runner: Runner, interface: str, own_key: str, sender: BackgroundSender) -> None:
        self._backend = PLATFORM.backend(runner)
        self._interface = interface
        self._own_key = own_key
        self.endpoint_reporter = EndpointReporter(sender.report)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing to pause: there is no background thread."""
        yield

    def update(self, view: ZoneView, changed: Collection[str] | None) -> Mapping[str, PeerEndpoint]:
        """Observes the interface if ``changed`` is None, which is once a minute; chooses no endpoint."""
        if changed is None:
            peers = self._backend.observe_peers(self._interface)
            own = view.peers.get(self._own_key)
            self.endpoint_reporter.observe(view.peers, own, peers, time.monotonic())
        return {}

    @contextmanager
    def running(self) -> Iterator[None]:
        """Logs the limitation once; no background thread."""
        log.info("%s", LIMITATION)
        yield

    def remove(self) -> None:
        """Nothing to clean up."""
