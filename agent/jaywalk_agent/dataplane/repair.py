# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts back what others take from this node's interfaces, as soon as the kernel tells of it.

A thread of its own, since an interface may go while the agent waits for its controller.  It knows nothing of
the zone: an interface becomes again what it was last brought to.  What the kernel does not tell of (peers,
rules of a firewall) is left to the looks of the agent and of the path manager.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Protocol

from jaywalk.core.errors import InvalidValue, JaywalkError
from jaywalk.core.runner import NAMESPACES, NamespaceRunner, Runner, run_checked
from jaywalk.wireguard.interface import Interface
from jaywalk.wireguard.linux import Linux
from jaywalk.wireguard.plan import Plan
from jaywalk.wireguard.steps import PeerStep

from ..host.netns import inside
from .forwarding import Forwarding
from .interface import DataPlane
from .relay_interfaces import RelayPlane
from .repair_backoff import RepairBackoff
from .rtnetlink import LinkEvent, Monitor, differs

log = logging.getLogger(__name__)

SETTLE = 0.1
"""Seconds from the first event to the look: what goes together is told of one by one."""
POLL = 5.0
"""Seconds between two looks at whether the network namespace is still the one of before."""
AFTER_TROUBLE = 5.0


class RepairedPaths(Protocol):
    """The path manager, as far as the repair of its interfaces concerns it."""

    relay_plane: RelayPlane
    request_repair: Callable[[], None]

    def restored(self) -> None:
        """Called after an interface was made anew."""


class Owner(Protocol):
    """Whoever knows what some interfaces should be, and can make them so."""

    def interfaces(self) -> Mapping[str, Interface]:
        """The interfaces by name as they were last brought to be."""

    def restore(self, name: str) -> Plan:
        """Makes one of them so again; raises ``JaywalkError``."""


