# SPDX-License-Identifier: GPL-3.0-or-later
"""The hands of :class:`.paths.PathStateMachine`: looks at the interface, asks peers, and does as it is told.

A thread of its own, since a path may break while the agent waits for its controller, and must be mended
without one.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from jaywalk.core.errors import JaywalkError
from jaywalk.core.runner import NamespaceRunner, Runner
from jaywalk.mesh import endpoints
from jaywalk.wireguard.interface import WgPeer, client_name, server_name
from jaywalk.wireguard.linux import Linux
from jaywalk.zone.models import Peer
from jaywalk.zone.view import ZoneView

from ..dataplane.interface import DataPlane
from ..dataplane.relay_interfaces import RelayPlane, Wanted
from ..host.netns import inside
from ..zone.background_sender import BackgroundSender
from . import path_status
from .endpoint_reporter import EndpointReporter
from .network_monitor import NetworkMonitor
from .path import PeerStats, Target
from .path_status import PathStatus
from .probe import ProbeSocket, Received
from .silence import Silences
from .state_machine import PathActions, PathStateMachine

log = logging.getLogger(__name__)

MAX_CPU_FRACTION = 40
"""A fortieth of a core, at most, goes into a turn; about as much again into the programs that it calls."""
RELAY_INTERFACE_SECONDS = 600.0
"""Seconds for which interfaces to relays outlive their need, so that they do not come and go."""
FULL_CHECK_SECONDS = 60.0
"""Seconds between two looks at the relays' interfaces, which bring back what somebody deleted."""
RETRY_SECONDS = 5.0
MAX_POLL_SECONDS = 5.0
"""Seconds between two looks at the interface's peers, since the kernel does not tell of one that goes."""
MTU_CHECK_SECONDS = 5.0
"""Seconds between two looks at the links' MTUs, on a machine whose links and routes change all the time."""
OWN_RELAY = ""
"""Stands for the relay's own interface among those to relays."""


