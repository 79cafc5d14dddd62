# SPDX-License-Identifier: GPL-3.0-or-later
"""Logs what the agent changed on its interface, and what of the zone it left out."""

from __future__ import annotations

import logging
import time

from jaywalk.mesh.node_interface import refused_prefixes
from jaywalk.service.repeat_filter import RepeatFilter
from jaywalk.wireguard import describe, plan
from jaywalk.wireguard.backend import Backend
from jaywalk.wireguard.steps import PeerStep

from .dataplane.interface import DataPlane, peer_names
from .paths.silence import OwnAddresses
from .zone.follower import Update

log = logging.getLogger(__name__)

# Of one update; a zone in disorder must not fill the journal of each of its nodes.
MAX_WARNINGS = 20


class UpdateLog:
    """Logs applied updates; lines that repeat each minute are logged once an hour."""

    def __init__(self, backend: Backend, dataplane: DataPlane, own_addresses: OwnAddresses) -> None:
        self._backend = backend
        self._dataplane = dataplane
        self._own_addresses = own_addresses
        self._repeats = RepeatFilter()
        self._left_out: set[str] = set()

    def log_applied(self, update: Update, done: plan.Plan) -> None:
        """Logs the steps of ``done``, and what they are for."""
        self._backend.log_commands(log, done)
        news = self._repeats.news(done.found[:MAX_WARNINGS], time.monotonic())
        for sentence in news:
            log.warning("%s: %s", self._dataplane.node.interface, sentence)
        if done:
            # If another program reverts it each minute, the hourly warning is enough.
            level = logging.INFO if news or not done.found else logging.DEBUG
            zone, position = update.view.zone.name, update.view.stream_id
            log.log(level, "zone %s at %s: %s", zone, position, _summary(update, done))
        for sentence in self._own_addresses.observe(update.view):
            log.warning("%s", sentence)
        if update.changed is None:
            self._log_left_out(update)

    def _log_left_out(self, update: Update) -> None:
        """Logs once which records of the zone this node leaves out."""
        node = self._dataplane.node
        left_out = {*update.view.rejected.values(), *refused_prefixes(update.view, node)}
        left_out |= {self._dataplane.without_ipv6} - {""}
        news = sorted(left_out - self._left_out)
        for sentence in news[:MAX_WARNINGS]:
            log.warning("%s", sentence)
        if len(news) > MAX_WARNINGS:
            log.warning("zone %s: %d more such records", update.view.zone.name, len(news) - MAX_WARNINGS)
        self._left_out = left_out


def _summary(update: Update, done: plan.Plan) -> str:
    """The changes with the names of peers, since nobody knows peers by their keys."""
    keys = {step.key for step in done.steps if isinstance(step, PeerStep)}
    return describe.changes(done, peer_names(update.view, keys))
