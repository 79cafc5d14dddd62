# SPDX-License-Identifier: GPL-3.0-or-later
"""A supervisor of a Redis Cluster: a committer for each zone, since one command cannot wait on two shards."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from jaywalk.controller.address import ControllerAddress
from jaywalk.controller.errors import Translated
from jaywalk.core.errors import JaywalkError
from jaywalk.zone.models import Zone

from ..admin.zones import with_defaults
from ..monitoring.health import Health
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
    """Starts and ends the committers as zones come and go; to others it looks like one of them."""

    def __init__(
        self,
        where: ControllerAddress,
        agent_digest: str,
        defaults: Sequence[Zone],
        stop: threading.Event,
        recovery: Recovery | None = None,
    ) -> None:
        self.where = where
        self.recovery = recovery or Recovery(where)
        self.agent_digest = agent_digest
        self.defaults = defaults
        self.stop = stop
        self._own = Health()
        self._serving: dict[str, _Serving] = {}

    @property
    def health(self) -> Health:
        """All committers' health as one; its trouble is the first that any of them has."""
        return merged(self._own, [each.committer.health for each in list(self._serving.values())])

    def run(self) -> None:
        """Serves until ``stop`` is set."""
        while not self.stop.is_set():
            try:
                with Translated(self.where):
                    self._session()
            except JaywalkError as error:
                if str(error) != self._own.error:
                    log.error("%s; zones that come and go wait until this is over", error)
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
                names = with_defaults(store, self.defaults)
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
        committer = Committer(replace(self.where, zone=name), self.agent_digest, (), stop, self.recovery)
        thread = threading.Thread(target=committer.run, name=f"committer-{name}", daemon=True)
        self._serving[name] = _Serving(committer, thread, stop)
        thread.start()

    def _end(self, names: Iterable[str]) -> None:
        ended = [self._serving.pop(name) for name in list(names)]
        for each in ended:
            each.stop.set()
        for each in ended:
            each.thread.join()


def merged(own: Health, parts: Sequence[Health]) -> Health:
    """One health out of several: counters add up, and the oldest turn and the first trouble stand for all."""
    whole = Health(own.error, own.last_turn)
    for each in parts:
        whole.error = whole.error or each.error
        whole.memory_error = whole.memory_error or each.memory_error
        whole.last_turn = min(whole.last_turn, each.last_turn)
        whole.commits += each.commits
        whole.refusals += each.refusals
        whole.bad += each.bad
        whole.drops += each.drops
        whole.conflicts += each.conflicts
        whole.led |= each.led
        whole.broken_zones |= each.broken_zones
        if abs(each.clock_skew) > abs(whole.clock_skew):
            whole.clock_skew = each.clock_skew
        whole.clock_error = whole.clock_error or each.clock_error
        whole.unreadable |= each.unreadable
        whole.locked_zones |= each.locked_zones
    return whole
