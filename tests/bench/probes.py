# SPDX-License-Identifier: GPL-3.0-or-later
"""The cost of an agent's probes on 1,000 idle paths, to nodes behind NATs and to public ones.

It measures the real path manager with its socket and its clock.

A thousand WireGuard interfaces do not fit on one machine, so a veth pair stands for the interface: at its far
end one program replies for all peers and sends their probes, and ``wg show dump`` is a file with a line per
peer. Runs in its own network namespace (``unshare --net``) and prints its figures as JSON.
"""

from __future__ import annotations

import json
import resource
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from ipaddress import ip_address
from pathlib import Path
from typing import cast

from jaywalk.core.runner import Finished, SubprocessRunner
from jaywalk.mesh.node_interface import LocalNode
from jaywalk.wireguard.interface import WgPeer
from jaywalk.wireguard.linux import Linux
from jaywalk.zone.models import Peer, Zone
from jaywalk.zone.view import ZoneView
from jaywalk_agent.dataplane.interface import DataPlane
from jaywalk_agent.paths.liveness import IDLE_PROBE_SECONDS
from jaywalk_agent.paths.manager import PathManager
from jaywalk_agent.paths.path import PROBE_WIRE_BYTES
from jaywalk_agent.paths.probe_socket import PORT, PROBE, REPLY, SO_RCVBUFFORCE
from jaywalk_agent.zone.background_sender import BackgroundSender
from tests.bench.node import Node as Client
from tests.bench.results import Figure

PEERS = 1000
NAME, FAR = "jwbeat0", "jwbeat1"
OWN, GATEWAY = "10.64.0.1", "10.64.0.2"
FIRST = int(ip_address("10.64.4.0"))
# The IPv4 and UDP headers around an encrypted datagram.
OUTER_HEADER_BYTES = 28
SETTLE_SECONDS, MEASURE_SECONDS = 20.0, 90.0
PKTINFO = struct.Struct("=I4s4s")
# From ip(7): older Pythons have no name for it.
IP_PKTINFO = 8


class Interface(SubprocessRunner):
    """Prints a file instead of running ``wg show dump``, and runs all other commands."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file

    def run(self, argv: Sequence[str], stdin: str | None = None) -> Finished:
        return super().run(["cat", str(self._file)] if list(argv) == ["wg", "show", NAME, "dump"] else argv)


class Plane(DataPlane):
    """A data plane without a peer on its interface: there is nothing to change."""

    @property
    def peers(self) -> Mapping[str, WgPeer]:
        return {}


def address_of(number: int) -> str:
    return str(ip_address(FIRST + number)) if number else OWN


def record(number: int, behind_nat: bool = True) -> Peer:
    """Behind NATs all pairs exchange probes; of public ones, an agent probes those without traffic."""
    node = Client(number)
    own = "192.0.2.1:51820"
    if not behind_nat:
        return Peer(node.key, node.name, (address_of(number),), endpoint=own)
    return Peer(node.key, node.name, (address_of(number),), endpoint=own, observed=node.endpoint)


def dump() -> str:
    """Return the output of ``wg show dump`` for peers that all have a fresh session (wg(8))."""
    lines = ["(none)\t(none)\t51820\toff"]
    for number in range(1, PEERS + 1):
        fields = [Client(number).key, "(none)", record(number).observed, f"{address_of(number)}/32"]
        lines.append("\t".join([*fields, str(int(time.time())), "92", "148", "25"]))
    return "\n".join(lines) + "\n"


def reply() -> None:
    """Run the far end: reply to the probes of any peer, and send probes for each in turn."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        # A thousand machines would have a thousand receive queues.
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 23)
        sock.bind(("", PORT))
        sock.settimeout(IDLE_PROBE_SECONDS / PEERS)
        print("ready", flush=True)
        number, due = 0, time.monotonic() + SETTLE_SECONDS / 2
        while True:
            try:
                data, found, _, where = sock.recvmsg(64, 64)
                if data.startswith(PROBE):
                    sock.sendmsg([REPLY + data[len(PROBE) :]], found, 0, where)
            except TimeoutError:
                pass
            while due < time.monotonic():
                number, due = number % PEERS + 1, due + IDLE_PROBE_SECONDS / PEERS
                source = socket.inet_aton(address_of(number))
                control = [(socket.IPPROTO_IP, IP_PKTINFO, PKTINFO.pack(0, source, source))]
                sock.sendmsg([PROBE + bytes(28)], control, 0, (OWN, PORT))


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def far_end() -> subprocess.Popen[str]:
    """Start the far end in its own namespace, at the other end of the veth pair."""
    start = ["unshare", "--net", "sh", "-c", 'read go; exec "$@"', "far", sys.executable, "-m", __spec__.name]
    far = subprocess.Popen([*start, "reply"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert far.stdin is not None and far.stdout is not None
    time.sleep(0.5)
    ip("link", "add", "dev", NAME, "type", "veth", "peer", "name", FAR, "netns", str(far.pid))
    ip("address", "add", f"{OWN}/30", "dev", NAME)
    ip("link", "set", "dev", NAME, "up")
    # By one neighbour, since a host's neighbour table has 1,024 entries for all namespaces together.
    ip("route", "add", f"{ip_address(FIRST)}/22", "via", GATEWAY, "dev", NAME)
    there = ["nsenter", "--target", str(far.pid), "--net", "ip"]
    for arguments in (
        ["link", "set", "dev", "lo", "up"],
        ["address", "add", f"{GATEWAY}/30", "dev", FAR],
        ["link", "set", "dev", FAR, "up"],
        ["route", "add", "local", f"{ip_address(FIRST)}/22", "dev", "lo"],
    ):
        subprocess.run([*there, *arguments], check=True)
    far.stdin.write("go\n")
    far.stdin.flush()
    far.stdout.readline()
    return far


def spent() -> float:
    """Return the processor seconds of this process and its children."""
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, whose))


