# SPDX-License-Identifier: GPL-3.0-or-later
"""The kind of a NAT, as pystun3 determines it (RFC 3489): a label for people, never an endpoint.

With the responses of real servers pystun3 hangs, raises or sends requests without end, and its label is wrong
for a server that has one address or ignores a change request.  So it runs in one child process per server, on
a socket with a short time-out and a limited number of requests, and results without enough evidence are
dropped.
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from jaywalk.mesh import local_addresses

# For all servers together; pystun3 needs 3.2 s for the commonest kind.
DEADLINE_SECONDS = 15.0
SOCKET_TIMEOUT_SECONDS = 0.4
# Datagrams to one server; the longest sequence of pystun3 has 16.
MAX_DATAGRAMS = 30
MAX_SERVERS = 3
# The module of pystun3.
MODULE = "stun"
# The meaning of pystun3's labels; its other labels carry no information.
DESCRIPTIONS = {
    "Open Internet": "no NAT and no firewall in front of this node",
    "Symmetric UDP Firewall": "no NAT, but a firewall that accepts replies only",
    "Full Cone": "full cone, which accepts packets from any sender",
    "Restric NAT": "address-restricted cone, with which direct paths are possible",
    "Restric Port NAT": "port-restricted cone, with which direct paths are possible",
    "Symmetric NAT": "symmetric, with another port for each peer",
}
SYMMETRIC = "Symmetric NAT"


class Kind(NamedTuple):
    """A label of ``DESCRIPTIONS``, or an empty one and the reason."""

    label: str
    reason: str = ""


def query(servers: Iterable[tuple[str, str, int]]) -> dict[str, Kind]:
    """The kind by each server (name, address, port), after ``DEADLINE_SECONDS`` at most."""
    chosen = list(servers)[:MAX_SERVERS]
    if importlib.util.find_spec(MODULE) is None:
        return {name: Kind("", "pystun3 is not installed") for name, _, _ in chosen}
    children = {name: _start(host, port) for name, host, port in chosen}
    until = time.monotonic() + DEADLINE_SECONDS
    return {name: _result(child, until) for name, child in children.items()}


def _start(host: str, port: int) -> subprocess.Popen[str]:
    # The child imports this package from the same place, which may be a single file (zipapp).
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.Popen(
        [sys.executable, "-m", __name__, host, str(port)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


def _result(child: subprocess.Popen[str], until: float) -> Kind:
    try:
        output, _ = child.communicate(timeout=max(0.0, until - time.monotonic()))
        return Kind(*json.loads(output))
    except subprocess.TimeoutExpired:
        return Kind("", f"does not lead pystun3 to a result in {DEADLINE_SECONDS:.0f} s")
    except (ValueError, TypeError):
        return Kind("", "sends responses on which pystun3 fails")
    finally:
        with suppress(ProcessLookupError):
            child.kill()
        child.wait()


class BoundedSocket(socket.socket):
    """A UDP socket that sends ``MAX_DATAGRAMS`` datagrams at most, and records who responded."""

    def __init__(self, source: str) -> None:
        super().__init__(socket.AF_INET, socket.SOCK_DGRAM)
        self.settimeout(SOCKET_TIMEOUT_SECONDS)
        self.bind((source, 0))
        self.senders: set[Any] = set()
        self._left = MAX_DATAGRAMS

    def sendto(self, data: Any, *address: Any) -> int:
        self._left -= 1
        if self._left < 0:
            # pystun3 catches errors of recvfrom() alone.
            raise RuntimeError("pystun3 sends requests without end")
        return super().sendto(data, *address)

    def recvfrom(self, *size: Any) -> Any:
        data, sender = super().recvfrom(*size)
        self.senders.add(sender)
        return data, sender


def examine(host: str, port: int) -> Kind:
    """Queries one server through pystun3; raises whatever that raises."""
    import stun as pystun3  # in the child only

    source = local_addresses.source_address(host)
    with BoundedSocket(source) as sock:
        pystun3._initialize()
        first = pystun3.stun_test(sock, host, port, source, sock.getsockname()[1])
        if not first["Resp"]:
            return Kind("", "does not respond as in RFC 3489")
        if first["ExternalIP"] is None:
            return Kind("", "responds with XOR-MAPPED-ADDRESS only, which pystun3 does not support")
        if first["ChangedIP"] in (None, host):
            return Kind("", "has one address, and the kind requires two")
        label, _ = pystun3.get_nat_type(sock, source, sock.getsockname()[1], host, port)
        if label in ("Full Cone", "Open Internet") and len(sock.senders) < 2:
            return Kind("", "does not respond from another address on request")
    return Kind(label) if label in DESCRIPTIONS else Kind("", "does not respond from its other address")


def main(argv: Sequence[str]) -> int:
    """The child process: prints the kind as JSON."""
    print(json.dumps(examine(argv[0], int(argv[1]))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
