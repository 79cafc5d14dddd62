# SPDX-License-Identifier: GPL-3.0-or-later
"""Probes peers now, from any process of a node: which of them reply, how fast, and up to which packet size.

Each probe is a pair of packets: a datagram to the peer's agent (:mod:`.probe_socket`), and an ICMP echo
request to its kernel.  The pair distinguishes a dead peer from one whose tunnel works without an agent.  The
packets follow the routes of this machine, as all traffic to the peer does, directly or by a relay.
"""

from __future__ import annotations

import errno
import secrets
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from jaywalk.core import ip
from jaywalk.core.errors import JaywalkError
from jaywalk.core.runner import Runner
from jaywalk.zone.models import Peer
from jaywalk.zone.view import ZoneView

from ..config import AgentConfig
from ..host.netns import open_socket
from . import icmp_echo, path_status
from .probe_socket import COOKIE, HEADERS, PORT, PROBE, REPLY, SIZE, never_fragment

# Replies of a thousand peers that are probed at once fit into the queues of both ends.
PACKETS_PER_SECOND = 2000
# The interval of probes to the same peer.
INTERVAL_SECONDS = 0.2
# The agent's reply is awaited for this time after the kernel's.
AGENT_EXTRA_SECONDS = 1.0
# Sizes tried at once in the search for the largest that passes: 1,420 sizes take three rounds.
SIZES_PER_ROUND = 14
RECEIVE_BUFFER_BYTES = 1 << 22
# The interval of checks for finished probes.
CHECK_SECONDS = 0.05
# With at most this many open probes, every packet received leads to a check.
MAX_CHECKED_PER_PACKET = 10
# The reason why a probe could not be sent; any other error keeps the system's message.
SEND_ERRORS = {
    errno.EMSGSIZE: "larger than the MTU of this node's own interface",
    errno.EDESTADDRREQ: "no endpoint of this peer is known",
    errno.ENOKEY: "WireGuard does not know this peer",
    errno.EPERM: "a firewall of this machine drops the packets, see 'nft list ruleset'",
    errno.ENETUNREACH: "this machine has no route to this peer",
}

# Called with the number of finished probes and the number of all.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class PingResult:
    """The result of the probes to one peer.

    ``path`` is ``direct``, ``relayed`` (by the peer named ``relay``), or ``none`` if no reply came.
    ``round_trips`` are in seconds, one per probe with a reply.  ``agent``: whether the peer's agent replied,
    and not its kernel alone.  ``size`` is the size of the IP packets inside the tunnel in bytes.  ``error``
    is the reason why no probe could be sent.
    """

    key: str
    name: str
    address: str
    path: str
    relay: str
    size: int
    sent: int
    round_trips: tuple[float, ...]
    agent: bool
    error: str = ""

    @property
    def answers(self) -> bool:
        return bool(self.round_trips)

    @property
    def lost(self) -> int:
        return self.sent - len(self.round_trips)


@dataclass
class Probe:
    """One probe of ``host``, with IP packets of ``size`` bytes, sent ``due`` seconds after the start.

    ``agent`` and ``kernel`` are the seconds until the reply of each.
    """

    host: str
    size: int
    due: float = 0.0
    sent: float | None = None
    agent: float | None = None
    kernel: float | None = None
    error: str = ""

    @property
    def round_trip(self) -> float | None:
        """Seconds: the shorter of both, since a kernel replies at once, and an agent may be busy."""
        times = [seconds for seconds in (self.agent, self.kernel) if seconds is not None]
        return min(times, default=None)

    def finished(self, now: float, timeout: float) -> bool:
        """Whether no further reply is awaited at ``now`` seconds after the start."""
        if self.error or self.agent is not None:
            return True
        if self.sent is None:
            return False
        limit = timeout if self.kernel is None else min(timeout, self.kernel + AGENT_EXTRA_SECONDS)
        return now - self.sent >= limit


def probe_peers(
    config: AgentConfig,
    view: ZoneView,
    own: Peer,
    keys: Collection[str] | None = None,
    *,
    size: int = 0,
    count: int = 3,
    timeout: float = 2.0,
    progress: Progress | None = None,
) -> list[PingResult]:
    """Probes the peers ``keys`` (None: all) at once, ``count`` times each.

    Waits ``timeout`` seconds for each reply.  ``size`` is the size of the IP packets inside the tunnel in
    bytes, 0 for the smallest.  A reply means that packets of this size pass in both directions, or packets as
    large as the peer's own interface sends.  Needs root, but no running agent.  Raises ``JaywalkError`` if
    this node cannot probe any peer.
    """
    peers = _chosen(view, own, keys)
    hosts = {peer.key: _host(own, peer) for peer in peers}
    probes = {key: [Probe(host, size) for _ in range(count)] for key, host in hosts.items() if host}
    _spread(probes, INTERVAL_SECONDS)
    exchange(config, own, _all(probes), timeout, progress)
    paths = path_status.load(config.paths_file)
    return [_result(peer, probes.get(peer.key, []), paths, view) for peer in peers]


