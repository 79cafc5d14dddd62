# SPDX-License-Identifier: GPL-3.0-or-later
"""Stands in for the path_manager where paths are not mended: WireGuard alone finds its peers."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from jaywalk.core.runner import Runner
from jaywalk.wireguard import backend
from jaywalk.zone.view import ZoneView

from ..zone.background_sender import BackgroundSender
from .endpoint_reporter import EndpointReporter

log = logging.getLogger(__name__)

SENTENCE = "no path is mended on this platform: a peer is reached where it says or is seen, and by no relay"


class PassivePathManager:
    """Tells the zone where this node sees its peers, as each node does, and touches none of them."""

    def __init__(self, runner: Runner, interface: str, own_key: str, sender: BackgroundSender) -> None:
        self._driver = backend.of_this_machine(runner)
        self._interface = interface
        self._own_key = own_key
        self.observer = EndpointReporter(sender.report)

    def update(self, view: ZoneView, changed: Collection[str] | None) -> None:
        """Looks at the interface where a full look is asked for, once a minute."""
        if changed is None:
            peers = self._driver.dump(self._interface)
            self.observer.look(view.peers, view.peers.get(self._own_key), peers, time.monotonic())

    @contextmanager
    def running(self) -> Iterator[None]:
        """Says once how it is here; there is nothing to run beside the agent."""
        log.info("%s", SENTENCE)
        yield

    def remove(self) -> None:
        """Leaves no more than the interface does."""
