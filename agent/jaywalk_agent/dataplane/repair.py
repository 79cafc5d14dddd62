# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores this node's interfaces after changes of others, as soon as the kernel reports them.

It has its own thread, because an interface may disappear while the agent waits for its controller.  It does
not use the zone: an interface becomes as last applied.  Changes that the kernel does not report (peers, rules
of a firewall) are left to the checks of the agent and of the path manager.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Protocol

from jaywalk.core.errors import InvalidValue, JaywalkError
from jaywalk.core.runner import NAMESPACES, Runner, netns_of, run_checked
from jaywalk.wireguard.interface import Interface
from jaywalk.wireguard.linux import Linux
from jaywalk.wireguard.plan import Plan
from jaywalk.wireguard.steps import PeerStep

from ..host.netns import interface_index, interface_name
from .forwarding import Forwarding
from .interface import DataPlane
from .relay_interfaces import RelayPlane
from .repair_backoff import RepairBackoff
from .rtnetlink import LinkEvent, Monitor, differs

log = logging.getLogger(__name__)

# From the first event to the check: the kernel reports the parts of one change one by one.
SETTLE_SECONDS = 0.1
# The interval of checks whether the network namespace is still the same.
POLL_SECONDS = 5.0
RETRY_SECONDS = 5.0


class RepairedPaths(Protocol):
    """The part of the path manager that the repair needs."""

    relay_plane: RelayPlane
    request_repair: Callable[[], None]

    def restored(self) -> None:
        """Called after an interface was recreated or repaired."""


class Owner(Protocol):
    """The owner of some interfaces; nobody changes them while ``lock`` is held."""

    lock: threading.RLock

    def interfaces(self) -> Mapping[str, Interface]:
        """The desired interfaces by name."""

    def restore(self, name: str) -> Plan:
        """Makes one of them as desired; raises ``JaywalkError``."""


