# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs :class:`.state_machine.PathStateMachine`: observes the interface, probes peers, executes the actions.

It has its own thread, because a path may break while the agent waits for its controller, and the repair needs
no controller.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from jaywalk.core.errors import JaywalkError
from jaywalk.core.runner import Runner
from jaywalk.mesh import endpoints
from jaywalk.mesh.node_interface import PeerEndpoint
from jaywalk.wireguard.interface import Interface, WgPeer, client_name, server_name
from jaywalk.wireguard.linux import Linux
from jaywalk.zone.models import Peer
from jaywalk.zone.view import ZoneView

from ..dataplane.interface import DataPlane
from ..dataplane.relay_interfaces import RelayPlane, RelayState
from ..host.netns import interface_index
from ..zone.background_sender import BackgroundSender
from . import path_status
from .endpoint_reporter import EndpointReporter
from .network_monitor import NetworkMonitor
from .path import PeerStats, Target
from .path_status import PathStatus
from .probe_socket import ProbeSocket, Received
from .silence import Silences
from .state_machine import PathActions, PathStateMachine

log = logging.getLogger(__name__)

# Seconds of pause per second of CPU time of a turn: the thread uses at most a fortieth of a core, and the
# programs that it starts about as much again.
PAUSE_PER_CPU_SECOND = 40
# Interfaces to relays are kept for this time after their last use, so that they are not removed and created
# over and over.
RELAY_INTERFACE_SECONDS = 600.0
# The interval of checks of the relay interfaces, which restore what somebody deleted.
FULL_CHECK_SECONDS = 60.0
RETRY_SECONDS = 5.0
# The longest interval between two observations, since the kernel does not report a peer that is removed.
MAX_POLL_SECONDS = 5.0
# The least time between two checks of the links' MTUs: on some machines links and routes change constantly.
MTU_CHECK_SECONDS = 5.0
# The key of the relay's own interface among the sockets.
OWN_RELAY_INTERFACE = ""