class Repairer:
    """Watches over the interfaces of ``owners``, in the network namespace of ``runner``.

    ``lock`` is held while owners are asked, and while ``restored`` is told what was done.  ``publish`` is
    called when :attr:`trouble` has changed, and ``keep_marks`` every :data:`POLL` seconds at least.
    """

    def __init__(
        self,
        runner: Runner,
        owners: tuple[Owner, ...],
        lock: threading.RLock,
        restored: Callable[[Plan], None],
        publish: Callable[[], None],
        keep_marks: Callable[[], None] = lambda: None,
    ) -> None:
        self._runner = runner
        self._keep_marks = keep_marks
        self._netns = runner.netns if isinstance(runner, NamespaceRunner) else ""
        self._owners = owners
        self._lock = lock
        self._restored = restored
        self._publish = publish
        self._monitor: Monitor | None = None
        self._namespace = 0
        self._indexes: dict[str, int] = {}
        self._due: dict[str, float] = {}
        self._backoffs: dict[str, RepairBackoff] = {}
        self._failed: dict[str, str] = {}
        self._occupied: set[str] = set()
        """Interfaces whose name somebody else's interface has."""
        self._wake = os.eventfd(0, os.EFD_NONBLOCK)
        self._end = threading.Event()
        self.trouble = ""

    @contextmanager
    def running(self) -> Iterator[None]:
        """Repairs until the block ends."""
        thread = threading.Thread(target=self._run, name="repair", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._end.set()
            self.request()
            thread.join(AFTER_TROUBLE)

    def request(self) -> None:
        """Asks for a look at all interfaces, where something else than the kernel says that one is amiss."""
        os.eventfd_write(self._wake, 1)

    def _run(self) -> None:
        while not self._end.is_set():
            try:
                self._watch()
            except OSError as error:
                log.debug("repair: %s", error)
                self._close()
                self._end.wait(AFTER_TROUBLE)
            except Exception:
                log.exception("the interfaces could not be watched")
                self._close()
                self._end.wait(AFTER_TROUBLE)
        self._close()

    def _watch(self) -> None:
        """Waits for one batch of events, or for what is due."""
        monitor = self._opened()
        pause = min([POLL, *(due - time.monotonic() for due in self._due.values())])
        sources: list[int] = [monitor.socket.fileno(), self._wake]
        ready, _, _ = select.select(sources, [], [], max(0.0, pause))
        if self._end.is_set():
            return
        self._keep_marks()
        if self._wake in ready:
            os.eventfd_read(self._wake)
            self._look_at_all(time.monotonic())
        if sources[0] in ready:
            self._receive(monitor)
        now = time.monotonic()
        for name in [name for name, due in self._due.items() if due <= now]:
            del self._due[name]
            self._look(name)
        self._tell(time.monotonic())

    def _opened(self) -> Monitor:
        """The socket, opened anew where somebody removed the namespace and made one of the same name."""
        namespace = Path(NAMESPACES, self._netns).stat().st_ino if self._netns else 0
        if self._monitor is None or namespace != self._namespace:
            self._close()
            self._monitor, self._namespace = Monitor(self._netns), namespace
            with self._lock:
                # Whoever has sockets in the one of before keeps it and its interfaces alive.
                self._restored(Plan(""))
            self._look_at_all(time.monotonic())
        return self._monitor

    def _close(self) -> None:
        if self._monitor is not None:
            self._monitor.close()
            self._monitor = None

    def _receive(self, monitor: Monitor) -> None:
        events = monitor.receive()
        now = time.monotonic()
        if events is None:
            log.debug("repair: the kernel had more to tell than it kept; looking at all interfaces")
            self._look_at_all(now + SETTLE)
            return
        # At once, since others may hold the lock until the link has another name.
        for event in events:
            if isinstance(event, LinkEvent) and not event.gone:
                self._indexes.setdefault(event.name, event.index)
        with self._lock:
            watched = self._interfaces()
            for name, interface in watched.items():
                if differs(events, interface, self._index(name)):
                    self._schedule(name, now + SETTLE)
        for event in events:
            if isinstance(event, LinkEvent) and event.gone:
                if event.name not in watched:
                    self._indexes.pop(event.name, None)
                elif event.name in self._occupied:
                    self._occupied.remove(event.name)
                    self._due[event.name] = now + SETTLE

    def _look_at_all(self, moment: float) -> None:
        with self._lock:
            for name in self._interfaces():
                self._schedule(name, moment)

    def _schedule(self, name: str, moment: float) -> None:
        backoff = self._backoffs.setdefault(name, RepairBackoff())
        self._due.setdefault(name, max(moment, backoff.next))

    def _interfaces(self) -> dict[str, Interface]:
        found: dict[str, Interface] = {}
        for owner in self._owners:
            found |= owner.interfaces()
        return found

    def _look(self, name: str) -> None:
        """Looks at an interface and repairs it; a failure is repeated, ever more seldom."""
        started = time.monotonic()
        try:
            with self._lock:
                owner = next((each for each in self._owners if name in each.interfaces()), None)
                if owner is None:
                    self._failed.pop(name, None)
                    return
                self._rename_back(name)
                done = owner.restore(name)
                self._indexes.pop(name, None)
                self._index(name)
                if done:
                    self._restored(done)
        except JaywalkError as error:
            self._failed[name] = f"{name} could not be put right: {error}"
            if isinstance(error, InvalidValue):
                self._occupied.add(name)
            self._backoffs[name].tried(time.monotonic())
            self._schedule(name, 0.0)
            return
        self._failed.pop(name, None)
        self._occupied.discard(name)
        if done.found:
            self._repaired(name, done, started)

    def _index(self, name: str) -> int:
        """The number of the link as it was last seen; 0 for none."""
        if name not in self._indexes:
            with inside(self._netns), suppress(OSError):
                self._indexes[name] = socket.if_nametoindex(name)
        return self._indexes.get(name, 0)

    def _rename_back(self, name: str) -> None:
        """Gives an interface its name again, which keeps its sessions; raises ``JaywalkError``."""
        with inside(self._netns):
            try:
                found = socket.if_indextoname(self._index(name))
            except OSError:
                return
        if found != name:
            log.warning("%s: somebody renamed it to %s; renaming it back", name, found)
            run_checked(self._runner, ["ip", "link", "set", "dev", found, "down"])
            run_checked(self._runner, ["ip", "link", "set", "dev", found, "name", name])

    def _repaired(self, name: str, done: Plan, started: float) -> None:
        now = time.monotonic()
        backoff = self._backoffs[name]
        # What is told as trouble is not told again each time.
        level = logging.INFO if backoff.complaint else logging.WARNING
        backoff.repaired(name, done.found, now)
        peers = sum(isinstance(step, PeerStep) for step in done.steps)
        more = f" with {peers} peers" if _is_anew(done) else ""
        log.log(level, "%s: %s; restored%s in %.1f s", name, ", ".join(done.found), more, now - started)
        for line in Linux(self._runner).commands(done):
            log.debug("%s", line)

    def _tell(self, now: float) -> None:
        """Publishes what is wrong, and for how long it was, once it has changed."""
        for name in [name for name, each in self._backoffs.items() if each.calm(now)]:
            if name not in self._due:
                del self._backoffs[name]
        complaints = (each.complaint for each in self._backoffs.values() if each.complaint)
        trouble = next(chain(complaints, self._failed.values()), "")
        if trouble != self.trouble:
            self.trouble = trouble
            self._publish()


def _is_anew(done: Plan) -> bool:
    """Whether the interface is another one now; systemd may have made it, bare."""
    return any(sentence.startswith("interface ") for sentence in done.found)


def repairer_of(
    runner: Runner,
    dataplane: DataPlane,
    paths: RepairedPaths,
    forwarding: Forwarding,
    publish: Callable[[], None],
    keep_marks: Callable[[], None],
) -> Repairer:
    """The repairer of a node's own interface and of those to and of relays."""

    def restored(done: Plan) -> None:
        if _is_anew(done):
            forwarding.restore()
        paths.restored()

    owners = (dataplane, paths.relay_plane)
    repairer = Repairer(runner, owners, dataplane.lock, restored, publish, keep_marks)
    paths.request_repair = repairer.request
    return repairer
