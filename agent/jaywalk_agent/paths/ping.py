# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks peers live, from any process of a node: does each answer now, how fast, to packets of which size.

Two questions go to each peer side by side: one to its agent (:mod:`.heartbeat`) and an ICMP echo request,
which its kernel answers.  So a peer whose agent does not run but whose tunnel works is told from a dead one.
They take the way that all traffic to the peer takes, by the routes of this machine, direct or by a relay.
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
from jaywalk.zone.models import Peer
from jaywalk.zone.view import ZoneView

from ..config import AgentConfig
from ..host.netns import inside
from . import icmp_echo, path_status
from .probe import COOKIE, HEADERS, PORT, PROBE, REPLY, SIZE, never_fragment

RATE = 2000
"""Packets a second, so that a thousand peers asked at once find room in the queues of both ends."""
INTERVAL_SECONDS = 0.2
"""From one question to the next one to the same peer."""
AGENT_SECONDS = 1.0
"""How much longer than a kernel's answer an agent's is waited for."""
GRID = 14
"""Sizes that are tried at once, to find the largest that passes: 1,420 are found in three rounds."""
BUFFER_BYTES = 1 << 22
CHECK_SECONDS = 0.05
"""Between two looks at which questions are settled."""
FEW = 10
"""As many open questions are looked at whenever an answer comes."""
REASONS = {
    errno.EMSGSIZE: "larger than the MTU of this node's own interface",
    errno.EDESTADDRREQ: "no endpoint of this peer is known",
    errno.ENOKEY: "WireGuard does not know this peer",
    errno.EPERM: "a firewall of this machine drops it, see 'nft list ruleset'",
    errno.ENETUNREACH: "this machine has no route to it",
}
"""Why a question could not be sent; where no reason is given, the system's own words stand."""

Progress = Callable[[int, int], None]
"""Called with how many questions are settled, and how many there are."""


@dataclass(frozen=True)
class PingResult:
    """What became of the questions to one peer.

    ``path`` is ``direct``, ``relayed`` (by the peer named ``relay``) or ``none`` where nothing was answered.
    ``round_trips`` are in seconds, one for each answered question.  ``agent``: whether the peer's agent
    answered, not its kernel alone.  ``size`` are the bytes of the IP packets inside the tunnel.  ``error``
    says why nothing could be sent.
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
    """One question: ``host`` is asked with an IP packet of ``size`` bytes at ``due`` seconds after the start.

    ``agent`` and ``kernel`` are the seconds until the answer of each came.
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
        """A kernel answers at once, an agent between two other things."""
        times = [each for each in (self.agent, self.kernel) if each is not None]
        return min(times, default=None)

    def settled(self, now: float, timeout: float) -> bool:
        """Whether there is nothing left to wait for at ``now`` seconds after the start."""
        if self.error or self.agent is not None:
            return True
        if self.sent is None:
            return False
        patience = timeout if self.kernel is None else min(timeout, self.kernel + AGENT_SECONDS)
        return now - self.sent >= patience


