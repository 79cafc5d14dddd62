# SPDX-License-Identifier: GPL-3.0-or-later
"""Publishes the state of a running agent: to systemd, in its log, and in its files in the run folder."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from contextlib import suppress

from jaywalk.core.errors import JaywalkError
from jaywalk.service.sd_notify import notify
from jaywalk.wireguard import describe

from .config import AgentConfig
from .dataplane.interface import DataPlane
from .dataplane.interface_record import InterfaceRecord
from .dataplane.repair import Repairer
from .host import runtime_state
from .zone.membership import Membership

log = logging.getLogger(__name__)


class Health:
    """Publishes what is wrong with this node, once it changes, and feeds the watchdog.

    The loop of the agent and the thread of ``repairer`` call it.  ``lock`` is the zone's, if the caller holds
    it; its file, the status file and the record of the interface are made anew if somebody removes them.
    """

    def __init__(
        self,
        config: AgentConfig,
        membership: Membership,
        dataplane: DataPlane,
        lock: runtime_state.Lock | None = None,
    ) -> None:
        self._config = config
        self._membership = membership
        self._dataplane = dataplane
        self._lock = lock
        self._record: InterfaceRecord | None = None
        self._published: str | None = None
        self._published_state = False, False
        self._apply_error = ""
        self._serial = threading.Lock()
        self.repairer: Repairer | None = None
        self._waits = False
        self.ready = False
        """Whether the interface was up in the zone once."""

    @property
    def error(self) -> str:
        """What is wrong with this node, in a sentence; empty if nothing is."""
        repair = self.repairer.error if self.repairer else ""
        return self._apply_error or repair or self._membership.error or refused_text(self._dataplane.refused)

    def record_interface(self, record: InterfaceRecord) -> None:
        """Writes ``record`` once; it keeps the agent's own when its key or name changes."""
        if record != self._record:
            record.write(self._config.interface_file)
            self._record = record

    def publish(self, apply_error: str) -> None:
        """Publishes what changed; ``apply_error`` is why the last update was not applied."""
        self._apply_error = apply_error
        self._publish()

    def publish_repair(self) -> None:
        """As :meth:`publish`, from another thread; before the first update there is nothing to publish."""
        if self.ready:
            self._publish()

    def heartbeat(self) -> None:
        """Feeds the watchdog; raises ``JaywalkError`` if another agent took the zone's lock meanwhile."""
        notify("WATCHDOG=1")
        with self._serial:
            self._restore_files()
        if self.ready or self._membership.error:
            self._publish()

    def restore_files(self) -> None:
        """Makes removed files anew, from another thread; the next heartbeat raises what this ignores."""
        with self._serial, suppress(JaywalkError):
            self._restore_files()

    def _restore_files(self) -> None:
        renewed = self._lock is not None and self._lock.renew()
        if renewed:
            log.warning("somebody removed or hid %s: made it anew", self._config.lock_file)
        if self._record is not None and (renewed or not self._config.interface_file.exists()):
            self._record.write(self._config.interface_file)
        if self._published is not None and (renewed or not self._config.status_file.exists()):
            self._write_status(self._published)

    def _publish(self) -> None:
        with self._serial:
            self._become_ready()
            error, state = self.error, (self._membership.waiting, self._membership.member)
            if (error, state) != (self._published, self._published_state):
                self._published_state = state
                self._write_status(error)
            if error == self._published:
                return
            if error:
                log.warning("%s", error)
            elif self._published:
                log.info("all is well again")
            self._published = error
            notify(f"STATUS={error or 'following zone ' + self._config.zone}")

    def _become_ready(self) -> None:
        if self._membership.approval and not self._waits:
            # An approval may take days, and systemd would stop a service that starts for so long.
            self._waits = True
            notify("READY=1")
        own = self._membership.own
        if own is not None and self._membership.member and not self.ready:
            self.ready = True
            log.info("in zone %s as %s", self._config.zone, ", ".join(own.addresses))
            if not self._waits:
                notify("READY=1")

    def _write_status(self, error: str) -> None:
        waiting, member = self._published_state
        runtime_state.report(self._config.status_file, error, waiting, member)


def listed(refused: Mapping[str, str]) -> str:
    """What this machine refused, in one line."""
    return describe.listed(sorted(refused.values()), "; ")


def refused_text(refused: Mapping[str, str]) -> str:
    """What this machine refused, and that it is tried again; empty if it refused nothing."""
    return f"{listed(refused)} (tried again each minute)" if refused else ""