class PathManager:
    """Finds the ways to the peers of one node.

    ``learn`` is called by the thread that follows the zone; all else happens in the finder's own.
    """

    def __init__(self, runner: Runner, dataplane: DataPlane, sender: BackgroundSender, file: Path) -> None:
        self._runner = runner
        self._backend = Linux(runner)
        self._dataplane = dataplane
        self._sender = sender
        self._file = file
        self._before = path_status.load(file)
        self._published: dict[str, PathStatus] = {}
        self._silences = Silences()
        self.endpoint_reporter = EndpointReporter(sender.report)
        self._network_monitor = NetworkMonitor()
        self.relay_plane = RelayPlane(runner, dataplane.node)
        self.request_repair: Callable[[], None] = lambda: None
        self.machine = PathStateMachine(dataplane.node.public_key)
        self._records: dict[str, Peer] = {}
        self._relaying: dict[str, Peer] = {}
        self._hosts: dict[str, str] = {}
        self._zone = ""
        self._pools: tuple[str, ...] = ()
        self._sockets: dict[str | None, tuple[tuple[int, str], ProbeSocket]] = {}
        self._relays_until = 0.0
        self._next_observe = 0.0
        self._next_full_observe = 0.0
        self._applied: tuple[object, Mapping[str, WgPeer] | None] = (None, None)
        self._wake = os.eventfd(0, os.EFD_NONBLOCK)
        self._links_changed = False
        self._next_mtu_observe = 0.0
        self._error = ""
        self._end = threading.Event()

    @property
    def own(self) -> Peer | None:
        """This node's record."""
        return self._records.get(self._dataplane.node.public_key)

    def update(self, view: ZoneView, changed: Collection[str] | None) -> None:
        """Takes in the zone before the interface is brought to it; call it with the data plane's lock."""
        keys = set(self._records) | set(view.peers) if changed is None else set(changed)
        relays_before, own_before = self._relays(), self.own
        for key in keys:
            self._set_record(key, view.peers.get(key))
        self._zone, self._pools = view.zone.name, view.zone.pools
        relays = self._relays()
        other_versions = changed is None and self._dataplane.find_versions(self._records.values())
        if other_versions or (relays_before, own_before) != (relays, self.own):
            keys = set(self._records)
        now = time.monotonic()
        gone = keys - self._records.keys()
        others = keys - gone - {self._dataplane.node.public_key}
        self.machine.update_targets((self._target(each, bool(relays)) for each in others), gone, now)
        for key, outcome in self._before.items():
            if outcome.relay:
                self.machine.restore(key, outcome.relay, now)
        self._before = {}
        if changed is None:
            self._observe(now)
        self._dataplane.ways = self.machine.ways()
        os.eventfd_write(self._wake, 1)

    def _retarget_all(self) -> None:
        others = self._records.keys() - {self._dataplane.node.public_key}
        relayed = bool(self._relays())
        self.machine.update_targets((self._target(each, relayed) for each in others), (), time.monotonic())

    def _set_record(self, key: str, record: Peer | None) -> None:
        for host in self._records[key].addresses if key in self._records else ():
            self._hosts.pop(host, None)
        self._relaying.pop(key, None)
        if record is None:
            self._records.pop(key, None)
            return
        self._records[key] = record
        if record.relay:
            self._relaying[key] = record
        self._hosts.update(dict.fromkeys(record.addresses, key))

    def _relays(self) -> list[Peer]:
        return endpoints.relays(self._relaying.values())

    def _target(self, key: str, relayed: bool) -> Target:
        own, other = self.own, self._records[key]
        here = own.observed if own is not None else ""
        return Target(
            key=key,
            candidates=endpoints.candidates(own, other, self._dataplane.node.versions),
            here=here,
            plain=endpoints.is_plain(own, other) and not relayed,
            hard=bool(here and other.observed) and not endpoints.same_nat(own, other),
        )

    @contextmanager
    def running(self) -> Iterator[None]:
        """Finds ways until the block ends."""
        thread = threading.Thread(target=self._run, name="path_manager", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._end.set()
            thread.join(RETRY_SECONDS)

    def _run(self) -> None:
        while not self._end.is_set():
            # In trouble too it hears its peers' questions: who does not answer is taken for dead.
            pause = self._guarded(self._turn)
            self._guarded(partial(self._receive_until, pause))

    def _guarded(self, act: Callable[[], float]) -> float:
        """The pause that ``act`` asks for, or the one after trouble, which never ends this thread."""
        try:
            pause = act()
        except (JaywalkError, OSError) as error:
            if str(error) != self._error:
                log.warning("paths: %s", error)
            self._error = str(error)
            return RETRY_SECONDS
        except Exception:
            log.exception("the paths could not be looked after")
            self._end.wait(1.0)
            return RETRY_SECONDS
        return pause

    def _turn(self) -> float:
        with self._dataplane.lock:
            now, spent = time.monotonic(), time.thread_time()
            self._links_changed |= self._network_monitor.due(now)
            if self._network_monitor.address_changed(now):
                self._on_address_change()
            if self._links_changed and now >= self._next_mtu_observe:
                self._lower_mtu(now)
            if now >= self._next_observe:
                self._observe(now)
            actions = self.machine.tick(now)
            fires = dict(actions.reset_endpoints)
            if fires or actions.changed:
                done = self._dataplane.rewire(self.machine.ways(), actions.changed, fires)
                for line in self._backend.commands(done):
                    log.debug("%s", line)
            self._open_sockets()
            self._send_probes(actions)
            self._publish(now)
            self._apply_relays(now)
            # Time of this thread, since on a busy machine a turn waits more than it works.
            pause = min(self.machine.poll_interval(now), MAX_POLL_SECONDS)
            self._next_observe = min(self._next_observe, now + pause)
            return max(pause, (time.thread_time() - spent) * MAX_CPU_FRACTION)

    def _observe(self, now: float) -> None:
        """Looks at the interface."""
        peers = self._backend.observe_peers(self._dataplane.node.interface)
        seen = {key: PeerStats(each.handshake, each.received, each.sent) for key, each in peers.items()}
        self.machine.on_stats(seen, now, time.time())
        self.endpoint_reporter.observe(self._records, self.own, peers, now)
        if self._dataplane.lacks(peers):
            self.request_repair()
        self._next_observe = now + min(self.machine.poll_interval(now), MAX_POLL_SECONDS)

    def _apply_relays(self, now: float) -> None:
        peers = self._dataplane.peers
        if self.own is None or peers is None:
            # The interface stays as it is while it is unknown what it should be, and so do the relays'.
            return
        relays = [each for each in self._relays() if each.key != self._dataplane.node.public_key]
        if relays and self.machine.needs_relays(now):
            self._relays_until = now + RELAY_INTERFACE_SECONDS
        wanted = self._wanted(self.own, peers, relays if now < self._relays_until else [])
        self.machine.use_relays([each.key for each in wanted.relays] if wanted is not None else [])
        full = now >= self._next_full_observe
        facts = wanted and (wanted.own, wanted.relays, wanted.carried, wanted.mtu, wanted.versions)
        # The mapping itself is kept and compared: the id of one that was freed may be another's by now.
        if facts == self._applied[0] and peers is self._applied[1] and not full:
            return
        self._applied = (None, None)
        self._next_full_observe = now + FULL_CHECK_SECONDS if full else self._next_full_observe
        for done in self.relay_plane.bring_to(wanted, look=full):
            for sentence in done.found:
                log.warning("%s: %s; restored", done.name, sentence)
            for line in self._backend.commands(done):
                log.debug("%s", line)
        self._applied = (facts, peers)

    def _on_address_change(self) -> None:
        """This machine has another address: its peers and the zone are to hear of it at once."""
        log.info("this node has another address")
        if self._dataplane.find_versions(self._records.values()):
            self._retarget_all()
        self._dataplane.touch_endpoints()
        self.machine.on_address_change()
        self._sender.update_endpoint()

    def _lower_mtu(self, now: float) -> None:
        """Links or routes of this machine changed, and may take less than before."""
        self._links_changed, self._next_mtu_observe = False, now + MTU_CHECK_SECONDS
        for line in self._backend.commands(self._dataplane.lower_mtu()):
            log.info("a link to the peers takes less than before: %s", line)

    def restored(self) -> None:
        """An interface was made anew or put right; call it with the data plane's lock.

        Sockets on it and settings of the kernel may be gone with the one of before, as are its sessions.
        """
        self.machine.on_address_change()
        self._next_observe = self._next_full_observe = 0.0
        os.eventfd_write(self._wake, 1)

    def _publish(self, now: float) -> None:
        """Says for each peer how it is reached, to whoever asks for the status."""
        silences = {key: self.machine.silent_seconds(key, now) for key in self.machine.paths}
        names = {key: record.name for key, record in self._records.items()}
        for level, sentence in self._silences.observe(silences, names, time.time()):
            log.log(level, "%s", sentence)
            if level == logging.WARNING:
                # It may lie with this machine: the kernel tells nobody of a changed key or port.
                self.request_repair()
        found = {key: self._outcome(key, now) for key in self.machine.paths}
        if found != self._published or not self._file.exists():
            path_status.save(self._file, found)
            self._published = found

    def _outcome(self, key: str, now: float) -> PathStatus:
        path, relay = self.machine.path_status(key, now)
        way = self.machine.paths[key].way()
        return PathStatus(path, relay or "", way.endpoint, way.keepalive)

    def _wanted(self, own: Peer, peers: Mapping[str, WgPeer], relays: list[Peer]) -> Wanted | None:
        if not peers or not (relays or own.relay):
            return None
        allowed = {key: peer.allowed_ips for key, peer in peers.items()}
        return Wanted(
            own,
            self._pools,
            allowed,
            tuple(relays),
            self.machine.relayed_peers(),
            self._dataplane.mtu,
            self._dataplane.node.versions,
            self._zone,
            self._records,
        )

    def _open_sockets(self) -> None:
        """One socket an interface; anew where that was made anew, or has another address."""
        own, name = self.own, self._dataplane.node.interface
        if own is None or not own.addresses:
            return
        names: dict[str | None, str] = {None: name}
        names |= {key: client_name(name, key) for key in self.machine.relays}
        if own.relay:
            names[OWN_RELAY] = server_name(name)
        for key in [each for each in self._sockets if each not in names]:
            self._close_socket(key)
        netns = self._runner.netns if isinstance(self._runner, NamespaceRunner) else ""
        with inside(netns):
            for key, interface in names.items():
                self._open_socket(key, interface, own.addresses[0])

    def _open_socket(self, key: str | None, interface: str, address: str) -> None:
        try:
            bound = socket.if_nametoindex(interface), address
            if key in self._sockets and self._sockets[key][0] == bound:
                return
            self._close_socket(key)
            self._sockets[key] = bound, ProbeSocket(interface, address)
        except OSError as error:
            # One that stayed open would keep alive the network namespace that it is of.
            self._close_socket(key)
            log.debug("no questions on %s: %s", interface, error)

    def _close_socket(self, key: str | None) -> None:
        if key in self._sockets:
            self._sockets.pop(key)[1].close()

    def _send_probes(self, actions: PathActions) -> None:
        for key, relay in actions.probes:
            if relay in self._sockets and key in self._records:
                self._sockets[relay][1].send(self._records[key].addresses[0])

    def _receive_until(self, pause: float) -> float:
        """Hears questions and answers until the pause is over, or until one of them is news."""
        until = time.monotonic() + pause
        while (left := until - time.monotonic()) > 0 and not self._end.is_set():
            sockets = {found.socket.fileno(): (key, found) for key, (_, found) in self._sockets.items()}
            others = [self._network_monitor.socket.fileno(), self._wake]
            ready, _, _ = select.select([*sockets, *others], [], [], min(left, 1.0))
            with self._dataplane.lock:
                news = [self._receive(*sockets[each]) for each in ready if each in sockets]
                if self._network_monitor.socket.fileno() in ready:
                    self._network_monitor.receive(time.monotonic())
                if self._wake in ready:
                    os.eventfd_read(self._wake)
                if any(news) or self._wake in ready or self._network_monitor.due(time.monotonic()):
                    break
        return 0.0

    def _receive(self, relay: str | None, probe_socket: ProbeSocket) -> bool:
        now, news = time.monotonic(), False
        for host, what, size in probe_socket.receive():
            key = self._hosts.get(host)
            if key is None or relay == OWN_RELAY or (what is not Received.REPLY and relay is not None):
                continue
            if what is Received.REPLY:
                news |= self.machine.on_reply(key, relay, now)
            elif what is Received.PROBE:
                news |= self.machine.on_probe(key, now, size)
            else:
                self.machine.on_port_unreachable(key, now)
        return news

    def remove(self) -> None:
        """Takes the relays' interfaces away; this node is no member any more."""
        self._records.clear()
        self._relaying.clear()
        self._hosts.clear()
        self.machine = PathStateMachine(self._dataplane.node.public_key)
        self.relay_plane.remove()
        self._file.unlink(missing_ok=True)
