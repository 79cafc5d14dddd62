# SPDX-License-Identifier: GPL-3.0-or-later
"""The running supervisor: a thread that commits, a server for the REST API, and a main thread over both."""

from __future__ import annotations

import gc
import logging
import signal
import threading
import time
from dataclasses import dataclass
from typing import Any

from waitress.server import create_server

from jaywalk.controller.address import ControllerAddress
from jaywalk.core.errors import ControllerUnreachable, InvalidValue, JaywalkError
from jaywalk.core.ip import join_endpoint
from jaywalk.service.sd_notify import notify, watchdog_seconds

from .admin.default_zones import DEFAULT_ZONES
from .api.app import MAX_BODY_BYTES, create_app
from .api.metrics import Metrics, add_metrics
from .api.replica import Replica
from .committer.cluster import ClusterCommitter
from .committer.committer import Committer
from .monitoring.local_redis import explanation
from .recovery.recovery import Recovery
from .store.embedded import Embedded
from .store.store import Store

log = logging.getLogger(__name__)

START_PATIENCE = 20.0
"""Seconds that a controller may take to come up beside us before the start counts as failed."""
STOP_SECONDS = 1.5
STALLED_SECONDS = 30.0
"""Without a turn for so long the committer counts as hung; a turn takes 1 s, a dead Redis 5 s."""

OBJECTS_BEFORE_GARBAGE = 20_000
"""How many objects Python makes before it looks for garbage in cycles, of which there is next to none here.
At its own 700 the looks, through the records of all zones, are an eighth of what a join in a storm costs."""


@dataclass(frozen=True)
class ApiSettings:
    """Where the API listens, whether that is on loopback, and whether it may be read without a token."""

    host: str
    port: int
    loopback: bool
    open_reads: bool


@dataclass(frozen=True)
class Settings:
    """What ``serve`` is told: where Redis is, the hash of the agents' password, and about the API.

    ``default_zones``: whether to make the two zones of the original; no where an operator declares zones.
    ``state_dir``: the folder for copies of what the controller holds; empty where it is to keep none.
    """

    where: ControllerAddress
    agent_digest: str
    api: ApiSettings
    default_zones: bool = True
    state_dir: str = ""