def ask_peers(
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
    """Asks the peers ``keys`` (None: all) at once, ``count`` times each.

    Waits ``timeout`` seconds for each answer.  ``size`` are the bytes of the IP packets inside the tunnel, 0
    for the smallest.  An answer means that packets of this size pass in both directions, or as large ones as
    the peer's own interface sends.  Needs root, but no running agent.  Raises ``JaywalkError`` where this
    node cannot ask anybody.
    """
    peers = _asked(view, own, keys)
    hosts = {peer.key: _host(own, peer) for peer in peers}
    probes = {key: [Probe(host, size) for _ in range(count)] for key, host in hosts.items() if host}
    _spread(probes, INTERVAL_SECONDS)
    exchange(config, own, _all(probes), timeout, progress)
    paths = path_status.load(config.paths_file)
    return [_result(peer, probes.get(peer.key, []), paths, view) for peer in peers]


def largest_passing(
    config: AgentConfig, view: ZoneView, own: Peer, keys: Collection[str], upper: int, timeout: float = 1.5
) -> dict[str, int]:
    """The size of the largest IP packet, up to ``upper`` bytes, that each peer answers; 0 where none is.

    Takes about three times ``timeout``.  Each size is tried twice, since a packet may be lost by chance.
    """
    hosts = {peer.key: host for peer in _asked(view, own, keys) if (host := _host(own, peer))}
    low = {key: smallest(host) - 1 for key, host in hosts.items()}
    high = dict.fromkeys(low, upper + 1)
    while open_keys := [key for key in low if high[key] - low[key] > 1]:
        tried = {key: _grid(low[key], high[key]) for key in open_keys}
        probes = {key: [Probe(hosts[key], size) for size in tried[key] * 2] for key in open_keys}
        _spread(probes, 0.0)
        exchange(config, own, _all(probes), timeout)
        for key in open_keys:
            passed = {each.size for each in probes[key] if each.round_trip is not None}
            low[key] = max([low[key], *passed])
            high[key] = min(size for size in (*tried[key], high[key]) if size > low[key])
    return {key: found if found >= smallest(hosts[key]) else 0 for key, found in low.items()}


def _asked(view: ZoneView, own: Peer, keys: Collection[str] | None) -> list[Peer]:
    wanted = set(view.peers if keys is None else keys) - {own.key}
    peers = (peer for key, peer in view.peers.items() if key in wanted)
    return sorted(peers, key=lambda each: (each.name, each.key))


def _all(probes: Mapping[str, Sequence[Probe]]) -> list[Probe]:
    return [each for some in probes.values() for each in some]


def _grid(low: int, high: int) -> list[int]:
    """At most ``GRID`` sizes between two others, spread evenly."""
    step = (high - low) / (GRID + 1)
    return sorted({min(high - 1, max(low + 1, round(low + step * number))) for number in range(1, GRID + 1)})


def smallest(host: str) -> int:
    """Bytes of the smallest IP packet with a question to ``host``."""
    return HEADERS[ip.version_of(host)] + SIZE


def _host(own: Peer, peer: Peer) -> str:
    """The first address of a peer of an IP version that this node has inside the mesh; empty if none is."""
    versions = {ip.version_of(each) for each in own.addresses}
    return next((each for each in peer.addresses if ip.version_of(each) in versions), "")


def _spread(probes: Mapping[str, Sequence[Probe]], interval: float) -> None:
    """Sets when each question goes out: peers take turns, each is asked once in ``interval`` seconds."""
    start = 0.0
    for number in range(max(map(len, probes.values()), default=0)):
        turn = [some[number] for some in probes.values() if number < len(some)]
        for place, probe in enumerate(turn):
            probe.due = start + 2 * place / RATE
        start += max(interval, 2 * len(turn) / RATE)


def _result(
    peer: Peer, probes: Sequence[Probe], paths: Mapping[str, path_status.PathStatus], view: ZoneView
) -> PingResult:
    trips = tuple(each.round_trip for each in probes if each.round_trip is not None)
    found = paths.get(peer.key)
    relay = found.relay if trips and found is not None and found.path == "relayed" else ""
    carrier = view.peers.get(relay)
    path = ("relayed" if relay else "direct") if trips else "none"
    error = next((each.error for each in probes if each.error and not trips), "")
    return PingResult(
        key=peer.key,
        name=peer.name,
        address=probes[0].host if probes else peer.addresses[0],
        path=path,
        relay=carrier.name if carrier is not None else relay,
        size=max((max(each.size, smallest(each.host)) for each in probes), default=0),
        sent=len(probes),
        round_trips=trips,
        agent=any(each.agent is not None for each in probes),
        error=error if probes else "this node has no address of its IP version in the mesh",
    )


def exchange(
    config: AgentConfig,
    own: Peer,
    probes: Sequence[Probe],
    timeout: float,
    progress: Progress | None = None,
) -> None:
    """Sends all questions when they are due and writes into each what became of it."""
    with _sockets(config, own) as sockets:
        _Exchange(sockets, probes, timeout, progress or (lambda _done, _all: None)).run()


@dataclass
class _Asked:
    """The sockets of one IP version; both are bound to this node's address in the mesh."""

    datagrams: socket.socket
    echoes: socket.socket


@contextmanager
def _sockets(config: AgentConfig, own: Peer) -> Iterator[dict[int, _Asked]]:
    found: dict[int, _Asked] = {}
    error: OSError | None = None
    with ExitStack() as stack, inside(config.netns):
        for address in own.addresses:
            version = ip.version_of(address)
            if version in found:
                continue
            try:
                found[version] = _Asked(*(stack.enter_context(each) for each in _opened(version, address)))
            except PermissionError:
                raise JaywalkError("only root may ask peers", "run it with sudo") from None
            except OSError as each:
                error = each
        if not found:
            raise JaywalkError(
                f"no address of this node in the mesh can be used ({error.strerror if error else 'none'})",
                f"start the agent of zone {config.zone}, or run 'jaywalk up'",
            )
        yield found


def _opened(version: int, address: str) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    protocol = socket.IPPROTO_ICMPV6 if version == 6 else socket.IPPROTO_ICMP
    for kind, number in ((socket.SOCK_DGRAM, 0), (socket.SOCK_RAW, protocol)):
        opened = socket.socket(family, kind, number)
        try:
            opened.setblocking(False)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
            never_fragment(opened)
            opened.bind((address, 0))
        except OSError:
            opened.close()
            raise
        yield opened


@dataclass
class _Exchange:
    """One round of questions over open sockets; times are in seconds since its start."""

    sockets: Mapping[int, _Asked]
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
                selector.register(pair.datagrams, selectors.EVENT_READ, (self._hear_agent, version))
                selector.register(pair.echoes, selectors.EVENT_READ, (self._hear_kernel, version))
            check = 0.0
            while open_probes:
                pause = self._send_due(waiting)
                for ready, _ in selector.select(min(pause, CHECK_SECONDS)):
                    hear, version = ready.data
                    hear(ready.fileobj, version)
                now = self._now()
                if now < check and len(open_probes) > FEW:
                    continue
                check = now + CHECK_SECONDS
                open_probes = {each for each in open_probes if not self._settled(each, now)}
                self.progress(len(self.probes) - len(open_probes), len(self.probes))

    def _settled(self, number: int, now: float) -> bool:
        return self.probes[number].settled(now, self.timeout)

    def _now(self) -> float:
        return time.monotonic() - self._start

    def _send_due(self, waiting: deque[int]) -> float:
        """Sends what is due; returns the seconds until the next question is."""
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
        mark = self.tag + number.to_bytes(4, "big")
        probe.sent = self._now()
        request = icmp_echo.request(version, self.tag, number, mark, length)
        question = (PROBE + mark).ljust(length, b"\0")
        for sock, data, port in ((pair.datagrams, question, PORT), (pair.echoes, request, 0)):
            try:
                sock.sendto(data, (probe.host, port))
            except BlockingIOError:
                continue  # a full queue loses packets as a network does
            except OSError as error:
                probe.error = REASONS.get(error.errno or 0, error.strerror or str(error))

    def _hear_agent(self, sock: socket.socket, _version: int) -> None:
        for data, host in _received(sock):
            if data.startswith(REPLY) and len(data) >= SIZE:
                self._take(data[COOKIE], host, "agent")

    def _hear_kernel(self, sock: socket.socket, version: int) -> None:
        for data, host in _received(sock):
            payload = icmp_echo.answer(version, data, self.tag)
            if payload is not None:
                self._take(payload[:8], host, "kernel")

    def _take(self, mark: bytes, host: str, by: str) -> None:
        """Takes in an answer to the question with a mark, if it is one of ours to this very host."""
        number = int.from_bytes(mark[4:], "big")
        if mark[:4] != self.tag or number >= len(self.probes):
            return
        probe = self.probes[number]
        if host == probe.host and probe.sent is not None and getattr(probe, by) is None:
            setattr(probe, by, self._now() - probe.sent)


def _received(sock: socket.socket) -> Iterator[tuple[bytes, str]]:
    while True:
        try:
            data, where = sock.recvfrom(1 << 16)
        except OSError:
            return
        yield data, where[0]
