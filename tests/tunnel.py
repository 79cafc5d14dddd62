# SPDX-License-Identifier: GPL-3.0-or-later
"""Two nodes of a zone in network namespaces, with a router between them and real WireGuard; needs root."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from jaywalk.core.runner import SubprocessRunner, in_namespace
from jaywalk.mesh import node_interface
from jaywalk.wireguard import keys, plan
from jaywalk.wireguard.interface import Interface
from jaywalk.wireguard.linux import Linux
from jaywalk.zone.models import Peer
from jaywalk.zone.view import ZoneView
from jaywalk_agent.config import AgentConfig
from jaywalk_agent.paths.probe_socket import ProbeSocket
from jaywalk_agent.zone import snapshot
from tests.agent_support import ZONE, config_in
from tests.netns import Namespace, connect

POOL6 = "fd20:20::/64"
HOSTS = ("10.20.0.1", "10.20.0.2")
HOSTS6 = ("fd20:20::1", "fd20:20::2")


@dataclass
class End:
    """One node: its namespace, settings and record, and its interface as last applied."""

    where: Namespace
    config: AgentConfig
    record: Peer
    made: Interface | None = field(default=None, repr=False)


@dataclass
class Tunnel:
    """Both nodes, and the router between ``192.0.2.0/24`` and ``198.51.100.0/24``."""

    one: End
    other: End
    router: Namespace
    view: ZoneView

    def up(self) -> None:
        """Apply both interfaces; the responder first, so that the initiator's first message arrives."""
        self.make(self.other)
        self.make(self.one)

    def make(self, end: End, mtu: int | None = None) -> None:
        """Apply the interface of one end, or change its MTU."""
        node = node_interface.LocalNode(
            end.record.key,
            str(end.config.private_key_file),
            end.config.interface,
            end.config.listen_port,
            mtu,
        )
        # Simultaneous handshake initiations would delay the session by 5 s.
        passive = {self.one.record.key: node_interface.PeerEndpoint("", 0)} if end is self.other else {}
        end.made = node_interface.desired(self.view, node, passive)
        observed = Linux(end.where.runner).observe(end.config.interface)
        Linux(end.where.runner).apply(plan.diff(observed, end.made))

    @contextmanager
    def agent(self, end: End) -> Iterator[None]:
        """Run the part of an agent that replies to probes."""
        stop = threading.Event()
        runner = in_namespace(SubprocessRunner(), end.where.name)
        sockets = [ProbeSocket(end.config.interface, host, runner) for host in end.record.addresses]

        def reply() -> None:
            while not stop.wait(0.005):
                for sock in sockets:
                    list(sock.receive())

        thread = threading.Thread(target=reply)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            for sock in sockets:
                sock.close()


def drop_larger_than(router: Namespace, size: int) -> None:
    """Make the router a black hole: it drops larger packets without an error."""
    router.run(
        ["nft", "-f", "-"],
        "table inet hole {\n chain forward {\n type filter hook forward priority filter\n"
        f" meta length > {size} drop\n }}\n}}\n",
    )


@contextmanager
def tunnel(
    folder: Path, tag: str, *, version: int = 4, pools: tuple[str, ...] = ZONE.pools
) -> Iterator[Tunnel]:
    """Create two nodes of a zone; their interfaces ``<tag>0`` and ``<tag>1`` do not exist yet."""
    with ExitStack() as stack:
        names = [f"{tag}-{name}-{os.getpid()}" for name in ("one", "other", "router")]
        one, other, router = (stack.enter_context(Namespace(name)) for name in names)
        outer = ("192.0.2.{}", "198.51.100.{}") if version == 4 else ("2001:db8:1::{}", "2001:db8:2::{}")
        length = 24 if version == 4 else 64
        for number, (end, pattern) in enumerate(zip((one, other), outer, strict=True)):
            near, far = (f"{pattern.format(host)}/{length}" for host in (1, 2))
            connect(router, end, near, far, link=f"link{number}")
            family = ["-6"] if version == 6 else []
            end.run(["ip", *family, "route", "add", "default", "via", pattern.format(1)])
        for setting in ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"):
            router.run(["tee", f"/proc/sys/{setting}"], "1")
        first = _end(folder, tag, one, 0, outer[0], pools)
        second = _end(folder, tag, other, 1, outer[1], pools)
        zone = replace(ZONE, pools=pools)
        view = ZoneView(zone, 7, 1, {each.record.key: each.record for each in (first, second)})
        for each in (first, second):
            snapshot.save(each.config.snapshot_file, view)
        yield Tunnel(first, second, router, view)


def _end(folder: Path, tag: str, where: Namespace, number: int, outer: str, pools: tuple[str, ...]) -> End:
    own = folder / f"end{number}"
    own.mkdir()
    config = config_in(own, interface=f"{tag}{number}", netns=where.name, name=f"node{number}")
    public, _ = keys.ensure_key_file(SubprocessRunner(), str(config.private_key_file))
    host = outer.format(2)
    endpoint = f"[{host}]:51820" if ":" in host else f"{host}:51820"
    addresses = [HOSTS6[number] if ":" in pool else HOSTS[number] for pool in pools]
    return End(where, config, Peer(public, f"node{number}", tuple(addresses), endpoint=endpoint))
