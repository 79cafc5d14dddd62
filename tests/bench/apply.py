# SPDX-License-Identifier: GPL-3.0-or-later
"""The cost of applying a zone to an interface, compared with the bare tools.

Runs in its own network namespace (`unshare --net`), so that no command spends time on entering one.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from jaywalk.core.runner import SubprocessRunner
from jaywalk.mesh.node_interface import LocalNode
from jaywalk.wireguard import keys
from jaywalk.wireguard.linux import Linux
from jaywalk.zone.models import Peer, Zone
from jaywalk.zone.view import ZoneView
from jaywalk_agent.dataplane.interface import DataPlane
from tests.bench.results import Figure

NAME = "jwbench0"
PEERS = 1000
ROUTES = 100
ONE_ROUNDS = 60
FULL_ROUNDS = 7


def random_key() -> str:
    """Return a public key: any 32 bytes are one (RFC 7748)."""
    return base64.b64encode(os.urandom(32)).decode()


def zone_with(own: str, count: int, prefixes: int) -> ZoneView:
    """Return a zone of `own` and `count` other peers, `prefixes` of which announce a prefix."""
    view = ZoneView(Zone("bench", ("10.64.0.0/16",)), 1, 1)
    view.peers[own] = Peer(own, "own", ("10.64.0.1",))
    for index in range(count):
        key = random_key()
        announced = (f"172.20.{index}.0/24",) if index < prefixes else ()
        host = f"10.64.{1 + index // 250}.{1 + index % 250}"
        view.peers[key] = Peer(key, f"n{index}", (host,), announced, f"192.0.2.{1 + index % 250}:51820")
    return view


def timed(action: Callable[[], object]) -> float:
    """Return the seconds that `action` takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def bare(*argv: str, stdin: str = "") -> None:
    """Run a command as a shell script would."""
    subprocess.run(argv, input=stdin, text=True, check=True, capture_output=True)


def _apply_bare(configuration: str, batch: str) -> None:
    bare("wg", "syncconf", NAME, "/dev/stdin", stdin=configuration)
    bare("ip", "-batch", "-", stdin=batch)


def one_peer(runner: SubprocessRunner, node: LocalNode, view: ZoneView) -> Figure:
    """Measure one more peer on an interface with 1,000, compared with the same `wg set`."""
    plane = DataPlane(Linux(runner), node)
    plane.apply(view)
    added = Peer(random_key(), "new", ("10.64.200.1",), (), "192.0.2.251:51820")
    arguments = ["endpoint", added.endpoint, "persistent-keepalive", "25", "allowed-ips", "10.64.200.1/32"]
    ours, other = [], []
    for _ in range(ONE_ROUNDS):
        view.peers[added.key] = added
        ours.append(timed(lambda: plane.apply(view, {added.key})))
        del view.peers[added.key]
        plane.apply(view, {added.key})
        other.append(timed(lambda: bare("wg", "set", NAME, "peer", added.key, *arguments)))
        bare("wg", "set", NAME, "peer", added.key, "remove")
    return Figure.against(ours, other, "bare wg set")


def full_state(runner: SubprocessRunner, node: LocalNode, view: ZoneView, private: str) -> Figure:
    """Measure 1,000 peers and 100 routes on an empty interface, against `wg syncconf` and `ip -batch`."""
    configuration, batch = _bare_form(view, node, private)
    ours, other = [], []
    for _ in range(FULL_ROUNDS):
        _fresh(runner)
        ours.append(timed(lambda: DataPlane(Linux(runner), node).apply(view)))
        _fresh(runner)
        other.append(timed(lambda: _apply_bare(configuration, batch)))
    Linux(runner).delete(NAME)
    return Figure.against(ours, other, "wg syncconf + ip -batch")


def _fresh(runner: SubprocessRunner) -> None:
    if Linux(runner).observe(NAME) is not None:
        Linux(runner).delete(NAME)
    Linux(runner).create(NAME)


def _bare_form(view: ZoneView, node: LocalNode, private: str) -> tuple[str, str]:
    lines = ["[Interface]", f"PrivateKey = {private}", f"ListenPort = {node.listen_port}"]
    batch = [f"addr add 10.64.0.1/16 dev {NAME}", f"link set dev {NAME} up"]
    for peer in view.peers.values():
        if peer.key != node.public_key:
            lines += ["[Peer]", f"PublicKey = {peer.key}", f"Endpoint = {peer.endpoint}"]
            lines += ["PersistentKeepalive = 25", f"AllowedIPs = {', '.join(peer.allowed_ips)}"]
            batch += [f"route add {prefix} dev {NAME}" for prefix in peer.prefixes]
    return "\n".join(lines) + "\n", "\n".join(batch) + "\n"


def main() -> None:
    """Print the two figures as JSON."""
    runner = SubprocessRunner()
    with tempfile.TemporaryDirectory() as folder:
        key_file = Path(folder) / "key"
        public, _ = keys.ensure_key_file(runner, str(key_file))
        node = LocalNode(public, str(key_file), NAME, 51999)
        view = zone_with(public, PEERS, ROUTES)
        figures = {"apply_full_1000": full_state(runner, node, view, key_file.read_text().strip())}
        Linux(runner).create(NAME)
        try:
            figures["apply_one_peer"] = one_peer(runner, replace(node), view)
        finally:
            Linux(runner).delete(NAME)
    json.dump({name: asdict(figure) for name, figure in figures.items()}, sys.stdout)


if __name__ == "__main__":
    main()