def largest_passing(
    config: AgentConfig, view: ZoneView, own: Peer, keys: Collection[str], upper: int, timeout: float = 1.5
) -> dict[str, int]:
    """The size of the largest IP packet, up to ``upper`` bytes, to which each peer replies; 0 for none.

    Takes about three times ``timeout``.  Each size is tried twice, since a packet may be lost by chance.
    """
    hosts = {peer.key: host for peer in _chosen(view, own, keys) if (host := _host(own, peer))}
    low = {key: smallest(host) - 1 for key, host in hosts.items()}
    high = dict.fromkeys(low, upper + 1)
    while open_keys := [key for key in low if high[key] - low[key] > 1]:
        tried = {key: _sizes_between(low[key], high[key]) for key in open_keys}
        probes = {key: [Probe(hosts[key], size) for size in tried[key] * 2] for key in open_keys}
        _spread(probes, 0.0)
        exchange(config, own, _all(probes), timeout)
        for key in open_keys:
            passed = {probe.size for probe in probes[key] if probe.round_trip is not None}
            low[key] = max([low[key], *passed])
            high[key] = min(size for size in (*tried[key], high[key]) if size > low[key])
    return {key: found if found >= smallest(hosts[key]) else 0 for key, found in low.items()}


def _chosen(view: ZoneView, own: Peer, keys: Collection[str] | None) -> list[Peer]:
    chosen = set(view.peers if keys is None else keys) - {own.key}
    peers = (peer for key, peer in view.peers.items() if key in chosen)
    return sorted(peers, key=lambda peer: (peer.name, peer.key))


def _all(probes: Mapping[str, Sequence[Probe]]) -> list[Probe]:
    return [probe for probes_of_peer in probes.values() for probe in probes_of_peer]


def _sizes_between(low: int, high: int) -> list[int]:
    """At most ``SIZES_PER_ROUND`` sizes between two others, at even distances."""
    step = (high - low) / (SIZES_PER_ROUND + 1)
    sizes = (round(low + step * number) for number in range(1, SIZES_PER_ROUND + 1))
    return sorted({min(high - 1, max(low + 1, size)) for size in sizes})


def smallest(host: str) -> int:
    """Bytes of the smallest IP packet with a probe of ``host``."""
    return HEADERS[ip.version_of(host)] + SIZE


def _host(own: Peer, peer: Peer) -> str:
    """The first address of a peer in an IP version that this node has inside the mesh, or "" for none."""
    versions = {ip.version_of(address) for address in own.addresses}
    return next((address for address in peer.addresses if ip.version_of(address) in versions), "")


def _spread(probes: Mapping[str, Sequence[Probe]], interval: float) -> None:
    """Sets the due time of each probe: one per peer in each round, rounds ``interval`` seconds apart."""
    start = 0.0
    for number in range(max(map(len, probes.values()), default=0)):
        in_round = [of_peer[number] for of_peer in probes.values() if number < len(of_peer)]
        for index, probe in enumerate(in_round):
            probe.due = start + 2 * index / PACKETS_PER_SECOND
        start += max(interval, 2 * len(in_round) / PACKETS_PER_SECOND)


def _result(
    peer: Peer, probes: Sequence[Probe], paths: Mapping[str, path_status.PathStatus], view: ZoneView
) -> PingResult:
    trips = tuple(probe.round_trip for probe in probes if probe.round_trip is not None)
    status = paths.get(peer.key)
    relay = status.relay if trips and status is not None and status.path == "relayed" else ""
    relay_record = view.peers.get(relay)
    path = ("relayed" if relay else "direct") if trips else "none"
    error = next((probe.error for probe in probes if probe.error and not trips), "")
    return PingResult(
        key=peer.key,
        name=peer.name,
        address=probes[0].host if probes else peer.addresses[0],
        path=path,
        relay=relay_record.name if relay_record is not None else relay,
        size=max((max(probe.size, smallest(probe.host)) for probe in probes), default=0),
        sent=len(probes),
        round_trips=trips,
        agent=any(probe.agent is not None for probe in probes),
        error=error if probes else "this node has no address of its IP version in the mesh",
    )


def exchange(
    config: AgentConfig,
    own: Peer,
    probes: Sequence[Probe],
    timeout: float,
    progress: Progress | None = None,
) -> None:
    """Sends all probes when they are due, and sets the times and the error of each."""
    with _sockets(config, own) as sockets:
        _Exchange(sockets, probes, timeout, progress or (lambda _done, _all: None)).run()


@dataclass
class _SocketPair:
    """The sockets of one IP version; both are bound to this node's address in the mesh."""

    datagrams: socket.socket
    echoes: socket.socket


