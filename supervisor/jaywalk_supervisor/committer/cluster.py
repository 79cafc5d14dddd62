# SPDX-License-Identifier: GPL-3.0-or-later
"""The supervisor of a Redis Cluster: one committer per zone, since one command cannot wait on two shards."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from jaywalk.controller.address import ControllerAddress
from jaywalk.controller.errors import RedisErrorTranslator
from jaywalk.core.errors import JaywalkError
from jaywalk.zone.models import Zone

from ..admin.default_zones import create_missing_zones
from ..monitoring.health import Health
from ..possession.keyring import KeyFile
from ..recovery.recovery import Recovery
from ..store.connection import client_name
from ..store.store import Store
from .committer import REFRESH_SECONDS, Committer

log = logging.getLogger(__name__)


@dataclass
class _Serving:
    committer: Committer
    thread: threading.Thread
    stop: threading.Event


class ClusterCommitter:
    """Starts and stops a committer per zone as zones are added and removed; has the interface of one."""

    def __init__(
        self,
        where: ControllerAddress,
        agent_digest: str,
        defaults: Sequence[Zone],
        stop: threading.Event,
        recovery: Recovery | None = None,
        key_file: KeyFile | None = None,
    ) -> None:
        self.where = where
        self.recovery = recovery or Recovery(where)
        self.agent_digest = agent_digest
        self.defaults = defaults
        self.stop = stop
        self.key_file = key_file
        self._own = Health()
        self._serving: dict[str, _Serving] = {}

    @property
    def health(self) -> Health:
        """The health of all committers in one; its error is the first error of any of them."""
        return merged(self._own, [serving.committer.health for serving in list(self._serving.values())])

    def run(self) -> None:
        """Serves until ``stop`` is set."""
        while not self.stop.is_set():
            try:
                with RedisErrorTranslator(self.where):
                    self._session()
            except JaywalkError as error:
                if str(error) != self._own.error:
                    log.error("%s; new and removed zones wait until this is over", error)
                self._own.error = str(error)
            except Exception:
                log.exception("the supervisor of the cluster failed and starts again")
                self._own.error = "the supervisor of the cluster failed and starts again: see the log"
            self._own = Health(self._own.error)
            self.stop.wait(REFRESH_SECONDS)
        self._end(list(self._serving))

    def _session(self) -> None:
        store = Store.open(self.where, client_name())
        try:
            while not self.stop.is_set():
                self.recovery.restore_shared(store)
                names = create_missing_zones(store, self.defaults)
                self._end(self._serving.keys() - set(names))
                for name in names:
                    if name not in self._serving:
                        self._start(name)
                self._own = Health(error="")
                self.stop.wait(REFRESH_SECONDS)
        finally:
            store.close()

    def _start(self, name: str) -> None:
        stop = threading.Event()
        where = replace(self.where, zone=name)
        committer = Committer(where, self.agent_digest, (), stop, self.recovery, key_file=self.key_file)
        thread = threading.Thread(target=committer.run, name=f"committer-{name}", daemon=True)
        self._serving[name] = _Serving(committer, thread, stop)
        thread.start()

    def _end(self, names: Iterable[str]) -> None:
        ended = [self._serving.pop(name) for name in list(names)]
        for serving in ended:
            serving.stop.set()
        for serving in ended:
            serving.thread.join()


def merged(own: Health, parts: Sequence[Health]) -> Health:
    """Merges several healths: adds the counters, takes the oldest turn and the first error."""
    whole = Health(own.error, own.last_turn)
    for part in parts:
        whole.error = whole.error or part.error
        whole.memory_error = whole.memory_error or part.memory_error
        whole.key_error = whole.key_error or part.key_error
        whole.last_turn = min(whole.last_turn, part.last_turn)
        whole.commits += part.commits
        whole.refusals += part.refusals
        whole.bad += part.bad
        whole.drops += part.drops
        whole.conflicts += part.conflicts
        whole.led |= part.led
        whole.broken_zones |= part.broken_zones
        if abs(part.clock_skew) > abs(whole.clock_skew):
            whole.clock_skew = part.clock_skew
        whole.certificate_error = whole.certificate_error or part.certificate_error
        whole.clock_error = whole.clock_error or part.clock_error
        whole.unreadable |= part.unreadable
        whole.locked_zones |= part.locked_zones
    return whole