class Repairer:
    """Repairs the interfaces of ``owners``, in the network namespace of ``runner``.

    It calls ``restored`` with the plan of each repair, ``publish`` when :attr:`error` changes, and
    ``restore_files`` every :data:`POLL_SECONDS` at least.
    """

    def __init__(
        self,
        runner: Runner,
        owners: tuple[Owner, ...],
        restored: Callable[[Plan], None],
        publish: Callable[[], None],
        restore_files: Callable[[], None] = lambda: None,
    ) -> None:
        self._runner = runner
        self._restore_files = restore_files
        self._netns = netns_of(runner)
        self._owners = owners
        self._restored = restored
        self._publish = publish
        self._monitor: Monitor | None = None
        self._namespace = 0
        self._indexes: dict[str, int] = {}
        self._due: dict[str, float] = {}
        self._backoffs: dict[str, RepairBackoff] = {}
        self._failed: dict[str, str] = {}
        # Names of our interfaces that other interfaces have.
        self._occupied: set[str] = set()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK)
        self._end = threading.Event()
        self.error = ""

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
            thread.join(RETRY_SECONDS)

    def request(self) -> None:
        """Requests a check of all interfaces, for differences that the kernel does not report."""
        os.eventfd_write(self._wake, 1)

    def _run(self) -> None:
        while not self._end.is_set():
            try:
                self._watch()
            except OSError as error:
                log.debug("repair: %s", error)
                self._close()
                self._end.wait(RETRY_SECONDS)
            except Exception:
                log.exception("unexpected error while watching the interfaces")
                self._close()
                self._end.wait(RETRY_SECONDS)
        self._close()

    def _watch(self) -> None:
        """Waits for one batch of events, or for what is due."""
        monitor = self._current_monitor()
        pause = min([POLL_SECONDS, *(due - time.monotonic() for due in self._due.values())])
        sources: list[int] = [monitor.socket.fileno(), self._wake]
        ready, _, _ = select.select(sources, [], [], max(0.0, pause))
        if self._end.is_set():
            return
        self._restore_files()
        if self._wake in ready:
            os.eventfd_read(self._wake)
            self._check_all(time.monotonic())
        if sources[0] in ready:
            self._receive(monitor)
        now = time.monotonic()
        for name in [name for name, due in self._due.items() if due <= now]:
            del self._due[name]
            self._check(name)
        self._publish_error(time.monotonic())

    def _current_monitor(self) -> Monitor:
        """The monitor; a new one if somebody removed the namespace and made another one of its name."""
        namespace = Path(NAMESPACES, self._netns).stat().st_ino if self._netns else 0
        if self._monitor is None or namespace != self._namespace:
            self._close()
            self._monitor, self._namespace = Monitor(self._runner), namespace
            # Open sockets would keep the previous namespace and its interfaces alive.
            self._restored(Plan(""))
            self._check_all(time.monotonic())
        return self._monitor

    def _close(self) -> None:
        if self._monitor is not None:
            self._monitor.close()
            self._monitor = None

    def _receive(self, monitor: Monitor) -> None:
        events = monitor.receive()
        now = time.monotonic()
        if events is None:
            log.debug("repair: the kernel dropped events; checking all interfaces")
            self._check_all(now + SETTLE_SECONDS)
            return
        # At once, since the owners' locks may be held until the link has another name.
        for event in events:
            if isinstance(event, LinkEvent) and not event.gone:
                self._indexes.setdefault(event.name, event.index)
        watched = self._interfaces()
        for name, interface in watched.items():
            if differs(events, interface, self._index(name)):
                self._schedule(name, now + SETTLE_SECONDS)
        for event in events:
            if isinstance(event, LinkEvent) and event.gone:
                if event.name not in watched:
                    self._indexes.pop(event.name, None)
                elif event.name in self._occupied:
                    self._occupied.remove(event.name)
                    self._due[event.name] = now + SETTLE_SECONDS

    def _check_all(self, moment: float) -> None:
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

    def _check(self, name: str) -> None:
        """Checks an interface and repairs it; retries after a failure, at growing intervals."""
        started = time.monotonic()
        try:
            done = self._restore(name)
            if done:
                self._restored(done)
        except JaywalkError as error:
            self._failed[name] = f"{name} could not be repaired: {error}"
            if isinstance(error, InvalidValue):
                self._occupied.add(name)
            self._backoffs[name].tried(time.monotonic())
            self._schedule(name, 0.0)
            return
        self._failed.pop(name, None)
        if done is None:
            return
        self._occupied.discard(name)
        if done.found:
            self._log_repair(name, done, started)

    def _restore(self, name: str) -> Plan | None:
        """The executed plan, or None if no owner has an interface of that name any more."""
        for owner in self._owners:
            with owner.lock:
                if name in owner.interfaces():
                    self._rename_back(name)
                    done = owner.restore(name)
                    self._indexes.pop(name, None)
                    self._index(name)
                    return done
        return None

    def _index(self, name: str) -> int:
        """The last known index of the link; 0 for none."""
        if name not in self._indexes:
            with suppress(OSError):
                self._indexes[name] = interface_index(self._runner, name)
        return self._indexes.get(name, 0)

    def _rename_back(self, name: str) -> None:
        """Gives a renamed interface its name again, which keeps its sessions; raises ``JaywalkError``."""
        try:
            found = interface_name(self._runner, self._index(name))
        except OSError:
            return
        if found != name:
            log.warning("%s: somebody renamed it to %s; renaming it back", name, found)
            run_checked(self._runner, ["ip", "link", "set", "dev", found, "down"])
            run_checked(self._runner, ["ip", "link", "set", "dev", found, "name", name])

    def _log_repair(self, name: str, done: Plan, started: float) -> None:
        now = time.monotonic()
        backoff = self._backoffs[name]
        # A change that is reported as an error is no warning each time.
        level = logging.INFO if backoff.complaint else logging.WARNING
        backoff.repaired(name, done.found, now)
        peers = sum(isinstance(step, PeerStep) for step in done.steps)
        more = f" with {peers} peers" if _is_anew(done) else ""
        log.log(level, "%s: %s; restored%s in %.1f s", name, ", ".join(done.found), more, now - started)
        for line in Linux(self._runner).commands(done):
            log.debug("%s", line)

    def _publish_error(self, now: float) -> None:
        """Publishes the error of the repairs, if it has changed."""
        for name in [name for name, backoff in self._backoffs.items() if backoff.calm(now)]:
            if name not in self._due:
                del self._backoffs[name]
        complaints = (backoff.complaint for backoff in self._backoffs.values() if backoff.complaint)
        error = next(chain(complaints, self._failed.values()), "")
        if error != self.error:
            self.error = error
            self._publish()


def _is_anew(done: Plan) -> bool:
    """Whether the interface was recreated; systemd may have created it, bare."""
    return any(sentence.startswith("interface ") for sentence in done.found)


def repairer_of(
    runner: Runner,
    dataplane: DataPlane,
    paths: RepairedPaths,
    forwarding: Forwarding,
    publish: Callable[[], None],
    restore_files: Callable[[], None],
) -> Repairer:
    """The repairer of a node's own interface and of its relay interfaces."""

    def restored(done: Plan) -> None:
        if _is_anew(done):
            forwarding.restore()
        paths.restored()

    owners = (dataplane, paths.relay_plane)
    repairer = Repairer(runner, owners, restored, publish, restore_files)
    paths.request_repair = repairer.request
    return repairer