def datagrams() -> int:
    shown = subprocess.run(["ip", "-json", "-stats", "link", "show", NAME], check=True, capture_output=True)
    counted = json.loads(shown.stdout)[0]["stats64"]
    return int(counted["rx"]["packets"]) + int(counted["tx"]["packets"])


def measure(folder: Path, behind_nat: bool) -> dict[str, Figure]:
    (folder / "dump").write_text(dump(), encoding="ascii")
    interface = Interface(folder / "dump")
    plane = Plane(Linux(interface), LocalNode(Client(0).key, "/nowhere", NAME))
    manager = PathManager(interface, plane, cast(BackgroundSender, _Silent()), folder / "paths")
    view = ZoneView(
        Zone("bench", ("10.64.0.0/16",)),
        1,
        1,
        {Client(each).key: record(each, behind_nat) for each in range(PEERS + 1)},
    )
    manager.update(view, None)
    with manager.running():
        time.sleep(SETTLE_SECONDS)
        cpu, count, begun = spent(), datagrams(), time.monotonic()
        time.sleep(MEASURE_SECONDS)
        cpu, count, seconds = spent() - cpu, datagrams() - count, time.monotonic() - begun
        direct = sum(
            manager.machine.silent_seconds(each, time.monotonic()) == 0 for each in manager.machine.paths
        )
    for _, probe_socket in manager._sockets.values():
        probe_socket.close()
    if direct != PEERS:
        raise RuntimeError(f"{direct} of {PEERS} peers reply")
    rate = count / seconds
    name = "heartbeat" if behind_nat else "open"
    return {
        f"{name}_{PEERS}_cpu": Figure(round(100 * cpu / seconds, 2), "% of a core", PEERS),
        f"{name}_{PEERS}_bytes": Figure(
            round(rate * (PROBE_WIRE_BYTES + OUTER_HEADER_BYTES) / 1000, 1), "kB/s", round(rate)
        ),
    }


class _Silent:
    """Stands in for the background sender; sends nothing."""

    def report(self, observed: Mapping[str, str]) -> bool:
        return True

    def update_endpoint(self) -> None:
        """Does nothing."""


def main() -> None:
    if sys.argv[1:] == ["reply"]:
        reply()
        return
    far = far_end()
    try:
        with tempfile.TemporaryDirectory() as folder:
            figures = measure(Path(folder), True) | measure(Path(folder), False)
    finally:
        far.kill()
        far.communicate()
    json.dump({name: asdict(figure) for name, figure in figures.items()}, sys.stdout)


if __name__ == "__main__":
    main()
