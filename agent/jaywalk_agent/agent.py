# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent: one loop that keeps this node's interface equal to the zone, with or without a controller."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from dataclasses import replace

from jaywalk.controller.address import TIMEOUT_SECONDS
from jaywalk.controller.client import ZoneClient
from jaywalk.core.errors import JaywalkError
from jaywalk.core.runner import Runner
from jaywalk.wireguard import plan
from jaywalk.zone.requests import Reply
from jaywalk.zone.view import ZoneView

from .config import AgentConfig
from .dataplane.forwarding import Forwarding
from .dataplane.interface import DataPlane
from .dataplane.interface_record import InterfaceRecord, former_keys
from .dataplane.repair import Repairer, repairer_of
from .health import Health, listed
from .host import runtime_state
from .host.machine_id import own_machine_id
from .host.platform import PLATFORM
from .host.signals import StopSignal
from .paths.manager import PathManager
from .paths.passive import PassivePathManager
from .paths.silence import OwnAddresses
from .update_log import UpdateLog
from .zone import snapshot
from .zone.background_sender import BackgroundSender
from .zone.follower import Follower, Update
from .zone.lock_memory import LockMemoryWriter, open_lock
from .zone.membership import Membership
from .zone.requests import NodeRequests

log = logging.getLogger(__name__)


class Agent:
    """Keeps the interface of one node equal to its zone."""

    def __init__(
        self, config: AgentConfig, runner: Runner, stop: StopSignal, lock: runtime_state.Lock | None = None
    ) -> None:
        backend = PLATFORM.backend(runner)
        backend.require_tools()
        self.config = config
        self.stop = stop
        self._lock = open_lock(config)
        self._lock_memory = LockMemoryWriter(config, self._lock)
        view = snapshot.current(config, self._lock)
        if view is None and not config.may_be_member:
            # Raises at once; a node that knows its zone comes up without the password, and reports the error.
            config.controller_address()
        self.public_key = config.own_key(runner)
        self.membership = Membership(config.zone, self.public_key, own_machine_id(config.state_dir))
        self.requests = NodeRequests(config, self.membership)
        self.prover = config.prover()
        self.login = config.login(self.prover, self._lock)
        sender = BackgroundSender(self.login, self.requests)
        record = InterfaceRecord.read(config.interface_file)
        former = former_keys(record, config.interface, config.netns, lambda: view, backend)
        self.dataplane = DataPlane(backend, config.node(self.public_key, former), config.controller_hosts())
        self.forwarding = Forwarding(runner, config.interface, config.forward)
        self.health = Health(config, self.membership, self.dataplane, lock)
        self.path_manager: PathManager | PassivePathManager
        self.repairer: Repairer | None = None
        if PLATFORM.supports_paths:
            self.path_manager = PathManager(runner, self.dataplane, sender, config.paths_file)
            publish, restore_files = self.health.publish_repair, self.health.restore_files
            self.repairer = self.health.repairer = repairer_of(
                runner, self.dataplane, self.path_manager, self.forwarding, publish, restore_files
            )
        else:
            self.path_manager = PassivePathManager(runner, config.interface, self.public_key, sender)
        self.follower = Follower(
            config.controller_address,
            self.requests,
            self.membership,
            stop,
            view,
            alive=self.health.heartbeat,
            observed=self.path_manager.endpoint_reporter.observed_endpoints,
            lock=self._lock,
            check=self.dataplane.plan,
            prover=self.prover,
            place=config.controller_place,
        )
        self.snapshots = snapshot.SnapshotWriter(config)
        self._update_log = UpdateLog(backend, self.dataplane, OwnAddresses(self.public_key, view))

    def run(self) -> None:
        """The loop; ends by :class:`jaywalk_agent.host.signals.Stopped`, and leaves the tunnels up."""
        for note in self.requests.join_notes():
            log.info("%s", note)
        with self.path_manager.running(), self.repairer.running() if self.repairer else nullcontext():
            for update in self.follower.updates():
                error = self._apply(update)
                if self.membership.member and not error:
                    self.snapshots.save(update.view, full=update.changed is None)
                self.health.publish(error)

    def _apply(self, update: Update) -> str:
        """Applies the zone to this node; returns what failed, which the next tick retries.

        Raises ``JaywalkError`` before the agent is ready.
        """
        self._lock_memory.save()
        try:
            with self.path_manager.paused():
                done = self._tear_down() if self.membership.ended else self._bring_up(update)
        except JaywalkError as error:
            if not self.health.ready:
                raise
            return str(error)
        self._update_log.log_applied(update, done)
        return ""

    def _bring_up(self, update: Update) -> plan.Plan:
        peer_endpoints = self.path_manager.update(update.view, update.changed)
        done = self.dataplane.apply(update.view, update.changed, peer_endpoints)
        self._record_interface()
        self._forward(update)
        return done

    def _tear_down(self) -> plan.Plan:
        self.path_manager.remove()
        done = self.dataplane.remove()
        self.forwarding.remove()
        snapshot.forget(self.config.snapshot_file, self.config.volatile_snapshot_file)
        return done

    def _record_interface(self) -> None:
        record = InterfaceRecord(self.config.interface, self.public_key, self.config.netns)
        self.health.record_interface(record)

    def _forward(self, update: Update) -> None:
        """Applies the forwarding to this node's own prefixes, at each full check and when they change."""
        own = update.view.peers.get(self.public_key)
        if update.changed is None or self.public_key in update.changed:
            self.forwarding.apply(own.prefixes if own else ())

    def up(self, timeout: float) -> Reply:
        """Joins and brings the interface up once; raises ``NoAnswer`` after ``timeout`` seconds.

        Raises also, once everything else is done, if this machine refused a part of it.
        """
        with self.stop.waiting():
            client = self.login.open("jaywalk-up", timeout=min(timeout, TIMEOUT_SECONDS))
            # A client that only enrols reads the zone's settings, and no peers.
            view = client.head() if client.enrols else self._take_snapshot(client)
        # Raises what this machine refuses, before the zone gets the request.
        self.dataplane.plan(view)
        self.membership.own = view.peers.get(self.public_key)
        with self.stop.waiting():
            request = self.requests.join()
            lease, client = self.login.ask(client, request, timeout, "jaywalk-up")
            view = self._take_snapshot(client)
        self._lock_memory.save()
        if reason := self.membership.unsigned_reason(view):
            raise JaywalkError(reason)
        self.dataplane.apply(view)
        self._record_interface()
        self._forward(Update(view))
        snapshot.keep(self.config, view)
        if self.dataplane.refused:
            remedy = "see what else on this machine has it, then run this again"
            raise JaywalkError(f"{self.config.interface} is up, but {listed(self.dataplane.refused)}", remedy)
        left_out = [self.dataplane.without_ipv6] if self.dataplane.without_ipv6 else []
        return replace(lease, notes=tuple(dict.fromkeys((*request.notes, *lease.notes, *left_out))))

    def _take_snapshot(self, client: ZoneClient) -> ZoneView:
        """The zone, with the peers that this node knew already and the controller lost."""
        known = self.follower.view
        view = client.snapshot() if known is None else client.resync(known, self.public_key)[0]
        self.follower.view = view
        return view