class Supervisor:
    """Committer and API of one process."""

    def __init__(self, settings: Settings, embedded: Embedded | None = None) -> None:
        self.settings = settings
        self.embedded = embedded
        self.stop = threading.Event()
        kind = ClusterCommitter if settings.where.nodes else Committer
        defaults = DEFAULT_ZONES if settings.default_zones else ()
        self.recovery = Recovery(settings.where, settings.state_dir)
        self.committer = kind(settings.where, settings.agent_digest, defaults, self.stop, self.recovery)
        self.replica = Replica(settings.where)
        self._committing = threading.Thread(target=self.committer.run, name="committer", daemon=True)

    def run(self) -> int:
        """Serves until SIGTERM or SIGINT; returns the exit code.

        Raises ``JaywalkError`` where it cannot start.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stop.set())
        gc.set_threshold(OBJECTS_BEFORE_GARBAGE)
        server = self._bind()
        _await(self.settings.where, self.stop)
        if not self.settings.api.loopback:
            self._check_exposed()
        self._committing.start()
        serving = threading.Thread(target=server.run, name="api", daemon=True)
        serving.start()
        log.info("REST API on http://%s", join_endpoint(self.settings.api.host, server.effective_port))
        failed = self._watch(serving)
        notify("STOPPING=1")
        log.info("stopping")
        self.stop.set()
        # The sockets end with the process: to close them under the threads that use them fails at length.
        server.task_dispatcher.shutdown(cancel_pending=False, timeout=STOP_SECONDS)
        self._committing.join(STOP_SECONDS)
        return 1 if failed else 0

    def _check_exposed(self) -> None:
        """Refuses to listen for others while nobody has a token."""
        host = join_endpoint(self.settings.api.host, self.settings.api.port)
        if not self.replica.tokens():
            raise InvalidValue(
                f"the API address '{host}' is not on loopback, and there is no token yet",
                "make one with 'jaywalk-supervisor token add', or use an address on loopback",
            )
        log.warning("the REST API on %s speaks no TLS: let only a mesh or a proxy with TLS reach it", host)

    def _bind(self) -> Any:
        host, port = self.settings.api.host, self.settings.api.port
        # Waitress warns of each request that waits for a thread; that is load, not trouble.
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        try:
            app = create_app(self.replica, self.report, self.settings.api.open_reads)
            add_metrics(app, Metrics(self.replica, lambda: self.committer.health))
            # What is larger than the API takes is not even kept on the disk; a little more it refuses itself.
            most = 16 * MAX_BODY_BYTES
            return create_server(
                app, host=host, port=port, threads=4, ident="jaywalk-supervisor", max_request_body_size=most
            )
        except OSError as error:
            raise JaywalkError(
                f"cannot listen on {join_endpoint(host, port)} ({error.strerror})",
                "stop what listens there, or choose another -api-address",
            ) from None

    def _watch(self, serving: threading.Thread) -> bool:
        """Waits for the stop; returns whether it is for a failure, so that systemd starts us again.

        We are ready when zones and agents' users are there, not before: agents are started after us.
        """
        said = ""
        pause = min(watchdog_seconds() or 1.0, 1.0)
        while not self.stop.wait(pause if said else 0.02):
            health = self.committer.health
            if not self._committing.is_alive() or not serving.is_alive():
                log.critical("a thread of the supervisor ended")
                return True
            if self.embedded is not None and self.embedded.exited():
                log.critical("the embedded server ended: see %s/server.log", self.embedded.folder)
                return True
            if time.monotonic() - health.last_turn < STALLED_SECONDS:
                notify("WATCHDOG=1")
            status = health.summary
            if status != said and (said or not health.error):
                notify("READY=1", f"STATUS={status}")
                said = status
        return False

    def report(self) -> tuple[dict[str, Any], bool]:
        """The body of ``/healthz``, and whether the supervisor decides on joins as it should."""
        health = self.committer.health
        alive = self._committing.is_alive() and time.monotonic() - health.last_turn < STALLED_SECONDS
        reasons = health.reasons if alive else ["the supervisor decides nothing: restart it", *health.reasons]
        body = {
            "status": "failing" if reasons else "ok",
            "reasons": reasons,
            "committer": "alive" if alive else "hung or ended",
            "controller": health.error or "connected",
            "memory": health.memory_error or "ok",
            "clock": health.clock_error or "ok",
            "clock_offset_seconds": round(health.clock_skew, 3),
            "broken_zones": health.failing_zones,
            "copies": self.recovery.summary,
            "unreadable_records": health.unreadable_records(),
            "zones_led": sorted(health.led),
            "committed": health.committed,
            "refused": health.refused,
            "refused_by_code": dict(health.refusals.copy()),
            "bad_by_reason": dict(health.bad.copy()),
            "dropped": health.dropped,
            "dropped_by_reason": dict(health.drops.copy()),
            "conflicts": health.conflicts,
        }
        return body, body["status"] == "ok"


def _await(where: ControllerAddress, stop: threading.Event) -> None:
    """Returns when the controller answers; raises ``JaywalkError`` where it refuses us or stays away."""
    deadline = time.monotonic() + START_PATIENCE
    told = False
    while not stop.is_set():
        try:
            Store.open(where, "jaywalk-supervisor").close()
        except ControllerUnreachable as error:
            if time.monotonic() > deadline:
                if why := explanation(error, where):
                    log.error("%s", why)
                raise
            if not told:
                log.warning("%s; trying for %d seconds", error, START_PATIENCE)
            told = True
            stop.wait(0.5)
        else:
            return
