# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent: one loop that keeps this node's interface equal to the zone, with or without a controller."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import replace

from jaywalk.controller.address import TIMEOUT
from jaywalk.controller.client import ZoneClient
from jaywalk.controller.connection import connect
from jaywalk.core import files
from jaywalk.core.errors import JaywalkError
from jaywalk.core.ip import host_of
from jaywalk.core.runner import Runner
from jaywalk.mesh.node_interface import Node, refused_prefixes
from jaywalk.service.repeat_filter import RepeatFilter
from jaywalk.service.sd_notify import notify
from jaywalk.wireguard import describe, plan
from jaywalk.wireguard.steps import PeerStep
from jaywalk.zone.marks import Head
from jaywalk.zone.requests import Reply, Request
from jaywalk.zone.view import ZoneView

from .config import AgentConfig
from .dataplane.forwarding import Forwarding
from .dataplane.interface import DataPlane, names_of
from .dataplane.repair import Repairer, repairer_of
from .host import runtime_state
from .host.machine_id import own_machine_id
from .host.platform import PLATFORM
from .host.signals import StopSignal
from .paths.manager import PathManager
from .paths.passive import PassivePathManager
from .paths.silence import OwnAddresses
from .zone import snapshot
from .zone.background_sender import BackgroundSender
from .zone.follower import Follower, Update
from .zone.own_interface import OwnInterface, former_keys

log = logging.getLogger(__name__)

SAVING_SHARE = 20
"""A twentieth of the time, at most, goes into snapshots on disk."""
MOST_WARNINGS = 20
"""Of one look; a zone in disorder must not fill the journal of each of its nodes."""