class PathManager:
    """Finds and keeps the paths to the peers of one node.

    The thread of the follower calls ``update``, the repairer calls ``restored``, and everything else runs in
    the manager's own thread.
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
        self._lock = threading.RLock()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stops the thread until the block ends, so that the endpoints of ``update`` stay valid."""
        with self._lock:
            yield

    @property
    def own(self) -> Peer | None:
        """This node's record."""
        return self._records.get(self._dataplane.node.public_key)

    def update(self, view: ZoneView, changed: Collection[str] | None) -> Mapping[str, PeerEndpoint]:
        """Handles the zone; returns the endpoints at which the data plane should try its peers.

        The caller applies them before it ends :meth:`paused`.
        """
        with self._lock:
            self._update(view, changed)
            os.eventfd_write(self._wake, 1)
            return self.machine.peer_endpoints()

    def _update(self, view: ZoneView, changed: Collection[str] | None) -> None:
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
        self.machine.update_targets((self._target(key, bool(relays)) for key in others), gone, now)
        for key, status in self._before.items():
            if status.relay:
                self.machine.restore(key, status.relay, now)
        self._before = {}
        if changed is None:
            self._observe(now)

    def _retarget_all(self) -> None:
        others = self._records.keys() - {self._dataplane.node.public_key}
        relayed = bool(self._relays())
        self.machine.update_targets((self._target(key, relayed) for key in others), (), time.monotonic())

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
        own, other, node = self.own, self._records[key], self._dataplane.node
        own_observed = own.observed if own is not None else ""
        return Target(
            key=key,
            candidates=endpoints.candidates(own, other, node.versions, node.no_endpoints),
            own_observed_endpoint=own_observed,
            plain=endpoints.both_without_nat(own, other) and not relayed,
            both_behind_nat=bool(own_observed and other.observed) and not endpoints.same_nat(own, other),
        )

    @contextmanager
    def running(self) -> Iterator[None]:
        """Runs the thread until the block ends."""
        thread = threading.Thread(target=self._run, name="path_manager", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._end.set()
            thread.join(RETRY_SECONDS)

    def _run(self) -> None:
        while not self._end.is_set():
            # After an error it still answers probes: peers treat a node that does not reply as dead.
            pause = self._guarded(self._turn)
            self._guarded(partial(self._receive_until, pause))

    def _guarded(self, step: Callable[[], float]) -> float:
        """The pause that ``step`` returns, or ``RETRY_SECONDS``: no error ends this thread."""
        try:
            pause = step()
        except (JaywalkError, OSError) as error:
            if str(error) != self._error:
                log.warning("paths: %s", error)
            self._error = str(error)
            return RETRY_SECONDS
        except Exception:
            log.exception("unexpected error while managing the paths")
            self._end.wait(1.0)
            return RETRY_SECONDS
        return pause

    def _turn(self) -> float:
        with self._lock:
            now, spent = time.monotonic(), time.thread_time()
            self._links_changed |= self._network_monitor.due(now)
            if self._network_monitor.address_changed(now):
                self._on_address_change()
            if self._links_changed and now >= self._next_mtu_observe:
                self._lower_mtu(now)
            if now >= self._next_observe:
                self._observe(now)
            actions = self.machine.tick(now)
            resets = dict(actions.reset_endpoints)
            if resets or actions.changed:
                done = self._dataplane.set_endpoints(self.machine.peer_endpoints(), actions.changed, resets)
                self._backend.log_commands(log, done)
            self._open_sockets()
            self._send_probes(actions)
            self._publish(now)
            self._apply_relays(now)
            # CPU time of this thread, since on a busy machine a turn mostly waits.
            pause = min(self.machine.poll_interval(now), MAX_POLL_SECONDS)
            self._next_observe = min(self._next_observe, now + pause)
            return max(pause, (time.thread_time() - spent) * PAUSE_PER_CPU_SECOND)

    def _observe(self, now: float) -> None:
        """Reads the peers of the interface."""
        peers = self._backend.observe_peers(self._dataplane.node.interface)
        stats = {key: PeerStats(peer.handshake, peer.received, peer.sent) for key, peer in peers.items()}
        self.machine.on_stats(stats, now, time.time())
        self.endpoint_reporter.observe(self._records, self.own, peers, now)
        if self._dataplane.peers_differ(peers):
            self.request_repair()
        self._next_observe = now + min(self.machine.poll_interval(now), MAX_POLL_SECONDS)

    def _apply_relays(self, now: float) -> None:
        interface = self._dataplane.last
        if self.own is None or interface is None:
            # While the desired interface is unknown, it stays as it is, and so do the relay interfaces.
            return
        relays = [relay for relay in self._relays() if relay.key != self._dataplane.node.public_key]
        if relays and self.machine.needs_relays(now):
            self._relays_until = now + RELAY_INTERFACE_SECONDS
        desired = self._relay_state(self.own, interface, relays if now < self._relays_until else [])
        self.machine.use_relays([relay.key for relay in desired.relays] if desired is not None else [])
        full = now >= self._next_full_observe
        facts = desired and (desired.own, desired.relays, desired.carried, desired.mtu, desired.versions)
        # The mapping itself is kept and compared, since another one may have the id of a freed one.
        if facts == self._applied[0] and interface.peers is self._applied[1] and not full:
            return
        self._applied = (None, None)
        self._next_full_observe = now + FULL_CHECK_SECONDS if full else self._next_full_observe
        for done in self.relay_plane.apply(desired, full=full):
            for difference in done.found:
                log.warning("%s: %s; restored", done.name, difference)
            self._backend.log_commands(log, done)
        self._applied = (facts, interface.peers)

    def _on_address_change(self) -> None:
        """Probes all peers and updates the zone at once, since this machine has another address."""
        log.info("this node has another address")
        if self._dataplane.find_versions(self._records.values()):
            self._retarget_all()
        self._dataplane.refresh_endpoints()
        self.machine.on_address_change()
        self._sender.update_endpoint()

    def _lower_mtu(self, now: float) -> None:
        """Lowers the MTU if links or routes of this machine changed and carry smaller packets."""
        self._links_changed, self._next_mtu_observe = False, now + MTU_CHECK_SECONDS
        for line in self._backend.commands(self._dataplane.lower_mtu()):
            log.info("a link to the peers carries smaller packets than before: %s", line)

    def restored(self) -> None:
        """Checks all paths after an interface was recreated or repaired.

        Sockets, kernel settings and sessions of the previous interface may be gone.
        """
        with self._lock:
            self.machine.on_address_change()
            self._next_observe = self._next_full_observe = 0.0
            os.eventfd_write(self._wake, 1)

    def _publish(self, now: float) -> None:
        """Logs silent peers, and writes the path status file."""
        silences = {key: self.machine.silent_seconds(key, now) for key in self.machine.paths}
        names = {key: record.name for key, record in self._records.items()}
        for level, line in self._silences.observe(silences, names, time.time()):
            log.log(level, "%s", line)
            if level == logging.WARNING:
                # The cause may be on this machine: the kernel does not report a changed key or port.
                self.request_repair()
        statuses = {key: self._status(key, now) for key in self.machine.paths}
        if statuses != self._published or not self._file.exists():
            path_status.save(self._file, statuses)
            self._published = statuses

    def _status(self, key: str, now: float) -> PathStatus:
        path, relay = self.machine.path_status(key, now)
        tried = self.machine.paths[key].peer_endpoint()
        return PathStatus(path, relay or "", tried.endpoint, tried.keepalive)

    def _relay_state(self, own: Peer, interface: Interface, relays: list[Peer]) -> RelayState | None:
        if not interface.peers or not (relays or own.relay):
            return None
        allowed = {key: peer.allowed_ips for key, peer in interface.peers.items()}
        return RelayState(
            own,
            self._pools,
            allowed,
            tuple(relays),
            self.machine.relayed_peers(),
            interface.mtu,
            self._dataplane.node.versions,
            self._zone,
            self._records,
        )

    def _open_sockets(self) -> None:
        """Opens one socket per interface, and opens it again if the interface or the address is a new one."""
        own, name = self.own, self._dataplane.node.interface
        if own is None or not own.addresses:
            return
        names: dict[str | None, str] = {None: name}
        names |= {key: client_name(name, key) for key in self.machine.relays}
        if own.relay:
            names[OWN_RELAY_INTERFACE] = server_name(name)
        for key in [key for key in self._sockets if key not in names]:
            self._close_socket(key)
        for key, interface in names.items():
            self._open_socket(key, interface, own.addresses[0])

    def _open_socket(self, key: str | None, interface: str, address: str) -> None:
        try:
            bound = interface_index(self._runner, interface), address
            if key in self._sockets and self._sockets[key][0] == bound:
                return
            self._close_socket(key)
            self._sockets[key] = bound, ProbeSocket(interface, address, self._runner)
        except OSError as error:
            # An open socket would keep its network namespace alive.
            self._close_socket(key)
            log.debug("cannot send probes on %s: %s", interface, error)

    def _close_socket(self, key: str | None) -> None:
        if key in self._sockets:
            self._sockets.pop(key)[1].close()

    def _send_probes(self, actions: PathActions) -> None:
        for key, relay in actions.probes:
            if relay in self._sockets and key in self._records:
                self._sockets[relay][1].send(self._records[key].addresses[0])

    def _receive_until(self, pause: float) -> float:
        """Receives probes and replies until the pause is over or one of them changes a state."""
        until = time.monotonic() + pause
        while (left := until - time.monotonic()) > 0 and not self._end.is_set():
            sockets = {probe.socket.fileno(): (key, probe) for key, (_, probe) in self._sockets.items()}
            others = [self._network_monitor.socket.fileno(), self._wake]
            ready, _, _ = select.select([*sockets, *others], [], [], min(left, 1.0))
            with self._lock:
                news = [self._receive(*sockets[number]) for number in ready if number in sockets]
                if self._network_monitor.socket.fileno() in ready:
                    self._network_monitor.receive(time.monotonic())
                if self._wake in ready:
                    os.eventfd_read(self._wake)
                if any(news) or self._wake in ready or self._network_monitor.due(time.monotonic()):
                    break
        return 0.0

    def _receive(self, relay: str | None, probe_socket: ProbeSocket) -> bool:
        now, news = time.monotonic(), False
        for host, kind, size in probe_socket.receive():
            key = self._hosts.get(host)
            if key is None or relay == OWN_RELAY_INTERFACE:
                continue
            if relay is not None and kind is not Received.REPLY:
                continue
            if kind is Received.REPLY:
                news |= self.machine.on_reply(key, relay, now)
            elif kind is Received.PROBE:
                news |= self.machine.on_probe(key, now, size)
            else:
                self.machine.on_port_unreachable(key, now)
        return news

    def remove(self) -> None:
        """Removes the relay interfaces of a node that is no longer a member."""
        with self._lock:
            self._records.clear()
            self._relaying.clear()
            self._hosts.clear()
            self.machine = PathStateMachine(self._dataplane.node.public_key)
            self.relay_plane.remove()
            self._file.unlink(missing_ok=True)