@contextmanager
def _sockets(config: AgentConfig, own: Peer) -> Iterator[dict[int, _SocketPair]]:
    pairs: dict[int, _SocketPair] = {}
    error: OSError | None = None
    runner = config.runner()
    with ExitStack() as stack:
        for address in own.addresses:
            version = ip.version_of(address)
            if version in pairs:
                continue
            try:
                pairs[version] = _SocketPair(*map(stack.enter_context, _opened(runner, version, address)))
            except PermissionError:
                raise JaywalkError("only root may probe peers", "run it with sudo") from None
            except OSError as found:
                error = found
        if not pairs:
            raise JaywalkError(
                f"no address of this node in the mesh can be used ({error.strerror if error else 'none'})",
                f"start the agent of zone {config.zone}, or run 'jaywalk up'",
            )
        yield pairs


def _opened(runner: Runner, version: int, address: str) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    protocol = socket.IPPROTO_ICMPV6 if version == 6 else socket.IPPROTO_ICMP
    for kind, number in ((socket.SOCK_DGRAM, 0), (socket.SOCK_RAW, protocol)):
        opened = open_socket(runner, family, kind, number)
        try:
            opened.setblocking(False)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
            never_fragment(opened)
            opened.bind((address, 0))
        except OSError:
            opened.close()
            raise
        yield opened


@dataclass
class _Exchange:
    """All probes of one call, over open sockets; times are in seconds since its start."""

    sockets: Mapping[int, _SocketPair]
    probes: Sequence[Probe]
    timeout: float
    progress: Progress
    tag: bytes = field(default_factory=lambda: secrets.token_bytes(4))

    def run(self) -> None:
        self._start = time.monotonic()
        waiting = deque(sorted(range(len(self.probes)), key=lambda number: self.probes[number].due))
        open_probes = set(waiting)
        with selectors.DefaultSelector() as selector:
            for version, pair in self.sockets.items():
                selector.register(pair.datagrams, selectors.EVENT_READ, (self._receive_datagrams, version))
                selector.register(pair.echoes, selectors.EVENT_READ, (self._receive_echoes, version))
            check = 0.0
            while open_probes:
                pause = self._send_due(waiting)
                for ready, _ in selector.select(min(pause, CHECK_SECONDS)):
                    receive, version = ready.data
                    receive(ready.fileobj, version)
                now = self._now()
                if now < check and len(open_probes) > MAX_CHECKED_PER_PACKET:
                    continue
                check = now + CHECK_SECONDS
                open_probes = {number for number in open_probes if not self._finished(number, now)}
                self.progress(len(self.probes) - len(open_probes), len(self.probes))

    def _finished(self, number: int, now: float) -> bool:
        return self.probes[number].finished(now, self.timeout)

    def _now(self) -> float:
        return time.monotonic() - self._start

    def _send_due(self, waiting: deque[int]) -> float:
        """Sends the probes that are due; returns the seconds until the next one."""
        while waiting:
            pause = self.probes[waiting[0]].due - self._now()
            if pause > 0:
                return pause
            number = waiting.popleft()
            self._send(self.probes[number], number)
        return self.timeout

    def _send(self, probe: Probe, number: int) -> None:
        version = ip.version_of(probe.host)
        pair = self.sockets.get(version)
        if pair is None:
            probe.error = f"this node has no IPv{version} address in the mesh at the moment"
            return
        length = max(SIZE, probe.size - HEADERS[version])
        cookie = self.tag + number.to_bytes(4, "big")
        probe.sent = self._now()
        datagram = (PROBE + cookie).ljust(length, b"\0")
        echo = icmp_echo.request(version, self.tag, number, cookie, length)
        for sock, data, port in ((pair.datagrams, datagram, PORT), (pair.echoes, echo, 0)):
            try:
                sock.sendto(data, (probe.host, port))
            except BlockingIOError:
                continue  # a full queue loses packets, as a network does
            except OSError as error:
                probe.error = SEND_ERRORS.get(error.errno or 0, error.strerror or str(error))

    def _receive_datagrams(self, sock: socket.socket, _version: int) -> None:
        for data, host in _received(sock):
            if data.startswith(REPLY) and len(data) >= SIZE:
                self._on_reply(data[COOKIE], host, "agent")

    def _receive_echoes(self, sock: socket.socket, version: int) -> None:
        for data, host in _received(sock):
            payload = icmp_echo.reply(version, data, self.tag)
            if payload is not None:
                self._on_reply(payload[:8], host, "kernel")

    def _on_reply(self, cookie: bytes, host: str, sender: str) -> None:
        """Records the time of a reply, unless it comes from another host or replies to no probe of ours."""
        number = int.from_bytes(cookie[4:], "big")
        if cookie[:4] != self.tag or number >= len(self.probes):
            return
        probe = self.probes[number]
        if host == probe.host and probe.sent is not None and getattr(probe, sender) is None:
            setattr(probe, sender, self._now() - probe.sent)


def _received(sock: socket.socket) -> Iterator[tuple[bytes, str]]:
    while True:
        try:
            data, sender = sock.recvfrom(1 << 16)
        except OSError:
            return
        yield data, sender[0]
