# SPDX-License-Identifier: GPL-3.0-or-later
"""The running supervisor: the committer's thread, the REST server, and a main thread that watches both."""

from __future__ import annotations

import gc
import logging
import signal
import threading
import time
from dataclasses import dataclass, field, replace
from typing import Any

from jaywalk.controller.address import ControllerAddress
from jaywalk.controller.errors import RedisErrorTranslator
from jaywalk.core.errors import ControllerCrowded, ControllerUnreachable, InvalidValue, JaywalkError
from jaywalk.core.ip import join_endpoint
from jaywalk.service.sd_notify import notify, watchdog_seconds
from jaywalk.zone.network_bounds import NetworkBounds

from .admin.default_zones import DEFAULT_ZONES
from .api.app import create_app
from .api.http_server import ApiServer
from .api.metrics import Metrics, add_metrics
from .api.replica import Replica
from .api.tls import Certificate
from .committer.cluster import ClusterCommitter
from .committer.committer import Committer
from .monitoring.client_bounds import ConnectionGuard
from .monitoring.health import Health
from .monitoring.local_redis import explanation
from .possession.keyring import KeyFile
from .recovery.recovery import Recovery
from .store import published_keys
from .store.embedded import Embedded
from .store.store import Store

log = logging.getLogger(__name__)

# How long a controller that boots together with us may take until the start fails.
START_TIMEOUT_SECONDS = 20.0
PAUSE_SECONDS = 0.5
# While the controller accepts no connection, whoever asks first gets the room of one that ends.
CROWDED_PAUSE_SECONDS = 0.02
STOP_SECONDS = 1.5
# A committer without a turn for this long counts as hung; a turn takes 1 s, and 5 s if Redis is dead.
STALLED_SECONDS = 30.0
# The first threshold of Python's garbage collector, which finds cycles; this program makes next to none.
# At the default of 700 its passes through the records of all zones are an eighth of the cost of a join in a
# storm.
GC_THRESHOLD_OBJECTS = 20_000


@dataclass(frozen=True)
class ApiConfig:
    """Where the API listens, whether that is on loopback, and whether reads need no token.

    ``certificate`` and ``key``: PEM files for TLS, or empty texts.
    ``pool_networks`` are those in which a zone may get pools.
    """

    host: str
    port: int
    loopback: bool
    open_reads: bool
    certificate: str = ""
    key: str = ""
    pool_networks: NetworkBounds = field(default_factory=NetworkBounds)

    @property
    def url(self) -> str:
        """The URL of the API."""
        return f"{'https' if self.certificate else 'http'}://{join_endpoint(self.host, self.port)}"


@dataclass(frozen=True)
class ServerConfig:
    """The configuration of a supervisor: its Redis, the hash of the agents' password, and the API.

    ``default_zones``: whether to create the original's two zones; False if an operator declares zones.
    ``state_dir``: the folder for copies of the controller's data; empty for none.  ``key_file`` holds the key
    pair to which nodes prove their requests.
    """

    where: ControllerAddress
    agent_digest: str
    api: ApiConfig
    default_zones: bool = True
    state_dir: str = ""
    key_file: KeyFile | None = None


