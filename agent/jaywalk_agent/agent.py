# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent: one loop that keeps this node's interface equal to the zone, with or without a controller."""

from __future__ import annotations

import logging
import time
from dataclasses import replace

from jaywalk import plan, wireguard
from jaywalk.errors import JaywalkError, NoAnswer
from jaywalk.mesh import Node, refused_prefixes
from jaywalk.models import Request
from jaywalk.notify import notify
from jaywalk.runner import Runner

from . import local, running, snapshot
from .dataplane import DataPlane
from .follow import Follower, Update
from .settings import Settings
from .stop import StopSignal

log = logging.getLogger(__name__)

SAVE_EVERY = 5.0
"""Seconds between two snapshots on disk while events pour in."""


class Agent:
    """Follows one zone on one interface; it is also the :class:`follow.Asker` of its follower."""

    def __init__(self, settings: Settings, runner: Runner, stop: StopSignal) -> None:
        wireguard.require_tools(runner)
        self.settings = settings
        self.public_key = settings.own_key(runner)
        self.controller = settings.controller_address()
        self.node = node_of(settings, self.public_key)
        self.dataplane = DataPlane(runner, self.node, local.controller_prefix(self.controller.host))
        self.follower = Follower(
            address=settings.controller_address,
            zone=settings.zone,
            own_key=self.public_key,
            asker=self,
            stop=stop,
            view=snapshot.load(settings.snapshot_file, settings.zone),
            alive=self._alive,
        )
        self._ready = False
        self._saved = ("", 0.0)
        self._reported: str | None = None
        self._skipped: list[str] = []

    def run(self) -> None:
        """The loop; ends by :class:`jaywalk_agent.stop.Stopped`, and leaves the tunnels up."""
        for update in self.follower.updates():
            trouble = self._bring(update)
            if not trouble:
                self._save(update)
            self._report(trouble or self.follower.trouble)

    def up(self, timeout: float) -> Update:
        """Joins and brings the interface up once; raises ``NoAnswer`` after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout

        def alive() -> None:
            if time.monotonic() > deadline:
                raise NoAnswer(
                    f"zone {self.settings.zone} was not joined within {timeout:g} s", self.follower.trouble
                )

        self.follower.alive = alive
        for update in self.follower.updates():
            self.dataplane.bring_to(update.view, update.changed)
            if self.follower.joined and not self.follower.trouble:
                self._save(update)
                return update
        raise JaywalkError("the zone's updates ended")

    def join(self) -> Request:
        settings = self.settings
        return self._in_order(
            Request.checked(
                "join",
                settings.zone,
                self.public_key,
                name=settings.name,
                request_ip=settings.request_ip,
                child_prefixes=settings.child_prefixes,
                endpoint=local.own_endpoint(settings, self.controller.host),
            )
        )

    def moved(self) -> Request:
        endpoint = local.own_endpoint(self.settings, self.controller.host)
        request = Request.checked("endpoint", self.settings.zone, self.public_key, endpoint=endpoint)
        return self._in_order(request)

    def _in_order(self, request: Request) -> Request:
        """A clock that was set back must not make our requests look older than those before."""
        own = self.follower.view.peers.get(self.public_key) if self.follower.view else None
        return replace(request, seq=max(request.seq, own.seq + 1)) if own else request

    def _bring(self, update: Update) -> str:
        """Brings the interface to the zone; returns the error's sentence, for the next look to try again."""
        if self.follower.removed:
            self.dataplane.remove()
            return ""
        try:
            done = self.dataplane.bring_to(update.view, update.changed)
        except JaywalkError as error:
            if not self._ready:
                raise
            return str(error)
        for line in plan.commands(done):
            log.debug("%s", line)
        if done:
            log.info(
                "zone %s at %s: %d steps applied",
                update.view.zone.name,
                update.view.position,
                len(done.steps),
            )
        self._warn_of_skipped(update)
        return ""

    def _warn_of_skipped(self, update: Update) -> None:
        """Says once, at a full look, what of the zone this node does not take."""
        if update.changed is not None:
            return
        skipped = [*update.view.rejected.values(), *refused_prefixes(update.view, self.dataplane.node)]
        for sentence in skipped:
            if sentence not in self._skipped:
                log.warning("%s", sentence)
        self._skipped = skipped

    def _save(self, update: Update) -> None:
        position, moment = self._saved
        due = update.changed is None or time.monotonic() - moment >= SAVE_EVERY
        if not self.follower.joined or position == update.view.position or not due:
            return
        try:
            snapshot.save(self.settings.snapshot_file, update.view)
            self._saved = (update.view.position, time.monotonic())
        except JaywalkError as error:
            log.warning("the snapshot stays as it was: %s", error)

    def _report(self, trouble: str) -> None:
        if self.follower.joined and not self._ready:
            self._ready = True
            notify("READY=1")
        if trouble != self._reported:
            if trouble:
                log.warning("%s", trouble)
            self._reported = trouble
            running.report(self.settings.status_file, trouble)
            notify(f"STATUS={trouble or 'the interface equals the zone'}")

    def _alive(self) -> None:
        notify("WATCHDOG=1")
        if self.follower.trouble and self._reported != self.follower.trouble:
            self._report(self.follower.trouble)


def node_of(settings: Settings, public_key: str) -> Node:
    """The settings as the pure core knows a node."""
    return Node(public_key, str(settings.private_key_file), settings.interface, settings.listen_port)