class Agent:
    """Follows one zone on one interface; it is also the :class:`follow.Asker` of its follower."""

    def __init__(
        self, config: AgentConfig, runner: Runner, stop: StopSignal, lock: runtime_state.Lock | None = None
    ) -> None:
        self._backend = PLATFORM.backend(runner)
        self._backend.require_tools()
        self.config = config
        self._lock = lock
        view = snapshot.current(config)
        if view is None:
            # Refused at once; a node that knows its zone comes up without the password, and says so.
            config.controller_address()
        self.public_key = config.own_key(runner)
        self.instance = own_machine_id(config.state_dir)
        self.stop = stop
        node = replace(node_of(config, self.public_key), former_keys=former_keys(config, runner))
        self.dataplane = DataPlane(self._backend, node, config.controller_hosts())
        self.forwarding = Forwarding(runner, config.interface, config.forward)
        sender = BackgroundSender(config.controller_address, self._report_of, self.moved)
        self.repairer: Repairer | None = None
        self.path_manager: PathManager | PassivePathManager
        if PLATFORM.mends_paths:
            self.path_manager = PathManager(runner, self.dataplane, sender, config.paths_file)
            self.repairer = repairer_of(
                runner,
                self.dataplane,
                self.path_manager,
                self.forwarding,
                self._publish,
                self._look_after_marks,
            )
        else:
            self.path_manager = PassivePathManager(runner, config.interface, self.public_key, sender)
        self.follower = Follower(
            address=config.controller_address,
            zone=config.zone,
            own_key=self.public_key,
            asker=self,
            stop=stop,
            view=view,
            alive=self._alive,
            instance=self.instance,
            observed=self.path_manager.endpoint_reporter.observed_endpoints,
        )
        self._own_interface = OwnInterface(config.interface, self.public_key, config.netns)
        self._recorded = False
        self._own_addresses = OwnAddresses(self.public_key, self.follower.view)
        self._ready = False
        self._saved: Head | None = None
        self._saved_as: files.Identity | None = None
        self._save_after = 0.0
        self._trouble = ""
        self._reported: str | None = None
        self._reported_state = False, False
        self._skipped: set[str] = set()
        self._repeats = RepeatFilter()
        self._reporting = threading.Lock()

    def run(self) -> None:
        """The loop; ends by :class:`jaywalk_agent.host.signals.Stopped`, and leaves the tunnels up."""
        for note in self.join().notes:
            log.info("%s", note)
        with self.path_manager.running(), self.repairer.running() if self.repairer else nullcontext():
            for update in self.follower.updates():
                self._bring(update)
                self._save(update)
                self._report()

    def up(self, timeout: float) -> Reply:
        """Joins and brings the interface up once; raises ``NoAnswer`` after ``timeout`` seconds.

        Raises as well, once all else is done, for what this machine refused.
        """
        address = replace(self.config.controller_address(), timeout=min(timeout, TIMEOUT))
        with self.stop.waiting():
            client = ZoneClient(connect(address, name="jaywalk-up"), address, self.config.zone)
            self.follower.view = self._snapshot(client)
        # What this machine refuses, it refuses before the zone hears of it.
        self.dataplane.plan(self.follower.view)
        with self.stop.waiting():
            request = self.join()
            lease = client.ask(request, timeout).lease_or_raise()
            self.follower.view = self._snapshot(client)
        self.dataplane.bring_to(self.follower.view)
        self._record_interface()
        self._forward(Update(self.follower.view))
        snapshot.keep(self.config, self.follower.view)
        if self.dataplane.refused:
            remedy = "see what else on this machine has it, then run this again"
            raise JaywalkError(
                f"{self.config.interface} is up, but {_listed(self.dataplane.refused)}", remedy
            )
        left_out = [self.dataplane.without_ipv6] if self.dataplane.without_ipv6 else []
        return replace(lease, notes=tuple(dict.fromkeys((*request.notes, *lease.notes, *left_out))))

    def _snapshot(self, client: ZoneClient) -> ZoneView:
        """The zone, and of what this node knew already that which the controller lost."""
        known = self.follower.view
        return client.snapshot() if known is None else client.resync(known, self.public_key)[0]

    def join(self) -> Request:
        config = self.config
        return self._in_order(
            Request.checked(
                "join",
                config.zone,
                self.public_key,
                name=config.name,
                request_ip=config.request_ip,
                child_prefixes=config.child_prefixes,
                **config.whereabouts(self._declared_address()),
                instance=self.instance,
            )
        )

    def moved(self) -> Request:
        config = self.config
        return self._in_order(
            Request.checked(
                "endpoint",
                config.zone,
                self.public_key,
                **config.whereabouts(self._declared_address()),
                instance=self.instance,
            )
        )

    def _declared_address(self) -> str:
        """The address of this node that the zone has by its operator's word, or empty."""
        own = self.follower.view.peers.get(self.public_key) if self.follower.view else None
        return host_of(own.endpoint) if own is not None and own.fixed else ""

    def _report_of(self, observed: Mapping[str, str]) -> Request:
        return self.follower.report(observed)

    def _in_order(self, request: Request) -> Request:
        """A clock that was set back must not make our requests look older than those before."""
        own = self.follower.view.peers.get(self.public_key) if self.follower.view else None
        return replace(request, seq=max(request.seq, own.seq + 1)) if own else request

    def _bring(self, update: Update) -> None:
        """Brings the interface to the zone; what fails later than at the start waits for the next look."""
        try:
            with self.dataplane.lock:
                done = self._bring_interface(update)
        except JaywalkError as error:
            if not self._ready:
                raise
            self._trouble = str(error)
            return
        self._trouble = ""
        for line in self._backend.commands(done):
            log.debug("%s", line)
        news = self._repeats.news(done.found[:MOST_WARNINGS], time.monotonic())
        for sentence in news:
            log.warning("%s: %s", self.config.interface, sentence)
        if done:
            # Where another program undoes it each minute, the warning of the hour is enough.
            level = logging.INFO if news or not done.found else logging.DEBUG
            told = update.view.zone.name, update.view.position, _summary(update, done)
            log.log(level, "zone %s at %s: %s", *told)
        for sentence in self._own_addresses.observe(update.view):
            log.warning("%s", sentence)
        self._warn_of_skipped(update)

    def _bring_interface(self, update: Update) -> plan.Plan:
        if self.follower.removed or self.follower.superseded:
            self.path_manager.remove()
            done = self.dataplane.remove()
            self.forwarding.remove()
            snapshot.forget(self.config.snapshot_file, self.config.volatile_snapshot_file)
            return done
        self.path_manager.update(update.view, update.changed)
        done = self.dataplane.bring_to(update.view, update.changed)
        self._record_interface()
        self._forward(update)
        return done

    def _record_interface(self) -> None:
        """Writes down once that this interface is ours, for a time when its key or name has changed."""
        if not self._recorded:
            self._own_interface.write(self.config.interface_file)
            self._recorded = True

    def _forward(self, update: Update) -> None:
        """Looks after the way to this node's own networks, at each full look and when they change."""
        own = update.view.peers.get(self.public_key)
        if update.changed is None or self.public_key in update.changed:
            self.forwarding.apply(own.prefixes if own else ())

    def _warn_of_skipped(self, update: Update) -> None:
        """Says once, at a full look, what of the zone this node does not take."""
        if update.changed is not None:
            return
        skipped = {*update.view.rejected.values(), *refused_prefixes(update.view, self.dataplane.node)}
        skipped |= {self.dataplane.without_ipv6} - {""}
        news = sorted(skipped - self._skipped)
        for sentence in news[:MOST_WARNINGS]:
            log.warning("%s", sentence)
        if len(news) > MOST_WARNINGS:
            log.warning("zone %s: %d more such records", self.config.zone, len(news) - MOST_WARNINGS)
        self._skipped = skipped

    def _save(self, update: Update) -> None:
        """Keeps what is in force now; in a storm only now and then, and at the look that follows it."""
        started = time.monotonic()
        due = update.changed is None or started >= self._save_after
        if not due or not self.follower.joined or self._trouble:
            return
        if self._saved == update.view.head and self._is_kept():
            return
        try:
            snapshot.keep(self.config, update.view)
            self._saved = update.view.head
            self._saved_as = files.identity(self.config.snapshot_file)
        except JaywalkError as error:
            for sentence in self._repeats.news([f"the snapshot stays as it was: {error}"], started):
                log.warning("%s", sentence)
        ended = time.monotonic()
        self._save_after = ended + SAVING_SHARE * (ended - started)

    def _is_kept(self) -> bool:
        """Whether the snapshot is the file that was saved, and not removed or written by somebody else."""
        return files.identity(self.config.snapshot_file) == self._saved_as

    def _keep_marks(self) -> None:
        """Makes our files in the run folder anew where somebody removed them.

        Raises ``JaywalkError`` where another agent took our place meanwhile.
        """
        renewed = self._lock is not None and self._lock.renew()
        if renewed:
            log.warning("somebody removed or hid %s: made it anew", self.config.lock_file)
        if self._recorded and (renewed or not self.config.interface_file.exists()):
            self._own_interface.write(self.config.interface_file)
        if self._reported is not None and (renewed or not self.config.status_file.exists()):
            self._write_report(self._reported)

    def _report(self) -> None:
        """Says how this node is, where that has changed; several threads call it."""
        with self._reporting:
            self._report_changes()

    def _report_changes(self) -> None:
        if self.follower.joined and not self._ready:
            self._ready = True
            own = self.follower.view.peers[self.public_key] if self.follower.view else None
            log.info("in zone %s as %s", self.config.zone, ", ".join(own.addresses) if own else "")
            notify("READY=1")
        broken = self.repairer.trouble if self.repairer else ""
        trouble = self._trouble or broken or self.follower.trouble or refusals(self.dataplane.refused)
        state = self.follower.waiting, self.follower.joined
        if (trouble, state) != (self._reported, self._reported_state):
            self._reported_state = state
            self._write_report(trouble)
        if trouble == self._reported:
            return
        if trouble:
            log.warning("%s", trouble)
        elif self._reported:
            log.info("all is well again")
        self._reported = trouble
        notify(f"STATUS={trouble or 'following zone ' + self.config.zone}")

    def _write_report(self, trouble: str) -> None:
        waiting, joined = self._reported_state
        runtime_state.report(self.config.status_file, trouble, waiting, joined)

    def _publish(self) -> None:
        """Another thread has news; before the first bringing is through there is nothing to tell."""
        if self._ready:
            self._report()

    def _look_after_marks(self) -> None:
        """As :meth:`_keep_marks`, in another thread and more often; what that raises the agent's own says."""
        with self._reporting, suppress(JaywalkError):
            self._keep_marks()

    def _alive(self) -> None:
        notify("WATCHDOG=1")
        with self._reporting:
            self._keep_marks()
        if self._ready or self.follower.trouble:
            self._report()


def node_of(config: AgentConfig, public_key: str) -> Node:
    """The settings as the pure core knows a node."""
    return Node(
        public_key,
        str(config.private_key_file),
        config.interface,
        config.listen_port,
        config.mtu,
        requested=config.request_ip,
    )


def refusals(refused: Mapping[str, str]) -> str:
    """What this machine refuses, in one line; empty where that is nothing."""
    return f"{_listed(refused)} (tried again each minute)" if refused else ""


def _listed(refused: Mapping[str, str]) -> str:
    return describe.listed(sorted(refused.values()), "; ")


def _summary(update: Update, done: plan.Plan) -> str:
    """What was done, for the log; in names, since nobody knows peers by their keys."""
    keys = {step.key for step in done.steps if isinstance(step, PeerStep)}
    return describe.changes(done, names_of(update.view, keys))