class Supervisor:
    """The committer and the API of one process."""

    def __init__(self, config: ServerConfig, embedded: Embedded | None = None) -> None:
        self.config = config
        self.embedded = embedded
        self.stop = threading.Event()
        kind = ClusterCommitter if config.where.nodes else Committer
        defaults = DEFAULT_ZONES if config.default_zones else ()
        self.recovery = Recovery(config.where, config.state_dir)
        self.committer = kind(
            config.where, config.agent_digest, defaults, self.stop, self.recovery, key_file=config.key_file
        )
        self.replica = Replica(config.where)
        self._committing = threading.Thread(target=self.committer.run, name="committer", daemon=True)

    def run(self) -> int:
        """Serves until SIGTERM or SIGINT; returns the exit code.

        Raises ``JaywalkError`` if it cannot start.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stop.set())
        gc.set_threshold(GC_THRESHOLD_OBJECTS)
        server = self._bind()
        _wait_for_controller(self.config.where, self.stop, self.config.key_file)
        if not self.config.api.loopback:
            self._check_exposed()
        self._committing.start()
        serving = threading.Thread(target=server.run, name="api", daemon=True)
        serving.start()
        log.info("REST API on %s", replace(self.config.api, port=server.port).url)
        failed = self._watch(serving)
        notify("STOPPING=1")
        log.info("stopping")
        self.stop.set()
        server.stop()
        serving.join(STOP_SECONDS)
        self._committing.join(STOP_SECONDS)
        return 1 if failed else 0

    def _check_exposed(self) -> None:
        """Raises ``InvalidValue`` if the API would listen for other machines while there is no token."""
        api = self.config.api
        host = join_endpoint(api.host, api.port)
        if not self.replica.tokens():
            raise InvalidValue(
                f"the API address '{host}' is not on loopback, and there is no token yet",
                "make one with 'jaywalk-supervisor token add', or use an address on loopback",
            )
        if not api.certificate:
            log.warning("the REST API on %s has no TLS: let only a mesh or a proxy with TLS reach it", host)

    def _bind(self) -> ApiServer:
        api = self.config.api
        certificate = Certificate(api.certificate, api.key) if api.certificate else None
        app = create_app(self.replica, self.report, api.open_reads, api.pool_networks)
        add_metrics(app, Metrics(self.replica, lambda: self.committer.health))
        try:
            return ApiServer(app, api.host, api.port, certificate)
        except OSError as error:
            raise JaywalkError(
                f"cannot listen on {join_endpoint(api.host, api.port)} ({error.strerror})",
                "stop what listens there, or choose another -api-address",
            ) from None

    def _watch(self, serving: threading.Thread) -> bool:
        """Waits for the stop; returns whether a failure caused it, so that systemd restarts us.

        Reports readiness once zones and agents' users exist, since agents start after us.
        """
        reported = ""
        pause = min(watchdog_seconds() or 1.0, 1.0)
        while not self.stop.wait(pause if reported else 0.02):
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
            if status != reported and (reported or not health.error):
                notify("READY=1", f"STATUS={status}")
                reported = status
        return False

    def report(self) -> tuple[dict[str, Any], bool]:
        """Returns the body of ``/healthz``, and whether the supervisor decides on joins."""
        health = self.committer.health
        alive = self._committing.is_alive() and time.monotonic() - health.last_turn < STALLED_SECONDS
        reasons = (
            health.reasons if alive else ["the supervisor makes no decisions: restart it", *health.reasons]
        )
        body = {
            "status": "failing" if reasons else "ok",
            "reasons": reasons,
            "committer": "alive" if alive else "hung or ended",
            "controller": health.error or "connected",
            "memory": health.memory_error or health.memory_warning or "ok",
            "clock": health.clock_error or "ok",
            "certificate": health.certificate_error or "ok",
            "clock_offset_seconds": round(health.clock_skew, 3),
            "connections": health.crowd_warning or "ok",
            "broken_zones": health.failing_zones,
            "copies": self.recovery.summary,
            "warnings": [*health.undeclared_zones.copy().values(), *health.floods.copy().values()],
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


def _wait_for_controller(where: ControllerAddress, stop: threading.Event, key_file: KeyFile | None) -> None:
    """Returns when the controller answers; raises ``JaywalkError`` if it refuses us, or after the timeout.

    Raises ``OtherKeys`` if its zones belong to other supervisors.  There is no timeout while the controller
    accepts no further connection; the first one of ours makes room for others.
    """
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    logged = False
    while not stop.is_set():
        try:
            store = Store.open(where, "jaywalk-supervisor")
            with RedisErrorTranslator(where):
                ConnectionGuard(Health(), where).check(store)
                _check_keys(store, key_file)
        except ControllerUnreachable as error:
            crowded = isinstance(error, ControllerCrowded)
            if time.monotonic() > deadline and not crowded:
                if why := explanation(error, where):
                    log.error("%s", why)
                raise
            if not logged:
                log.warning("%s; trying for %d seconds", error, START_TIMEOUT_SECONDS)
            logged = True
            stop.wait(CROWDED_PAUSE_SECONDS if crowded else PAUSE_SECONDS)
        else:
            return


def _check_keys(store: Store, key_file: KeyFile | None) -> None:
    """Raises ``OtherKeys`` if a zone belongs to supervisors with other keys than ours."""
    own = key_file.keyring.public_keys if key_file is not None else ()
    try:
        with RedisErrorTranslator(store.where):
            for zone in store.zones():
                published_keys.check(store, zone, own)
    finally:
        store.close()
